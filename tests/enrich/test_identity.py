"""What every kind of caller is called, in records as AWS writes them and in anything an attacker may write."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.detect.subject import actor_of
from worker.enrich.identity import CREDENTIALS, KINDS, identify
from worker.enrich.offline import from_log
from worker.model import FactSource, Finding, Level, Origin, Record, Rule, Subject
from worker.settings import Settings
from worker.state.store import Store

ACCOUNT, OTHER = "111122223333", "444455556666"
AT = "2026-01-02T03:04:05Z"


def told(identity: Any, **event: Any) -> dict[str, Any]:
    whole = {"eventTime": AT, "eventSource": "iam.amazonaws.com", "recipientAccountId": ACCOUNT, "userIdentity": identity, **event}
    record = Record(whole, Origin(path="x"))
    return identify(record, actor_of(record))


def user(**more: Any) -> dict[str, Any]:
    return {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/eve", "accountId": ACCOUNT, "userName": "eve", **more}


def role(name: str = "deploy", session: str = "run-7", path: str = "/", account: str = ACCOUNT, **context: Any) -> dict[str, Any]:
    issuer = {"type": "Role", "arn": f"arn:aws:iam::{account}:role{path}{name}", "accountId": account, "userName": name}
    return {
        "type": "AssumedRole",
        "principalId": f"AROAEXAMPLE:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{name}/{session}",
        "accountId": account,
        "accessKeyId": "ASIAEXAMPLE",
        "sessionContext": {
            "sessionIssuer": issuer,
            "webIdFederationData": {},
            "attributes": {"creationDate": "2026-01-02T02:04:05Z", "mfaAuthenticated": "false"},
            **context,
        },
    }


SSO_PATH = "/aws-reserved/sso.amazonaws.com/eu-west-1/"
SSO_ROLE = "AWSReservedSSO_Admin_Access_0123456789abcdef"
OIDC = f"arn:aws:iam::{ACCOUNT}:oidc-provider/token.actions.githubusercontent.com"
GITHUB = {"federatedProvider": OIDC, "attributes": {"token.actions.githubusercontent.com:sub": "repo:acme/web:ref:refs/heads/main"}}
WITHOUT = {"attributes": {"creationDate": "2026-01-02T02:04:05Z", "mfaAuthenticated": "false"}}
WITH = {"attributes": {"creationDate": "2026-01-02T02:04:05Z", "mfaAuthenticated": "true"}}

CASES: list[tuple[str, Any, dict[str, Any], str, str | None, str]] = [
    ("a user's key", user(accessKeyId="AKIA1"), {}, "iam-user", "long-term-key", "IAM user eve, with a long-term access key"),
    (
        "a user's session",
        user(accessKeyId="ASIA1", sessionContext=WITHOUT),
        {},
        "iam-user",
        "temporary-key",
        "IAM user eve, without MFA, with temporary credentials",
    ),
    (
        "a user in the console",
        user(accessKeyId="ASIA1", sessionContext=WITH, invokedBy="AWS Internal"),
        {"sessionCredentialFromConsole": "true"},
        "iam-user",
        "console-session",
        "IAM user eve, with MFA, in a console session, through AWS Internal",
    ),
    (
        "a user who signs in",
        user(),
        {"eventSource": "signin.amazonaws.com", "eventType": "AwsConsoleSignIn", "additionalEventData": {"MFAUsed": "No"}},
        "iam-user",
        "sign-in",
        "IAM user eve, without MFA, signing in",
    ),
    (
        "root with a key",
        {"type": "Root", "arn": f"arn:aws:iam::{ACCOUNT}:root", "accountId": ACCOUNT, "accessKeyId": "AKIA1"},
        {},
        "root",
        "long-term-key",
        "the account's root user, with a long-term access key",
    ),
    ("a role", role(), {}, "assumed-role", "temporary-key", "role deploy, session run-7"),
    (
        "a role with a source identity",
        role(sourceIdentity="alice"),
        {},
        "assumed-role",
        "temporary-key",
        "role deploy, session run-7, opened by alice",
    ),
    (
        "a role of another account",
        role(account=OTHER),
        {},
        "assumed-role",
        "temporary-key",
        f"role deploy, session run-7, of another account, {OTHER}",
    ),
    (
        "a service-linked role",
        role("AWSServiceRoleForRDS", "SLRManagement", "/aws-service-role/rds.amazonaws.com/"),
        {},
        "service-linked-role",
        "temporary-key",
        "service-linked role AWSServiceRoleForRDS",
    ),
    (
        "Identity Center by its role",
        role(SSO_ROLE, "alice@example.com", SSO_PATH),
        {},
        "identity-center-user",
        "temporary-key",
        "Identity Center user alice@example.com, permission set Admin_Access",
    ),
    (
        "a role that is only called so",
        role(SSO_ROLE, "alice@example.com"),
        {},
        "assumed-role",
        "temporary-key",
        f"role {SSO_ROLE}, session alice@example.com",
    ),
    (
        "Identity Center by itself",
        {
            "type": "IdentityCenterUser",
            "accountId": ACCOUNT,
            "onBehalfOf": {"userId": "9067-1a", "identityStoreArn": f"arn:aws:identitystore::{ACCOUNT}:identitystore/d-9067"},
        },
        {},
        "identity-center-user",
        None,
        "Identity Center user 9067-1a",
    ),
    (
        "an instance",
        role("web", "i-0123456789abcdef0", ec2RoleDelivery="2.0"),
        {},
        "ec2-instance",
        "temporary-key",
        "an EC2 instance in role web",
    ),
    (
        "somebody called like one",
        role("web", "i-0123456789abcdef0"),
        {},
        "assumed-role",
        "temporary-key",
        "role web, session i-0123456789abcdef0",
    ),
    (
        "a workload of GitHub",
        role(webIdFederationData=GITHUB),
        {},
        "web-identity-user",
        "temporary-key",
        "web identity repo:acme/web:ref:refs/heads/main, role deploy",
    ),
    (
        "a web identity that opens a session",
        {
            "type": "WebIdentityUser",
            "principalId": "accounts.google.com:app:1234",
            "userName": "1234",
            "identityProvider": "accounts.google.com",
        },
        {},
        "web-identity-user",
        None,
        "web identity 1234",
    ),
    (
        "a SAML user who opens a session",
        {"type": "SAMLUser", "principalId": "Zk3=:bob@example.com", "userName": "bob@example.com", "identityProvider": "Zk3="},
        {},
        "saml-user",
        None,
        "SAML user bob@example.com",
    ),
    (
        "a federated user",
        {"type": "FederatedUser", "arn": f"arn:aws:sts::{ACCOUNT}:federated-user/eve", "accountId": ACCOUNT, "accessKeyId": "ASIA1"},
        {},
        "federated-user",
        "temporary-key",
        "federated user eve, with temporary credentials",
    ),
    ("a service", {"type": "AWSService", "invokedBy": "rds.amazonaws.com"}, {}, "aws-service", None, "AWS service rds.amazonaws.com"),
    (
        "a service's own event",
        {"accountId": ACCOUNT, "invokedBy": "ec2.amazonaws.com"},
        {},
        "aws-service",
        None,
        "AWS service ec2.amazonaws.com",
    ),
    ("another account", {"type": "AWSAccount", "accountId": OTHER}, {}, "aws-account", None, f"somebody in AWS account {OTHER}"),
    ("nobody", {"type": "AWSAccount", "accountId": "ANONYMOUS_PRINCIPAL"}, {}, "anonymous", None, "an anonymous caller"),
    ("no identity", None, {}, "unknown", None, "an unknown caller"),
    ("a kind yet to come", {"type": "Martian", "userName": "m"}, {}, "unknown", None, "an unknown caller"),
]


@pytest.mark.parametrize(
    ("identity", "event", "kind", "credential", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_what_a_caller_is(identity: Any, event: dict[str, Any], kind: str, credential: str | None, words: str) -> None:
    """One word of the list, the credential, and a line for people; a name that anybody may choose makes nobody somebody else."""
    value = told(identity, **event)
    assert (value["kind"], value["credential"], value["words"]) == (kind, credential, words)


def test_a_session_says_since_when_it_is_open() -> None:
    """An hour at the time of the event; unknown where the record does not tell."""
    value = told(role(sourceIdentity="alice"))
    assert (value["opened_at"], value["open_seconds"], value["person"]) == ("2026-01-02T02:04:05Z", 3600, "alice")
    assert (told(user())["opened_at"], told(user())["open_seconds"]) == (None, None)


def test_who_vouches_for_whom_is_told() -> None:
    """Provider and subject of web and SAML identities, user and store of Identity Center, the holder of a service's session."""
    assert told(role(webIdFederationData=GITHUB))["federated"] == {"provider": OIDC, "subject": "repo:acme/web:ref:refs/heads/main"}
    store = {"userId": "9067-1a", "identityStoreArn": "arn:aws:identitystore::1:identitystore/d-1"}
    value = told({**role(), "onBehalfOf": store, "inScopeOf": {"credentialsIssuedTo": "arn:aws:lambda:us-east-1:1:function:f"}})
    assert value["on_behalf_of"] == {"user_id": "9067-1a", "identity_store": store["identityStoreArn"]}
    assert value["issued_to"] == "arn:aws:lambda:us-east-1:1:function:f"


async def test_a_scan_tells_it_too() -> None:
    """It needs nobody to ask, and is as old as the event."""

    class Nothing:
        async def recall(self, account: str, profile: str) -> list[Any]:
            return []

    whole = {"eventTime": AT, "eventSource": "iam.amazonaws.com", "recipientAccountId": ACCOUNT, "userIdentity": user()}
    record = Record(whole, Origin(path="x"))
    finding = Finding(Rule("r", "R", Level.HIGH), record, actor_of(record), Subject("unknown"))
    found = await from_log(finding, cast("Store", Nothing()), Settings(), lambda: datetime.now(UTC))
    fact = found.facts["identity"]
    assert (fact.value["kind"], fact.source, fact.observed_at) == ("iam-user", FactSource.EVENT, record.time)


NAMES = [
    *("type", "arn", "accountId", "userName", "principalId", "accessKeyId", "invokedBy", "sessionContext", "sessionIssuer", "attributes"),
    *("creationDate", "mfaAuthenticated", "webIdFederationData", "federatedProvider", "x:sub", "onBehalfOf", "userId", "inScopeOf"),
    *("credentialsIssuedTo", "ec2RoleDelivery", "sourceIdentity", "identityProvider"),
]
TEXTS = ["AssumedRole", "IAMUser", "AWSAccount", "SAMLUser", "", AT, "0001-01-01T00:00:00+14:00", "arn:aws:iam::1:role/x", "\ud800", "AKIA"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(TEXTS) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6),
    max_leaves=25,
)


@given(ANYTHING, st.dictionaries(st.sampled_from(["eventTime", "eventSource", "eventType", "recipientAccountId"]), ANYTHING, max_size=4))
def test_nothing_that_a_record_holds_raises(identity: Any, event: dict[str, Any]) -> None:
    """A known kind, a known credential, and words for people, whatever stands there."""
    value = told(identity, **event)
    assert value["kind"] in KINDS
    assert value["credential"] in (None, *CREDENTIALS)
    assert value["words"]


def test_every_real_record_is_told(shared_data: Any) -> None:
    """No record of the real trails has a caller that is not known."""
    import gzip
    import json

    kinds = set()
    for path in (shared_data / "cloudtrail" / "invictus").rglob("*.json.gz"):
        for event in json.loads(gzip.decompress(path.read_bytes()))["Records"]:
            record = Record(event, Origin(path="x"))
            kinds.add(identify(record, actor_of(record))["kind"])
    assert "unknown" not in kinds
    assert {"iam-user", "assumed-role", "service-linked-role", "aws-service"} <= kinds
