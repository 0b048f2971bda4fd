"""What is SQLite's alone: files that cannot be used, other versions, and several processes on one file."""

import asyncio
import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from worker.model import Census, Delivery, JournalEntry, Origin, Outgoing, ProfileEvent, Record, Sighting
from worker.state import canonical, sqlite
from worker.state.database import APPLICATION_ID, VERSION
from worker.state.opening import open_store
from worker.state.sqlite import SqliteStore
from worker.state.store import Claim, StoreError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def no_database(path: Path) -> None:
    path.write_bytes(b"this is a letter, not a database\n" * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE recipes (name TEXT)")
    connection.close()


def of_a_newer_version(path: Path) -> None:
    asyncio.run(make(path))
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()


async def make(path: Path) -> None:
    await (await open_store(f"sqlite:///{path}", None)).close()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_database, "set TRAILMEND_STATE to another path"),
        (a_folder, "the path is no folder"),
        (of_another_program, "belongs to another program"),
        (of_a_newer_version, f"schema {VERSION + 1}, this one knows {VERSION}"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_advice_and_left_as_it_was(
    spoil: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    """The error names the file and what to do, and not a byte of the file changes."""
    path = tmp_path / "state.db"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreError) as told:
        asyncio.run(make(path))
    assert str(path) in str(told.value)
    assert says in str(told.value)
    assert before == (path.read_bytes() if path.is_file() else None)


async def test_a_delivery_that_cannot_be_kept_is_not_settled_either(tmp_path: Path) -> None:
    """Both are in one transaction, so that nothing is lost between them."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    delivery = Delivery("sink", "sqs", "item", Outgoing("id", "g", b"{}"), NOW, NOW)
    await store._database.rows("ALTER TABLE outbox RENAME TO gone")
    with pytest.raises(StoreError):
        await store.post(delivery, "a", NOW)
    assert await store.settled([delivery.key]) == frozenset()
    await store.close()


async def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="see that the path can be made and written"):
        await open_store(f"sqlite:///{tmp_path}/file/state.db", None)


_VERSION_1 = (
    "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, lease_until INTEGER, settled_at INTEGER) WITHOUT ROWID",
    """CREATE TABLE profile_events (account TEXT, profile TEXT, key TEXT, time INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (account, profile, key)) WITHOUT ROWID""",
    "CREATE TABLE journal (number INTEGER PRIMARY KEY, previous TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, line TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    "PRAGMA user_version = 1",
    f"INSERT INTO claims VALUES ('done', 'a', NULL, {int(NOW.timestamp())}000000)",
    f"INSERT INTO claims VALUES ('running', 'a', {int(NOW.timestamp())}000000, NULL)",
    f"INSERT INTO profile_events VALUES ('111111111111', 'web', 'k', {int(NOW.timestamp())}000000, 'DeleteInstanceProfile', '{{}}')",
    """INSERT INTO journal VALUES (1, '', 'mark', '{"at":"2026-03-01T00:00:00.000000+00:00","body":{},"outcome":"applied","task_id":"t"}')""",
)


async def test_a_file_of_version_1_is_brought_to_this_one_with_all_it_holds(tmp_path: Path) -> None:
    """Claims, profile memory and journal are as they were; the new tables can be used; opening it again changes nothing."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        for statement in _VERSION_1:
            connection.execute(statement)
    connection.close()
    for _ in range(2):
        store = await SqliteStore.open(str(path))
        assert await store._database.rows("PRAGMA user_version") == [(VERSION,)]
        assert await store.settled(["done", "running"]) == {"done"}
        assert await store.claim("running", "b", NOW - timedelta(microseconds=1), timedelta(minutes=1)) is Claim.BUSY
        assert await store.recall("111111111111", "web") == [ProfileEvent("111111111111", "web", NOW, "k", "DeleteInstanceProfile", {})]
        assert [line async for line in store.journal()] == [(JournalEntry("t", NOW, "applied", {}), "mark", "")]
        seen = Sighting("w", "rule", "item", NOW, Record({"eventID": "1"}, Origin(message="m")))
        await store.sight([seen], NOW)
        assert await store.sightings("w", NOW, NOW, 2) == [seen]
        assert await store.due(NOW, 1) == []
        await store.close()


_VERSION_2 = (
    """CREATE TABLE sightings (window TEXT NOT NULL, time INTEGER NOT NULL, key TEXT NOT NULL, keep_until INTEGER NOT NULL,
    packed BLOB NOT NULL, PRIMARY KEY (window, time, key))""",
    "CREATE INDEX sightings_kept ON sightings (keep_until)",
    """CREATE TABLE closings (key TEXT PRIMARY KEY, correlation TEXT NOT NULL, window TEXT NOT NULL, start INTEGER NOT NULL,
    due_at INTEGER NOT NULL) WITHOUT ROWID""",
    "CREATE INDEX closings_due ON closings (due_at)",
    "PRAGMA user_version = 2",
)


async def test_a_census_knows_of_sightings_from_before_there_were_any(tmp_path: Path) -> None:
    """In a file of version 2 stands nothing that they could be counted by, so they are counted as untold."""
    path, old, new = tmp_path / "state.db", *(Sighting("w", "rule", i, NOW, Record({}, Origin(message="m"))) for i in ("old", "new"))
    with sqlite3.connect(path) as connection:
        for statement in (*_VERSION_1, *_VERSION_2):
            connection.execute(statement)
        time = canonical.micros(NOW)
        connection.execute("INSERT INTO sightings VALUES (?, ?, ?, ?, ?)", (old.window, time, old.key, time, canonical.pack(old)))
    connection.close()
    store = await SqliteStore.open(str(path))
    await store.sight([new], NOW)
    assert {one.item for one in await store.sightings("w", NOW, NOW, 9)} == {"old", "new"}
    assert await store.census("w", NOW, NOW) == Census({("rule", ()): 1}, 1, NOW)
    await store.close()


async def test_what_waits_is_written_together(tmp_path: Path) -> None:
    """A hundred settlements at once take a few transactions, and each is on the disk when it returns."""
    store, other = [await SqliteStore.open(str(tmp_path / "state.db")) for _ in range(2)]
    statements: list[str] = []
    await store._database.read(lambda connection: connection.set_trace_callback(statements.append))

    async def settle(key: str) -> None:
        await store.settle([key], "a", NOW)
        assert await other.settled([key]) == {key}

    async with asyncio.TaskGroup() as group:
        for n in range(100):
            group.create_task(settle(f"key-{n}"))
    assert 1 <= statements.count("COMMIT") <= 10
    await store.close()
    await other.close()


async def test_what_fails_spoils_nothing_that_was_written_with_it(tmp_path: Path) -> None:
    """One of many that were to share a transaction is refused: it alone is told, and the others are written once."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    refused = store._database.write("INSERT INTO claims (key, owner) VALUES (?, ?)", [("refused", "a"), ("refused", None)])
    answers = await asyncio.gather(
        *(store.append(JournalEntry(f"task-{n}", NOW, "applied", {})) for n in range(3)),
        refused,
        *(store.claim("k", owner, NOW, timedelta(minutes=1)) for owner in "ab"),
        return_exceptions=True,
    )
    assert isinstance(answers[3], StoreError)
    assert answers[4:] == [Claim.WON, Claim.BUSY]
    assert [mark async for _, mark, _ in store.journal()] == answers[:3]
    assert await store._database.rows("SELECT key FROM claims") == [("k",)]
    await store.close()


async def test_of_sightings_all_are_written_or_none(tmp_path: Path) -> None:
    """When the disk is full in the middle of a call, nothing of it stays."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    ((pages,),) = await store._database.rows("PRAGMA page_count")
    await store._database.rows(f"PRAGMA max_page_count = {pages + 10}")
    event = {"eventName": "x", "filler": os.urandom(5_000).hex()}
    seen = [Sighting("w", "rule", str(n), NOW, Record(event, Origin(message="m"))) for n in range(20)]
    with pytest.raises(StoreError, match="free space on its disk"):
        await store.sight(seen, NOW)
    assert await store.sightings("w", NOW, NOW, 20) == []
    await store.sight(seen[:1], NOW)
    assert await store.sightings("w", NOW, NOW, 20) == seen[:1]
    await store.close()


@pytest.mark.parametrize("count", [0, 2, 3, 9, 10])
async def test_sightings_are_forgotten_in_several_goes(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many goes it takes, all whose time is over are gone and counted, and no others."""
    monkeypatch.setattr(sqlite, "FORGOTTEN_AT_ONCE", 3)
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    seen = [Sighting("w", "rule", str(n), NOW, Record({}, Origin(message="m"))) for n in range(12)]
    await store.sight(seen[:count], NOW - timedelta(seconds=1))
    await store.sight(seen[count:], NOW)
    assert (await store.prune(NOW, NOW, NOW))["sightings"] == count
    assert {one.item for one in await store.sightings("w", NOW, NOW, 100)} == {one.item for one in seen[count:]}
    await store.close()


async def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path) -> None:
    """When SQLite can get no more pages, the append fails with advice, and what was there can still be read."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    await store.append(JournalEntry("first", NOW, "applied", {}))
    await store._database.rows("PRAGMA max_page_count = 12")
    with pytest.raises(StoreError, match="full; free space on its disk"):
        await store.append(JournalEntry("large", NOW, "applied", {"filler": "x" * 100_000}))
    assert [line[0].task_id async for line in store.journal()] == ["first"]
    await store.claim("small", "a", NOW, timedelta(minutes=1))
    await store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite://x", "postgres:///x", "dynamodb://", "", "dynamodb://table"])
async def test_what_names_no_store_is_a_store_error(url: str) -> None:
    """Unknown schemes, missing paths, and DynamoDB where there is no AWS."""
    with pytest.raises(StoreError):
        await open_store(url, None)


async def test_a_commit_is_on_the_disk_before_it_is_told(tmp_path: Path) -> None:
    """WAL with synchronous FULL (2): a settled claim outlives a loss of power."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    assert await store._database.rows("PRAGMA synchronous") == [(2,)]
    assert await store._database.rows("PRAGMA journal_mode") == [("wal",)]
    await store.close()


def race(path: str) -> list[str]:
    """In a process of its own: open a file that may not be there yet, claim forty keys, append ten lines."""

    async def run() -> list[str]:
        store = await open_store(f"sqlite:///{path}", None)
        owner = str(os.getpid())
        won = [key for key in map(str, range(40)) if await store.claim(key, owner, NOW, timedelta(hours=1)) == "won"]
        for number in range(10):
            await store.append(JournalEntry(f"{owner}:{number}", NOW, "applied", {}))
        await store.close()
        return won

    return asyncio.run(run())


async def test_processes_share_a_file(tmp_path: Path) -> None:
    """Four processes that make, claim and append at the same time: each key is won once, and the journal is one chain of forty."""
    path = str(tmp_path / "state.db")
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        loop = asyncio.get_running_loop()
        won = await asyncio.gather(*(loop.run_in_executor(pool, race, path) for _ in range(4)))
    assert sorted(key for one in won for key in one) == sorted(map(str, range(40)))
    store = await open_store(f"sqlite:///{path}", None)
    lines = [line async for line in store.journal()]
    assert len(lines) == 40
    assert [line[2] for line in lines] == ["", *(line[1] for line in lines[:-1])]
    await store.close()
