"""One message, from its body to its dispatched tasks; the answer is what is to become of it.

    body -> notices -> objects -> records -> findings -> facts -> plan -> sinks and task queue -> verdict

Everything that touches the outside is handed in. A fault spoils only what it is about: the good objects, records and findings beside it go all the
way, and the message is then left, to come back and at last be redriven; what was dispatched is recognised by its claim and not
dispatched again. Nothing is deleted unread.

Each reason has its fate here, in one table: passing faults come back later and later, lasting ones quickly, so that they reach the
dead-letter queue, where somebody looks, while the day is young.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import perf_counter

import structlog

from worker.budget import Budget
from worker.correlator import Correlator, Hit
from worker.detect.rulebook import Matches, Rulebook
from worker.dispatch.outbox import Outbox, Sink
from worker.ingest import notices, trail
from worker.ingest.inflate import MoreRoomError, claimed
from worker.model import (
    EnrichedFinding,
    Finding,
    Interest,
    Level,
    LogObject,
    Message,
    Notice,
    Origin,
    ProfileEvent,
    Record,
    Verdict,
)
from worker.observe.metrics import Metrics
from worker.sifting import Sifted, sift
from worker.state.store import Claim, Store, StoreError
from worker.teller import Teller, Told

INLINE_BYTES = 128 * 1024
"""Objects that inflate to no more are read where they are: a millisecond of work. Larger ones are read in a thread, so that heartbeats stay on time."""
OBJECTS_AT_ONCE = 8

PASSING = frozenset({"object-forbidden", "object-unreachable", "delivery", "store", "rule-error"})
"""Faults that may pass by themselves or when somebody mends the set-up. All others lie in the bytes and last."""
LASTING_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 900.0
BUSY_SECONDS = 5.0
SOON_RECEIVES = 2
"""What another worker has in hand is mostly told within seconds. Should it have died, the later tries come after its lease."""
UPDATE_RECEIVES = 3
"""With this receive of a message facts that are still pending are given up: the next but two would redrive it."""
UPDATE_WITHIN = timedelta(minutes=10)
"""For so long, at every `update_seconds`, the same for what correlations find when their span is over: no message waits for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the pipeline is given; see `app.py` for who gives it.

    `own_records` answers the request ids of those records that are our own, and `own_interest` wants them read. Facts that are pending are looked for again after `update_seconds`, and after four times as many; 0: never.
    """

    rules: Callable[[], Rulebook]
    correlator: Correlator
    fetch: Callable[[Notice], AbstractAsyncContextManager[LogObject]]
    fetch_fault: type[Exception]
    investigate: Callable[[Finding], Awaitable[EnrichedFinding]]
    profile_interest: Interest
    profile_events: Callable[[Record], tuple[ProfileEvent, ...]]
    own_interest: Interest
    own_records: Callable[[Sequence[Record]], Awaitable[frozenset[str]]]
    store: Store
    outbox: Outbox
    finding_sinks: Callable[[Level], Sequence[Sink]]
    task_sinks: Sequence[Sink]
    metrics: Metrics
    clock: Callable[[], datetime]
    owner: str
    bounds: trail.Bounds
    inflated: Budget
    lease: timedelta
    update_seconds: float


@dataclass(slots=True)
class _Case:
    """What has come of a message so far. `sifting_seconds` is what the rules took."""

    book: Rulebook
    interest: Interest
    faults: list[str] = field(default_factory=list)
    findings: dict[str, Finding] = field(default_factory=dict)
    learnt: list[ProfileEvent] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    marked: list[tuple[Record, Matches]] = field(default_factory=list)
    sifting_seconds: float = 0.0


class Pipeline:
    """Call it with a message; it answers with the verdict on it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wanted: tuple[Rulebook, Interest] | None = None
        self._awaiting: dict[str, datetime] = {}
        self._teller = Teller(
            parts.investigate,
            parts.store,
            parts.outbox,
            parts.finding_sinks,
            parts.task_sinks,
            parts.metrics,
            parts.clock,
            parts.owner,
            parts.lease,
        )

    async def __call__(self, message: Message) -> Verdict:
        """Do everything that a message asks for."""
        metrics = self._parts.metrics
        case = _Case(*self._in_force())
        began = perf_counter()
        await self._read(message, case)
        await self._recognise(case)
        read = perf_counter()
        metrics.staged("read", read - began - case.sifting_seconds)
        await self._remember(case)
        detected = perf_counter()
        metrics.staged("detect", detected - read + case.sifting_seconds)
        last = self._parts.update_seconds == 0 or message.receives >= UPDATE_RECEIVES
        told = await self._teller.tell(list(case.findings.values()), case.faults, last=last)
        metrics.staged("tell", perf_counter() - detected)
        return _verdict(case.faults, told, message.receives, self._parts)

    async def close_due(self) -> None:
        """Judge and tell what could only be judged now, unless another worker sees to that. What cannot be told stays due."""
        parts = self._parts
        try:
            if await parts.store.claim("closing", parts.owner, parts.clock(), parts.lease) is not Claim.WON:
                return
            began = parts.clock()
            self._awaiting = {key: until for key, until in self._awaiting.items() if began < until}
            async for judged in parts.correlator.due(parts.rules()):
                if judged.closing.key in self._awaiting:
                    continue
                findings: dict[str, Finding] = {}
                faults: list[str] = []
                for matches in judged.matches:
                    self._sort(matches, findings)
                last = parts.update_seconds == 0 or parts.clock() - judged.closing.due_at > UPDATE_WITHIN
                told = await self._teller.tell(list(findings.values()), faults, last=last)
                if told.awaited:
                    self._awaiting[judged.closing.key] = parts.clock() + timedelta(seconds=parts.update_seconds)
                if not faults and told == Told():
                    await parts.correlator.closed(judged.closing, parts.owner)
        except StoreError as error:
            parts.metrics.fault("close", "store", detail=str(error))

    def _in_force(self) -> tuple[Rulebook, Interest]:
        """The rules, which may change from message to message, and what they and the profile memory want."""
        book = self._parts.rules()
        if self._wanted is None or self._wanted[0] is not book:
            self._wanted = (book, book.interest | self._parts.profile_interest | self._parts.own_interest)
        return self._wanted

    # Reading.

    async def _read(self, message: Message, case: _Case) -> None:
        parts = self._parts
        reading = notices.read(message.body)
        parts.metrics.notice(reading.shape)
        for reason in reading.skipped:
            parts.metrics.skipped(reason)
        for fault in reading.faults:
            case.faults.append(fault.reason)
            parts.metrics.fault("notice", fault.reason, detail=fault.detail)
        if reading.events:
            selected = trail.select(reading.events, Origin(message=message.id), case.interest, parts.bounds)
            self._take(sift(selected, case.book, parts.profile_events), case)
        if len(reading.notices) == 1:
            await self._read_object(reading.notices[0], case)
        elif reading.notices:
            at_once = asyncio.Semaphore(OBJECTS_AT_ONCE)

            async def one(notice: Notice) -> None:
                async with at_once:
                    await self._read_object(notice, case)

            async with asyncio.TaskGroup() as group:
                for notice in reading.notices:
                    group.create_task(one(notice))

    async def _read_object(self, notice: Notice, case: _Case) -> None:
        parts = self._parts
        structlog.contextvars.bind_contextvars(bucket=notice.bucket, key=notice.key)  # for as long as the task lives that reads it
        try:
            async with parts.fetch(notice) as fetched:
                await self._sift(fetched, case)
        except parts.fetch_fault as error:
            reason, detail = getattr(error, "reason", "object-unreachable"), str(error)
            case.faults.append(reason)
            parts.metrics.fault("fetch", reason, detail=detail)
            return
        parts.metrics.object_fetched(len(fetched.body))

    async def _sift(self, fetched: LogObject, case: _Case) -> None:
        """Small objects here, larger ones in a thread, within the budget of inflated bytes; one that claims less than it has, with room for all."""
        bound = self._parts.bounds.inflated_bytes
        room = claimed(fetched.body, bound)
        if room <= INLINE_BYTES:
            try:
                for sifted in self._pieces(fetched, case, room):
                    self._take(sifted, case)
            except MoreRoomError:
                room = bound
            else:
                return
        for allowed in (room, bound):
            async with self._parts.inflated.hold(allowed):
                try:
                    pieces = self._pieces(fetched, case, allowed)
                    while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                        self._take(piece, case)
                except MoreRoomError:
                    continue
                return

    def _pieces(self, fetched: LogObject, case: _Case, room: int) -> Iterator[Sifted]:
        parts, notice = self._parts, fetched.notice
        origin = Origin(bucket=notice.bucket, key=notice.key)
        for piece in trail.pieces(fetched.body, origin, case.interest, parts.bounds, room):
            yield sift(piece, case.book, parts.profile_events)

    # Deciding.

    def _take(self, sifted: Sifted, case: _Case) -> None:
        metrics, read = self._parts.metrics, sifted.trail
        metrics.records_read(read.inflated_bytes, read.seen, len(read.records))
        for reason, count in (read.skipped or {}).items():
            metrics.skipped(reason, count)
        for fault in read.faults:
            case.faults.append(fault.reason)
            metrics.fault("read", fault.reason, detail=fault.detail, count=fault.count)
        for failure in sifted.failures:
            case.faults.append("unexpected")
            metrics.fault("detect", "unexpected", detail=f"{type(failure).__name__}: {failure}", exc_info=failure)
        for record, matches in sifted.matches:
            self._matched(record, matches, case)
        case.marked += sifted.marked
        case.learnt += sifted.learnt
        case.sifting_seconds += sifted.seconds

    def _matched(self, record: Record, matches: Matches, case: _Case) -> None:
        case.hits += ((rule, record) for rule in matches.hits)
        self._sort(matches, case.findings)
        for wrong in matches.errors:
            case.faults.append("rule-error")
            self._parts.metrics.rule_error(wrong.rule_id, wrong.text, event_name=record.name, record=record.key)

    async def _recognise(self, case: _Case) -> None:
        """Of our own calls no finding is made; what only says that it is ours is a record like any other. While nobody knows, neither is told."""
        if not case.marked:
            return
        try:
            ours = await self._parts.own_records([record for record, _ in case.marked])
        except StoreError as error:
            case.faults.append("store")
            self._parts.metrics.fault("recognise", "store", detail=str(error))
            return
        for record, matches in case.marked:
            if record.text("requestID") not in ours:
                self._matched(record, matches, case)

    async def _remember(self, case: _Case) -> None:
        """What was learnt of profiles, and what correlations are to see; they may find something at once."""
        stage = "learn"
        try:
            if case.learnt:
                await self._parts.store.learn(case.learnt)
            stage = "correlate"
            for matches in await self._parts.correlator.observe(case.book, case.hits) if case.hits else ():
                self._sort(matches, case.findings)
        except StoreError as error:
            case.faults.append("store")
            self._parts.metrics.fault(stage, "store", detail=str(error))

    def _sort(self, matches: Matches, findings: dict[str, Finding]) -> None:
        """What is to be told goes to the findings; what a suppression speaks against is counted."""
        for finding in matches.findings:
            findings.setdefault(finding.id, finding)
        for finding, against in matches.suppressed:
            self._parts.metrics.suppressed(finding.rule.id, against.id, against.reason, finding.id)


def _verdict(faults: list[str], told: Told, receives: int, parts: Parts) -> Verdict:
    if any(reason not in PASSING for reason in faults):
        return Verdict(
            delete=False, reason=next(reason for reason in faults if reason not in PASSING), retry_after_seconds=LASTING_RETRY_SECONDS
        )
    if faults:
        pause = min(LONGEST_RETRY_SECONDS, 30.0 * 2 ** (min(receives, 10) - 1))
        return Verdict(delete=False, reason=faults[0], retry_after_seconds=pause)
    if told.busy:
        lease = parts.lease.total_seconds()
        pause = min(lease, BUSY_SECONDS * receives) if receives <= SOON_RECEIVES else lease
        return Verdict(delete=False, reason="busy", retry_after_seconds=pause)
    if told.awaited:
        pause = parts.update_seconds * 4 ** (receives - 1)
        return Verdict(delete=False, reason="facts-awaited", retry_after_seconds=pause, progress=True)
    return Verdict(delete=True)
