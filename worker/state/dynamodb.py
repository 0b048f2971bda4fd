"""The store of a fleet: one DynamoDB table that every worker shares.

Keeps the promises of `store.py` with conditional writes and consistent reads (`table.py`); `items.py` says what stands in the table.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Self

from worker.model import (
    Answer,
    Approval,
    Backlog,
    Census,
    Closing,
    Decision,
    Delivery,
    Expectation,
    JournalEntry,
    ProfileEvent,
    Sighting,
)
from worker.state import canonical, items
from worker.state.store import Claim
from worker.state.table import TRIES, Table

_CLAIM = "SET #owner = :owner, lease_until = :until, expires_at = :expires"
_FREE = "attribute_not_exists(pk) OR (attribute_not_exists(settled_at) AND (lease_until <= :now OR #owner = :owner))"
_NEW = "attribute_not_exists(pk)"
_OLD = (
    "settled_at < :claims OR (pk = :expected AND due_at < :claims) OR (begins_with(pk, :profiles) AND #time < :events) OR keep_until < :now"
)
_IN = "pk = :pk"
_ASKED = "asked_at = :asked"
_WITHIN = f"{_IN} AND sk BETWEEN :since AND :until"


class DynamoStore:
    """A `Store` in one DynamoDB table. Make it with `open`. The client is its owner's to close."""

    def __init__(self, client: Any, table: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._table = Table(client, table, sleep)

    @classmethod
    async def open(cls, client: Any, table: str) -> Self:
        """Look into the table, so that one that is missing or of another make is told at start. Raises `StoreError`."""
        store = cls(client, table)
        await store.settled(["opening"])
        return store

    # Claims.

    async def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> Claim:
        until = now + lease
        held = await self._table.attempt(
            "claim",
            "update_item",
            Key=items.claim_key(key),
            UpdateExpression=_CLAIM,
            ConditionExpression=_FREE,
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={
                ":owner": items.text(owner),
                ":now": items.time(now),
                ":until": items.time(until),
                ":expires": items.expiry(until + items.CLAIMS_KEPT),
            },
        )
        if held is None:
            return Claim.WON
        return Claim.SETTLED if "settled_at" in held else Claim.BUSY

    async def settle(self, keys: Sequence[str], owner: str, now: datetime) -> None:
        # Unconditional: the work has been done, whoever's lease runs.
        await self._table.write("settle", [{"PutRequest": {"Item": items.settled_claim(key, owner, now)}} for key in dict.fromkeys(keys)])

    async def release(self, key: str, owner: str) -> None:
        await self._table.attempt(
            "release",
            "delete_item",
            Key=items.claim_key(key),
            ConditionExpression="#owner = :owner AND attribute_not_exists(settled_at)",
            ExpressionAttributeNames={"#owner": "owner"},
            ExpressionAttributeValues={":owner": items.text(owner)},
        )

    async def settled(self, keys: Sequence[str]) -> frozenset[str]:
        wanted = {items.claim_key(key)["pk"]["S"]: key for key in keys}
        found = await self._table.get("settled", [items.claim_key(key) for key in wanted.values()], "pk, settled_at")
        return frozenset(wanted[item["pk"]["S"]] for item in found if "settled_at" in item)

    # Profile memory.

    async def learn(self, events: Sequence[ProfileEvent]) -> None:
        # One batch may not name an item twice.
        told = {(event.account, event.profile, event.key): items.profile_event(event) for event in events}
        await self._table.write("learn", [{"PutRequest": {"Item": item}} for item in told.values()])

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        values = {":pk": items.text(items.profile_partition(account, profile))}
        found = [items.to_profile_event(item) async for item in self._table.query("recall", _IN, values)]
        return sorted(found, key=lambda event: (event.time, event.key))

    async def latest(self, account: str, profile: str, limit: int) -> Sequence[ProfileEvent]:
        if limit < 1:  # which DynamoDB refuses to be asked
            return []
        values = {":pk": items.text(items.profile_partition(account, profile))}
        return [items.to_profile_event(item) async for item in self._table.query("latest", _IN, values, limit, ScanIndexForward=False)]

    async def remembered(self, under: str, before: datetime) -> AsyncIterator[ProfileEvent]:
        pages = self._table.scan(
            "remembered",
            FilterExpression="begins_with(#profile, :under) AND #time < :before",
            ExpressionAttributeNames={"#profile": "profile", "#time": "time"},
            ExpressionAttributeValues={":under": items.text(under), ":before": items.time(before)},
        )
        async for page in pages:
            for item in page:
                yield items.to_profile_event(item)

    async def forget(self, events: Sequence[ProfileEvent]) -> None:
        # One batch may not name an item twice.
        keys = {(event.account, event.profile, event.key) for event in events}
        gone = [items.key(items.profile_partition(account, profile), key) for account, profile, key in keys]
        await self._table.write("forget", [{"DeleteRequest": {"Key": key}} for key in gone])

    # Windows.

    async def sight(self, sightings: Sequence[Sighting], keep_until: datetime) -> None:
        values = {":until": items.time(keep_until)}
        condition = f"{_NEW} OR keep_until < :until"
        await self._table.attempt_each(
            "sight",
            "put_item",
            (
                {"Item": items.sighting(one, keep_until), "ConditionExpression": condition, "ExpressionAttributeValues": values}
                for one in sightings
            ),
        )

    async def sightings(self, window: str, since: datetime, until: datetime, limit: int) -> Sequence[Sighting]:
        if until < since or limit < 1:  # which DynamoDB refuses to be asked
            return []
        found = self._table.query("sightings", _WITHIN, items.within(window, since, until), limit)
        return [items.to_sighting(item, window) async for item in found]

    async def census(self, window: str, since: datetime, until: datetime) -> Census:
        if until < since:
            return Census({})
        # Capacity is asked for whole items all the same; what is spared is their way here and their reading.
        found = self._table.query("census", _WITHIN, items.within(window, since, until), ProjectionExpression="sk, aspect")
        return canonical.census([items.to_aspect(item) async for item in found])

    async def schedule(self, closings: Sequence[Closing]) -> None:
        await self._table.attempt_each(
            "schedule", "put_item", ({"Item": items.closing(one), "ConditionExpression": _NEW} for one in closings)
        )

    async def due(self, now: datetime, limit: int) -> Sequence[Closing]:
        values = {":pk": items.text(items.CLOSING), ":now": items.time(now)}
        waiting = self._table.query("due", _IN, values, FilterExpression="due_at <= :now")
        found = [items.to_closing(item) async for item in waiting]
        return sorted(found, key=lambda one: (one.due_at, one.key))[:limit]

    async def unschedule(self, keys: Sequence[str]) -> None:
        gone = [{"DeleteRequest": {"Key": items.key(items.CLOSING, key)}} for key in dict.fromkeys(keys)]
        await self._table.write("unschedule", gone)

    # The outbox.

    async def post(self, delivery: Delivery, owner: str, now: datetime) -> None:
        settled = {"Item": items.settled_claim(delivery.key, owner, now), "ConditionExpression": "attribute_not_exists(settled_at)"}
        await self._table.transact("post", [{"Put": settled}, {"Put": {"Item": items.delivery(delivery)}}])

    async def posted(self, sink: str, now: datetime, limit: int) -> Sequence[Delivery]:
        return [items.to_delivery(item) async for item in self._table.query("posted", _WITHIN, items.due_by(sink, now), limit)]

    async def postpone(self, delivery: Delivery, due_at: datetime) -> Delivery | None:
        later = replace(delivery, due_at=due_at, attempts=delivery.attempts + 1)
        stands = {"Key": items.delivery_key(delivery), **_standing(delivery)}
        moved = await self._table.transact("postpone", [{"Delete": stands}, {"Put": {"Item": items.delivery(later)}}])
        return later if moved else None

    async def unpost(self, delivery: Delivery) -> None:
        await self._table.attempt("unpost", "delete_item", Key=items.delivery_key(delivery), **_standing(delivery))

    async def backlogs(self) -> Sequence[Backlog]:
        oldest: defaultdict[tuple[str, str], list[datetime]] = defaultdict(list)
        values = {":pk": items.text(items.OUTBOX)}
        async for item in self._table.query("backlogs", _IN, values, ProjectionExpression="sink, kind, posted_at"):
            sink, kind, posted_at = items.to_backlog(item)
            oldest[sink, kind].append(posted_at)
        return [Backlog(sink, kind, len(times), min(times)) for (sink, kind), times in oldest.items()]

    # Approvals.

    async def ask(self, approval: Approval, instead: Approval | None = None) -> bool:
        condition = {"ConditionExpression": _NEW} if instead is None else _asked(instead)
        held = await self._table.attempt("ask", "put_item", Item=items.approval(approval), **condition)
        return held is None

    async def approval(self, task_id: str) -> Approval | None:
        # A query and not a get, which the table does not do for one item whole.
        values = {":pk": items.text(items.APPROVAL), ":sk": items.text(task_id)}
        found = [items.to_approval(item) async for item in self._table.query("approval", f"{_IN} AND sk = :sk", values)]
        return found[0] if found else None

    async def approvals(self) -> Sequence[Approval]:
        values = {":pk": items.text(items.APPROVAL)}
        found = [items.to_approval(item) async for item in self._table.query("approvals", _IN, values)]
        return sorted(found, key=lambda approval: (approval.expires_at, approval.id))

    async def decide(self, approval: Approval, decision: Decision) -> Approval | None:
        values = {":asked": items.time(approval.asked_at), ":decision": items.decision(decision)}
        free = "attribute_not_exists(decisions.#who)"
        if decision.answer is Answer.NO:
            free, values[":yes"] = f"({free} OR decisions.#who.answer = :yes)", items.text(Answer.YES.value)
        await self._table.attempt(
            "decide",
            "update_item",
            Key=items.approval_key(approval.id),
            UpdateExpression="SET decisions.#who = :decision",
            ConditionExpression=f"{_ASKED} AND {free}",
            ExpressionAttributeNames={"#who": decision.approver},
            ExpressionAttributeValues=values,
        )
        standing = await self.approval(approval.id)
        return standing if standing is not None and standing.asked_at == approval.asked_at else None

    async def withdraw(self, approval: Approval) -> None:
        await self._table.attempt("withdraw", "delete_item", Key=items.approval_key(approval.id), **_asked(approval))

    # Calls that CloudTrail is to tell of.

    async def expect(self, call: Expectation, owner: str, now: datetime, *, spent: Sequence[str] = ()) -> None:
        settled = {"Item": items.settled_claim(call.key, owner, now), "ConditionExpression": "attribute_not_exists(settled_at)"}
        others = [{"Put": {"Item": items.settled_claim(key, owner, now)}} for key in dict.fromkeys(spent)]
        await self._table.transact("expect", [{"Put": settled}, {"Put": {"Item": items.expectation(call)}}, *others])

    async def expected(self, request_ids: Sequence[str]) -> Sequence[Expectation]:
        keys = [items.key(items.EXPECTED, one) for one in dict.fromkeys(request_ids)]
        return [items.to_expectation(item) for item in await self._table.get("expected", keys)]

    async def overdue(self, now: datetime, limit: int) -> Sequence[Expectation]:
        values = {":pk": items.text(items.EXPECTED), ":now": items.time(now), ":no": {"BOOL": False}}
        waiting = self._table.query("overdue", _IN, values, FilterExpression="due_at <= :now AND missed = :no")
        found = [items.to_expectation(item) async for item in waiting]
        return sorted(found, key=lambda one: (one.due_at, one.request_id))[:limit]

    async def miss(self, call: Expectation) -> bool:
        held = await self._table.attempt(
            "miss",
            "update_item",
            Key=items.key(items.EXPECTED, call.request_id),
            UpdateExpression="SET missed = :yes",
            ConditionExpression="missed = :no",
            ExpressionAttributeValues={":yes": {"BOOL": True}, ":no": {"BOOL": False}},
        )
        return held is None

    async def confirm(self, call: Expectation) -> bool:
        held = await self._table.attempt(
            "confirm",
            "delete_item",
            Key=items.key(items.EXPECTED, call.request_id),
            ConditionExpression="missed = :missed",
            ExpressionAttributeValues={":missed": {"BOOL": call.missed}},
        )
        return held is None

    # The journal.

    async def append(self, entry: JournalEntry) -> str:
        line = canonical.line(entry)
        # No pause between tries: whoever loses a number lost it to a line that was written, so some writer always gets on.
        for _ in range(TRIES):
            number, previous = await self._last()
            mark = canonical.link(previous, line)
            item = items.journal_line(number + 1, entry, line, previous, mark)
            held = await self._table.attempt("append", "put_item", Item=item, ConditionExpression=_NEW)
            # The client repeats a request whose answer was lost on the way; the line that is in our way may then be our own.
            if held is None or held.get("hash") == item["hash"]:
                return mark
        raise self._table.worn_out("append")

    async def journal(self, after: int = 0) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        values = {":pk": items.text(items.JOURNAL), ":after": items.text(items.journal_number(after))}
        async for item in self._table.query("journal", f"{_IN} AND sk > :after", values):
            yield items.to_journal_line(item)

    async def _last(self) -> tuple[int, str]:
        newest = self._table.query(
            "append",
            _IN,
            {":pk": items.text(items.JOURNAL)},
            most=1,
            ExpressionAttributeNames={"#hash": "hash"},
            ProjectionExpression="sk, #hash",
            ScanIndexForward=False,
        )
        found = [(int(item["sk"]["S"]), str(item["hash"]["S"])) async for item in newest]
        return found[0] if found else (0, "")

    # All of it.

    async def prune(self, claims_before: datetime, events_before: datetime, now: datetime) -> Mapping[str, int]:
        gone = {"claims": 0, "profile_events": 0, "sightings": 0}
        limits = {":claims": items.time(claims_before), ":events": items.time(events_before), ":now": items.time(now)}
        pages = self._table.scan(
            "prune",
            FilterExpression=_OLD,
            ExpressionAttributeNames={"#time": "time"},
            ExpressionAttributeValues={**limits, ":profiles": items.text("profile#"), ":expected": items.text(items.EXPECTED)},
            ProjectionExpression="pk, sk",
        )
        async for page in pages:
            kinds = {kind: [item for item in page if item["pk"]["S"].startswith(f"{kind}#")] for kind in ("claim", "profile", "window")}
            calls = [item for item in page if item["pk"]["S"] == items.EXPECTED]
            await self._table.write("prune", [{"DeleteRequest": {"Key": item}} for item in (*kinds["claim"], *kinds["profile"], *calls)])
            gone["claims"] += len(kinds["claim"])
            gone["profile_events"] += len(kinds["profile"])
            # Only if nobody has meanwhile asked for it to be kept longer.
            still = {"ConditionExpression": "keep_until < :now", "ExpressionAttributeValues": {":now": limits[":now"]}}
            gone["sightings"] += await self._table.attempt_each(
                "prune", "delete_item", ({"Key": item, **still} for item in kinds["window"])
            )
        return gone

    async def close(self) -> None:
        """Nothing is held: the client is closed by whoever made it."""


def _standing(delivery: Delivery) -> Mapping[str, Any]:
    """What a write says that is to change a delivery only where it stands as handed in."""
    return {"ConditionExpression": "attempts = :attempts", "ExpressionAttributeValues": {":attempts": {"N": str(delivery.attempts)}}}


def _asked(approval: Approval) -> Mapping[str, Any]:
    """What a write says that is to change what waits only where it was not asked again since."""
    return {"ConditionExpression": _ASKED, "ExpressionAttributeValues": {":asked": items.time(approval.asked_at)}}
