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
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from typing import Protocol
from weakref import WeakValueDictionary

import orjson
import structlog

from worker.detect.rulebook import Rulebook
from worker.dispatch import wire
from worker.dispatch.plan import Plan, plan
from worker.ingest import notices, trail
from worker.model import (
    EnrichedFinding,
    Finding,
    Interest,
    LogObject,
    Message,
    Notice,
    Origin,
    Outgoing,
    ProfileEvent,
    Record,
    Task,
    Verdict,
    stable_id,
)
from worker.observe.metrics import Metrics
from worker.state.store import Claim, Store, StoreError

OFFLOAD_BYTES = 8 * 1024
"""Compressed objects from this size are read in a thread, so that heartbeats stay on time. A smaller one cannot inflate past 8 MB."""
LAST_DELIVERY_SECONDS = 10.0
"""How long a stop waits for a delivery that has begun, so that what a sink took is also settled."""
FINDINGS_AT_ONCE = 8
OBJECTS_AT_ONCE = 8

PASSING = frozenset({"object-forbidden", "object-unreachable", "delivery", "store", "rule-error"})
"""Faults that may pass by themselves or when somebody mends the set-up. All others lie in the bytes and last."""
LASTING_RETRY_SECONDS = 5.0
LONGEST_RETRY_SECONDS = 900.0


class Sink(Protocol):
    """Where findings or tasks go; see `dispatch/sinks.py`."""

    kind: str
    key: str

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything the pipeline is given; see `app.py` for who gives it."""

    rulebook: Rulebook
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
        self._interest = parts.rulebook.interest | parts.profile_interest
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def __call__(self, message: Message) -> Verdict:
        """Do everything that a message asks for."""
        faults: list[str] = []
        began = perf_counter()
        records = await self._read(message, faults)
        began = self._staged("read", began)
        findings = await self._detect(records, faults)
        began = self._staged("detect", began)
        busy = await self._tell(findings, faults)
        self._staged("tell", began)
        return _verdict(faults, busy, message.receives, self._parts.lease)

    def _staged(self, stage: str, began: float) -> float:
        now = perf_counter()
        self._parts.metrics.staged(stage, now - began)
        return now

    # Reading.

    async def _read(self, message: Message, faults: list[str]) -> list[Record]:
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
            self._take(trail.select(reading.events, origin, self._interest, self._parts.bounds), 0, records, faults)
        if len(reading.notices) == 1:
            await self._read_object(reading.notices[0], records, faults)
        elif reading.notices:
            at_once = asyncio.Semaphore(OBJECTS_AT_ONCE)

            async def one(notice: Notice) -> None:
                async with at_once:
                    await self._read_object(notice, records, faults)

            async with asyncio.TaskGroup() as group:
                for notice in reading.notices:
                    group.create_task(one(notice))
        return records

    async def _read_object(self, notice: Notice, records: list[Record], faults: list[str]) -> None:
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
            arguments = (fetched.body, origin, self._interest, parts.bounds)
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

    async def _detect(self, records: list[Record], faults: list[str]) -> list[Finding]:
        parts = self._parts
        findings: dict[str, Finding] = {}
        learnt: list[ProfileEvent] = []
        for record in records:
            try:
                learnt += parts.profile_events(record)
                self._match(record, findings, faults)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this record's alone
                faults.append("unexpected")
                parts.metrics.fault("detect", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)
        if learnt:
            try:
                await parts.store.learn(learnt)
            except StoreError as error:
                faults.append("store")
                parts.metrics.fault("learn", "store", detail=str(error))
        return list(findings.values())

    def _match(self, record: Record, findings: dict[str, Finding], faults: list[str]) -> None:
        matches = self._parts.rulebook.match(record)
        for finding in matches.findings:
            findings.setdefault(finding.id, finding)
        for wrong in matches.errors:
            faults.append("rule-error")
            self._parts.metrics.rule_error(wrong.rule_id, wrong.text, event_name=record.name, record=record.key)

    # Telling.

    async def _tell(self, findings: list[Finding], faults: list[str]) -> bool:
        """Dispatch every finding; answers whether one is in another worker's hands."""
        if not findings:
            return False
        at_once = asyncio.Semaphore(FINDINGS_AT_ONCE)
        busy = False

        async def one(finding: Finding) -> None:
            nonlocal busy
            # Copies of one event come by in several objects at once: within this process they wait for each other here.
            lock = self._locks.setdefault(finding.id, asyncio.Lock())
            async with at_once, lock:
                with structlog.contextvars.bound_contextvars(finding_id=finding.id):
                    try:
                        busy = await self._tell_once(finding, faults) or busy
                    except StoreError as error:
                        faults.append("store")
                        self._parts.metrics.fault("tell", "store", detail=str(error))
                    except Exception as error:  # noqa: BLE001  # whatever it is, it is this finding's alone
                        faults.append("unexpected")
                        self._parts.metrics.fault("tell", "unexpected", detail=f"{type(error).__name__}: {error}", exc_info=error)

        async with asyncio.TaskGroup() as group:
            for finding in findings:
                group.create_task(one(finding))
        return busy

    async def _tell_once(self, finding: Finding, faults: list[str]) -> bool:
        parts = self._parts
        claim = await parts.store.claim(finding.id, parts.owner, parts.clock(), parts.lease)
        if claim is Claim.SETTLED:
            parts.metrics.duplicate(finding.id)
            return False
        if claim is Claim.BUSY:
            return True
        told = False
        try:
            found = await parts.investigate(finding)
            planned = plan(found)
            # Whoever took longer than the lease may have lost the claim; nobody is told twice.
            if await parts.store.claim(finding.id, parts.owner, parts.clock(), parts.lease) is not Claim.WON:
                return True
            delivering = asyncio.ensure_future(self._deliver(found, planned))
            try:
                told = await asyncio.shield(delivering)
            except asyncio.CancelledError:
                # Stopped between a sink's word and ours: what was taken is settled before we go.
                told = await asyncio.wait_for(delivering, LAST_DELIVERY_SECONDS)
                raise
        finally:
            if not told:
                await asyncio.shield(parts.store.release(finding.id, parts.owner))
        if not told:
            faults.append("delivery")
            return False
        parts.metrics.finding(found, parts.clock())
        for withheld in planned.withheld:
            parts.metrics.withheld(withheld, finding.id)
        return False

    async def _deliver(self, found: EnrichedFinding, planned: Plan) -> bool:
        """Put the finding on every sink and its tasks on the task queue, but for what they took before, and settle it.

        Answers whether everybody has everything.
        """
        parts = self._parts
        group = stable_id(found.finding.record.account or "")
        body = orjson.dumps(wire.finding_as_dict(found, planned), default=str)
        whole = [(sink, found.finding.id, Outgoing(found.finding.id, group, body)) for sink in parts.finding_sinks]
        tasks: dict[str, Task] = {}
        if parts.task_sink is not None:
            for task in planned.tasks:
                group = stable_id(task.target.account, task.target.type, task.target.name)
                body = orjson.dumps(wire.task_as_dict(task, parts.clock()), default=str)
                whole.append((parts.task_sink, task.id, Outgoing(task.id, group, body)))
                tasks[task.id] = task
        before = await parts.store.settled([_delivery(sink, item) for sink, item, _ in whole])
        complete = True
        for sink, item, outgoing in whole:
            key = _delivery(sink, item)
            if key in before:
                continue
            failed = await sink.put([outgoing])
            if failed:
                complete = False
                parts.metrics.delivered(sink.kind, "failed", item=item, error=failed[outgoing.id])
                continue
            await parts.store.settle([key], parts.owner, parts.clock())
            parts.metrics.delivered(sink.kind, "ok")
            if item in tasks and sink is parts.task_sink:
                parts.metrics.task(tasks[item])
        if complete:
            await parts.store.settle([found.finding.id], parts.owner, parts.clock())
        return complete


def _delivery(sink: Sink, item: str) -> str:
    return f"{sink.key}|{item}"


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
