"""`trailmend tasks`: from a state file and the account alone, with the documented exit status."""

import asyncio
import contextlib
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession

from tests.remediate.scenes import a_bad_user, a_user_without_mfa, differences, inactive_keys, stolen_sessions
from tests.remediate.world import ACCOUNT, TRUST, World, as_of
from worker import cli
from worker.aws import Accounts
from worker.model import JournalEntry
from worker.modes import Mode, Scope
from worker.settings import Settings
from worker.state.sqlite import SqliteStore


@pytest.fixture
async def world(embedded_aws: str, session: AioSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """An empty account, and a state file that the commands are pointed at."""
    monkeypatch.setenv("TRAILMEND_STATE", f"sqlite:///{tmp_path}/state.db")
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODE", "auto")
    store = await SqliteStore.open(f"{tmp_path}/state.db")
    async with Accounts(session, Settings()) as accounts:
        yield World(accounts, store)
    await store.close()


async def trailmend(*arguments: str) -> int:
    return await asyncio.to_thread(cli.main, ["tasks", *arguments])


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def test_tasks_are_listed_and_shown(world: World, capsys: Any) -> None:
    """The table has a row for each task with whether it can be undone; `show` takes the beginning of an id and tells every line."""
    body = await a_bad_user(world)
    await world.handle(json.dumps(body))
    await world.handle(json.dumps(await stolen_sessions(world)), remediation_mode=Mode.SHADOW)
    assert await trailmend("list") == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[2:4] for row in rows[1:]] == [["applied", "quarantine-user"], ["shadowed", "revoke-role-sessions"]]
    assert [row.split()[-2] for row in rows[1:]] == ["yes", "-"]
    assert await trailmend("show", body["id"][:12]) == 0
    told = capsys.readouterr().out
    assert "CloudTrail: 2 not told of yet of 2 calls" in told
    assert all(text in told for text in (body["id"], "started", "applied", "deny user mallory everything", "It can be undone"))


@pytest.mark.parametrize(
    ("arguments", "typed", "status", "undone"),
    [
        (["--yes"], None, 0, True),
        ([], "undo\n", 0, True),
        ([], "y\n", 1, False),
        ([], "", 1, False),
        ([], None, 2, False),
    ],
)
async def test_undo_shows_its_plan_and_wants_a_yes(
    arguments: list[str], typed: str | None, status: int, *, undone: bool, world: World, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --yes, or the word typed at a terminal, the user is as before; with anything else as the task left it."""
    body = await a_bad_user(world)
    before = await world.picture()
    await world.handle(json.dumps(body))
    after = await world.picture()
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    assert await trailmend("undo", body["id"], *arguments) == status
    assert await world.picture() == (before if undone else after)
    out = capsys.readouterr().out
    assert ("delete inline policy TrailmendQuarantine of user mallory" in out) == (status != 2)
    assert await trailmend("undo", body["id"], "--yes") == (1 if undone else 0)
    assert await world.picture() == before


@pytest.mark.parametrize(("mode", "status"), [("off", 1), ("shadow", 0), ("approve", 0)])
async def test_undo_is_done_in_every_mode_but_off(
    mode: str, status: int, world: World, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person asks for it; where the mode is off, status 1 and the reason."""
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODE", mode)
    body = await a_bad_user(world)
    before = await world.picture()
    await world.handle(json.dumps(body))
    after = await world.picture()
    assert await trailmend("undo", body["id"], "--yes") == status
    assert ("not undone: the mode of quarantine-user in 000000000000 is off" in capsys.readouterr().err) == (status == 1)
    assert await world.picture() == (after if status else before)


# What waits.


async def become(world: World, monkeypatch: pytest.MonkeyPatch, name: str, role: str = "AWSReservedSSO_OnCall_0123456789abcdef") -> str:
    """Have the commands run with the credentials of a session of a role; answers its ARN."""
    iam, sts = await world.accounts.client("iam"), await world.accounts.client("sts")
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        await iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(TRUST))
    made = await sts.assume_role(RoleArn=f"arn:aws:iam::{ACCOUNT}:role/{role}", RoleSessionName=name)
    for variable, member in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey"), ("SESSION_TOKEN", "SessionToken")):
        monkeypatch.setenv(f"AWS_{variable}", made["Credentials"][member])
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/{role}/{name}"


@pytest.fixture
def today(world: World) -> World:
    """The world at the time by which the commands go."""
    world.now = datetime.now(UTC)
    return world


async def test_what_waits_is_listed_first_and_shown(today: World, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time that is left; `--waiting` lists nothing else; `show` tells what people said."""
    await today.handle(json.dumps(as_of(today.now, await stolen_sessions(today))))
    body = as_of(today.now, await a_bad_user(today))
    await today.wait(json.dumps(body), two_approvers=(Scope("*"),))
    assert await trailmend("list") == 0
    rows = [row.split() for row in capsys.readouterr().out.splitlines() if row.strip()]
    assert rows[1][:7] == ["2", "people", "3", "h", "59", "min", "quarantine-user"]
    assert rows[3][2:4] == ["applied", "revoke-role-sessions"]
    assert await trailmend("list", "--waiting") == 0
    assert len([row for row in capsys.readouterr().out.splitlines() if row.strip()]) == 2
    await become(today, monkeypatch, "alice")
    assert await trailmend("approve", body["id"][:12], "--yes", "--why", "seen him do it") == 0
    assert "one more person has to agree until" in capsys.readouterr().out
    assert await trailmend("show", body["id"]) == 0
    told = capsys.readouterr().out
    assert all(text in told for text in ("waiting", "is denied everything", "alice: seen him do it", "1 person, 3 h 59 min left"))


@pytest.mark.parametrize(
    ("arguments", "typed", "status", "decided"),
    [
        (["--yes", "--why", "seen it"], None, 0, ["seen it"]),
        ([], "seen it\napprove\n", 0, ["seen it"]),
        (["--why", "seen it"], "approve\n", 0, ["seen it"]),
        (["--yes"], "seen it\n", 0, ["seen it"]),
        (["--why", "seen it"], "y\n", 1, []),
        (["--yes"], "\n", 1, []),
        ([], "", 1, []),
        (["--yes"], None, 2, []),
        (["--why", "seen it"], None, 2, []),
    ],
)
async def test_an_approver_is_shown_all_and_says_why(
    arguments: list[str],
    typed: str | None,
    status: int,
    decided: list[str],
    today: World,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The finding, the plan, the blast radius and the undo stand there before the question; the reason and the ARN are recorded; then it is done."""
    body = await a_bad_user(today)
    before = await today.picture()
    await today.wait(json.dumps(as_of(today.now, body)))
    arn = await become(today, monkeypatch, "alice")
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    assert await trailmend("approve", body["id"], *arguments) == status
    out = capsys.readouterr().out
    shown = (
        "CreateAccessKey by mallory",
        "deny user mallory everything",
        "user mallory is denied everything",
        "undo makes those keys active",
        "until",
    )
    assert all((text in out) == (status != 2) for text in shown)
    (approval,) = await today.store.approvals()
    assert [(one.approver, one.why) for one in approval.decisions] == [(arn, why) for why in decided]
    await today.look()
    changed = {name for name in differences(before, await today.picture()) if name.startswith("user mallory")}
    assert bool(changed) == bool(decided)


async def test_a_rejected_task_is_not_done(today: World, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why is asked for as well, and another word."""
    body = await a_bad_user(today)
    await today.wait(json.dumps(as_of(today.now, body)))
    await become(today, monkeypatch, "alice")
    monkeypatch.setattr(sys, "stdin", Terminal("it is him on call\napprove\n"))
    assert await trailmend("reject", body["id"]) == 1
    monkeypatch.setattr(sys, "stdin", Terminal("it is him on call\nreject\n"))
    assert await trailmend("reject", body["id"]) == 0
    assert "rejected: no executor will begin it" in capsys.readouterr().out
    await today.look()
    assert await today.outcomes() == ["waiting", "rejected"]
    assert today.wire.calls == []


@pytest.mark.parametrize(
    ("role", "says"),
    [
        (None, "is the executor itself"),
        ("web-role", "is who the task is about"),
        ("thief", "is who made the call"),
    ],
)
@pytest.mark.parametrize("command", ["approve", "reject"])
async def test_who_may_not_answer_is_told_why(
    command: str, role: str | None, says: str, today: World, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The executor, the target and the finding's actor; nothing is recorded, and nothing is shown to act on."""
    body = await (a_user_without_mfa if role == "thief" else stolen_sessions)(today)
    actor = {"type": "AssumedRole", "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/thief/x", "name": "thief", "account": ACCOUNT}
    finding = {**body["finding"], "actor": actor} if role == "thief" else body["finding"]
    await today.wait(json.dumps(as_of(today.now, {**body, "finding": finding})))
    if role is not None:
        await become(today, monkeypatch, "somebody", role)
    assert await trailmend(command, body["id"], "--yes", "--why", "I say so") == 1
    assert says in capsys.readouterr().err
    (approval,) = await today.store.approvals()
    assert approval.decisions == ()


async def test_late_or_twice_does_not_count(today: World, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same person again, and anybody after the time limit; of unknown ids and in mode off nothing is asked."""
    body = as_of(today.now, await a_bad_user(today))
    yes = (body["id"], "--yes", "--why", "seen it")
    assert await trailmend("approve", *yes) == 2
    assert "is no id of a task that waits" in capsys.readouterr().err
    await today.wait(json.dumps(body), two_approvers=(Scope("*"),))
    await become(today, monkeypatch, "alice")
    assert await trailmend("approve", *yes) == 0
    assert await trailmend("approve", *yes) == 1
    assert "has agreed to it already: another person has to" in capsys.readouterr().err
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODES", f"quarantine-user@{ACCOUNT}=off")
    assert await trailmend("approve", *yes) == 1
    assert "the mode of quarantine-user in 000000000000 is off" in capsys.readouterr().err
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODES", "quarantine-users=off")
    assert await trailmend("approve", *yes) == 2
    assert "TRAILMEND_REMEDIATION_MODES: there is no action 'quarantine-users'" in capsys.readouterr().err
    monkeypatch.delenv("TRAILMEND_REMEDIATION_MODES")
    (approval,) = await today.store.approvals()
    await today.store.ask(replace(approval, expires_at=today.now, asked_at=today.now - timedelta(hours=1)), approval)
    await become(today, monkeypatch, "bob")
    assert await trailmend("approve", *yes) == 1
    assert "not counted: its time limit ended at" in capsys.readouterr().err


async def test_what_cannot_be_undone_says_so_before_anything_is_asked(world: World, capsys: Any) -> None:
    """Deleted keys: why, from the journal, and status 1."""
    body = await inactive_keys(world)
    await world.handle(json.dumps(body))
    assert await trailmend("undo", body["id"], "--yes") == 1
    assert "no call could undo it: delete access key AKIA" in capsys.readouterr().err


async def test_an_id_that_is_none_or_several_is_wrong_usage(world: World, capsys: Any) -> None:
    """The empty beginning is that of every task: they are named."""
    assert await trailmend("show", "nothing") == 2
    await world.handle(json.dumps(await a_bad_user(world)))
    other = JournalEntry("other", world.now, "shadowed", (await world.journal())[0])
    await world.store.append(other)
    assert await trailmend("undo", "", "--yes") == 2
    assert "may be any of these" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("statement", "status", "says"),
    [
        ("SELECT 1", 0, "2 lines, all as they were written"),
        ("UPDATE journal SET line = replace(line, 'mallory', 'malory') WHERE number = 1", 1, "line 1, of task"),
        ("DELETE FROM journal WHERE number = 1", 1, "line 1 does not follow line 0"),
    ],
)
async def test_verify_journal_tells_tampering(statement: str, status: int, says: str, world: World, capsys: Any) -> None:
    """A whole one is 0; a line changed or taken out is 1 and named."""
    await world.handle(json.dumps(await a_bad_user(world)))
    change: Callable[[Any], Any] = lambda connection: connection.execute(statement).fetchall()  # noqa: E731
    await world.store._database.change(change)
    assert await trailmend("verify-journal") == status
    told = capsys.readouterr()
    assert says in told.out + told.err


async def test_a_journal_cut_short_is_told_to_who_kept_a_hash(world: World, capsys: Any) -> None:
    """The chain alone cannot tell that its end is missing; the hash of a line that is gone can."""
    await world.handle(json.dumps(await a_bad_user(world)))
    marks = [mark async for _, mark, _ in world.store.journal()]
    await world.store._database.change(lambda connection: connection.execute("DELETE FROM journal WHERE number = 2"))
    assert await trailmend("verify-journal") == 0
    assert await trailmend("verify-journal", "--head", marks[0]) == 0
    assert await trailmend("verify-journal", "--head", marks[1]) == 1
    assert "lines were cut off the end" in capsys.readouterr().err


async def test_what_cloudtrail_told_of_a_tasks_calls_is_shown(world: World, capsys: Any) -> None:
    """Confirmed, awaited, unconfirmed or forgotten, as the worker's store knows it; of a task without calls nothing is said."""
    body = await a_bad_user(world)
    await world.handle(json.dumps(body))
    first, second = await world.store.expected((await world.histories())[0].request_ids)
    for change, line in (
        (world.store.confirm(first), "CloudTrail: 1 confirmed, 1 not told of yet of 2 calls"),
        (world.store.miss(second), "CloudTrail: 1 confirmed, 1 unconfirmed of 2 calls"),
        (world.store.confirm(replace(second, missed=True)), "CloudTrail: 2 confirmed of 2 calls"),
        (world.store.prune(second.due_at, second.due_at, second.due_at), "CloudTrail: 2 too old to be remembered of 2 calls"),
    ):
        await change
        assert await trailmend("show", body["id"]) == 0
        assert line in capsys.readouterr().out
    other = await stolen_sessions(world)
    await world.handle(json.dumps(other), remediation_mode=Mode.SHADOW)
    assert await trailmend("show", other["id"]) == 0
    assert "CloudTrail" not in capsys.readouterr().out


async def test_of_calls_that_cloudtrail_was_not_asked_about_none_is_called_confirmed(world: World, capsys: Any) -> None:
    """With CONFIRM_SECONDS=0."""
    unasked = await a_user_without_mfa(world)
    await world.handle(json.dumps(unasked), confirm_seconds=0)
    assert await trailmend("show", unasked["id"]) == 0
    assert "CloudTrail: 1 not asked for of 1 calls" in capsys.readouterr().out
