"""The guards that ask live state, on the embedded AWS: exempt by a tag, and never the last administrator."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.remediate.scenes import a_lost_fleet, a_lost_role, a_user_without_mfa, an_active_key, stolen_sessions
from tests.remediate.world import ACCOUNT, TRUST, World, task
from worker.model import Message, Verdict
from worker.modes import Mode
from worker.remediate import sentry
from worker.remediate.undo import Ending

DONE = Verdict(delete=True)
Body = dict[str, Any]
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"


async def iam(world: World) -> Any:
    return await world.accounts.client("iam")


async def handled(world: World, body: Body, **changed: Any) -> tuple[str, str]:
    """The outcome of a task, and the reason's name."""
    assert await world.handle(json.dumps(body), **changed) == DONE
    return (await world.outcomes())[-1], str((await world.journal())[-1]["reason"]).split(":")[0]


# Tags.


@pytest.mark.parametrize(
    ("patterns", "spared"),
    [
        (("break-glass",), True),
        (("Break-*",), True),
        (("break-glass=yes",), True),
        (("team=sec*",), True),
        (("nothing", "TEAM=?ecops"), True),
        (("break",), False),
        (("team=ops",), False),
        (("break-glass=",), False),
        (("*=secops-*",), False),
    ],
)
async def test_a_user_with_a_tag_is_spared(patterns: tuple[str, ...], *, spared: bool, world: World) -> None:
    """By key or by key and value, as globs without regard to case; its key is spared like itself, and in shadow it is told so."""
    key = await an_active_key(world)
    await (await iam(world)).tag_user(UserName="mallory", Tags=[{"Key": "break-glass", "Value": "yes"}, {"Key": "team", "Value": "SecOps"}])
    before = await world.picture()
    if not spared:
        assert (await handled(world, key, exempt_tags=patterns))[0] == "applied"
        return
    for mode, body in ((Mode.SHADOW, task("enforce-mfa", "user", "mallory")), (Mode.AUTO, key)):
        assert await handled(world, body, exempt_tags=patterns, remediation_mode=mode) == ("exempt", "exempt")
    assert (await world.picture(), world.wire.calls) == (before, [])


async def of_the_role(world: World) -> None:
    await (await iam(world)).tag_role(RoleName="web-role", Tags=[{"Key": "hands-off", "Value": ""}])


async def of_the_profile(world: World) -> None:
    await (await iam(world)).tag_instance_profile(InstanceProfileName="web", Tags=[{"Key": "hands-off", "Value": ""}])


async def of_nobody(_: World) -> None:
    return None


@pytest.mark.parametrize(
    ("scene", "tagged", "pattern"),
    [
        (stolen_sessions, of_the_role, "hands-off"),
        (a_lost_role, of_the_role, "hands-off"),
        (a_lost_role, of_the_profile, "hands-off"),
        (a_lost_fleet, of_the_role, "hands-off"),
        (a_lost_fleet, of_nobody, "team=web"),
    ],
)
async def test_roles_and_profiles_with_a_tag_are_spared(
    scene: Callable[[World], Awaitable[Body]], tagged: Callable[[World], Awaitable[None]], pattern: str, world: World
) -> None:
    """The role whose sessions it is about, the profile and the role that is put into it; a deleted profile by the tags that are remembered."""
    body = await scene(world)
    await tagged(world)
    before = await world.picture()
    assert await handled(world, body, exempt_tags=(pattern,)) == ("exempt", "exempt")
    assert (await world.picture(), world.wire.calls) == (before, [])


async def test_who_is_tagged_since_is_spared_from_undo_too(world: World) -> None:
    """The guards of an undo are those of the doing; of a profile in use the role's tags count as well."""
    assert (await handled(world, await a_lost_role(world)))[0] == "applied"
    await of_the_role(world)
    after = await world.picture()
    assert await world.undo(exempt_tags=("hands-off",)) == Ending("refused", "exempt")
    assert await world.picture() == after


async def test_where_no_tag_is_exempt_none_is_read(world: World) -> None:
    """A restore asks for the tags of nothing."""
    body, client = await a_lost_fleet(world), await iam(world)
    real, asked = client.get_role, []

    async def get_role(**parameters: Any) -> Any:
        asked.append(parameters)
        return await real(**parameters)

    client.get_role = get_role
    assert (await handled(world, body, remediation_mode=Mode.SHADOW))[0] == "shadowed"
    assert len(asked) == 1  # whether EC2 may assume it
    body = task("restore-instance-profile", "instance-profile", "web", body["params"], finding="0f0e0d0c-0000-5000-8000-000000000076")
    assert (await handled(world, body, remediation_mode=Mode.SHADOW, exempt_tags=("nothing",)))[0] == "shadowed"
    assert len(asked) == 3


# The last administrator.


async def administrator(world: World, name: str, **more: Any) -> str:
    key = await world.user(name, **more)
    await (await iam(world)).attach_user_policy(UserName=name, PolicyArn=ADMINISTRATOR)
    return key


def door(principal: dict[str, str], action: str = "sts:AssumeRole") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": principal, "Action": action}]}


async def open_role(world: World, principal: dict[str, str], *, powerful: bool = True) -> None:
    await world.role("entrance", door(principal))
    if powerful:
        await (await iam(world)).attach_role_policy(RoleName="entrance", PolicyArn=ADMINISTRATOR)


async def alone(world: World) -> None:
    await world.user("bystander")


async def another_without_a_way_in(world: World) -> None:
    key = await administrator(world, "alice", password=False)
    await (await iam(world)).update_access_key(UserName="alice", AccessKeyId=key, Status="Inactive")


async def another_in_quarantine(world: World) -> None:
    await administrator(world, "alice")
    await handled(world, task("quarantine-user", "user", "alice", finding="0f0e0d0c-0000-5000-8000-000000000077"))
    world.pass_lease()


async def another_waiting_for_mfa(world: World) -> None:
    await administrator(world, "alice")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    await (await iam(world)).put_user_policy(UserName="alice", PolicyName="TrailmendEnforceMfa", PolicyDocument=policy)


async def another_under_a_condition(world: World) -> None:
    await world.user("alice")
    allow = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    await (await iam(world)).put_user_policy(UserName="alice", PolicyName="admin", PolicyDocument=policy)


async def a_role_for_machines(world: World) -> None:
    await world.role("entrance", TRUST)
    await (await iam(world)).attach_role_policy(RoleName="entrance", PolicyArn=ADMINISTRATOR)


async def a_role_without_power(world: World) -> None:
    await open_role(world, {"AWS": "arn:aws:iam::222222222222:root"}, powerful=False)


async def a_role_for_mallory_alone(world: World) -> None:
    await open_role(world, {"AWS": f"arn:aws:iam::{ACCOUNT}:user/mallory"})


@pytest.mark.parametrize(
    "estate",
    [
        alone,
        another_without_a_way_in,
        another_in_quarantine,
        another_waiting_for_mfa,
        another_under_a_condition,
        a_role_for_machines,
        a_role_without_power,
        a_role_for_mallory_alone,
    ],
)
async def test_the_last_administrator_is_not_locked_out(estate: Callable[[World], Awaitable[None]], world: World) -> None:
    """Nobody else is sure to come in: refused, journaled with who was looked for, and nothing is touched; in shadow the same is told."""
    await administrator(world, "mallory")
    await estate(world)
    before, calls = await world.picture(), list(world.wire.calls)
    assert await handled(world, task("quarantine-user", "user", "mallory")) == ("refused", "last-administrator")
    shadowed = task("enforce-mfa", "user", "mallory")
    assert await handled(world, shadowed, remediation_mode=Mode.SHADOW) == ("refused", "last-administrator")
    assert (await world.picture(), world.wire.calls) == (before, calls)


async def another_with_a_password(world: World) -> None:
    key = await administrator(world, "alice")
    await (await iam(world)).delete_access_key(UserName="alice", AccessKeyId=key)


async def another_with_a_key(world: World) -> None:
    await administrator(world, "alice", password=False)


async def another_by_a_group(world: World) -> None:
    client = await iam(world)
    await world.user("alice")
    await client.create_group(GroupName="admins")
    await client.attach_group_policy(GroupName="admins", PolicyArn=ADMINISTRATOR)
    await client.add_user_to_group(GroupName="admins", UserName="alice")


async def another_with_mfa(world: World) -> None:
    await another_waiting_for_mfa(world)
    client = await iam(world)
    device = (await client.create_virtual_mfa_device(VirtualMFADeviceName="alice"))["VirtualMFADevice"]["SerialNumber"]
    await client.enable_mfa_device(UserName="alice", SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321")


async def somebody_of_another_account(world: World) -> None:
    await open_role(world, {"AWS": "arn:aws:iam::222222222222:root"})


async def somebody_who_may_assume_a_role(world: World) -> None:
    await world.user("alice")
    await open_role(world, {"AWS": f"arn:aws:iam::{ACCOUNT}:user/alice"})


@pytest.mark.parametrize(
    "estate",
    [
        another_with_a_password,
        another_with_a_key,
        another_by_a_group,
        another_with_mfa,
        somebody_of_another_account,
        somebody_who_may_assume_a_role,
    ],
)
async def test_where_another_can_come_in_an_administrator_is_acted_on(estate: Callable[[World], Awaitable[None]], world: World) -> None:
    """A user with a way in, or somebody who may assume a role that is one."""
    await administrator(world, "mallory")
    await estate(world)
    assert (await handled(world, task("quarantine-user", "user", "mallory")))[0] == "applied"


async def test_who_keeps_a_way_in_is_no_matter(world: World) -> None:
    """The only administrator may lose a key beside a password, and be asked for a new password; the last key of one without a password stays."""
    key = await administrator(world, "mallory")
    assert (await handled(world, task("deactivate-access-key", "access-key", key, {"user": "mallory"})))[0] == "applied"
    assert (await handled(world, task("require-password-reset", "user", "mallory")))[0] == "applied"
    only = await administrator(world, "robot", password=False)
    await (await iam(world)).delete_login_profile(UserName="mallory")
    body = task("deactivate-access-key", "access-key", only, {"user": "robot"})
    assert await handled(world, body) == ("refused", "last-administrator")
    second = (await (await iam(world)).create_access_key(UserName="robot"))["AccessKey"]["AccessKeyId"]
    again = task("deactivate-access-key", "access-key", second, {"user": "robot"})
    assert (await handled(world, again))[0] == "applied"


async def test_an_administrator_with_mfa_loses_nothing_by_having_to_use_it(world: World) -> None:
    """The policy takes the way in from those alone who have no device."""
    await administrator(world, "mallory")
    client = await iam(world)
    device = (await client.create_virtual_mfa_device(VirtualMFADeviceName="m"))["VirtualMFADevice"]["SerialNumber"]
    await client.enable_mfa_device(UserName="mallory", SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321")
    assert (await handled(world, task("enforce-mfa", "user", "mallory")))[0] == "applied"


async def test_a_role_that_is_an_administrator_has_its_sessions_revoked(world: World) -> None:
    """New sessions work, so nobody is locked out by it."""
    await world.role()
    await (await iam(world)).attach_role_policy(RoleName="web-role", PolicyArn=ADMINISTRATOR)
    assert (await handled(world, task("revoke-role-sessions", "role", "web-role")))[0] == "applied"


async def test_of_two_administrators_one_stays_whoever_comes_first(world: World) -> None:
    """At once in two processes, and one right after the other: the second waits, and is then refused, for it would be the last."""
    for name in ("alice", "mallory"):
        await administrator(world, name)
    bodies = [json.dumps(task("quarantine-user", "user", name)) for name in ("alice", "mallory")]
    verdicts = await asyncio.gather(*(world.handle(body) for body in bodies))
    assert sorted(verdict.reason or "done" for verdict in verdicts) == ["busy", "done"]
    (left,) = [body for body, verdict in zip(bodies, verdicts, strict=True) if verdict.reason == "busy"]
    assert (await world.handle(left)).reason == "busy"
    world.pass_lease()
    assert await handled(world, json.loads(left)) == ("refused", "last-administrator")
    held = [name for name in ("alice", "mallory") if (await world.picture())[f"user {name}"]["policies"]]
    assert len(held) == 1


async def test_the_two_keys_of_an_administrator_are_not_both_taken_at_once(world: World) -> None:
    """Without a console password each is the other's last way in: one is made inactive, and the other task is refused."""
    await administrator(world, "alice", password=False)
    client = await iam(world)
    await client.create_access_key(UserName="alice")
    keys = [one["AccessKeyId"] for one in (await client.list_access_keys(UserName="alice"))["AccessKeyMetadata"]]
    bodies = [json.dumps(task("deactivate-access-key", "access-key", key, {"user": "alice"})) for key in keys]
    verdicts = await asyncio.gather(*(world.handle(body) for body in bodies))
    assert sorted(verdict.reason or "done" for verdict in verdicts) == ["busy", "done"]
    (left,) = [body for body, verdict in zip(bodies, verdicts, strict=True) if verdict.reason == "busy"]
    assert await handled(world, json.loads(left)) == ("refused", "last-administrator")
    assert sorted((await world.picture())["user alice"]["keys"].values()) == ["Active", "Inactive"]


async def test_one_process_that_saw_two_administrators_looks_again(world: World) -> None:
    """What it remembers is who was none; who is one is looked at anew."""
    for name in ("alice", "mallory"):
        await administrator(world, name)
    executor = world.executor()
    for name, expected in (("alice", "applied"), ("mallory", "refused")):
        await executor.handle(message(task("quarantine-user", "user", name)))
        assert (await world.outcomes())[-1] == expected
        world.pass_lease()


async def test_of_a_thousand_who_are_none_the_account_is_asked_once(world: World) -> None:
    """Within a minute; who is not in the answer is looked for anew."""
    client, asked = await iam(world), []
    real = client.get_account_authorization_details

    async def details(**parameters: Any) -> Any:
        asked.append(parameters)
        return await real(**parameters)

    client.get_account_authorization_details = details
    executor = world.executor()
    for name in ("a", "b", "c"):
        await world.user(name)
    for name in ("a", "b", "c"):
        await executor.handle(message(task("quarantine-user", "user", name)))
    assert len(asked) == 1
    await administrator(world, "newcomer")
    await executor.handle(message(task("quarantine-user", "user", "newcomer")))
    assert (await world.outcomes())[-1] == "refused"


async def test_a_large_account_is_read_page_by_page_and_not_for_ever(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other administrator stands on the last page; where there are more pages than are read, nobody is sure of anything."""
    await administrator(world, "mallory")
    await administrator(world, "zoe")
    client = await iam(world)
    real = client.get_account_authorization_details

    async def by_ones(MaxItems: int, Marker: str = "0") -> Any:  # noqa: N803  # as botocore spells them
        whole = await real(MaxItems=MaxItems)
        users, number = whole["UserDetailList"], int(Marker)
        page = {**whole, "UserDetailList": users[number : number + 1]}
        return page if number + 1 == len(users) else {**page, "IsTruncated": True, "Marker": str(number + 1)}

    client.get_account_authorization_details = by_ones
    monkeypatch.setattr(sentry, "MOST_PAGES", 1)
    assert await handled(world, task("quarantine-user", "user", "mallory")) == ("refused", "last-administrator")
    assert "more than" in (await world.journal())[-1]["reason"]
    monkeypatch.setattr(sentry, "MOST_PAGES", 9)
    again = task("quarantine-user", "user", "mallory", finding="0f0e0d0c-0000-5000-8000-000000000078")
    assert (await handled(world, again))[0] == "applied"


def deny(client: Any, method: str, code: str = "AccessDenied") -> None:
    async def denied(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, method)

    setattr(client, method, denied)


@pytest.mark.parametrize(
    ("method", "grant"),
    [("get_account_authorization_details", "iam:GetAccountAuthorizationDetails"), ("get_login_profile", "iam:GetLoginProfile")],
)
async def test_what_may_not_be_seen_counts_as_nobody(method: str, grant: str, world: World) -> None:
    """Refused, and the reason says what to allow; a throttled look is a failure that passes, and the message stays."""
    await administrator(world, "mallory")
    await administrator(world, "alice", password=False)
    deny(await iam(world), method)
    assert await handled(world, task("quarantine-user", "user", "mallory")) == ("refused", "last-administrator")
    assert f"allow {grant}" in (await world.journal())[-1]["reason"]
    assert world.wire.calls == []
    deny(await iam(world), method, "Throttling")
    again = task("quarantine-user", "user", "mallory", finding="0f0e0d0c-0000-5000-8000-000000000079")
    assert await world.handle(json.dumps(again)) == Verdict(delete=False, reason="failed")
    assert world.wire.calls == []


async def test_an_undo_that_would_lock_out_the_last_administrator_is_refused(world: World) -> None:
    """The user's earlier policy under our name comes back by it, and nobody knows what that would leave."""
    await administrator(world, "mallory")
    client = await iam(world)
    device = (await client.create_virtual_mfa_device(VirtualMFADeviceName="m"))["VirtualMFADevice"]["SerialNumber"]
    await client.enable_mfa_device(UserName="mallory", SerialNumber=device, AuthenticationCode1="123456", AuthenticationCode2="654321")
    weak = json.dumps({"Version": "2012-10-17", "Statement": []})
    await client.put_user_policy(UserName="mallory", PolicyName="TrailmendEnforceMfa", PolicyDocument=weak)
    assert (await handled(world, task("enforce-mfa", "user", "mallory")))[0] == "applied"
    await client.deactivate_mfa_device(UserName="mallory", SerialNumber=device)
    assert await world.undo() == Ending("refused", "last-administrator")


async def test_people_are_not_asked_about_the_last_administrator_and_what_they_agreed_to_is_looked_at_again(world: World) -> None:
    """In mode approve it is refused unasked; where the other administrator is gone since they agreed, it is refused in the end."""
    await administrator(world, "mallory")
    assert await handled(world, task("quarantine-user", "user", "mallory"), remediation_mode=Mode.APPROVE) == (
        "refused",
        "last-administrator",
    )
    await administrator(world, "alice")
    later = task("quarantine-user", "user", "mallory", finding="0f0e0d0c-0000-5000-8000-000000000075")
    approval = await world.wait(json.dumps(later))
    assert approval.id == later["id"]
    await (await iam(world)).detach_user_policy(UserName="alice", PolicyArn=ADMINISTRATOR)
    before = await world.picture()
    await world.answer()
    await world.look()
    assert (await world.outcomes())[-1] == "refused"
    assert await world.picture() == before


async def test_a_user_without_power_is_acted_on_in_any_account(world: World) -> None:
    """Where there is no administrator at all, nobody loses the last one."""
    assert (await handled(world, await a_user_without_mfa(world)))[0] == "applied"


def message(body: Body) -> Message:
    return Message("m", json.dumps(body), "receipt")
