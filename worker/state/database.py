"""An SQLite file: opened, known as ours, brought to this version's schema, and used by one thread of its own.

The edge under `sqlite.py`: work goes in as functions of a connection, what they answer comes out, and SQLite's errors come out as `StoreError`
with what to do. One thread, so that the event loop never waits for the disk. WAL lets readers pass a writer; writers of several processes
wait for each other (`busy_timeout`), each write being one short transaction.

Changes that wait while another is being written are then written together, in one transaction, and each is answered when that is on the disk: the more
there is to do, the less of it is waiting for the disk. One that fails spoils no other: each is then done again by itself.

`synchronous=FULL`, and not the NORMAL that is usual with WAL: under NORMAL a commit is not flushed, and a loss of power can take the
latest ones back. A settled claim taken back would be worked a second time, and a journal line taken back would be a change to AWS
that no record tells of. FULL costs a flush a commit, which all that wait share.

A newcomer that needs a table adds a step to `_STEPS`. Steps that were released are never changed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

from worker.state.store import StoreError

T = TypeVar("T")
Row = tuple[Any, ...]

APPLICATION_ID = 0x54724D64
"""Marks a file as ours (https://www.sqlite.org/pragma.html#pragma_application_id)."""
BUSY_SECONDS = 10

_STEPS = (
    (
        "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, lease_until INTEGER, settled_at INTEGER) WITHOUT ROWID",
        """CREATE TABLE profile_events (account TEXT, profile TEXT, key TEXT, time INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
        PRIMARY KEY (account, profile, key)) WITHOUT ROWID""",
        # No two lines may follow the same one: the chain cannot fork.
        "CREATE TABLE journal (number INTEGER PRIMARY KEY, previous TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, line TEXT NOT NULL)",
        f"PRAGMA application_id = {APPLICATION_ID}",
    ),
    (
        # With rowids, unlike the others: its rows are long, and with them in the key's own tree inserts took three times as long.
        """CREATE TABLE sightings (window TEXT NOT NULL, time INTEGER NOT NULL, key TEXT NOT NULL, keep_until INTEGER NOT NULL,
        packed BLOB NOT NULL, PRIMARY KEY (window, time, key))""",
        "CREATE INDEX sightings_kept ON sightings (keep_until)",
        """CREATE TABLE closings (key TEXT PRIMARY KEY, correlation TEXT NOT NULL, window TEXT NOT NULL, start INTEGER NOT NULL,
        due_at INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX closings_due ON closings (due_at)",
    ),
    (
        # So that a window can be counted without its rows being read. Those from before have none.
        "ALTER TABLE sightings ADD COLUMN aspect TEXT",
        "CREATE INDEX sightings_aspects ON sightings (window, aspect, time)",
    ),
    (
        """CREATE TABLE outbox (key TEXT PRIMARY KEY, sink TEXT NOT NULL, kind TEXT NOT NULL, item TEXT NOT NULL, id TEXT NOT NULL,
        grouped TEXT NOT NULL, what TEXT NOT NULL, body BLOB NOT NULL, posted_at INTEGER NOT NULL, due_at INTEGER NOT NULL,
        attempts INTEGER NOT NULL)""",
        "CREATE INDEX outbox_due ON outbox (sink, due_at)",
    ),
    (
        "CREATE TABLE approvals (task_id TEXT PRIMARY KEY, asked_at INTEGER NOT NULL, asking TEXT NOT NULL)",
        """CREATE TABLE decisions (task_id TEXT NOT NULL, approver TEXT NOT NULL, answer TEXT NOT NULL, why TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY (task_id, approver)) WITHOUT ROWID""",
    ),
    (
        """CREATE TABLE expectations (request_id TEXT PRIMARY KEY, task_id TEXT NOT NULL, action TEXT NOT NULL, account TEXT NOT NULL,
        api TEXT NOT NULL, due_at INTEGER NOT NULL, missed INTEGER NOT NULL) WITHOUT ROWID""",
        "CREATE INDEX expectations_due ON expectations (missed, due_at)",
    ),
)
"""From each version of the schema to the next, the first from an empty file."""
VERSION = len(_STEPS)

_ADVICE = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: set TRAILMEND_STATE to another path, or move the file away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it, or move it away and start with an empty one",
    sqlite3.SQLITE_READONLY: "let the worker's user write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the worker's user write the file and its folder, and see that the path is no folder",
    sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_SECONDS} s: see which, or use dynamodb://TABLE for a fleet",
    sqlite3.SQLITE_IOERR: "the disk failed: see the system's log; network file systems do not hold SQLite",
}


@dataclass(frozen=True, slots=True)
class _Change:
    """Work that waits for its turn, and what is told of it."""

    work: Callable[[sqlite3.Connection], Any]
    done: Future[Any]


class Database:
    """One SQLite file that is open. Make it with `open`. Every method may raise `StoreError`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trailmend-sqlite")
        self._open: sqlite3.Connection | None = None
        self._waiting: deque[_Change] = deque()

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the file at `path` (`:memory:` for none), making it and its folder where missing."""
        database = cls(path)
        try:
            await database._do(database._connect)
        except BaseException:
            await database.close()
            raise
        return database

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` answers, run in the database's thread: for questions."""
        return await self._do(lambda: work(self._connection))

    async def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What `work` answers, run in the database's thread: all of it is on the disk then, or nothing and it has failed.

        It may share its transaction with others, and may be run a second time where one of these failed, from the same state or a later one.
        """
        done: Future[T] = Future()
        self._waiting.append(_Change(work, done))
        self._thread.submit(self._write)
        return await self._told(asyncio.wrap_future(done))

    async def rows(self, query: str, values: Sequence[object] = ()) -> list[Row]:
        """What a query finds."""
        return await self.read(lambda connection: connection.execute(query, values).fetchall())

    async def write(self, statement: str, rows: Sequence[Row]) -> None:
        """One statement for each of the rows, all in one transaction."""
        if rows:
            await self.change(lambda connection: connection.executemany(statement, rows).rowcount)

    async def close(self) -> None:
        """Let go of the file and end the thread."""
        await self._do(self._disconnect)
        self._thread.shutdown()

    def _disconnect(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._open is not None
        return self._open

    def _write(self) -> None:
        """Every change that waits. The first of several calls does it, and the others find nothing to do."""
        waiting = [self._waiting.popleft() for _ in range(len(self._waiting))]
        changes = [change for change in waiting if change.done.set_running_or_notify_cancel()]
        if changes:
            self._write_together(changes)

    def _write_together(self, changes: Sequence[_Change]) -> None:
        try:
            with self._transaction() as connection:
                answers = [change.work(connection) for change in changes]
        except BaseException as error:  # noqa: BLE001  # told to whoever asked for it
            if len(changes) == 1:
                changes[0].done.set_exception(error)
                return
            for change in changes:
                self._write_together([change])
        else:
            for change, answer in zip(changes, answers, strict=True):
                change.done.set_result(answer)

    async def _do(self, work: Callable[[], T]) -> T:
        return await self._told(asyncio.get_running_loop().run_in_executor(self._thread, work))

    async def _told(self, answer: Awaitable[T]) -> T:
        # The one place where SQLite's errors become ours.
        try:
            return await answer
        except (sqlite3.Error, OSError) as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # extended codes hold the plain one in their low byte
            advice = _ADVICE.get(code, "see that the path can be made and written, or set TRAILMEND_STATE to another")
            raise StoreError(f"SQLite store {self._path}: {error}; {advice}") from error

    def _connect(self) -> None:
        if self._path != ":memory:":
            Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        # Transactions are begun by hand: IMMEDIATE takes the write lock first, where busy_timeout can wait for it.
        self._open = connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        with self._transaction():
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and application != APPLICATION_ID:
                raise StoreError(f"SQLite store {self._path}: the file belongs to another program; set TRAILMEND_STATE to another path")
            if version > VERSION:
                raise StoreError(
                    f"SQLite store {self._path}: written by a newer Trailmend (schema {version}, this one knows {VERSION}); "
                    "run that version or set TRAILMEND_STATE to another path"
                )
            for statement in (statement for step in _STEPS[version:] for statement in step):
                connection.execute(statement)
            if version < VERSION:
                connection.execute(f"PRAGMA user_version = {VERSION}")
        # Only once the file is known as ours: the mode is written into it, and stays.
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            # Two processes that open a new file at once cannot both switch it; the other one's switch serves both.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            # A full disk has already rolled back, and then there is nothing to roll back.
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
