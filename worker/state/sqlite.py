"""The store of one host: an SQLite file that every worker process on it may share.

Keeps the promises of `store.py` with statements on the tables of `database.py`. Whatever a method writes is in one transaction (only pruning takes several; others
may share it), and is on the disk before the method returns; so a reader, of whichever process, sees it from then on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from worker.model import Approval, Backlog, Census, Closing, Decision, Delivery, Expectation, JournalEntry, Outgoing, ProfileEvent, Sighting
from worker.state import approvals, canonical
from worker.state.database import Database
from worker.state.store import Claim

PAGE = 200
FORGOTTEN_AT_ONCE = 2_000
"""Sightings. An hour of them may be hundreds of thousands, and claims have to wait for a transaction that is under way."""

# One statement decides a claim, so no two callers can both see it free.
_CLAIM = """INSERT INTO claims (key, owner, lease_until) VALUES (:key, :owner, :until)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, lease_until = excluded.lease_until
WHERE settled_at IS NULL AND (lease_until <= :now OR owner = excluded.owner)"""

_SETTLE = """INSERT INTO claims (key, owner, settled_at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, settled_at = excluded.settled_at WHERE settled_at IS NULL"""

_POST = "INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
_POSTED = """SELECT kind, item, id, grouped, body, what, posted_at, due_at, attempts FROM outbox
WHERE sink = ? AND due_at <= ? ORDER BY due_at, key LIMIT ?"""
_POSTPONE = "UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE key = ? AND due_at = ? AND attempts = ?"
_UNPOST = "DELETE FROM outbox WHERE key = ? AND due_at = ? AND attempts = ?"

_EXPECTED = "SELECT request_id, task_id, action, account, api, due_at, missed FROM expectations"

_EVENTS = "SELECT account, profile, time, key, kind, detail FROM profile_events"
_REMEMBERED = f"""{_EVENTS} WHERE time < ? AND substr(profile, 1, ?) = ? AND (account, profile, key) > (?, ?, ?)
ORDER BY account, profile, key LIMIT ?"""

_SIGHT = """INSERT INTO sightings (window, time, key, keep_until, packed, aspect) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (window, time, key) DO UPDATE SET keep_until = excluded.keep_until WHERE keep_until < excluded.keep_until"""

_SIGHTINGS = "SELECT packed, time FROM sightings WHERE window = ? AND time BETWEEN ? AND ? ORDER BY time, key LIMIT ?"

_CENSUS = "SELECT aspect, count(*), max(time) FROM sightings WHERE window = ? AND time BETWEEN ? AND ? GROUP BY aspect"

_FORGET = "DELETE FROM sightings WHERE rowid IN (SELECT rowid FROM sightings WHERE keep_until < ? LIMIT ?)"


class SqliteStore:
    """A `Store` in one SQLite file. Make it with `open`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def open(cls, path: str) -> Self:
        """Open the file at `path` (`:memory:` for none), making it and its folder where missing. Raises `StoreError`."""
        return cls(await Database.open(path))

    # Claims.

    async def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> Claim:
        values = {"key": key, "owner": owner, "now": canonical.micros(now), "until": canonical.micros(now + lease)}

        def work(connection: sqlite3.Connection) -> Claim:
            if connection.execute(_CLAIM, values).rowcount:
                return Claim.WON
            (done,) = connection.execute("SELECT settled_at IS NOT NULL FROM claims WHERE key = ?", (key,)).fetchone()
            return Claim.SETTLED if done else Claim.BUSY

        return await self._database.change(work)

    async def settle(self, keys: Sequence[str], owner: str, now: datetime) -> None:
        await self._database.write(_SETTLE, [(key, owner, canonical.micros(now)) for key in keys])

    async def release(self, key: str, owner: str) -> None:
        await self._database.write("DELETE FROM claims WHERE key = ? AND owner = ? AND settled_at IS NULL", [(key, owner)])

    async def settled(self, keys: Sequence[str]) -> frozenset[str]:
        def work(connection: sqlite3.Connection) -> frozenset[str]:
            found = (connection.execute("SELECT 1 FROM claims WHERE key = ? AND settled_at IS NOT NULL", (key,)) for key in keys)
            return frozenset(key for key, row in zip(keys, found, strict=True) if row.fetchone())

        return await self._database.read(work)

    # Profile memory.

    async def learn(self, events: Sequence[ProfileEvent]) -> None:
        rows = [(e.account, e.profile, e.key, canonical.micros(e.time), e.kind, canonical.dump(e.detail)) for e in events]
        await self._database.write("INSERT OR REPLACE INTO profile_events VALUES (?, ?, ?, ?, ?, ?)", rows)

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        return await self._events(f"{_EVENTS} WHERE account = ? AND profile = ? ORDER BY time, key", (account, profile))

    async def latest(self, account: str, profile: str, limit: int) -> Sequence[ProfileEvent]:
        return await self._events(f"{_EVENTS} WHERE account = ? AND profile = ? ORDER BY key DESC LIMIT ?", (account, profile, limit))

    async def remembered(self, under: str, before: datetime) -> AsyncIterator[ProfileEvent]:
        last = ("", "", "")
        while events := await self._events(_REMEMBERED, (canonical.micros(before), len(under), under, *last, PAGE)):
            for event in events:
                yield event
            last = (events[-1].account, events[-1].profile, events[-1].key)

    async def forget(self, events: Sequence[ProfileEvent]) -> None:
        rows = [(event.account, event.profile, event.key) for event in events]
        await self._database.write("DELETE FROM profile_events WHERE account = ? AND profile = ? AND key = ?", rows)

    async def _events(self, query: str, values: Sequence[object]) -> list[ProfileEvent]:
        rows = await self._database.rows(query, values)
        return [
            ProfileEvent(account, profile, canonical.moment(time), key, kind, canonical.load(detail))
            for account, profile, time, key, kind, detail in rows
        ]

    # Windows.

    async def sight(self, sightings: Sequence[Sighting], keep_until: datetime) -> None:
        kept = canonical.micros(keep_until)
        rows = [(s.window, canonical.micros(s.time), s.key, kept, canonical.pack(s), canonical.aspect(s)) for s in sightings]
        await self._database.write(_SIGHT, rows)

    async def sightings(self, window: str, since: datetime, until: datetime, limit: int) -> Sequence[Sighting]:
        values = (window, canonical.micros(since), canonical.micros(until), limit)

        # Read into sightings there as well: thousands of them would hold up the event loop.
        def work(connection: sqlite3.Connection) -> list[Sighting]:
            return [canonical.unpack(packed, window, canonical.moment(time)) for packed, time in connection.execute(_SIGHTINGS, values)]

        return await self._database.read(work)

    async def census(self, window: str, since: datetime, until: datetime) -> Census:
        rows = await self._database.rows(_CENSUS, (window, canonical.micros(since), canonical.micros(until)))
        return canonical.census((aspect, count, canonical.moment(latest)) for aspect, count, latest in rows)

    async def schedule(self, closings: Sequence[Closing]) -> None:
        rows = [(c.key, c.correlation, c.window, canonical.micros(c.start), canonical.micros(c.due_at)) for c in closings]
        await self._database.write("INSERT INTO closings VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING", rows)

    async def due(self, now: datetime, limit: int) -> Sequence[Closing]:
        query = "SELECT correlation, window, start, due_at FROM closings WHERE due_at <= ? ORDER BY due_at, key LIMIT ?"
        rows = await self._database.rows(query, (canonical.micros(now), limit))
        return [
            Closing(correlation, window, canonical.moment(start), canonical.moment(due_at)) for correlation, window, start, due_at in rows
        ]

    async def unschedule(self, keys: Sequence[str]) -> None:
        await self._database.write("DELETE FROM closings WHERE key = ?", [(key,) for key in keys])

    # The outbox.

    async def post(self, delivery: Delivery, owner: str, now: datetime) -> None:
        one = delivery.outgoing
        times = (canonical.micros(delivery.posted_at), canonical.micros(delivery.due_at))
        row = (delivery.key, delivery.sink, delivery.kind, delivery.item, one.id, one.group, one.what, one.body, *times, delivery.attempts)

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_SETTLE, (delivery.key, owner, canonical.micros(now))).rowcount:
                connection.execute(_POST, row)

        await self._database.change(work)

    async def posted(self, sink: str, now: datetime, limit: int) -> Sequence[Delivery]:
        rows = await self._database.rows(_POSTED, (sink, canonical.micros(now), limit))
        return [
            Delivery(sink, kind, item, Outgoing(number, group, body, what), canonical.moment(posted_at), canonical.moment(due_at), attempts)
            for kind, item, number, group, body, what, posted_at, due_at, attempts in rows
        ]

    async def postpone(self, delivery: Delivery, due_at: datetime) -> Delivery | None:
        values = (canonical.micros(due_at), *_standing(delivery))
        moved = await self._database.change(lambda connection: connection.execute(_POSTPONE, values).rowcount)
        return replace(delivery, due_at=due_at, attempts=delivery.attempts + 1) if moved else None

    async def unpost(self, delivery: Delivery) -> None:
        await self._database.write(_UNPOST, [_standing(delivery)])

    async def backlogs(self) -> Sequence[Backlog]:
        rows = await self._database.rows("SELECT sink, kind, count(*), min(posted_at) FROM outbox GROUP BY sink, kind")
        return [Backlog(sink, kind, count, canonical.moment(oldest)) for sink, kind, count, oldest in rows]

    # Approvals.

    async def ask(self, approval: Approval, instead: Approval | None = None) -> bool:
        return await self._database.change(lambda connection: approvals.ask(connection, approval, instead))

    async def approval(self, task_id: str) -> Approval | None:
        return await self._database.read(lambda connection: approvals.one(connection, task_id))

    async def approvals(self) -> Sequence[Approval]:
        return await self._database.read(approvals.waiting)

    async def decide(self, approval: Approval, decision: Decision) -> Approval | None:
        return await self._database.change(lambda connection: approvals.decide(connection, approval, decision))

    async def withdraw(self, approval: Approval) -> None:
        await self._database.change(lambda connection: approvals.withdraw(connection, approval))

    # Calls that CloudTrail is to tell of.

    async def expect(self, call: Expectation, owner: str, now: datetime, *, spent: Sequence[str] = ()) -> None:
        row = (call.request_id, call.task_id, call.action, call.account, call.api, canonical.micros(call.due_at), call.missed)
        at = canonical.micros(now)

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_SETTLE, (call.key, owner, at)).rowcount:
                connection.execute("INSERT INTO expectations VALUES (?, ?, ?, ?, ?, ?, ?)", row)
                connection.executemany(_SETTLE, [(key, owner, at) for key in spent])

        await self._database.change(work)

    async def expected(self, request_ids: Sequence[str]) -> Sequence[Expectation]:
        def work(connection: sqlite3.Connection) -> list[Expectation]:
            asked = (connection.execute(f"{_EXPECTED} WHERE request_id = ?", (one,)) for one in dict.fromkeys(request_ids))
            return [_expectation(row) for found in asked for row in found]

        return await self._database.read(work)

    async def overdue(self, now: datetime, limit: int) -> Sequence[Expectation]:
        query = f"{_EXPECTED} WHERE missed = 0 AND due_at <= ? ORDER BY due_at, request_id LIMIT ?"
        return [_expectation(row) for row in await self._database.rows(query, (canonical.micros(now), limit))]

    async def miss(self, call: Expectation) -> bool:
        return await self._expectation("UPDATE expectations SET missed = 1 WHERE request_id = ? AND missed = 0", call.request_id)

    async def confirm(self, call: Expectation) -> bool:
        return await self._expectation("DELETE FROM expectations WHERE request_id = ? AND missed = ?", call.request_id, call.missed)

    async def _expectation(self, statement: str, *values: object) -> bool:
        return bool(await self._database.change(lambda connection: connection.execute(statement, values).rowcount))

    # The journal.

    async def append(self, entry: JournalEntry) -> str:
        line = canonical.line(entry)

        def work(connection: sqlite3.Connection) -> str:
            last = connection.execute("SELECT hash FROM journal ORDER BY number DESC LIMIT 1").fetchone()
            previous = last[0] if last else ""
            mark = canonical.link(previous, line)
            connection.execute("INSERT INTO journal (previous, hash, line) VALUES (?, ?, ?)", (previous, mark, line))
            return mark

        return await self._database.change(work)

    async def journal(self, after: int = 0) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        query = "SELECT number, line, hash, previous FROM journal WHERE number > ? ORDER BY number LIMIT ?"
        last = after
        while rows := await self._database.rows(query, (last, PAGE)):
            for number, line, mark, previous in rows:
                yield canonical.entry(line), mark, previous
                last = number

    # All of it.

    async def prune(self, claims_before: datetime, events_before: datetime, now: datetime) -> Mapping[str, int]:
        claims_limit, events_limit = (canonical.micros(claims_before),), (canonical.micros(events_before),)

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            claims = connection.execute("DELETE FROM claims WHERE settled_at < ?", claims_limit).rowcount
            connection.execute("DELETE FROM expectations WHERE due_at < ?", claims_limit)
            events = connection.execute("DELETE FROM profile_events WHERE time < ?", events_limit).rowcount
            return {"claims": claims, "profile_events": events}

        return {**await self._database.change(work), "sightings": await self._forget_sightings(canonical.micros(now))}

    async def _forget_sightings(self, now: int) -> int:
        forgotten, some = 0, FORGOTTEN_AT_ONCE
        while some == FORGOTTEN_AT_ONCE:
            some = await self._database.change(lambda connection: connection.execute(_FORGET, (now, FORGOTTEN_AT_ONCE)).rowcount)
            forgotten += some
        return forgotten

    async def close(self) -> None:
        await self._database.close()


def _standing(delivery: Delivery) -> tuple[str, int, int]:
    return delivery.key, canonical.micros(delivery.due_at), delivery.attempts


def _expectation(row: Sequence[Any]) -> Expectation:
    request_id, task_id, action, account, api, due_at, missed = row
    return Expectation(request_id, task_id, action, account, api, canonical.moment(due_at), bool(missed))
