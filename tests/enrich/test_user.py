"""How old a user's credentials are, by an AWS whose clock we hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from tests.enrich.aws import OWN, Canned
from worker.aws import Accounts
from worker.enrich.fact import seconds_since
from worker.enrich.investigator import Investigator
from worker.model import Actor, Finding
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
DAY = 86_400


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def user(_: Any) -> dict[str, Any]:
    known = {"UserName": "eve", "UserId": "AIDA" + "X" * 16, "Path": "/", "Arn": f"arn:aws:iam::{OWN}:user/eve"}
    return {"User": {**known, "CreateDate": ago(900), "PasswordLastUsed": ago(400)}}


def key(name: str, days: float) -> dict[str, Any]:
    return {"UserName": "eve", "AccessKeyId": name, "Status": "Active", "CreateDate": ago(days)}


def last_used(params: Any) -> dict[str, Any]:
    if params["AccessKeyId"] == "AKIA" + "B" * 16:
        return {"AccessKeyLastUsed": {"ServiceName": "N/A", "Region": "N/A"}}
    return {"UserName": "eve", "AccessKeyLastUsed": {"LastUsedDate": ago(0.5), "ServiceName": "s3", "Region": "eu-west-1"}}


async def test_every_credential_has_its_age(embedded_aws: str, store: Any, metrics: Metrics, make_finding: Callable[..., Finding]) -> None:
    """Since it was made and since it was used, as of when AWS was asked; never used is null, and so is its age."""
    keys = [key("AKIA" + "A" * 16, 700), key("AKIA" + "B" * 16, 1 / DAY)]
    serial = f"arn:aws:iam::{OWN}:u2f/user/eve/key-1"
    cloud = Canned(
        "iam",
        get_user=user,
        get_login_profile=lambda _: {"LoginProfile": {"UserName": "eve", "CreateDate": ago(800), "PasswordResetRequired": False}},
        list_mfa_devices=lambda _: {"MFADevices": [{"UserName": "eve", "SerialNumber": serial, "EnableDate": ago(30)}]},
        list_access_keys=lambda _: {"AccessKeyMetadata": keys},
        get_access_key_last_used=last_used,
    )
    investigator = Investigator(cast("Accounts", cloud), cast("Store", store), Settings(regions=("us-east-1",)), metrics, lambda: NOW)
    finding = make_finding(actor=Actor("IAMUser", name="eve", account=OWN), eventTime=ago(0.25).isoformat())
    value = (await investigator.investigate(finding)).facts["user"].value
    password, (device,), (old, new) = value["console_password"], value["mfa_devices"], value["access_keys"]
    assert (value["age_seconds"], password["age_seconds"], password["idle_seconds"]) == (900 * DAY, 800 * DAY, 400 * DAY)
    assert (device["kind"], device["age_seconds"]) == ("passkey", 30 * DAY)
    assert (old["age_seconds"], old["idle_seconds"], old["last_used_service"], old["made_after_event"]) == (
        700 * DAY,
        DAY // 2,
        "s3",
        False,
    )
    assert (new["age_seconds"], new["idle_seconds"], new["last_used"], new["made_after_event"]) == (1, None, None, True)


def test_no_age_is_negative() -> None:
    """A clock of AWS's that is ahead of ours makes nothing younger than new."""
    assert seconds_since(NOW + timedelta(seconds=3), NOW) == 0
    assert seconds_since(NOW - timedelta(seconds=3.9), NOW) == 3
    assert seconds_since("N/A", NOW) is None
