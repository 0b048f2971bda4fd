"""No secret comes out of an investigation: into no finding, no log line, and no answer that is kept."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import structlog
from aiobotocore.session import AioSession
from prometheus_client import CollectorRegistry

from tests.enrich.aws import MEMBER, OWN, client
from worker.aws import Accounts
from worker.detect.subject import actor_of, subject_of
from worker.dispatch import wire
from worker.dispatch.plan import plan
from worker.enrich.investigator import KINDS, Investigator
from worker.model import FactStatus, Finding, Level, Origin, Record, Rule
from worker.observe import logs
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

PASSWORD = "Hunter2-hunter2-hunter2"
EXTERNAL_ID = "an-external-id-that-nobody-knows"
ADMIN = "arn:aws:iam::aws:policy/AdministratorAccess"
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]})


def people(account: str) -> set[str]:
    """A user with everything that a user can have, and a role; answers every secret that AWS gave out for them."""
    iam = client("iam", account)
    iam.create_user(UserName="eve", Tags=[{"Key": "team", "Value": "ops"}])
    iam.create_login_profile(UserName="eve", Password=PASSWORD)
    iam.attach_user_policy(UserName="eve", PolicyArn=ADMIN)
    key = iam.create_access_key(UserName="eve")["AccessKey"]
    device = iam.create_virtual_mfa_device(VirtualMFADeviceName="eve")["VirtualMFADevice"]
    iam.enable_mfa_device(UserName="eve", SerialNumber=device["SerialNumber"], AuthenticationCode1="123456", AuthenticationCode2="654321")
    iam.create_role(RoleName="ci", AssumeRolePolicyDocument=TRUST)
    return {key["SecretAccessKey"], device["Base32StringSeed"].decode()}


def session(account: str) -> tuple[dict[str, Any], set[str]]:
    """Somebody's identity in a session of the role, and what AWS handed out for it."""
    given = client("sts", account).assume_role(RoleArn=f"arn:aws:iam::{account}:role/ci", RoleSessionName="run")["Credentials"]
    issuer = {"type": "Role", "arn": f"arn:aws:iam::{account}:role/ci", "accountId": account, "userName": "ci"}
    context = {"sessionIssuer": issuer, "attributes": {"creationDate": "2026-01-02T03:00:00Z", "mfaAuthenticated": "false"}}
    who = {"type": "AssumedRole", "arn": f"arn:aws:sts::{account}:assumed-role/ci/run", "accountId": account, "sessionContext": context}
    return {**who, "accessKeyId": given["AccessKeyId"]}, {given["SecretAccessKey"], given["SessionToken"]}


@pytest.fixture
def log() -> Any:
    """What the worker writes to its log at its most talkative."""
    stream = io.StringIO()
    yield stream
    structlog.reset_defaults()


async def test_no_secret_is_told_logged_or_kept(embedded_aws: str, store: Any, log: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    """Every fact of users, keys and sessions in two accounts, whose records hold secrets too: none is in anything that comes out."""
    caplog.set_level(logging.INFO)  # botocore's own debug lines hold whole answers; the worker lets none of them be written
    client("iam", MEMBER).create_role(RoleName="trailmend", AssumeRolePolicyDocument=TRUST)
    secrets = people(OWN) | people(MEMBER) | {PASSWORD, EXTERNAL_ID}
    role, given = session(MEMBER)
    secrets |= given
    user = {"type": "IAMUser", "arn": f"arn:aws:iam::{OWN}:user/eve", "userName": "eve", "accountId": OWN}
    root = {"type": "Root", "arn": f"arn:aws:iam::{MEMBER}:root", "accountId": MEMBER}
    one, other = given
    credentials = {"accessKeyId": role["accessKeyId"], "sessionToken": one, "secretAccessKey": other}
    events = [
        ("CreateLoginProfile", user, {"userName": "eve", "password": PASSWORD}, None),
        ("CreateAccessKey", role, {"userName": "eve"}, {"accessKey": {"userName": "eve", **credentials}}),
        ("DeleteInstanceProfile", root, {"instanceProfileName": "web"}, {"credentials": credentials}),
    ]
    metrics = Metrics(CollectorRegistry(), logs.configure("debug", log))
    settings = Settings(member_role_name="trailmend", external_id=EXTERNAL_ID, regions=("us-east-1",), change_pattern="CHG[0-9]+")
    told, known = "", set()
    async with Accounts(AioSession(), settings) as accounts:
        investigator = Investigator(accounts, cast("Store", store), settings, metrics, lambda: datetime.now(UTC))
        for number, (name, who, request, answer) in enumerate(events):
            record = Record(event(name, who, request, answer, number), Origin(path="x"))
            found = await investigator.investigate(Finding(Rule("r", "R", Level.HIGH), record, actor_of(record), subject_of(record)))
            told += json.dumps(wire.finding_as_dict(found, plan(found)), default=str)
            known |= {fact.name for fact in found.facts.values() if fact.status is not FactStatus.UNKNOWN}
        told += repr(investigator._lookups._answers._good)
    told += log.getvalue() + caplog.text
    assert {kind.name for kind in KINDS} - known <= {"profile", "instances", "replaced", "marks"}
    assert {len(secret) > 8 for secret in secrets} == {True}
    assert [secret for secret in secrets if secret in told] == []


def event(name: str, who: Any, request: Any, answer: Any, number: int) -> dict[str, Any]:
    account = who["accountId"]
    return {
        "eventSource": "iam.amazonaws.com",
        "eventName": name,
        "eventTime": "2026-01-02T03:04:05Z",
        "eventID": f"event-{number}",
        "awsRegion": "us-east-1",
        "userIdentity": who,
        "requestParameters": request,
        "responseElements": answer,
        "recipientAccountId": account,
    }
