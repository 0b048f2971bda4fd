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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter

import structlog

from worker.correlator import Correlator, Hit
from worker.detect.rulebook import Matches, Rulebook
from worker.ingest import notices, trail
from worker.model import (
    EnrichedFinding,
    Finding,
    Interest,
    LogObject,
    Message,
    Notice,
    Origin,
    ProfileEvent,
    Record,
    Verdict,
)
from worker.observe.metrics import Metrics
from worker.state.store import Claim, Store, StoreError
from worker.teller import Sink, Teller

OFFLOAD_BYTES = 8 * 1024
"""Compressed objects from this size are read in a thread, so that heartbeats stay on time. A smaller one cannot inflate past 8 MB."""
OBJECTS_AT_ONCE = 8

PASSING = frozenset({"object-forbidden", "object-unreachable", "delivery", "store", "rule-error"})
"""Faults that may pass by themselves or when somebody mends the set-up. All others lie in the bytes and last."""
LASTING_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the pipeline is given; see `app.py` for who gives it."""

    rules: Callable[[], Rulebook]
    correlator: Correlator
    fetch: Callable[[Notice], Awaitable[LogObject]]
    fetch_fault: type[Exception]
    investigate: Callable[[Finding], Awaitable[EnrichedFinding]]
    profile_interest: Interest
    profile_events: Callable[[Record], tuple[ProfileEvent, ...]]
    store: Store
    finding_sinks: tuple[Sink, ...]
    task_sink: Sink | None
    metrics: Metrics
    clock: Callable[[], datetime]
    owner: str
    bounds: trail.Bounds
    lease: timedelta


class Pipeline:
    """Call it with a message; it answers with the verdict on it."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._wanted: tuple[Rulebook, Interest] | None = None
        self._teller = Teller(
            parts.investigate, parts.store, parts.finding_sinks, parts.task_sink, parts.metrics, parts.clock, parts.owner, parts.lease
        )

    async def __call__(self, message: Message) -> Verdict:
        """Do everything that a message asks for."""
        faults: list[str] = []
        book, interest = self._in_force()
        began = perf_counter()
        records = await self._read(message, interest, faults)
        began = self._staged("read", began)
        findings = await self._detect(book, records, faults)
        began = self._staged("detect", began)
        busy = await self._teller.tell(findings, faults)
        self._staged("tell", began)
        return _verdict(faults, busy, message.receives, self._parts.lease)

    async def close_due(self) -> None:
        """Judge and tell what could only be judged now, unless another worker sees to that. What cannot be told stays due."""
        parts = self._parts
        try:
            if await parts.store.claim("closing", parts.owner, parts.clock(), parts.lease) is not Claim.WON:
                return
            async for judged in parts.correlator.due(parts.rules()):
                findings: dict[str, Finding] = {}
                faults: list[str] = []
                for matches in judged.matches:
                    self._sort(matches, findings)
                busy = await self._teller.tell(list(findings.values()), faults)
                if not faults and not busy:
                    await parts.correlator.closed(judged.closing, parts.owner)
        except StoreError as error:
            parts.metrics.fault("close", "store", detail=str(error))

    def _in_force(self) -> tuple[Rulebook, Interest]:
        """The rules, which may change from message to message, and what they and the profile memory want."""
        book = self._parts.rules()
        if self._wanted is None or self._wanted[0] is not book:
            self._wanted = (book, book.interest | self._parts.profile_interest)
        return self._wanted

    def _staged(self, stage: str, began: float) -> float:
        now = perf_counter()
        self._parts.metrics.staged(stage, now - began)
        return now

    # Reading.

    async def _read(self, message: Message, interest: Interest, faults: list[str]) -> list[Record]:
        metrics = self._parts.metrics
        reading = notices.read(message.body)
        metrics.notice(reading.shape)
        for reason in reading.skipped:
            metrics.skipped(reason)
        for fault in reading.faults:
            faults.append(fault.reason)
            metrics.fault("notice", fault.reason, detail=fault.detail)
        records: list[Record] = []
        if reading.events:
            origin = Origin(message=message.id)
            self._take(trail.select(reading.events, origin, interest, self._parts.bounds), 0, records, faults)
        if len(reading.notices) == 1:
            await self._read_object(reading.notices[0], interest, records, faults)
        elif reading.notices:
            at_once = asyncio.Semaphore(OBJECTS_AT_ONCE)

            async def one(notice: Notice) -> None:
                async with at_once:
                    await self._read_object(notice, interest, records, faults)

            async with asyncio.TaskGroup() as group:
                for notice in reading.notices:
                    group.create_task(one(notice))
        return records

    async def _read_object(self, notice: Notice, interest: Interest, records: list[Record], faults: list[str]) -> None:
        parts = self._parts
        with structlog.contextvars.bound_contextvars(bucket=notice.bucket, key=notice.key):
            try:
                fetched = await parts.fetch(notice)
            except parts.fetch_fault as error:
                reason, detail = getattr(error, "reason", "object-unreachable"), str(error)
                faults.append(reason)
                parts.metrics.fault("fetch", reason, detail=detail)
                return
            origin = Origin(bucket=notice.bucket, key=notice.key)
            arguments = (fetched.body, origin, interest, parts.bounds)
            if len(fetched.body) < OFFLOAD_BYTES:
                read = trail.read(*arguments)
            else:
                read = await asyncio.to_thread(trail.read, *arguments)
            self._take(read, len(fetched.body), records, faults)

    def _take(self, read: trail.Trail, compressed_bytes: int, records: list[Record], faults: list[str]) -> None:
        metrics = self._parts.metrics
        metrics.object_read(compressed_bytes, read.inflated_bytes, read.seen, len(read.records))
        for reason, count in (read.skipped or {}).items():
            metrics.skipped(reason, count)
        for fault in read.faults:
            faults.append(fault.reason)
            metrics.fault("read", fault.reason, detail=fault.detail, count=fault.count)
        records.extend(read.records)

    # Deciding.

    async def _detect(self, book: Rulebook, records: list[Record], faults: list[str]) -> list[Finding]:
        parts = self._parts
        findings: dict[str, Finding] = {}
        learnt: list[ProfileEvent] = []
        hits: list[Hit] = []
        for record in records:
            try:
                learnt += parts.profile_events(record)
                matches = book.match(record)
                hits += ((rule, record) for rule in matches.hits)
                self._sort(matches, findings)
                for wrong in matches.errors:
                    faults.append("rule-error")
                    parts.metrics.rule_error(wrong.rule_id, wrong.text, event_name=record.name, record=record.key)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this record's alone
                faults.append("unexpected")
                parts.metrics.fault("detect", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)
        stage = "learn"
        try:
            if learnt:
                await parts.store.learn(learnt)
            stage = "correlate"
            for matches in await parts.correlator.observe(book, hits) if hits else ():
                self._sort(matches, findings)
        except StoreError as error:
            faults.append("store")
            parts.metrics.fault(stage, "store", detail=str(error))
        return list(findings.values())

    def _sort(self, matches: Matches, findings: dict[str, Finding]) -> None:
        """What is to be told goes to the findings; what a suppression speaks against is counted."""
        for finding in matches.findings:
            findings.setdefault(finding.id, finding)
        for finding, against in matches.suppressed:
            self._parts.metrics.suppressed(finding.rule.id, against.id, against.reason, finding.id)


def _verdict(faults: list[str], busy: bool, receives: int, lease: timedelta) -> Verdict:
    if any(reason not in PASSING for reason in faults):
        return Verdict(
            delete=False, reason=next(reason for reason in faults if reason not in PASSING), retry_after_seconds=LASTING_RETRY_SECONDS
        )
    if faults:
        pause = min(LONGEST_RETRY_SECONDS, 30.0 * 2 ** (min(receives, 10) - 1))
        return Verdict(delete=False, reason=faults[0], retry_after_seconds=pause)
    if busy:
        return Verdict(delete=False, reason="busy", retry_after_seconds=lease.total_seconds())
    return Verdict(delete=True)
