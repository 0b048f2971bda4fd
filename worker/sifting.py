"""What the rules and the profile memory make of a piece of a trail: pure, so that it can be done in a thread beside the loop.

In go a piece and the rules in force, out comes a `Sifted`: what matched, what was learnt, what went wrong. A record that breaks something
breaks it for itself alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

from worker.detect.rulebook import Matches, Rulebook
from worker.ingest.trail import Trail
from worker.model import ProfileEvent, Record, is_marked


@dataclass(frozen=True, slots=True)
class Sifted:
    """A piece of a trail, and what was made of its records. `seconds` is what the rules took of it.

    `marked` are the records that say they are our own (`model/own_call.py`), matched or not; they are not among `matches`.
    """

    trail: Trail
    matches: tuple[tuple[Record, Matches], ...] = ()
    marked: tuple[tuple[Record, Matches], ...] = ()
    learnt: tuple[ProfileEvent, ...] = ()
    failures: tuple[Exception, ...] = ()
    seconds: float = 0.0


def sift(trail: Trail, book: Rulebook, profile_events: Callable[[Record], tuple[ProfileEvent, ...]]) -> Sifted:
    """Ask the rules and the profile memory about every record of a piece."""
    if not trail.records:
        return Sifted(trail)
    began = perf_counter()
    matches: list[tuple[Record, Matches]] = []
    marked: list[tuple[Record, Matches]] = []
    learnt: list[ProfileEvent] = []
    failures: list[Exception] = []
    for record in trail.records:
        try:
            learnt += profile_events(record)
            found = book.match(record)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this record's alone
            failures.append(error)
        else:
            if is_marked(record):
                marked.append((record, found))
            elif found.hits or found.findings or found.suppressed or found.errors:
                matches.append((record, found))
    return Sifted(trail, tuple(matches), tuple(marked), tuple(learnt), tuple(failures), perf_counter() - began)
