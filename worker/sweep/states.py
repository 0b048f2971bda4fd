"""The users of an account and their states, asked of IAM one by one: edge.

Live calls and not the credential report, which may be four hours old and tells no access key's id. A user takes three calls and one more for each access key.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListMFADevices.html
"""

from __future__ import annotations

from typing import Any

from worker.remediate.keys import keys_of
from worker.remediate.steps import found
from worker.sweep.wants import UserState

AWS_CALLS = ("iam:GetAccessKeyLastUsed", "iam:GetLoginProfile", "iam:ListAccessKeys", "iam:ListMFADevices", "iam:ListUsers")


async def users_of(iam: Any) -> list[tuple[str, str]]:
    """The name and ARN of every user, page by page. Raises what the client raises."""
    users: list[tuple[str, str]] = []
    async for page in iam.get_paginator("list_users").paginate():
        users += [(one["UserName"], one["Arn"]) for one in page["Users"]]
    return users


async def state_of(iam: Any, account: str, name: str, arn: str) -> UserState:
    """One user. Raises what the client raises."""
    answer = await found(iam.get_login_profile(UserName=name))
    profile = {} if answer is None else answer["LoginProfile"]
    devices = await mfa_devices(iam, name)
    keys = await keys_of(iam, name, used=True)
    return UserState(account, name, arn, profile.get("CreateDate"), bool(profile.get("PasswordResetRequired")), len(devices), keys)


async def mfa_devices(iam: Any, name: str) -> list[str]:
    """The serial numbers of a user's devices of every kind: virtual, hardware, passkeys. Eight at most, so one page holds them.

    Raises what the client raises.
    """
    return [one["SerialNumber"] for one in (await iam.list_mfa_devices(UserName=name))["MFADevices"]]
