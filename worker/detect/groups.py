"""How a correlation saw records that are all at hand: group by group, what it sighted and what it found. Pure.

In go a rulebook, one of its correlations and records; out comes a `Seen` with every group, so that a person can tell why something was
found, or how far it was from it. What is found is `offline.py`'s to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from worker.detect.correlation import Correlation
from worker.detect.offline import correlated
from worker.detect.rulebook import Rulebook
from worker.detect.suppression import Suppression
from worker.model import Finding, Record, Sighting


@dataclass(frozen=True, slots=True)
class Group:
    """One group, by the values of the group-by fields in their order: its sightings by time, what was found, and what was suppressed."""

    values: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    findings: tuple[Finding, ...]
    suppressed: tuple[tuple[Finding, Suppression], ...]

    @property
    def found(self) -> bool:
        """Whether the correlation's condition was fulfilled, suppressed or not."""
        return bool(self.findings or self.suppressed)


@dataclass(frozen=True, slots=True)
class Seen:
    """The groups, and how many hits of watched rules belong to none, for want of a time or of a group-by field."""

    groups: tuple[Group, ...]
    ungrouped: int


def seen(rulebook: Rulebook, correlation: Correlation, records: Iterable[Record]) -> Seen:
    """What a correlation saw. Records that are there twice count once."""
    # Rules that only serve correlations are to be heard here, as are the occurrences of inner correlations.
    rulebook = replace(rulebook, silent=frozenset())
    hits = {(rule, record.key): record for record in records for rule in rulebook.match(record).hits}
    matches = list(correlated(rulebook, [(rule, record) for (rule, _), record in hits.items()]))
    findings = [finding for one in matches for finding in one.findings]
    sighted = [tuple(correlation.sightings(rule, record)) for (rule, _), record in hits.items() if rule in correlation.rules]
    sighted += [
        tuple(correlation.outer_sightings(finding.occurrence))
        for finding in findings
        if finding.occurrence is not None and finding.rule.id in correlation.rules
    ]
    windows: dict[str, dict[str, Sighting]] = {}
    for sighting in (sighting for sightings in sighted for sighting in sightings):
        windows.setdefault(sighting.window, {})[sighting.key] = sighting
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(_window(finding), []).append(finding)
    against: dict[str, list[tuple[Finding, Suppression]]] = {}
    for finding, suppression in (pair for one in matches for pair in one.suppressed):
        against.setdefault(_window(finding), []).append((finding, suppression))
    groups = [
        Group(
            values=next(iter(within.values())).group,
            sightings=tuple(sorted(within.values(), key=lambda one: (one.time, one.key))),
            findings=tuple(found.get(window, ())),
            suppressed=tuple(against.get(window, ())),
        )
        for window, within in windows.items()
    ]
    return Seen(tuple(groups), sum(not sightings for sightings in sighted))


def _window(finding: Finding) -> str:
    return finding.occurrence.window if finding.occurrence is not None else ""
