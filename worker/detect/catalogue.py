"""A rulebook as a catalogue: what is in it, under which names, and what its author should know. Pure.

In goes a rulebook; out come its entries (rules and correlations) by whatever a person calls them, the suppressions that are for one, what
makes a count of it, and remarks: what is no fault and still deserves a look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from worker.detect.correlation import Correlation
from worker.detect.explanation import unbound
from worker.detect.rulebook import Rulebook
from worker.detect.rulefile import CompiledRule
from worker.detect.suppression import Suppression
from worker.model import Record

Entry = CompiledRule | Correlation

MOST_NEAR = 5
LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class Remark:
    """What deserves a look in an entry."""

    entry: Entry
    text: str

    def __str__(self) -> str:
        return f"{self.entry.path}:{self.entry.line}: {self.entry.rule.title}: {self.text}"


def entries(rulebook: Rulebook) -> tuple[Entry, ...]:
    """All there is, in the rulebook's order, rules first."""
    return (*rulebook.rules, *rulebook.correlations)


def titles(rulebook: Rulebook) -> dict[str, str]:
    """The title of each id."""
    return {one.rule.id: one.rule.title for one in entries(rulebook)}


def find(rulebook: Rulebook, called: str) -> tuple[Entry, ...]:
    """The entries with an id, else a name, else a title, else an id that begins so; several where a title or beginning is not unique."""
    wanted, every = called.lower(), entries(rulebook)
    ways = (
        [one for one in every if one.rule.id == wanted],
        [one for one in every if one.name == called],
        [one for one in every if one.rule.title.lower() == wanted],
        [one for one in every if wanted and one.rule.id.startswith(wanted)],
    )
    return next((tuple(found) for found in ways if found), ())


def near(rulebook: Rulebook, called: str) -> tuple[Entry, ...]:
    """The entries whose titles are most like what somebody wrote, best first."""
    every = {one.rule.title.lower(): one for one in entries(rulebook)}
    within = [title for title in every if called.lower() in title]
    alike = get_close_matches(called.lower(), every, MOST_NEAR, cutoff=0.4)
    return tuple(every[title] for title in list(dict.fromkeys([*within, *alike]))[:MOST_NEAR])


def against(rulebook: Rulebook, rule: CompiledRule, record: Record) -> Suppression | None:
    """The suppression that speaks against what a rule finds in a record."""
    return next((one for finding, one in rulebook.match(record).suppressed if finding.rule.id == rule.rule.id), None)


def suppressions(rulebook: Rulebook, entry: Entry) -> tuple[Suppression, ...]:
    """Those that name an entry, and those for every rule."""
    return tuple(one for one in rulebook.suppressions if one.rules is None or entry.rule.id in one.rules)


def remarks(rulebook: Rulebook) -> Iterator[Remark]:
    """Entries without tests, and rules that every record is asked of, with the parts that make them so."""
    for one in entries(rulebook):
        if not one.samples:
            yield Remark(one, "carries no test")
    for rule in rulebook.unindexed:
        parts = "; ".join(part.text for part in unbound(rule.matcher.tree))
        cut = parts if len(parts) <= LONGEST_REASON else f"{parts[:LONGEST_REASON]}..."
        yield Remark(
            rule, f"makes the worker decode every record, because this demands no eventSource, eventName or userIdentity.type: {cut}"
        )


def size(rulebook: Rulebook) -> str:
    """How many rules and correlations there are, in words."""
    return f"{_many(len(rulebook.rules), 'rule')} and {_many(len(rulebook.correlations), 'correlation')}"


def counts(rulebook: Rulebook, now: datetime) -> str:
    """How much of everything there is, in words."""
    tests = sum(len(one.samples) for one in entries(rulebook))
    expired = sum(one.until <= now for one in rulebook.suppressions)
    return (
        f"{size(rulebook)}, {len(rulebook.unindexed)} unindexed, {_many(tests, 'test')}, "
        f"{_many(len(rulebook.suppressions), 'suppression')} ({expired} expired)"
    )


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
