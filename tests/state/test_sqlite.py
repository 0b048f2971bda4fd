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

from worker.model import JournalEntry
from worker.state.opening import open_store
from worker.state.sqlite import VERSION, SqliteStore
from worker.state.store import StoreError

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


async def test_a_folder_that_cannot_be_made_is_a_store_error(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="see that the path can be made and written"):
        await open_store(f"sqlite:///{tmp_path}/file/state.db", None)


async def test_a_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path) -> None:
    """When SQLite can get no more pages, the append fails with advice, and what was there can still be read."""
    store = await SqliteStore.open(str(tmp_path / "state.db"))
    await store.append(JournalEntry("first", NOW, "applied", {}))
    await store._do(lambda: store._connection.execute("PRAGMA max_page_count = 12"))
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
    assert await store._do(lambda: store._rows("PRAGMA synchronous", ())) == [(2,)]
    assert await store._do(lambda: store._rows("PRAGMA journal_mode", ())) == [("wal",)]
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
