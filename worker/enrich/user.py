"""The facts `user` and `subject_user`: what an IAM user can do at this moment: sign in, with which devices, with which access keys.

`user` is whoever made the call; `subject_user` is the user it was done to, or the owner of the access key it was done to. Both have the
value documented in docs/facts.md. A part that AWS would not tell is None and named under `unknown`; an empty list means none there. Ages
are in seconds, as of when AWS was asked. No call made here answers with a secret. Source:
https://docs.aws.amazon.com/IAM/latest/APIReference/ (GetUser, GetLoginProfile, ListMFADevices, ListAccessKeys, GetAccessKeyLastUsed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from worker.enrich.fact import ACCOUNT, IAM_NAME, Answer, Call, Case, FactKind, missing, seconds_since, stamp, tags_of
from worker.model import Fact, FactSource, Finding
from worker.settings import Settings

FACT_CALLS = ("iam:GetUser", "iam:GetLoginProfile", "iam:ListMFADevices", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed")

LIFETIME_SECONDS = 30.0

Named = tuple[str, str]
"""An account and a user's name."""


def acting_user(finding: Finding) -> Named | None:
    """The IAM user who made the call, if it was one and may be asked about."""
    actor = finding.actor
    return _named(actor.account, actor.name) if actor.type == "IAMUser" else None


def user_in_question(finding: Finding) -> Named | None:
    """The IAM user it was done to, or the owner of the access key it was done to, if there is one and it may be asked about."""
    subject = finding.subject
    name = {"user": subject.name, "access-key": subject.owner}.get(subject.type)
    return _named(finding.record.account, name)


def _named(account: str | None, name: str | None) -> Named | None:
    if account is None or name is None or not ACCOUNT.fullmatch(account) or not IAM_NAME.fullmatch(name):
        return None
    return account, name


async def _learn(kind: FactKind, case: Case, named: Named | None) -> Fact:
    if named is None:
        return kind.unknown(case.clock(), "the record names no user, or no account")
    account, name = named

    def about(operation: str, **more: str) -> Call:
        return Call(account, "iam", operation, LIFETIME_SECONDS, {"UserName": name, **more})

    user, password, devices, keys = await asyncio.gather(
        case.ask(about("get_user")),
        case.ask(about("get_login_profile")),
        case.ask(about("list_mfa_devices")),
        case.ask(about("list_access_keys")),
    )
    if any(answer.gone for answer in (user, devices, keys)):
        return kind.gone(user)
    unknown = {
        part: answer.fault.text
        for part, answer in (("identity", user), ("console_password", password), ("mfa_devices", devices), ("access_keys", keys))
        if answer.fault is not None and not answer.gone
    }
    if len(unknown) == 4:
        return kind.unknown(user.at, missing(unknown) or "")
    value = {
        "name": name,
        "account": account,
        **_identity(user),
        "console_password": None if "console_password" in unknown else _password(password, user),
        "mfa_devices": None if "mfa_devices" in unknown else [_device(device, devices.at) for device in devices.value["MFADevices"]],
        "access_keys": None if "access_keys" in unknown else await _keys(case, account, keys, unknown),
        "unknown": unknown,
    }
    return kind.told(value, (user, password, devices, keys), missing(unknown))


def _identity(answer: Answer) -> dict[str, Any]:
    user = answer.value.get("User", {})
    return {
        "arn": user.get("Arn"),
        "path": user.get("Path"),
        "created": stamp(user.get("CreateDate")),
        "age_seconds": seconds_since(user.get("CreateDate"), answer.at),
        "password_last_used": stamp(user.get("PasswordLastUsed")),
        "permissions_boundary": user.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "tags": tags_of(user.get("Tags")) if user else None,
    }


def _password(answer: Answer, user: Answer) -> dict[str, Any]:
    """NoSuchEntity is the answer for a user without a password. When it was last used stands with the user."""
    profile = answer.value.get("LoginProfile")
    if profile is None:
        return {"exists": False, "created": None, "age_seconds": None, "idle_seconds": None, "reset_required": None}
    return {
        "exists": True,
        "created": stamp(profile.get("CreateDate")),
        "age_seconds": seconds_since(profile.get("CreateDate"), answer.at),
        "idle_seconds": seconds_since(user.value.get("User", {}).get("PasswordLastUsed"), user.at),
        "reset_required": bool(profile.get("PasswordResetRequired")),
    }


def _device(device: Mapping[str, Any], at: datetime) -> dict[str, Any]:
    """The kind stands in the serial number, which is an ARN for all but hardware tokens."""
    serial = str(device.get("SerialNumber"))
    kinds = ((":mfa/", "virtual"), (":u2f/", "passkey"), (":sms-mfa/", "sms"))
    kind = next((kind for mark, kind in kinds if mark in serial), "hardware")
    since = device.get("EnableDate")
    return {"serial": serial, "kind": kind, "enabled_since": stamp(since), "age_seconds": seconds_since(since, at)}


async def _keys(case: Case, account: str, listed: Answer, unknown: dict[str, str]) -> list[dict[str, Any]]:
    keys = listed.value["AccessKeyMetadata"]
    uses = await asyncio.gather(
        *(case.ask(Call(account, "iam", "get_access_key_last_used", LIFETIME_SECONDS, {"AccessKeyId": key["AccessKeyId"]})) for key in keys)
    )
    for key, use in zip(keys, uses, strict=True):
        if use.fault is not None:
            unknown[f"access_keys {key['AccessKeyId']} last_used"] = use.fault.text
    return [_key(key, use, listed.at, case.finding.record.time) for key, use in zip(keys, uses, strict=True)]


def _key(key: Mapping[str, Any], use: Answer, at: datetime, event_time: datetime | None) -> dict[str, Any]:
    """A key that was never used has no LastUsedDate, and `N/A` for the rest. One that the event itself made is not made after it."""
    last = use.value.get("AccessKeyLastUsed", {})
    used, created = stamp(last.get("LastUsedDate")), key.get("CreateDate")
    return {
        "id": key["AccessKeyId"],
        "status": key.get("Status"),
        "created": stamp(created),
        "age_seconds": seconds_since(created, at),
        "made_after_event": created > event_time if isinstance(created, datetime) and event_time is not None else None,
        "last_used": used,
        "idle_seconds": seconds_since(last.get("LastUsedDate"), use.at),
        "last_used_service": last.get("ServiceName") if used else None,
        "last_used_region": last.get("Region") if used else None,
    }


def by_a_user(finding: Finding, _: Settings) -> bool:
    """Whether an IAM user made the call."""
    return finding.actor.type == "IAMUser"


def to_a_user(finding: Finding, _: Settings) -> bool:
    """Whether it was done to an IAM user or an access key."""
    return finding.subject.type in ("user", "access-key")


async def _learn_actor(case: Case) -> Fact:
    return await _learn(USER, case, acting_user(case.finding))


async def _learn_subject(case: Case) -> Fact:
    return await _learn(SUBJECT_USER, case, user_in_question(case.finding))


USER = FactKind("user", FactSource.LIVE, by_a_user, _learn_actor, FACT_CALLS)
SUBJECT_USER = FactKind("subject_user", FactSource.LIVE, to_a_user, _learn_subject, FACT_CALLS)
