"""The store of one host: an SQLite file that every worker process on it may share.

Keeps the promises of `store.py`. One connection, used by one thread of its own, so that the event loop never waits for the disk. WAL lets
readers pass a writer; writers of several processes wait for each other (`busy_timeout`), each write being one short transaction.

`synchronous=FULL`, and not the NORMAL that is usual with WAL: under NORMAL a commit is not flushed, and a loss of power can take the
latest ones back. A settled claim taken back would be worked a second time, and a journal line taken back would be a change to AWS
that no record tells of. FULL costs a flush a commit; only matches reach the store, so that is cheap.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

from worker.model import JournalEntry, ProfileEvent
from worker.state import canonical
from worker.state.store import Claim, StoreError

T = TypeVar("T")

APPLICATION_ID = 0x54724D64
"""Marks a file as ours (https://www.sqlite.org/pragma.html#pragma_application_id)."""
VERSION = 1
BUSY_SECONDS = 10
PAGE = 200

_SCHEMA = (
    "CREATE TABLE claims (key TEXT PRIMARY KEY, owner TEXT NOT NULL, lease_until INTEGER, settled_at INTEGER) WITHOUT ROWID",
    """CREATE TABLE profile_events (account TEXT, profile TEXT, key TEXT, time INTEGER NOT NULL, kind TEXT NOT NULL, detail TEXT NOT NULL,
    PRIMARY KEY (account, profile, key)) WITHOUT ROWID""",
    # No two lines may follow the same one: the chain cannot fork.
    "CREATE TABLE journal (number INTEGER PRIMARY KEY, previous TEXT NOT NULL UNIQUE, hash TEXT NOT NULL, line TEXT NOT NULL)",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)

# One statement decides a claim, so no two callers can both see it free.
_CLAIM = """INSERT INTO claims (key, owner, lease_until) VALUES (:key, :owner, :until)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
WHERE settled_at IS NULL AND (lease_until <= :now OR owner = excluded.owner)"""

_SETTLE = """INSERT INTO claims (key, owner, settled_at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, settled_at = excluded.settled_at WHERE settled_at IS NULL"""

_ADVICE = {
    sqlite3.SQLITE_FULL: "free space on its disk",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: set TRAILMEND_STATE to another path, or move the file away",
    sqlite3.SQLITE_CORRUPT: "the file is damaged: restore it, or move it away and start with an empty one",
    sqlite3.SQLITE_READONLY: "let the worker's user write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "let the worker's user write the file and its folder, and see that the path is no folder",
    sqlite3.SQLITE_BUSY: f"another process held it for more than {BUSY_SECONDS} s: see which, or use dynamodb://TABLE for a fleet",
    sqlite3.SQLITE_IOERR: "the disk failed: see the system's log; network file systems do not hold SQLite",
}


class SqliteStore:
    """A `Store` in one SQLite file. Make it with `open`."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trailmend-sqlite")
        self._open: sqlite3.Connection | None = None

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the file at `path` (`:memory:` for none), making it and its folder where missing. Raises `StoreError`."""
        store = cls(path)
        try:
            await store._do(store._connect)
        except BaseException:
            await store.close()
            raise
        return store

    async def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> Claim:
        values = {"key": key, "owner": owner, "now": canonical.micros(now), "until": canonical.micros(now + lease)}

        def work() -> Claim:
            with self._transaction() as connection:
                if connection.execute(_CLAIM, values).rowcount:
                    return Claim.WON
                (done,) = connection.execute("SELECT settled_at IS NOT NULL FROM claims WHERE key = ?", (key,)).fetchone()
                return Claim.SETTLED if done else Claim.BUSY

        return await self._do(work)

    async def settle(self, keys: Sequence[str], owner: str, now: datetime) -> None:
        rows = [(key, owner, canonical.micros(now)) for key in keys]
        await self._do(lambda: self._write(_SETTLE, rows))

    async def release(self, key: str, owner: str) -> None:
        await self._do(lambda: self._write("DELETE FROM claims WHERE key = ? AND owner = ? AND settled_at IS NULL", [(key, owner)]))

    async def settled(self, keys: Sequence[str]) -> frozenset[str]:
        def work() -> frozenset[str]:
            found = (self._connection.execute("SELECT 1 FROM claims WHERE key = ? AND settled_at IS NOT NULL", (key,)) for key in keys)
            return frozenset(key for key, row in zip(keys, found, strict=True) if row.fetchone())

        return await self._do(work)

    async def learn(self, events: Sequence[ProfileEvent]) -> None:
        rows = [(e.account, e.profile, e.key, canonical.micros(e.time), e.kind, canonical.dump(e.detail)) for e in events]
        await self._do(lambda: self._write("INSERT OR REPLACE INTO profile_events VALUES (?, ?, ?, ?, ?, ?)", rows))

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        query = "SELECT time, key, kind, detail FROM profile_events WHERE account = ? AND profile = ? ORDER BY time, key"
        rows = await self._do(lambda: self._rows(query, (account, profile)))
        return [
            ProfileEvent(account, profile, canonical.moment(time), key, kind, canonical.load(detail)) for time, key, kind, detail in rows
        ]

    async def append(self, entry: JournalEntry) -> str:
        line = canonical.line(entry)

        def work() -> str:
            with self._transaction() as connection:
                last = connection.execute("SELECT hash FROM journal ORDER BY number DESC LIMIT 1").fetchone()
                previous = last[0] if last else ""
                mark = canonical.link(previous, line)
                connection.execute("INSERT INTO journal (previous, hash, line) VALUES (?, ?, ?)", (previous, mark, line))
                return mark

        return await self._do(work)

    async def journal(self) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        query = "SELECT number, line, hash, previous FROM journal WHERE number > ? ORDER BY number LIMIT ?"
        last = 0
        while rows := await self._do(partial(self._rows, query, (last, PAGE))):
            for number, line, mark, previous in rows:
                yield canonical.entry(line), mark, previous
                last = number

    async def prune(self, claims_before: datetime, events_before: datetime) -> Mapping[str, int]:
        claims_limit, events_limit = (canonical.micros(claims_before),), (canonical.micros(events_before),)

        def work() -> Mapping[str, int]:
            with self._transaction() as connection:
                claims = connection.execute("DELETE FROM claims WHERE settled_at < ?", claims_limit).rowcount
                events = connection.execute("DELETE FROM profile_events WHERE time < ?", events_limit).rowcount
                return {"claims": claims, "profile_events": events}

        return await self._do(work)

    async def close(self) -> None:
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

    async def _do(self, work: Callable[[], T]) -> T:
        # The one place where SQLite's errors become ours.
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
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
            if version == 0:
                for statement in _SCHEMA:
                    connection.execute(statement)
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

    def _rows(self, query: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
        return self._connection.execute(query, values).fetchall()

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        if rows:
            with self._transaction() as connection:
                connection.executemany(statement, rows)
