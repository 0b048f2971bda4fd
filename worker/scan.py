"""`trailmend scan`: the worker's own readers and rules over files, folders, standard input or a bucket, with no queue and no state.

Sources go in; findings come out as JSON-ready values, each once however often its event stands in the logs, by event time. What is no log is
passed over and counted; what should be one and cannot be read is a fault, counted and told. From the scanned records alone the
profile facts are told too: which role a deleted profile had, and whether it was made again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from worker.detect.offline import correlated
from worker.detect.rulebook import Matches, Rulebook
from worker.dispatch import wire
from worker.dispatch.plan import plan
from worker.enrich import profile
from worker.enrich.offline import from_log
from worker.ingest import trail
from worker.ingest.notices import skip_reason
from worker.model import Finding, LogObject, Notice, Origin, Record
from worker.settings import Settings
from worker.state.store import Store

AHEAD = 16
"""Sources fetched ahead of the one being read."""
NO_LOG = frozenset({"not-gzip", "empty"})
"""What a file in a folder may be without being a fault: a licence, a picture, an empty marker. A file that the user named may not."""
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A source that could not be fetched, and why."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: how to fetch its bytes, where they come from, and whether the user named it."""

    origin: Origin
    fetch: Callable[[], Awaitable[bytes | Unreadable]]
    named: bool = False

    @property
    def name(self) -> str:
        """As a person would write it."""
        origin = self.origin
        return origin.path if origin.path is not None else f"s3://{origin.bucket}/{origin.key}"


@dataclass(slots=True)
class Stats:
    """What a scan did, as `--stats` writes it. `skipped` counts by reason all that gave no records or no finding, faults among it."""

    files: int = 0
    records: int = 0
    bytes_compressed: int = 0
    bytes_inflated: int = 0
    findings: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


class Scan:
    """One scan over any number of sources, with an empty store of its own. `told` is called with a line for every fault, `advanced` with every source done."""

    def __init__(
        self,
        rules: Rulebook,
        settings: Settings,
        store: Store,
        since: datetime | None,
        until: datetime | None,
        *,
        told: Callable[[str], None],
        advanced: Callable[[Source], None] = lambda _: None,
    ) -> None:
        self.stats = Stats()
        self.faulty = False
        self._rules = rules
        self._settings = settings
        self._store = store
        self._interest = rules.interest | profile.INTEREST
        self._bounds = trail.Bounds(settings.max_inflated_bytes, settings.max_record_bytes)
        self._since, self._until = since, until
        self._told, self._advanced = told, advanced
        self._findings: dict[str, Finding] = {}
        self._hits: dict[tuple[str, str], Record] = {}
        self._read_to: dict[str | None, datetime] = {}

    async def read(self, sources: AsyncIterator[Source]) -> None:
        """Read everything there is and correlate it; the findings are in `results` afterwards."""
        fetched: asyncio.Queue[tuple[Source, asyncio.Task[bytes | Unreadable]] | None] = asyncio.Queue(AHEAD)

        async def fetch(group: asyncio.TaskGroup) -> None:
            async for source in sources:
                reason = None if source.named else skip_reason(source.name)
                if reason is not None:
                    self.stats.skipped[reason] += 1
                    self._advanced(source)
                    continue
                await fetched.put((source, group.create_task(_run(source.fetch()))))
            await fetched.put(None)

        async with asyncio.TaskGroup() as group:
            group.create_task(fetch(group))
            while (item := await fetched.get()) is not None:
                source, fetching = item
                await self._take(source, await fetching)
                self._advanced(source)
        for matches in correlated(self._rules, ((rule, record) for (rule, _), record in self._hits.items())):
            self._sort(matches)

    async def results(self, clock: Callable[[], datetime]) -> AsyncIterator[dict[str, Any]]:
        """The findings by event time, as JSON-ready values with the facts that the scanned log holds."""
        for finding in sorted(self._findings.values(), key=_by_time):
            found = await from_log(finding, self._store, self._settings, clock, self._read_to.get(finding.record.account))
            if (lacking := found.lacking) is not None:
                self.stats.skipped[f"not-{lacking}"] += 1
                self.stats.findings -= 1
                continue
            yield wire.finding_as_dict(found, plan(found))

    async def _take(self, source: Source, body: bytes | Unreadable) -> None:
        stats = self.stats
        if isinstance(body, Unreadable) and body.reason == "no-file":
            stats.skipped[body.reason] += 1
            return
        if isinstance(body, Unreadable):
            self._fault(source, body.reason, body.detail)
            return
        for read in trail.pieces(body, source.origin, self._interest, self._bounds):
            if not source.named and any(fault.reason in NO_LOG for fault in read.faults):
                stats.skipped["no-log"] += 1
                return
            stats.records += read.seen
            stats.bytes_inflated += read.inflated_bytes
            stats.skipped.update(read.skipped or {})
            for fault in read.faults:
                self._fault(source, fault.reason, fault.detail, fault.count)
            await self._judge(source, read)
        stats.files += 1
        stats.bytes_compressed += len(body)

    async def _judge(self, source: Source, read: trail.Trail) -> None:
        if learnt := [event for record in read.records for event in profile.events_of(record)]:
            await self._store.learn(learnt)
        for record in read.records:
            if record.time is not None:
                self._read_to[record.account] = max(record.time, self._read_to.get(record.account, record.time))
            try:
                if self._in_time(record):
                    self._match(source, record)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this record's alone
                self._fault(source, "unexpected", f"{record.name}: {type(error).__name__}: {error}")

    def _match(self, source: Source, record: Record) -> None:
        matches = self._rules.match(record)
        for wrong in matches.errors:
            self._fault(source, "rule-error", f"rule {wrong.rule_id} on {record.name}: {wrong.text}")
        for rule in matches.hits:
            self._hits.setdefault((rule, record.key), record)
        self._sort(matches)

    def _sort(self, matches: Matches) -> None:
        for finding in matches.findings:
            if self._findings.setdefault(finding.id, finding) is not finding:
                self.stats.skipped["duplicate"] += 1
        self.stats.skipped.update({"suppressed": len(matches.suppressed)} if matches.suppressed else {})
        self.stats.findings = len(self._findings)

    def _in_time(self, record: Record) -> bool:
        """Records without a time are always in: better one too many than one unseen."""
        time = record.time
        return time is None or ((self._since is None or time >= self._since) and (self._until is None or time < self._until))

    def _fault(self, source: Source, reason: str, detail: str, count: int = 1) -> None:
        self.faulty = True
        self.stats.skipped[reason] += count
        more = f" (and {count - 1} more such)" if count > 1 else ""
        self._told(f"{source.name}: {reason}: {detail}{more}")


async def _run(fetching: Awaitable[bytes | Unreadable]) -> bytes | Unreadable:
    return await fetching


def _by_time(finding: Finding) -> tuple[datetime, str, str]:
    return finding.record.time or BEGINNING, finding.record.key, finding.rule.id


def files(path: Path) -> Iterator[Source]:
    """The sources under a path: itself, or every file below the folder, by name. Raises FileNotFoundError."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if not path.is_dir():
        yield _file(path, named=True)
        return
    unreadable: list[OSError] = []
    entered: set[tuple[int, int]] = set()
    for folder, below, names in os.walk(path, onerror=unreadable.append, followlinks=True):
        told = Path(folder).stat()
        if (told.st_dev, told.st_ino) in entered:  # a link that leads round in a circle, or here a second time
            below.clear()
            continue
        entered.add((told.st_dev, told.st_ino))
        below.sort()
        for name in sorted(names):
            yield _file(Path(folder, name), named=False)
    for error in unreadable:
        yield unlisted(str(error.filename), Unreadable("unreadable", f"cannot be read: {error.strerror}"))


def stream(name: str, source: BinaryIO) -> Source:
    """Everything that a stream holds, as one source."""

    async def fetch() -> bytes | Unreadable:
        return await asyncio.to_thread(source.read)

    return Source(Origin(path=name), fetch, named=True)


def _file(path: Path, *, named: bool) -> Source:
    def read() -> bytes | Unreadable:
        try:
            if not named and not path.is_file():
                return Unreadable("no-file", "is a broken link, a pipe or a device")
            return path.read_bytes()
        except OSError as error:
            return Unreadable("unreadable", f"cannot be read: {error.strerror or error}")

    async def fetch() -> bytes | Unreadable:
        return await asyncio.to_thread(read)

    return Source(Origin(path=str(path)), fetch, named=named)


def unlisted(url: str, why: Unreadable) -> Source:
    """A bucket or folder that could not be listed to its end, as a source that says so."""

    async def fetch() -> bytes | Unreadable:
        return why

    return Source(Origin(path=url), fetch, named=True)


def stored(notice: Notice, get: Callable[[Notice], AbstractAsyncContextManager[LogObject]], failure: type[Exception]) -> Source:
    """An object of a bucket; `get` fetches it and raises `failure`, whose `reason` says what went wrong."""

    async def fetch() -> bytes | Unreadable:
        try:
            async with get(notice) as fetched:
                return fetched.body
        except failure as error:
            return Unreadable(getattr(error, "reason", "object-unreachable"), str(error))

    return Source(Origin(bucket=notice.bucket, key=notice.key), fetch)
