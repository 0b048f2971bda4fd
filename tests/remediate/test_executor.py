"""The executor's promises on the embedded AWS: forged tasks touch nothing, guards hold, one effect among rivals, failures leave the message."""

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from tests import fakes
from tests.remediate.world import NOW, TRUST, CrashError, World, task
from worker.aws import Accounts
from worker.model import JournalEntry, Message, Verdict
from worker.modes import Mode
from worker.settings import Settings
from worker.state.store import StoreError

DONE = Verdict(delete=True)
REFUSED = Verdict(delete=False, reason="task-refused")
Body = dict[str, Any]


def without(name: str) -> Callable[[Body], Body]:
    return lambda body: {key: value for key, value in body.items() if key != name}


def with_(**members: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, **members}


def with_target(**members: Any) -> Callable[[Body], Body]:
    return lambda body: {**body, "target": {**body["target"], **members}}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_(schema="trailmend.task/2"), "wrong-schema"),
        (with_(approved=True), "wrong-schema"),
        (without("created_at"), "wrong-schema"),
        (with_(created_at="yesterday"), "wrong-schema"),
        (with_(created_at="2026-03-01T12:00:00"), "wrong-schema"),
        (with_(created_at="0001-01-01T00:00:00+23:59"), "wrong-schema"),
        (with_(finding={}), "wrong-schema"),
        (with_target(account="000000000000\n"), "wrong-schema"),
        (with_target(account="\u0660" * 12), "wrong-schema"),
        (with_target(name="mallory\n"), "wrong-schema"),
        (with_target(name="*"), "wrong-schema"),
        (with_target(type="group"), "wrong-schema"),
        (with_target(type="role"), "wrong-params"),
        (with_target(type="access-key"), "wrong-params"),
        (with_target(name="bystander"), "wrong-id"),
        (with_target(account="111111111111"), "wrong-id"),
        (with_(action="delete-user"), "unknown-action"),
        (with_(action="restore-instance-profile"), "wrong-params"),
        (with_(action="require-password-reset"), "wrong-id"),
        (with_(id="0f0e0d0c-0000-5000-8000-000000000009"), "wrong-id"),
    ],
)
async def test_a_forged_task_touches_nothing_and_is_left_to_redrive(change: Callable[[Body], Body], reason: str, world: World) -> None:
    """Each is refused with its own reason, counted, not journaled, and stays on the queue for somebody to look at."""
    await world.user()
    await world.user("bystander")
    before = await world.picture()
    assert await world.handle(json.dumps(change(task("enforce-mfa", "user", "mallory")))) == REFUSED
    assert await world.picture() == before
    assert await world.outcomes() == []
    assert fakes.sample(world.metrics, "tasks_refused_total", reason=reason) == 1


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "not-json"),
        ("{", "not-json"),
        ("[" * 5000, "not-json"),
        ("null", "wrong-schema"),
        ("[]", "wrong-schema"),
        ('{"schema": "trailmend.task/1"}', "wrong-schema"),
        ('"' + "x" * 262_143 + '"', "oversized"),
        ("é" * 131_073, "oversized"),
    ],
)
async def test_what_is_no_task_is_left_to_redrive(body: str, reason: str, world: World) -> None:
    """Size is bounded in bytes and before anything is parsed."""
    assert await world.handle(body) == REFUSED
    assert fakes.sample(world.metrics, "tasks_refused_total", reason=reason) == 1


async def test_an_expired_task_is_shadowed(world: World) -> None:
    """One second past the limit nothing is changed, at the limit it is; a task from the future is as little trusted."""
    await world.user()
    before = await world.picture()
    age = timedelta(seconds=world.settings.max_task_age_seconds)
    for made, findings in ((NOW - age - timedelta(seconds=1), 1), (NOW + timedelta(minutes=6), 2)):
        late = task("enforce-mfa", "user", "mallory", created_at=made, finding=f"0f0e0d0c-0000-5000-8000-00000000001{findings}")
        assert await world.handle(json.dumps(late)) == DONE
    assert await world.picture() == before
    assert await world.outcomes() == ["shadowed", "shadowed"]
    assert [line["reason"].split(":")[0] for line in await world.journal()] == ["too-old", "from-the-future"]
    await world.handle(json.dumps(task("enforce-mfa", "user", "mallory", created_at=NOW - age)))
    assert (await world.outcomes())[2:] == ["started", "applied"]


async def test_mode_off_does_nothing_at_all(world: World) -> None:
    """No call, no journal line; the message is deleted and counted."""
    await world.user()
    before = await world.picture()
    assert await world.handle(json.dumps(task("enforce-mfa", "user", "mallory")), remediation_mode=Mode.OFF) == DONE
    assert await world.picture() == before
    assert await world.outcomes() == []
    assert fakes.sample(world.metrics, "remediations_total", action="enforce-mfa", outcome="off") == 1


@pytest.mark.parametrize("pattern", ["mallory", "MALL*", "arn:aws:iam::*:user/break-glass/*"])
async def test_an_exempt_user_is_spared_by_its_live_arn_whatever_the_task_says(pattern: str, world: World) -> None:
    """The task names no ARN, so that the path is known from AWS alone; the key of an exempt user is spared like the user."""
    key = await world.user(path="/break-glass/")
    before = await world.picture()
    tasks = [task("enforce-mfa", "user", "mallory"), task("deactivate-access-key", "access-key", key, {"user": "mallory"})]
    for body in tasks:
        assert await world.handle(json.dumps(body), exempt_principals=(pattern,)) == DONE
    assert await world.picture() == before
    assert world.wire.calls == []
    assert await world.outcomes() == ["exempt", "exempt"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (task("enforce-mfa", "user", "root"), "root"),
        (task("deactivate-access-key", "access-key", "AKIA0123456789ABCDEF", {"user": "Root"}), "root"),
        (task("enforce-mfa", "user", "mallory", arn="arn:aws:iam::000000000000:root"), "root"),
        (task("enforce-mfa", "user", "mallory", arn="arn:aws:iam::000000000000:user/bob"), "arn-mismatch"),
        (task("enforce-mfa", "user", "mallory", arn="arn:aws:iam::111111111111:user/mallory"), "arn-mismatch"),
    ],
)
async def test_root_and_mismatched_arns_are_refused_before_aws_is_asked(body: Body, reason: str, world: World) -> None:
    """Refused and journaled, even where such a user exists."""
    for name in ("root", "mallory"):
        await world.user(name)
    before = await world.picture()
    assert await world.handle(json.dumps(body)) == DONE
    assert await world.picture() == before
    assert (await world.journal())[0]["reason"].startswith(reason)
    assert await world.outcomes() == ["refused"]


async def test_of_many_deliveries_at_once_one_acts(world: World) -> None:
    """Ten processes and one process ten times: one change, one journal line of it, the others busy or told that it is done."""
    await world.user()
    body = json.dumps(task("enforce-mfa", "user", "mallory"))
    one = world.executor()
    rivals = [world.handle(body) for _ in range(10)] + [one.handle(Message("m", body, "r")) for _ in range(10)]
    verdicts = await asyncio.gather(*rivals)
    assert world.wire.calls == ["put_user_policy"]
    assert await world.outcomes() == ["started", "applied"]
    left = [verdict for verdict in verdicts if not verdict.delete]
    assert left
    assert {verdict.reason for verdict in left} == {"busy"}


async def test_one_process_that_holds_a_message_twice_acts_once(world: World) -> None:
    """A claim belongs to a delivery, not to a process, so the second delivery in the same process is busy as well."""
    await world.user()
    executor = world.executor()
    message = Message("m", json.dumps(task("enforce-mfa", "user", "mallory")), "r")
    verdicts = await asyncio.gather(executor.handle(message), executor.handle(message))
    assert sorted(verdict.delete for verdict in verdicts) == [False, True]
    assert world.wire.calls == ["put_user_policy"]


@pytest.mark.parametrize("crashed_at", [1, 2, 3])
async def test_a_task_that_died_is_taken_up_before_its_queue_gives_it_up(crashed_at: int, world: World) -> None:
    """Whichever of its first three receives it died at, the fifth at the latest finds its claims free."""
    await world.user()
    body = json.dumps(task("enforce-mfa", "user", "mallory"))
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.executor().handle(Message("m", body, "r", receives=crashed_at))
    for receives in range(crashed_at + 1, 6):
        verdict = await world.executor().handle(Message("m", body, "r", receives=receives))
        if verdict.delete:
            break
        assert verdict.retry_after_seconds is not None
        world.now += timedelta(seconds=verdict.retry_after_seconds)
    assert verdict == DONE
    assert await world.outcomes() == ["started", "already-done"]


async def test_ten_tasks_on_one_target_are_all_done_within_five_receives(world: World) -> None:
    """They come at once, one wins, and the others come back at times that differ."""
    await world.user()
    finding = "0f0e0d0c-0000-5000-8000-0000000001"
    bodies = [json.dumps(task("enforce-mfa", "user", "mallory", finding=f"{finding}{number:02}")) for number in range(10)]
    due = [(0.0, 1, body) for body in bodies]
    start, ended = world.now, 0
    while due:
        at = min(one[0] for one in due)
        now = [one for one in due if one[0] < at + 1]
        due = [one for one in due if one[0] >= at + 1]
        world.now = start + timedelta(seconds=at)
        verdicts = await asyncio.gather(*(world.executor().handle(Message("m", body, "r", receives=receives)) for _, receives, body in now))
        for (_, receives, body), verdict in zip(now, verdicts, strict=True):
            assert receives <= 5
            ended += verdict.delete
            if not verdict.delete:
                due.append((at + (verdict.retry_after_seconds or 0), receives + 1, body))
    assert ended == 10


async def test_what_died_half_way_is_not_thrown_away_by_mode_off(world: World) -> None:
    """It stays on the queue, untouched, and is finished once the mode allows it."""
    await world.user()
    body = json.dumps(task("quarantine-user", "user", "mallory"))
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.handle(body)
    world.wire.die_after = None
    world.pass_lease()
    calls = list(world.wire.calls)
    assert await world.handle(body, remediation_mode=Mode.OFF) == Verdict(delete=False, reason="off")
    assert (world.wire.calls, await world.outcomes()) == (calls, ["started"])
    assert await world.handle(body) == DONE
    assert (await world.outcomes())[-1] == "applied"
    assert await world.handle(body, remediation_mode=Mode.OFF) == DONE


@pytest.mark.parametrize("late", ["too old", "shadow", "exempt"])
async def test_what_was_begun_is_finished_however_late_or_can_be_undone(late: str, world: World) -> None:
    """Its policy was put and its keys were not yet looked after when the process died; what came meanwhile does not leave it half done for good."""
    await world.user()
    before = await world.picture()
    body = json.dumps(task("quarantine-user", "user", "mallory"))
    world.wire.die_after = 0
    with pytest.raises(CrashError):
        await world.handle(body)
    world.wire.die_after = None
    world.now += timedelta(days=1)
    settings: dict[str, dict[str, Any]] = {"shadow": {"remediation_mode": Mode.SHADOW}, "exempt": {"exempt_principals": ("mallory",)}}
    changed = settings.get(late, {})
    assert await world.handle(body, **changed) == DONE
    assert (await world.outcomes())[-1] == {"too old": "applied", "shadow": "shadowed", "exempt": "exempt"}[late]
    assert (await world.undo()).outcome == "undone"
    assert await world.picture() == before


async def test_two_tasks_on_one_target_wait_for_each_other(world: World) -> None:
    """A restore and a reattach of one profile, as one attack brings them: the second finds the work of the first done."""
    await world.role()
    reattach = json.dumps(task("reattach-role", "instance-profile", "web", {"role": "web-role"}))
    params = {"path": "/", "role": "web-role", "tags": {}, "instances": []}
    restore = json.dumps(task("restore-instance-profile", "instance-profile", "web", params))
    first, second = await asyncio.gather(world.handle(restore), world.handle(reattach))
    assert (first, second.reason) == (DONE, "busy")
    assert await world.handle(reattach) == DONE
    assert world.wire.calls == ["create_instance_profile", "add_role_to_instance_profile"]
    assert await world.outcomes() == ["started", "applied", "already-done"]


async def test_a_call_that_aws_refuses_fails_the_task_and_frees_it(world: World) -> None:
    """The message stays, the journal tells the error, and once the cause is gone the next delivery does it."""
    await world.user()
    body = json.dumps(task("enforce-mfa", "user", "mallory"))

    def deny(name: str) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "PutUserPolicy")

    world.wire.meddle = deny
    assert await world.handle(body) == Verdict(delete=False, reason="failed")
    assert (await world.journal())[-1]["reason"] == "PutUserPolicy: AccessDenied: no"
    assert fakes.sample(world.metrics, "remediations_total", action="enforce-mfa", outcome="failed") == 1
    world.wire.meddle = None
    assert await world.handle(body) == DONE
    assert await world.outcomes() == ["started", "failed", "started", "applied"]


async def test_a_change_that_reading_back_does_not_show_is_failed(world: World) -> None:
    """AWS says yes and does nothing: the look is repeated in bounded waits, and then the task has failed."""
    await world.user()
    iam = await world.accounts.client("iam")
    real = iam.put_user_policy

    async def nothing(**_: Any) -> Any:
        return {"ResponseMetadata": {"RequestId": "r"}}

    iam.put_user_policy = nothing
    assert await world.handle(json.dumps(task("enforce-mfa", "user", "mallory"))) == Verdict(delete=False, reason="failed")
    iam.put_user_policy = real
    assert world.slept == [1.0, 2.0, 4.0, 8.0, 15.0, 30.0]
    assert (await world.journal())[-1]["reason"].startswith("not verified: reading back still shows deny user mallory")


async def test_a_worker_whose_lease_ended_makes_no_further_call(world: World) -> None:
    """While the first step hangs, the lease ends and a rival takes over: the first worker stops before its second call."""
    await world.role()
    params = {"path": "/", "role": "web-role", "tags": {}, "instances": []}
    body = task("restore-instance-profile", "instance-profile", "web", params)

    async def rival() -> None:
        world.pass_lease()
        await world.store.claim(f"remediate:{body['id']}", "rival", world.now, timedelta(minutes=5))

    iam = await world.accounts.client("iam")
    real = iam.create_instance_profile

    async def slow(**parameters: Any) -> Any:
        answer = await real(**parameters)
        await rival()
        return answer

    iam.create_instance_profile = slow
    assert await world.handle(json.dumps(body)) == Verdict(delete=False, reason="failed")
    iam.create_instance_profile = real
    assert world.wire.calls == ["create_instance_profile"]
    assert "lease ended" in (await world.journal())[-1]["reason"]
    assert (await world.handle(json.dumps(body))).reason == "busy"


@pytest.mark.parametrize("method", ["settled", "claim", "append"])
async def test_a_store_that_fails_stops_the_work_before_anything_changes(
    method: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is done that could not be recorded first; the message stays and the fault is counted."""
    await world.user()
    before = await world.picture()

    async def full(*_: Any) -> Any:
        raise StoreError("disk full")

    monkeypatch.setattr(world.store, method, full)
    assert await world.handle(json.dumps(task("enforce-mfa", "user", "mallory"))) == Verdict(delete=False, reason="store")
    assert await world.picture() == before
    assert fakes.sample(world.metrics, "faults_total", stage="remediate", reason="store") == 1


async def test_a_store_that_fails_after_the_change_tells_of_it_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line `started` is there already; when the store is back, the task is found done and not done again."""
    await world.user()
    body = json.dumps(task("enforce-mfa", "user", "mallory"))
    real = world.store.append

    async def fails_at_the_end(entry: JournalEntry) -> str:
        if entry.outcome == "applied":
            raise StoreError("disk full")
        return await real(entry)

    monkeypatch.setattr(world.store, "append", fails_at_the_end)
    assert await world.handle(body) == Verdict(delete=False, reason="store")
    monkeypatch.setattr(world.store, "append", real)
    world.pass_lease()
    assert await world.handle(body) == DONE
    assert world.wire.calls == ["put_user_policy"]
    assert await world.outcomes() == ["started", "already-done"]


async def test_an_account_that_cannot_be_entered_leaves_the_message(world: World) -> None:
    """Without a member role, a task for another account fails as such and nothing is claimed."""
    verdict = await world.handle(json.dumps(task("enforce-mfa", "user", "mallory", account="111111111111")))
    assert verdict == Verdict(delete=False, reason="failed")
    assert await world.outcomes() == []


async def test_a_member_account_is_entered_and_ours_is_left(world: World) -> None:
    """The user of the same name in our own account keeps its rights; the journal names the role that acted."""
    await world.user()
    before = await world.picture()
    member = "222222222222"
    create: Any = get_session().create_client
    async with (
        create("iam", aws_access_key_id=member, aws_secret_access_key="test") as iam,
        Accounts(get_session(), Settings(member_role_name="member")) as accounts,
    ):
        await iam.create_user(UserName="mallory")
        await iam.create_role(RoleName="member", AssumeRolePolicyDocument=json.dumps(TRUST))
        ours, world.accounts = world.accounts, accounts
        assert await world.handle(json.dumps(task("enforce-mfa", "user", "mallory", account=member))) == DONE
        world.accounts = ours
        assert (await iam.list_user_policies(UserName="mallory"))["PolicyNames"] == ["TrailmendEnforceMfa"]
    assert await world.picture() == before
    assert (await world.journal())[-1]["executor"]["arn"] == f"arn:aws:sts::{member}:assumed-role/member/trailmend"
