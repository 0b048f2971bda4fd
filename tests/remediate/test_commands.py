"""`trailmend tasks`: from a state file and the account alone, with the documented exit status."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.session import AioSession

from tests.remediate.scenes import a_bad_user, inactive_keys, stolen_sessions
from tests.remediate.world import World
from worker import cli
from worker.aws import Accounts
from worker.model import JournalEntry
from worker.modes import Mode
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


async def test_in_shadow_undo_shows_its_plan_and_is_not_done(world: World, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1, for the undo was not done, and the reason."""
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODE", "shadow")
    body = await a_bad_user(world)
    await world.handle(json.dumps(body))
    after = await world.picture()
    assert await trailmend("undo", body["id"], "--yes") == 1
    assert "not undone: shadow-mode" in capsys.readouterr().err
    assert await world.picture() == after


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
