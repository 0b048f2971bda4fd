"""The edge of `trailmend rules show --event`: records from wherever `scan` reads them, and what one rule or correlation makes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.text import Text

from worker.detect import catalogue
from worker.detect.catalogue import Entry
from worker.detect.explanation import evaluate
from worker.detect.groups import seen
from worker.detect.rulebook import Rulebook
from worker.detect.rulefile import CompiledRule
from worker.ingest import trail
from worker.model import Interest, Record
from worker.rules_view import failed, judged, sighted
from worker.scan import Source, Unreadable, files, stream
from worker.settings import Settings

MOST_RECORDS = 20
"""Records that a rule is told of one by one; the first ones."""


def records(path: str, settings: Settings, stdin: BinaryIO, told: Callable[[str], None]) -> Iterator[Record]:
    """Every record in a file or folder, or with `-` on standard input; `told` hears what cannot be read. Raises FileNotFoundError."""
    bounds = trail.Bounds(settings.max_inflated_bytes, settings.max_record_bytes)
    for source in [stream("-", stdin)] if path == "-" else files(Path(path)):
        body = asyncio.run(_fetched(source))
        if isinstance(body, Unreadable):
            told(f"{source.name}: {body.detail}")
            continue
        read = trail.read(body, source.origin, Interest(everything=True), bounds)
        for fault in read.faults:
            told(f"{source.name}: {fault.reason}: {fault.detail}")
        yield from read.records


async def _fetched(source: Source) -> bytes | Unreadable:
    return await source.fetch()


def judge(rulebook: Rulebook, entry: Entry, about: Sequence[Record], people: Console) -> bool:
    """Print what becomes of the records, each by itself or for a correlation together; answers whether anything is found."""

    def put(lines: Iterator[Text]) -> None:
        people.print()
        for line in lines:
            people.print(line, soft_wrap=True)

    if not isinstance(entry, CompiledRule):
        what = seen(rulebook, entry, about)
        put(sighted(entry, what, catalogue.titles(rulebook)))
        return any(group.found for group in what.groups)
    matched = 0
    for number, record in enumerate(about, 1):
        place = f"record {number} of {len(about)}"
        try:
            outcome = evaluate(entry.matcher.tree, record.event)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is told for this record alone
            lines = iter([failed(error, record, place)])
        else:
            matched += outcome.held
            lines = judged(outcome, record, place, catalogue.against(rulebook, entry, record))
        if number <= MOST_RECORDS:
            put(lines)
    more = f"; only the first {MOST_RECORDS} are told" if len(about) > MOST_RECORDS else ""
    put(iter([Text(f"{matched} of {len(about)} records matched{more}")]))
    return matched > 0
