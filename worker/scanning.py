"""The edge of `trailmend scan`: paths become sources, a progress bar moves, and the scan runs to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from time import perf_counter
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from worker.aws import Accounts, session
from worker.budget import Budget
from worker.detect.rulebook import Rulebook
from worker.ingest.objects import ObjectError, Objects
from worker.printing import plain
from worker.scan import Scan, Source, Unreadable, files, stored, stream, unlisted
from worker.settings import Settings
from worker.state.sqlite import SqliteStore


@dataclass(frozen=True, slots=True)
class Asked:
    """What to scan: paths (files, folders, `-`, `s3://bucket/prefix`) and the span of event times, each end open when None."""

    paths: Sequence[str]
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Scanned:
    """What came of it: findings as JSON-ready values by event time, the `--stats` object, and whether anything could not be read."""

    findings: list[dict[str, Any]]
    stats: Mapping[str, object]
    faulty: bool


async def run(
    asked: Asked,
    rules: Rulebook,
    settings: Settings,
    environment: Mapping[str, str],
    clock: Callable[[], datetime],
    progress_to: Console,
    stdin: BinaryIO,
) -> Scanned:
    """Scan. Raises FileNotFoundError for a path that is not there, before anything is read."""
    paths = list(dict.fromkeys(asked.paths))
    once: set[Path] = set()
    local = {path: list(_new(files(Path(path)), once)) for path in paths if path != "-" and not path.startswith("s3://")}
    began = perf_counter()
    shown = progress_to.is_terminal and "-" not in asked.paths
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    async with AsyncExitStack() as stack:
        progress = stack.enter_context(Progress(*columns, console=progress_to, disable=not shown, transient=True))
        known = [source for sources in local.values() for source in sources]
        remote = any(path.startswith("s3://") for path in paths)
        bar = progress.add_task("reading", total=None if remote else len(known))

        def told(line: str) -> None:
            progress_to.print(plain(f"trailmend: {line}"), soft_wrap=True)

        store = await SqliteStore.open(":memory:")
        stack.push_async_callback(store.close)
        scan = Scan(rules, settings, store, asked.since, asked.until, told=told, advanced=lambda _: progress.advance(bar))

        async def sources() -> AsyncIterator[Source]:
            for path in paths:
                if path == "-":
                    yield stream("-", stdin)
                elif path in local:
                    for source in local[path]:
                        yield source
                else:
                    async for source in _bucket(path, settings, environment, clock, stack):
                        yield source

        await scan.read(sources())
        findings = [finding async for finding in scan.results(clock)]
    stats = asdict(scan.stats) | {"skipped": dict(sorted(scan.stats.skipped.items())), "seconds": round(perf_counter() - began, 6)}
    return Scanned(findings, stats, scan.faulty)


def _new(sources: Iterable[Source], once: set[Path]) -> Iterator[Source]:
    """Those that no path named before leads to, too."""
    for source in sources:
        real = Path(source.name).resolve()
        if real not in once:
            once.add(real)
            yield source


async def _bucket(
    url: str, settings: Settings, environment: Mapping[str, str], clock: Callable[[], datetime], stack: AsyncExitStack
) -> AsyncIterator[Source]:
    parts = urlsplit(url)
    accounts = await stack.enter_async_context(Accounts(session(environment), settings))
    objects = Objects(accounts, environment, settings.max_object_bytes, Budget(settings.inflight_object_bytes), clock)
    try:
        async for notice in objects.listed(parts.netloc, parts.path.removeprefix("/")):
            yield stored(notice, objects.fetch, ObjectError)
    except ObjectError as error:
        yield unlisted(url, Unreadable(error.reason, error.detail))
