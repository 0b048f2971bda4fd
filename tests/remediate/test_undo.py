"""Undo, from the journal alone: the account is as before, field by field, whatever stops it; and what was changed since is left alone."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.remediate.scenes import (
    SCENES,
    UNDOABLE,
    Scene,
    a_bad_user,
    a_lost_fleet,
    a_lost_role,
    a_password,
    a_user_without_mfa,
    a_weak_policy,
    an_active_key,
    differences,
    inactive_keys,
    stolen_sessions,
    unused_keys,
)
from tests.remediate.world import ACCOUNT, CrashError, World
from worker.model import JournalEntry
from worker.modes import Mode, Scope
from worker.remediate.guards import Limits
from worker.remediate.history import audit
from worker.remediate.undo import Ending, Undo
from worker.state.sqlite import SqliteStore

BEFORE_OF_A_FLEET = 3
"""Instances that held the dead profile before it was restored: afterwards they hold none, for it cannot be had again."""


async def as_before(world: World, before: dict[str, Any]) -> None:
    """Nothing differs, but associations with a profile that is gone, which nobody can make again."""
    changed = differences(before, await world.picture())
    assert all(name.startswith("associations/") and after is None for name, (_, after) in changed.items()), changed
    assert len(changed) <= BEFORE_OF_A_FLEET


@pytest.mark.parametrize("scene", UNDOABLE)
async def test_undo_brings_back_what_was_before(scene: Scene, world: World) -> None:
    """Done, undone: the account is as it was. The journal tells of both, who agreed, and each call; the message does nothing any more."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    await world.handle(body)
    assert await world.picture() != before
    assert await world.undo() == Ending("undone")
    await as_before(world, before)
    assert await world.outcomes() == ["started", "applied", "undo-started", "undone"]
    started, undone = (await world.journal())[2:]
    assert started["request_ids"] == []
    assert len(undone["request_ids"]) == len(undone["plan"]) > 0
    assert undone["approver"] == undone["executor"]["arn"]
    (history,) = await world.histories()
    assert str(history.done()).startswith("it was undone on ")
    calls = list(world.wire.calls)
    await world.handle(body)
    assert world.wire.calls == calls


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("scene", UNDOABLE)
async def test_an_undo_that_dies_at_any_call_is_taken_up_where_it_stopped(scene: Scene, lost_answer: bool, world: World) -> None:
    """Die at each call in turn, before it and after it: no call is made twice, the end is the same, and the journal is whole."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    await world.handle(body)
    first = len(world.wire.calls)
    crashes = 0
    while True:
        done = len(world.wire.calls)
        world.wire.die_after = done if lost_answer else None
        world.wire.die_before = None if lost_answer else done + (1 if crashes else 0)
        try:
            ending = await world.undo()
        except CrashError:
            crashes += 1
            assert crashes < 20
            assert (await world.undo()).outcome == "busy"
            world.pass_lease()
            continue
        break
    assert ending == Ending("undone")
    await as_before(world, before)
    steps = (await world.journal())[2]["plan"]
    assert crashes == len(steps)
    assert len(world.wire.calls) - first == len(steps)
    outcomes = (await world.outcomes())[2:]
    assert outcomes[-1] == "undone"
    assert set(outcomes[:-1]) == {"undo-started"}
    assert (await audit(world.store.journal())).fault is None


@pytest.mark.parametrize("scene", UNDOABLE)
async def test_what_a_crashed_task_did_is_undone_too(scene: Scene, world: World) -> None:
    """The task died after its first call and was taken up again: the state before is that of its first life."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.handle(body)
    world.pass_lease()
    await world.handle(body)
    assert await world.undo() == Ending("undone")
    await as_before(world, before)


@pytest.mark.parametrize("mode", [Mode.SHADOW, Mode.APPROVE])
@pytest.mark.parametrize("scene", UNDOABLE)
async def test_an_undo_is_done_in_every_mode_but_off(scene: Scene, mode: Mode, world: World) -> None:
    """A person asks for it: modes say what the executor does by itself. In mode off nothing is changed, and the undo is still to be had."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    await world.handle(body)
    after, calls = await world.picture(), list(world.wire.calls)
    assert (await world.undo(remediation_mode=Mode.OFF)).outcome == "off"
    assert (await world.undo(remediation_modes=((Scope(), Mode.OFF),))).outcome == "off"
    assert (await world.picture(), world.wire.calls) == (after, calls)
    assert await world.undo(remediation_mode=mode) == Ending("undone")
    await as_before(world, before)
    assert (await world.outcomes())[2:] == ["undo-started", "undone"]
    assert (await world.journal())[-1]["mode"] == mode.value


async def key_deleted(world: World) -> None:
    iam = await world.accounts.client("iam")
    for key in (await iam.list_access_keys(UserName="mallory"))["AccessKeyMetadata"]:
        await iam.delete_access_key(UserName="mallory", AccessKeyId=key["AccessKeyId"])


async def password_made_anew(world: World) -> None:
    iam = await world.accounts.client("iam")
    await iam.delete_login_profile(UserName="mallory")


async def policy_rewritten(world: World) -> None:
    iam = await world.accounts.client("iam")
    text = json.dumps({"Version": "2012-10-17", "Statement": []})
    for name in (await iam.list_user_policies(UserName="mallory"))["PolicyNames"]:
        await iam.put_user_policy(UserName="mallory", PolicyName=name, PolicyDocument=text)


async def revocation_deleted(world: World) -> None:
    iam = await world.accounts.client("iam")
    text = json.dumps({"Version": "2012-10-17", "Statement": []})
    await iam.put_role_policy(RoleName="web-role", PolicyName="TrailmendRevokeOlderSessions", PolicyDocument=text)


async def policy_raised_further(world: World) -> None:
    iam = await world.accounts.client("iam")
    await iam.update_account_password_policy(MinimumPasswordLength=30)


async def profile_made_anew(world: World) -> None:
    await world.lose_profile()
    await world.profile()


async def profile_tagged(world: World) -> None:
    iam = await world.accounts.client("iam")
    await iam.tag_instance_profile(InstanceProfileName="web", Tags=[{"Key": "owner", "Value": "them"}])


async def profile_used_by_another(world: World) -> None:
    await world.instance(region="eu-west-1")


async def other_role(world: World) -> None:
    iam = await world.accounts.client("iam")
    await world.role("other")
    await iam.remove_role_from_instance_profile(InstanceProfileName="web", RoleName="web-role")
    await iam.add_role_to_instance_profile(InstanceProfileName="web", RoleName="other")


@pytest.mark.parametrize(
    ("scene", "since", "names"),
    [
        (an_active_key, key_deleted, "AKIA"),
        (unused_keys, key_deleted, "AKIA"),
        (a_password, password_made_anew, "console password of user mallory was deleted"),
        (a_user_without_mfa, policy_rewritten, "TrailmendEnforceMfa of user mallory was rewritten"),
        (a_bad_user, policy_rewritten, "TrailmendQuarantine of user mallory was rewritten"),
        (a_bad_user, key_deleted, "AKIA"),
        (stolen_sessions, revocation_deleted, "TrailmendRevokeOlderSessions of role web-role was rewritten"),
        (a_weak_policy, policy_raised_further, "MinimumPasswordLength 20 -> 30"),
        (a_lost_role, profile_made_anew, "instance profile web was made anew"),
        (a_lost_role, other_role, "instance profile web holds role other since"),
        (a_lost_fleet, profile_tagged, "tags changed"),
        (a_lost_fleet, profile_made_anew, "id changed"),
        (a_lost_fleet, profile_used_by_another, "is used since by i-"),
    ],
)
async def test_what_was_changed_since_is_left_alone(
    scene: Scene, since: Callable[[World], Awaitable[None]], names: str, world: World
) -> None:
    """No call is made; the refusal names what was changed; agreed to or not, the journal tells it."""
    await world.handle(json.dumps(await scene(world)))
    (history,) = await world.histories()
    undo = await Undo.of(history, world.means(), Limits.of(world.settings))
    assert isinstance(undo, Undo)
    await since(world)
    after, calls = await world.picture(), list(world.wire.calls)
    assert await world.undo() == Ending("refused", "changed-since")
    ending = await undo.carry_out([])
    assert ending.outcome == "undo-refused"
    assert names in str(ending.reason)
    assert (await world.picture(), world.wire.calls) == (after, calls)
    assert (await world.outcomes())[2:] == ["undo-refused"]


async def test_a_user_who_chose_a_new_password_has_nothing_to_be_undone(world: World) -> None:
    """The mark is gone by itself: no call, and the task counts as undone."""
    await world.handle(json.dumps(await a_password(world)))
    iam = await world.accounts.client("iam")
    await iam.update_login_profile(UserName="mallory", PasswordResetRequired=False)
    assert await world.undo() == Ending("undone")
    assert (await world.outcomes())[2:] == ["undone"]


async def test_what_was_not_agreed_to_is_not_done(world: World) -> None:
    """Live state asks for other steps than were shown: refused, and to be shown again."""
    await world.handle(json.dumps(await a_bad_user(world)))
    (history,) = await world.histories()
    undo = await Undo.of(history, world.means(), Limits.of(world.settings))
    assert isinstance(undo, Undo)
    shown = await undo.prospect()
    await a_key_is_turned_on(world)
    after = await world.picture()
    ending = await undo.carry_out(getattr(shown, "steps"))  # noqa: B009  # a plan, as the next line shows
    assert (ending.outcome, str(ending.reason)[:19]) == ("undo-refused", "changed-since-shown")
    assert await world.picture() == after
    assert await world.undo() == Ending("undone")


async def a_key_is_turned_on(world: World) -> None:
    iam = await world.accounts.client("iam")
    for step in (await world.journal())[0]["plan"]:
        if step["api"] == "UpdateAccessKey":
            await iam.update_access_key(UserName="mallory", AccessKeyId=step["parameters"]["AccessKeyId"], Status="Active")


@pytest.mark.parametrize("pattern", ["mallory", "arn:aws:iam::*:user/*"])
async def test_the_exempt_are_exempt_from_undo_too(pattern: str, world: World) -> None:
    """The guards are those of the doing."""
    await world.handle(json.dumps(await a_bad_user(world)))
    after = await world.picture()
    assert await world.undo(exempt_principals=(pattern,)) == Ending("refused", "exempt")
    assert await world.picture() == after


async def test_a_call_that_aws_refuses_fails_the_undo_and_frees_it(world: World) -> None:
    """The journal tells the error, and the next undo does it."""
    await world.handle(json.dumps(await a_bad_user(world)))
    iam = await world.accounts.client("iam")

    def deny(name: str) -> None:
        raise iam.exceptions.ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "DeleteUserPolicy")

    world.wire.meddle = deny
    assert await world.undo() == Ending("undo-failed", "DeleteUserPolicy: AccessDenied: no")
    world.wire.meddle = None
    assert await world.undo() == Ending("undone")
    assert (await world.outcomes())[2:] == ["undo-started", "undo-failed", "undo-started", "undone"]


@pytest.mark.parametrize("scene", SCENES)
async def test_what_changed_nothing_cannot_be_undone(scene: Scene, world: World) -> None:
    """A shadowed task says so, and no call is made."""
    await world.handle(json.dumps(await scene(world)), remediation_mode=Mode.SHADOW)
    (history,) = await world.histories()
    assert history.done() == "it changed nothing: shadowed"
    assert await Undo.of(history, world.means(), Limits.of(world.settings)) == history.done()


async def test_deleted_keys_say_that_they_cannot_come_back(world: World) -> None:
    """Known from the journal: nothing is asked of AWS."""
    await world.handle(json.dumps(await inactive_keys(world)))
    (history,) = await world.histories()
    assert str(history.done()).startswith("no call could undo it: delete access key AKIA")


async def test_a_task_that_did_not_end_is_not_undone(world: World) -> None:
    """It may still be taken up: its message is on the queue."""
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.handle(json.dumps(await a_bad_user(world)))
    (history,) = await world.histories()
    assert history.done() == "it began and did not come to its end (started): it can be undone once it has"


# The journal.


async def written(world: World) -> list[tuple[JournalEntry, str, str]]:
    await world.handle(json.dumps(await a_bad_user(world)))
    await world.undo()
    return [line async for line in world.store.journal()]


async def read(lines: list[Any]) -> Any:
    for line in lines:
        yield line


async def test_a_whole_journal_is_told_as_such(world: World) -> None:
    """Its length and the hash of its last line; an earlier hash is still in it."""
    lines = await written(world)
    told = await audit(world.store.journal(), known=lines[1][1])
    assert (told.count, told.head, told.fault) == (4, lines[-1][1], None)


@pytest.mark.parametrize("number", range(4))
async def test_a_changed_line_is_told(number: int, world: World) -> None:
    """Any line, any member: the audit stops at it and says which."""
    lines = await written(world)
    entry, mark, previous = lines[number]
    for other in (
        JournalEntry(entry.task_id, entry.at, "refused", entry.body),
        JournalEntry(entry.task_id, entry.at, entry.outcome, {**entry.body, "approver": "nobody"}),
        JournalEntry("x", entry.at, entry.outcome, entry.body),
    ):
        told = await audit(read([*lines[:number], (other, mark, previous), *lines[number + 1 :]]))
        assert told.count == number
        assert f"line {number + 1}" in str(told.fault)


@pytest.mark.parametrize("number", range(4))
async def test_a_line_taken_out_is_told(number: int, world: World) -> None:
    """From the middle by the chain; from the end only by whoever kept its hash."""
    lines = await written(world)
    less = [*lines[:number], *lines[number + 1 :]]
    assert ((await audit(read(less))).fault is None) == (number == 3)
    assert (await audit(read(less), known=lines[-1][1])).fault is not None


async def test_a_line_that_cannot_be_read_is_told(world: World, tmp_path: Any) -> None:
    """Somebody wrote into the file: the audit says where, and does not fail."""
    await written(world)
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    for entry, _, _ in [line async for line in world.store.journal()]:
        await store.append(entry)
    await store._database.change(lambda connection: connection.execute("UPDATE journal SET line = '{' WHERE number = 2"))
    told = await audit(store.journal())
    await store.close()
    assert (told.count, str(told.fault)[:22]) == (1, "line 2 cannot be read:")


async def test_the_account_of_a_password_policy_is_named_by_its_id(world: World) -> None:
    """The lock and the journal know the account as such."""
    await world.handle(json.dumps(await a_weak_policy(world)))
    (history,) = await world.histories()
    assert history.task["target"] == {"type": "account", "name": ACCOUNT, "account": ACCOUNT, "arn": None}
