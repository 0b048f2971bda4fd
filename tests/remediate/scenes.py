"""For every action an account in which it has something to do, and the task that asks for it; and what differs between two pictures."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.remediate.world import ACCOUNT, World, task

Body = dict[str, Any]
Scene = Callable[[World], Awaitable[Body]]


async def an_active_key(world: World) -> Body:
    key = await world.user()
    await world.user("bystander")
    return task("deactivate-access-key", "access-key", key, {"user": "mallory"})


async def a_password(world: World) -> Body:
    await world.user()
    await world.user("bystander")
    return task("require-password-reset", "user", "mallory")


async def a_user_without_mfa(world: World) -> Body:
    await world.user()
    return task("enforce-mfa", "user", "mallory", arn="arn:aws:iam::000000000000:user/mallory")


async def a_lost_role(world: World) -> Body:
    await world.role()
    await world.profile(role=None)
    await world.instance()
    return task("reattach-role", "instance-profile", "web", {"role": "web-role"})


def restore(instances: list[tuple[str, str]], **changed: Any) -> Body:
    tags = {"team": "web", "aws:cloudformation:stack-name": "fleet"}
    listed = [{"instance_id": i, "region": region, "state": "running"} for i, region in instances]
    return task(
        "restore-instance-profile",
        "instance-profile",
        "web",
        {"path": "/fleet/", "role": "web-role", "tags": tags, "instances": listed, **changed},
    )


async def a_lost_fleet(world: World) -> Body:
    """Two running instances in two regions, a stopped one, one whose association is gone, one on another profile, one unknown by now."""
    await world.role()
    await world.profile()
    await world.profile("other")
    users = [
        (await world.instance(), "us-east-1"),
        (await world.instance(region="eu-west-1"), "eu-west-1"),
        (await world.instance(stopped=True), "us-east-1"),
    ]
    await world.lose_profile()
    users += [
        (await world.instance(profile=None), "us-east-1"),
        (await world.instance(profile="other"), "us-east-1"),
        ("i-0123456789abcdef0", "us-east-1"),
    ]
    return restore(users)


async def a_weak_policy(world: World) -> Body:
    """Longer than asked, without symbols, older passwords allowed, and locking out whose password has expired."""
    iam = await world.accounts.client("iam")
    await iam.update_account_password_policy(MinimumPasswordLength=20, RequireNumbers=True, MaxPasswordAge=365, HardExpiry=True)
    return task(
        "enforce-password-policy", "account", ACCOUNT, {"minimum_length": 14, "symbols": True, "max_age_days": 90, "reuse_prevention": 24}
    )


async def no_policy(world: World) -> Body:
    return task("enforce-password-policy", "account", ACCOUNT, {"reuse_prevention": 24})


async def unused_keys(world: World) -> Body:
    """Two keys that nobody has ever used, 100 days old."""
    await world.user()
    await world.user("bystander")
    iam = await world.accounts.client("iam")
    await iam.create_access_key(UserName="mallory")
    world.now = datetime.now(UTC).replace(microsecond=0) + timedelta(days=100)
    return task("deactivate-unused-access-keys", "user", "mallory", {"days": 90}, created_at=world.now)


async def inactive_keys(world: World) -> Body:
    """The same, made inactive by somebody; the operator allows what cannot be undone."""
    body = await unused_keys(world)
    iam = await world.accounts.client("iam")
    for key in (await iam.list_access_keys(UserName="mallory"))["AccessKeyMetadata"]:
        await iam.update_access_key(UserName="mallory", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    world.settings = replace(world.settings, allow_irreversible=True)
    return task("delete-inactive-access-keys", "user", "mallory", body["params"], created_at=world.now)


async def a_bad_user(world: World) -> Body:
    """An active key and an inactive one."""
    await world.user()
    await world.user("bystander")
    iam = await world.accounts.client("iam")
    second = await iam.create_access_key(UserName="mallory")
    await iam.update_access_key(UserName="mallory", AccessKeyId=second["AccessKey"]["AccessKeyId"], Status="Inactive")
    return task("quarantine-user", "user", "mallory")


async def stolen_sessions(world: World) -> Body:
    await world.role()
    await world.role("bystander")
    return task("revoke-role-sessions", "role", "web-role")


UNDOABLE: list[Scene] = [
    an_active_key,
    a_password,
    a_user_without_mfa,
    a_lost_role,
    a_lost_fleet,
    a_weak_policy,
    no_policy,
    unused_keys,
    a_bad_user,
    stolen_sessions,
]
SCENES: list[Scene] = [*UNDOABLE, inactive_keys]


async def last_used(world: World, used: dict[str, datetime]) -> None:
    """IAM says that these keys were used then, which the embedded AWS never does."""
    iam = await world.accounts.client("iam")
    real = type(iam).get_access_key_last_used

    async def told(AccessKeyId: str) -> Any:  # noqa: N803  # as botocore spells it
        answer = await real(iam, AccessKeyId=AccessKeyId)
        if AccessKeyId in used:
            answer["AccessKeyLastUsed"] |= {"LastUsedDate": used[AccessKeyId], "ServiceName": "s3", "Region": "eu-west-1"}
        return answer

    iam.get_access_key_last_used = told


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What is not the same, by where it stands."""
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if isinstance(one, dict) and isinstance(other, dict):
            found.update({f"{name}/{key}": pair for key, pair in differences(one, other).items()})
        elif one != other:
            found[name] = (one, other)
    return found
