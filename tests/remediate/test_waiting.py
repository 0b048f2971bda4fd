"""Mode approve and the breaker on the embedded AWS: nothing changes before people agree, what they agree to is done once, and only that."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from botocore.exceptions import ClientError
from jsonschema import Draft202012Validator

from tests import fakes
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
    last_used,
    no_policy,
    stolen_sessions,
    unused_keys,
)
from tests.remediate.test_undo import as_before
from tests.remediate.world import CrashError, World, as_of, person, task
from worker.dispatch import wire
from worker.model import Answer, Decision, Message, Verdict, stable_id
from worker.modes import Mode, Scope
from worker.remediate import waiting
from worker.remediate.attempt import LEASE
from worker.remediate.history import audit
from worker.remediate.undo import Ending
from worker.remediate.waiting import FIRST_PAUSE

DONE = Verdict(delete=True)
SCHEMA = Draft202012Validator(wire.schema("approval"), format_checker=Draft202012Validator.FORMAT_CHECKER)
HOURS = timedelta(hours=4)
"""The default of TRAILMEND_APPROVAL_SECONDS."""


@pytest.mark.parametrize("scene", SCENES)
async def test_what_people_agree_to_is_done_and_can_be_undone(scene: Scene, world: World) -> None:
    """Nothing changes while it waits; then just what was shown; the journal tells who agreed and why; undone, the account is as before."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    approval = await world.wait(body)
    await world.look()
    assert differences(before, await world.picture()) == {}
    assert await world.outcomes() == ["waiting"]
    assert all(approval.effects)
    SCHEMA.validate(orjson.loads(orjson.dumps(wire.approval_as_dict(approval))))
    assert approval.effects
    assert (approval.expires_at - approval.asked_at, approval.needed) == (HOURS, 1)
    await world.answer()
    await world.look()
    after = await world.picture()
    assert differences(before, after)
    assert len(world.wire.calls) == len(approval.steps)
    assert await world.outcomes() == ["waiting", "started", "applied"]
    first, started, applied = await world.journal()
    assert first["effects"] == list(approval.effects)
    assert first["approver"] is None
    assert [[one["arn"], one["why"]] for one in applied["approver"]] == [[person("alice"), "alice has looked"]]
    assert started["approver"] == applied["approver"]
    assert {line["mode"] for line in (first, started, applied)} == {"approve"}
    assert await world.store.approvals() == []
    assert await world.handle(body, remediation_mode=Mode.APPROVE) == DONE
    await world.look()
    assert differences(after, await world.picture()) == {}
    assert len(await world.outcomes()) == 3
    if scene is not inactive_keys:
        assert await world.undo(remediation_mode=Mode.APPROVE) == Ending("undone")
        await as_before(world, before)


@pytest.mark.parametrize("scene", [scene for scene in UNDOABLE if scene is not a_lost_fleet])
async def test_agreed_to_or_by_itself_the_same_is_done(scene: Scene, world: World) -> None:
    """What differs after an approved task differs after one in mode auto, field by field; times alone may."""
    body = await scene(world)
    before = await world.picture()
    other = {**body["finding"], "id": "0f0e0d0c-0000-5000-8000-000000000002"}
    target = body["target"]
    number = stable_id("task", other["id"], body["action"], target["type"], target["account"], target["name"])
    await world.wait(json.dumps(body))
    await world.answer()
    await world.look()
    approved = differences(before, await world.picture())
    assert await world.undo() == Ending("undone")
    await world.handle(json.dumps({**body, "finding": other, "id": number}))
    by_itself = differences(before, await world.picture())
    assert approved == by_itself or scene is stolen_sessions
    assert list(approved) == list(by_itself)


@pytest.mark.parametrize(("mode", "outcomes"), [(Mode.OFF, []), (Mode.SHADOW, ["shadowed"])])
@pytest.mark.parametrize("scene", SCENES)
async def test_in_off_and_shadow_nothing_changes_and_nobody_is_asked(scene: Scene, mode: Mode, outcomes: list[str], world: World) -> None:
    """Off tells nothing; shadow tells what would have been done, and whom it would have hit."""
    body = json.dumps(await scene(world))
    before = await world.picture()
    assert await world.handle(body, remediation_mode=mode) == DONE
    await world.look(remediation_mode=mode)
    assert differences(before, await world.picture()) == {}
    assert await world.outcomes() == outcomes
    assert all(line["effects"] and line["mode"] == mode.value for line in await world.journal())
    assert await world.store.approvals() == []


@pytest.mark.parametrize(
    ("scene", "hits"),
    [
        (an_active_key, ["access key AKIA", "of user mallory is refused from then on: made 20", "never used"]),
        (a_password, ["user mallory cannot sign in to the console without choosing a new password"]),
        (a_user_without_mfa, ["nothing in the console but set up MFA", "access key AKIA"]),
        (a_lost_role, ["every instance that uses instance profile web gets the credentials of role web-role again"]),
        (a_lost_fleet, ["3 running instances", "eu-west-1, us-east-1", "1 stopped instances", "instance profile web exists again"]),
        (a_weak_policy, ["every user of account 000000000000", "older than 90 days is locked out until an administrator helps"]),
        (no_policy, ["every user of account 000000000000"]),
        (unused_keys, ["access key AKIA", "never used"]),
        (inactive_keys, ["nothing that works now stops", "can never be made active again"]),
        (a_bad_user, ["denied everything", "a role that the user has assumed goes on", "access key AKIA"]),
        (stolen_sessions, ["every session of role web-role", "honest ones too", "instances get theirs some hours later"]),
    ],
)
async def test_who_agrees_is_told_whom_it_hits(scene: Scene, hits: list[str], world: World) -> None:
    """The blast radius is read from live state: which keys and their last use, how many instances of which regions, and who else."""
    approval = await world.wait(json.dumps(await scene(world)))
    told = " | ".join(approval.effects)
    assert [one for one in hits if one not in told] == []
    assert "undo" in approval.undoing


async def test_a_key_in_use_says_for_what(world: World) -> None:
    """The service, the region and the day that IAM tells."""
    body = await an_active_key(world)
    await last_used(world, {body["target"]["name"]: world.now})
    approval = await world.wait(json.dumps(body))
    assert approval.effects[0].endswith(f"last used {world.now:%Y-%m-%d} (s3 in eu-west-1)")


async def test_the_narrowest_mode_holds_for_a_task(world: World) -> None:
    """The same executor does one action by itself, asks about another, and leaves a third alone."""
    await world.user()
    await world.role()
    key = await world.user("bob")
    modes = ((Scope("enforce-mfa"), Mode.AUTO), (Scope("revoke-role-sessions"), Mode.OFF), (Scope("*", "000000000000"), Mode.SHADOW))
    executor = world.executor(remediation_mode=Mode.AUTO, remediation_modes=(*modes[:2], (Scope("deactivate-access-key"), Mode.APPROVE)))
    bodies = [
        task("enforce-mfa", "user", "mallory"),
        task("deactivate-access-key", "access-key", key, {"user": "bob"}),
        task("revoke-role-sessions", "role", "web-role"),
    ]
    for body in bodies:
        await executor.handle(_message(body))
    assert await world.outcomes() == ["started", "applied", "waiting"]
    await world.handle(json.dumps(task("require-password-reset", "user", "mallory")), remediation_modes=modes)
    assert (await world.outcomes())[3:] == ["shadowed"]


def _message(body: dict[str, Any]) -> Any:
    return Message("m", json.dumps(body), "receipt")


async def test_asked_again_while_it_waits_it_waits_once(world: World) -> None:
    """A second delivery, and several at once, change neither what waits nor the journal."""
    body = json.dumps(await a_bad_user(world))
    first = await world.wait(body)
    world.now += timedelta(minutes=1)
    await asyncio.gather(*(world.handle(body, remediation_mode=mode) for mode in (Mode.APPROVE, Mode.APPROVE, Mode.AUTO)))
    assert await world.store.approvals() == [first]
    assert await world.outcomes() == ["waiting"]
    assert world.wire.calls == []


async def test_what_is_as_wanted_or_guarded_is_not_asked_about(world: World) -> None:
    """Nobody is woken for what would not be done: nothing to do, exempt, too old, refused."""
    await world.user()
    body = task("enforce-mfa", "user", "mallory")
    old = task("enforce-mfa", "user", "mallory", finding="0f0e0d0c-0000-5000-8000-000000000011", created_at=world.now - timedelta(hours=2))
    await world.handle(json.dumps(old), remediation_mode=Mode.APPROVE)
    await world.handle(json.dumps(body), remediation_mode=Mode.APPROVE, exempt_principals=("mallory",))
    await world.handle(json.dumps(task("enforce-mfa", "user", "nobody")), remediation_mode=Mode.APPROVE)
    await world.handle(json.dumps(body))
    again = task("enforce-mfa", "user", "mallory", finding="0f0e0d0c-0000-5000-8000-000000000019")
    await world.handle(json.dumps(again), remediation_mode=Mode.APPROVE)
    assert await world.outcomes() == ["shadowed", "exempt", "refused", "started", "applied", "already-done"]
    assert await world.store.approvals() == []


# How it ends.


async def test_what_nobody_answers_in_time_expires_for_good(world: World) -> None:
    """At the limit and not before; a late yes changes nothing, and neither does the message again."""
    body = json.dumps(await a_bad_user(world))
    before = await world.picture()
    await world.wait(body)
    world.now += HOURS - timedelta(seconds=1)
    await world.look()
    assert fakes.sample(world.metrics, "approvals_waiting") == 1
    assert fakes.sample(world.metrics, "approvals_expiring") == 1
    world.now += timedelta(seconds=1)
    await world.answer()
    await world.look()
    assert await world.outcomes() == ["waiting", "expired"]
    assert await world.store.approvals() == []
    assert await world.handle(body) == DONE
    assert differences(before, await world.picture()) == {}
    assert len(await world.outcomes()) == 2
    assert fakes.sample(world.metrics, "approvals_total", outcome="expired") == 1
    await world.look()
    assert fakes.sample(world.metrics, "approvals_waiting") == 0


async def test_one_no_ends_it_for_good(world: World) -> None:
    """Whatever others have said; the journal tells who and why."""
    body = json.dumps(await a_bad_user(world))
    before = await world.picture()
    await world.wait(body, two_approvers=(Scope("quarantine-user"),))
    await world.answer("alice")
    await world.answer("bob", Answer.NO)
    await world.answer("carol")
    await world.look()
    assert await world.outcomes() == ["waiting", "rejected"]
    told = (await world.journal())[-1]["approver"]
    assert [[one["arn"], one["answer"], one["why"]] for one in told][1] == [person("bob"), "no", "bob has looked"]
    assert await world.handle(body) == DONE
    assert differences(before, await world.picture()) == {}
    assert (await world.histories())[0].done() == "it changed nothing: rejected"


async def test_what_was_agreed_to_and_not_carried_out_in_time_expires(world: World) -> None:
    """No executor ran for as long as the time limit: a yes of then says nothing of now."""
    body = json.dumps(await a_bad_user(world))
    await world.wait(body)
    world.now += timedelta(hours=1)
    await world.answer()
    world.now += HOURS
    await world.look()
    assert await world.outcomes() == ["waiting", "expired"]
    assert world.wire.calls == []


async def test_its_own_time_limit_holds_and_not_the_age_of_a_task(world: World) -> None:
    """Agreed to three hours later, where a task on the queue may be one hour old."""
    body = json.dumps(await a_bad_user(world))
    await world.wait(body)
    world.now += timedelta(hours=3)
    await world.answer()
    await world.look()
    assert (await world.outcomes())[1:] == ["started", "applied"]


@pytest.mark.parametrize(("scope", "needed"), [(Scope("*"), 2), (Scope("quarantine-user", "000000000000"), 2), (Scope("enforce-mfa"), 1)])
async def test_two_people_where_two_are_needed(scope: Scope, needed: int, world: World) -> None:
    """One, however often, is one; both stand in the journal."""
    await world.wait(json.dumps(await a_bad_user(world)), two_approvers=(scope,))
    for people in (["alice"], ["alice", "bob"])[:needed]:
        assert await world.outcomes() == ["waiting"]
        await world.answer(people[-1])
        await world.answer(people[-1])
        await world.look()
    assert (await world.outcomes())[1:] == ["started", "applied"]
    assert [one["arn"] for one in (await world.journal())[-1]["approver"]] == [person("alice"), person("bob")][:needed]


async def test_in_mode_off_what_waits_is_left_alone(world: World) -> None:
    """Agreed to or not, until the mode is another one."""
    await world.wait(json.dumps(await a_bad_user(world)))
    await world.answer()
    await world.look(remediation_mode=Mode.OFF)
    assert await world.outcomes() == ["waiting"]
    assert len(await world.store.approvals()) == 1
    await world.look(remediation_mode=Mode.SHADOW)
    assert (await world.outcomes())[1:] == ["started", "applied"]


# Live state moves.


async def test_steps_that_nobody_was_shown_are_asked_about_again(world: World) -> None:
    """The user has a further key by now: nothing is done, the decisions are void, and the new plan waits."""
    body = json.dumps(await a_bad_user(world))
    first = await world.wait(body)
    await world.answer()
    iam = await world.accounts.client("iam")
    (inactive,) = [k for k in (await iam.list_access_keys(UserName="mallory"))["AccessKeyMetadata"] if k["Status"] == "Inactive"]
    await iam.update_access_key(UserName="mallory", AccessKeyId=inactive["AccessKeyId"], Status="Active")
    world.now += timedelta(minutes=5)
    await world.look()
    assert world.wire.calls == []
    assert await world.outcomes() == ["waiting", "asked-again"]
    (again,) = await world.store.approvals()
    assert (again.decisions, len(again.steps), again.expires_at) == ((), len(first.steps) + 1, world.now + HOURS)
    line = (await world.journal())[-1]
    assert inactive["AccessKeyId"] in line["reason"]
    assert line["approver"][0]["arn"] == person("alice")
    await world.look()
    assert world.wire.calls == []
    await world.answer("bob")
    await world.look()
    assert len(world.wire.calls) == len(again.steps)
    assert await world.outcomes() == ["waiting", "asked-again", "started", "applied"]


async def test_fewer_steps_than_were_shown_are_fine(world: World) -> None:
    """Somebody has done some of it by hand: the rest is done."""
    body = json.dumps(await a_bad_user(world))
    approval = await world.wait(body)
    await world.answer()
    iam = await world.accounts.client("iam")
    for step in approval.steps:
        if step["api"] == "UpdateAccessKey":
            await iam.update_access_key(**step["parameters"])
    await world.look()
    assert world.wire.calls == ["put_user_policy"]
    assert (await world.outcomes())[1:] == ["started", "applied"]


async def test_all_done_by_hand_is_already_done(world: World) -> None:
    """And it waits no more."""
    body = json.dumps(await an_active_key(world))
    approval = await world.wait(body)
    await world.answer()
    await (await world.accounts.client("iam")).update_access_key(**approval.steps[0]["parameters"])
    await world.look()
    assert world.wire.calls == []
    assert await world.outcomes() == ["waiting", "already-done"]
    assert await world.store.approvals() == []


async def test_what_only_time_changes_is_not_asked_about_again(world: World) -> None:
    """A revocation is of the sessions until it is done, not until it was asked about."""
    await world.wait(json.dumps(await stolen_sessions(world)))
    world.now += timedelta(hours=1)
    await world.answer()
    await world.look()
    assert (await world.outcomes())[1:] == ["started", "applied"]
    iam = await world.accounts.client("iam")
    policy = (await iam.get_role_policy(RoleName="web-role", PolicyName="TrailmendRevokeOlderSessions"))["PolicyDocument"]
    assert policy["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"].startswith(f"{world.now:%Y-%m-%dT%H:%M}")


async def user_gone(world: World) -> None:
    iam = await world.accounts.client("iam")
    for key in (await iam.list_access_keys(UserName="mallory"))["AccessKeyMetadata"]:
        await iam.delete_access_key(UserName="mallory", AccessKeyId=key["AccessKeyId"])
    await iam.delete_login_profile(UserName="mallory")
    await iam.delete_user(UserName="mallory")


async def nothing(_: World) -> None:
    """Live state stays."""


@pytest.mark.parametrize(
    ("since", "settings", "outcome"),
    [(user_gone, {}, "refused"), (nothing, {"exempt_principals": ("mallory",)}, "exempt")],
)
async def test_the_guards_hold_for_what_was_agreed_to(
    since: Callable[[World], Awaitable[None]], settings: dict[str, Any], outcome: str, world: World
) -> None:
    """Nothing is done, and it waits no more: whoever agreed did not agree to that."""
    await world.wait(json.dumps(await a_user_without_mfa(world)))
    await world.answer()
    await since(world)
    await world.look(**settings)
    assert world.wire.calls == []
    assert await world.outcomes() == ["waiting", outcome]
    assert await world.store.approvals() == []


async def test_an_answer_that_comes_while_it_is_looked_at_is_heeded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A no that arrives after the list was read and before the claim: nothing is done, and the next look rejects it."""
    await world.wait(json.dumps(await a_bad_user(world)))
    await world.answer("alice")
    real = world.store.claim

    async def meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(world.store, "claim", real)
        await world.answer("bob", Answer.NO)
        return await real(*arguments)

    monkeypatch.setattr(world.store, "claim", meanwhile)
    await world.look()
    assert world.wire.calls == []
    await world.look()
    assert await world.outcomes() == ["waiting", "rejected"]


@pytest.mark.parametrize("more", [False, True])
async def test_a_no_that_comes_while_it_is_planned_is_heeded(more: bool, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is done and nobody is asked again, whether live state asks for more than was shown or not; the next look rejects it."""
    approval = await world.wait(json.dumps(await a_bad_user(world)))
    if more:
        world.now += timedelta(seconds=1)
        await world.store.ask(replace(approval, asked_at=world.now, steps=approval.steps[:1]), approval)
    await world.answer("alice")
    iam = await world.accounts.client("iam")
    real = iam.list_access_keys

    async def meanwhile(**parameters: Any) -> Any:
        monkeypatch.setattr(iam, "list_access_keys", real)
        await world.answer("bob", Answer.NO)
        return await real(**parameters)

    monkeypatch.setattr(iam, "list_access_keys", meanwhile)
    await world.look()
    assert iam.list_access_keys == real
    assert world.wire.calls == []
    assert await world.outcomes() == ["waiting"]
    await world.look()
    assert world.wire.calls == []
    assert await world.outcomes() == ["waiting", "rejected"]


# Rivals, failures and crashes.


async def test_of_rivals_one_carries_it_out(world: World) -> None:
    """Three executors look at once: each call is made once."""
    approval = await world.wait(json.dumps(await a_bad_user(world)))
    await world.answer()
    await asyncio.gather(*(world.look() for _ in range(3)))
    await world.look()
    assert len(world.wire.calls) == len(approval.steps)
    assert await world.outcomes() == ["waiting", "started", "applied"]


async def test_what_fails_is_tried_again_later_and_later(world: World) -> None:
    """Not at every look; once its cause is gone it is done."""
    await world.wait(json.dumps(await a_user_without_mfa(world)))
    await world.answer()

    def deny(_: str) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutUserPolicy")

    world.wire.meddle = deny
    watcher = world.waiting()
    pauses = []
    for _ in range(3):
        failed = len(await world.outcomes())
        began = world.now
        while len(await world.outcomes()) == failed:
            await watcher.look()
            world.now += FIRST_PAUSE / 2
        pauses.append((world.now - began) // (FIRST_PAUSE / 2))
    assert pauses == [1, 2, 4]
    world.wire.meddle = None
    await world.look()
    assert (await world.outcomes())[-2:] == ["started", "applied"]


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("scene", SCENES)
async def test_an_approved_task_that_dies_at_any_call_is_taken_up_where_it_stopped(scene: Scene, lost_answer: bool, world: World) -> None:
    """Die at each call in turn, before it and after it: no call is made twice, the end is the same, and the journal is whole."""
    approval = await world.wait(json.dumps(await scene(world)))
    await world.answer()
    crashes = 0
    while True:
        done = len(world.wire.calls)
        world.wire.die_after = done if lost_answer else None
        world.wire.die_before = None if lost_answer else done + (1 if crashes else 0)
        try:
            await world.look()
        except CrashError:
            crashes += 1
            assert crashes < 20
            await world.look()  # a rival finds it held
            world.pass_lease()
            continue
        break
    assert crashes == len(world.wire.calls) == len(approval.steps)
    outcomes = await world.outcomes()
    assert outcomes[-1] == ("already-done" if lost_answer else "applied")
    assert set(outcomes[1:-1]) == {"started"}
    assert await world.store.approvals() == []
    assert (await audit(world.store.journal())).fault is None


class DyingStore:
    """The real store; dies before a writing call of this number, or after it with its answer lost."""

    def __init__(self, store: Any, at: int, *, lost_answer: bool) -> None:
        self._store, self._at, self._lost_answer = store, at, lost_answer
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name not in ("claim", "settle", "release", "append", "ask", "withdraw"):
            return real

        async def call(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls == self._at and not self._lost_answer:
                raise CrashError
            answer = await real(*arguments)
            if self.calls == self._at:
                raise CrashError
            return answer

        return call


@pytest.mark.parametrize("lost_answer", [False, True])
@pytest.mark.parametrize("scene", [a_bad_user, an_active_key])
async def test_a_death_between_any_two_writes_to_the_store_loses_and_doubles_nothing(scene: Scene, lost_answer: bool, world: World) -> None:
    """At every writing call of asking, and of carrying out what was agreed to, in turn: the same end, and each call to AWS once."""
    body = await scene(world)
    before = await world.picture()
    expected: dict[str, Any] = {}
    for asking in (True, False):
        at, died = 0, True
        while died:
            at += 1
            finding = {**body["finding"], "id": f"0f0e0d0c-0000-5000-8000-0000000{asking:d}{at:04}"}
            target = body["target"]
            number = stable_id("task", finding["id"], body["action"], target["type"], target["account"], target["name"])
            message = json.dumps(as_of(world.now, {**body, "finding": finding, "id": number}))
            first_line, first_call = len(await world.outcomes()), len(world.wire.calls)
            if not asking:
                await world.wait(message)
                await world.answer()
            real = world.store
            world.store = DyingStore(real, at, lost_answer=lost_answer)  # type: ignore[assignment]
            died = False
            try:
                await (world.handle(message, remediation_mode=Mode.APPROVE) if asking else world.look())
            except CrashError:
                died = True
            world.store = real
            world.now += LEASE
            if asking:
                await world.wait(message)
                await world.answer()
            await world.look()
            outcomes = (await world.outcomes())[first_line:]
            assert set(outcomes) <= {"waiting", "started", "applied", "already-done"}
            assert outcomes[0] == "waiting"
            assert "started" in outcomes
            assert outcomes[-1] in ("applied", "already-done")
            assert await world.store.approvals() == []
            after = differences(before, await world.picture())
            expected = expected or after
            assert after == expected
            planned = next(line["plan"] for line in await world.journal() if line["task"]["id"] == number)
            assert len(world.wire.calls) - first_call == len(planned)
            assert await world.undo(begins=number) == Ending("undone")
            assert differences(before, await world.picture()) == {}
        assert at > 4
    assert (await audit(world.store.journal())).fault is None


async def test_a_stop_waits_for_what_is_in_hand(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call that is on its way and what follows it are done before the watcher ends, and what was decided is found by itself."""
    monkeypatch.setattr(waiting, "LOOK_EVERY_SECONDS", 0.001)
    await world.wait(json.dumps(await a_user_without_mfa(world)))
    await world.answer()
    begun, go = asyncio.Event(), asyncio.Event()
    iam = await world.accounts.client("iam")
    real = iam.put_user_policy

    async def slow(**parameters: Any) -> Any:
        begun.set()
        await go.wait()
        return await real(**parameters)

    iam.put_user_policy = slow
    watching = asyncio.create_task(world.waiting().watch())
    await begun.wait()
    watching.cancel()
    await asyncio.sleep(0)
    assert not watching.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await watching
    iam.put_user_policy = real
    assert await world.outcomes() == ["waiting", "started", "applied"]


async def test_what_is_decided_is_seen_to_by_so_many_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, each once; and on a stop what has not begun is left for the next process."""
    monkeypatch.setattr(waiting, "LOOK_EVERY_SECONDS", 0.001)
    for body in await users(world, waiting.AT_ONCE + 4):
        await world.handle(body, remediation_mode=Mode.APPROVE)
    for approval in await world.store.approvals():
        await world.store.decide(approval, _yes(world))
    begun, full, go = 0, asyncio.Event(), asyncio.Event()
    iam = await world.accounts.client("iam")
    real = iam.put_user_policy

    async def slow(**parameters: Any) -> Any:
        nonlocal begun
        begun += 1
        if begun == waiting.AT_ONCE:
            full.set()
        await go.wait()
        return await real(**parameters)

    monkeypatch.setattr(iam, "put_user_policy", slow)
    watcher = world.waiting()
    watching = asyncio.create_task(watcher.watch())
    await full.wait()
    assert (begun, len(watcher._in_hand)) == (waiting.AT_ONCE, waiting.AT_ONCE + 4)
    watching.cancel()
    await asyncio.sleep(0)
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert (await world.outcomes()).count("applied") == begun == waiting.AT_ONCE
    assert len(await world.store.approvals()) == 4


async def test_a_row_that_cannot_be_read_does_not_end_the_watch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted as a fault of ours, and what is decided is found once it can be read again."""
    monkeypatch.setattr(waiting, "LOOK_EVERY_SECONDS", 0.001)
    await world.wait(json.dumps(await a_bad_user(world)))
    await world.answer("bob", Answer.NO)
    real, asked = world.store.approvals, 0

    async def unreadable() -> Any:
        nonlocal asked
        asked += 1
        if asked > 2:
            monkeypatch.setattr(world.store, "approvals", real)
        raise ValueError("no JSON")

    monkeypatch.setattr(world.store, "approvals", unreadable)
    watching = asyncio.create_task(world.waiting().watch())
    async with asyncio.timeout(20):
        while await real() and not watching.done():
            await asyncio.sleep(0.001)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert await world.outcomes() == ["waiting", "rejected"]
    assert fakes.sample(world.metrics, "faults_total", stage="approvals", reason="unexpected") == 3


async def test_what_waits_and_is_no_task_any_more_is_refused_and_can_be_rejected(world: World) -> None:
    """As after a change of version: nothing is done, it is counted, and a no takes it away."""
    await world.user()
    approval = await world.wait(json.dumps(task("enforce-mfa", "user", "mallory")))
    world.now += timedelta(seconds=1)
    assert await world.store.ask(replace(approval, task={**approval.task, "action": "delete-user"}, asked_at=world.now), approval)
    await world.answer()
    await world.look()
    assert len(await world.store.approvals()) == 1
    await world.answer("bob", Answer.NO)
    await world.look()
    assert await world.store.approvals() == []
    assert world.wire.calls == []
    assert fakes.sample(world.metrics, "tasks_refused_total", reason="unknown-action") == 2


async def test_what_waits_and_cannot_be_written_any_more_does_not_wait_for_ever(world: World) -> None:
    """A task of hundreds of lists within each other, as an earlier version took it: refused, and gone at its time limit."""
    await world.user()
    approval = await world.wait(json.dumps(task("enforce-mfa", "user", "mallory")))
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    world.now += timedelta(seconds=1)
    assert await world.store.ask(replace(approval, task={**approval.task, "params": {"x": deep}}, asked_at=world.now), approval)
    await world.answer()
    await world.look()
    assert len(await world.store.approvals()) == 1
    world.now += 2 * HOURS
    await world.look()
    assert await world.store.approvals() == []
    assert world.wire.calls == []
    assert fakes.sample(world.metrics, "tasks_refused_total", reason="wrong-schema") == 2


# Half way.


async def half_done_and_rejected(world: World) -> dict[str, Any]:
    """What there was before a task that died half way, and that somebody then said no to."""
    body = json.dumps(await a_bad_user(world))
    before = await world.picture()
    await world.wait(body)
    await world.answer()
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.look()
    await world.answer("bob", Answer.NO)
    world.pass_lease()
    return before


async def test_what_died_half_way_and_was_rejected_then_can_be_undone(world: World) -> None:
    """The journal tells the state that it left."""
    before = await half_done_and_rejected(world)
    await world.look()
    assert await world.outcomes() == ["waiting", "started", "rejected"]
    assert await world.picture() != before
    assert await world.undo() == Ending("undone")
    assert differences(before, await world.picture()) == {}


async def test_while_the_state_that_it_left_cannot_be_read_it_is_not_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it can, it is told with it, and can be undone."""
    before = await half_done_and_rejected(world)
    iam = await world.accounts.client("iam")

    async def denied(**_: Any) -> Any:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "ListAccessKeys")

    with monkeypatch.context() as patched:
        patched.setattr(iam, "list_access_keys", denied)
        await world.look()
    assert await world.outcomes() == ["waiting", "started"]
    assert len(await world.store.approvals()) == 1
    await world.look()
    assert await world.outcomes() == ["waiting", "started", "rejected"]
    assert await world.undo() == Ending("undone")
    assert differences(before, await world.picture()) == {}


async def test_of_what_never_began_nothing_is_asked_where_it_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds that expire at once cost no call of AWS, and no reading of the journal."""
    for body in await users(world, 5):
        await world.handle(body, remediation_mode=Mode.APPROVE)
    world.now += HOURS
    read, real = [], world.store.journal

    def journal(after: int = 0) -> Any:
        read.append(after)
        return real(after)

    iam = await world.accounts.client("iam")
    monkeypatch.setattr(iam, "get_user", None)
    monkeypatch.setattr(iam, "list_mfa_devices", None)
    monkeypatch.setattr(world.store, "journal", journal)
    await world.look()
    monkeypatch.undo()
    assert await world.outcomes() == ["waiting"] * 5 + ["expired"] * 5
    assert read == []


# The breaker.


async def users(world: World, count: int) -> list[str]:
    bodies = []
    for number in range(count):
        await world.user(f"user-{number}")
        bodies.append(json.dumps(task("enforce-mfa", "user", f"user-{number}", created_at=world.now)))
    return bodies


async def test_the_breaker_trips_at_its_limit_and_people_are_asked(world: World) -> None:
    """Nothing is lost: what is beyond the limit waits, is counted, and is done once agreed to. Other actions go on."""
    bodies = await users(world, 5)
    for body in bodies:
        assert await world.handle(body, breaker_limit=3) == DONE
    assert await world.outcomes() == ["started", "applied"] * 3 + ["waiting"] * 2
    assert (await world.journal())[-1]["reason"].startswith("breaker: 3 tasks of this action")
    assert fakes.sample(world.metrics, "breaker_trips_total", action="enforce-mfa") == 2
    assert len(world.wire.calls) == 3
    await world.handle(json.dumps(task("require-password-reset", "user", "user-4")), breaker_limit=3)
    assert (await world.outcomes())[-2:] == ["started", "applied"]
    for approval in await world.store.approvals():
        await world.store.decide(approval, _yes(world))
    await world.look(breaker_limit=3)
    assert (await world.outcomes())[-4:] == ["started", "applied"] * 2
    assert await world.store.approvals() == []


def _yes(world: World) -> Any:
    return Decision(person("alice"), Answer.YES, "looked", world.now)


async def test_the_breaker_is_free_again_an_hour_later(world: World) -> None:
    """Slot by slot: to the second an hour after each was taken."""
    bodies = await users(world, 4)
    await world.handle(bodies[0], breaker_limit=2)
    world.now += timedelta(minutes=30)
    await world.handle(bodies[1], breaker_limit=2)
    world.now += timedelta(minutes=30) - timedelta(seconds=1)
    await world.handle(bodies[2], breaker_limit=2)
    world.now += timedelta(seconds=1)
    await world.handle(bodies[3], breaker_limit=2)
    assert await world.outcomes() == ["started", "applied"] * 2 + ["waiting"] + ["started", "applied"]


async def test_a_task_that_died_keeps_its_slot(world: World) -> None:
    """Taken up again it needs no second one, also where all are taken."""
    bodies = await users(world, 2)
    world.wire.die_before = 0
    with pytest.raises(CrashError):
        await world.handle(bodies[0], breaker_limit=1)
    world.wire.die_before = None
    await world.handle(bodies[1], breaker_limit=1)
    world.pass_lease()
    await world.handle(bodies[0], breaker_limit=1)
    assert await world.outcomes() == ["started", "waiting", "started", "applied"]


async def test_many_at_once_pass_no_more_than_the_limit(world: World) -> None:
    """Each as a process of its own."""
    bodies = await users(world, 6)
    await asyncio.gather(*(world.handle(body, breaker_limit=4) for body in bodies))
    outcomes = await world.outcomes()
    assert (outcomes.count("applied"), outcomes.count("waiting")) == (4, 2)


async def test_what_was_agreed_to_and_undone_takes_no_slot(world: World) -> None:
    """The breaker counts what the executor does by itself."""
    bodies = await users(world, 3)
    await world.wait(bodies[0])
    await world.answer()
    await world.look(breaker_limit=1)
    assert await world.undo(breaker_limit=1) == Ending("undone")
    await world.handle(bodies[1], breaker_limit=1)
    await world.handle(bodies[2], breaker_limit=1)
    assert (await world.outcomes())[-3:] == ["started", "applied", "waiting"]
