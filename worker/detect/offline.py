"""Everything that rules and correlations find in records that are all at hand: pure, with no store and no waiting.

For `trailmend scan` and the tests inside correlations. The worker finds the same with `worker/correlator.py`, record by record; a property test
holds the two together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from worker.detect.correlation import Correlation
from worker.detect.rulebook import Matches, Rulebook, keep
from worker.detect.windows import ends, judge, span_start
from worker.model import Finding, Occurrence, Record, Sighting


def findings(rulebook: Rulebook, records: Iterable[Record]) -> Iterator[Finding]:
    """What is found in the records, rules and correlations alike, each finding once. A rule that raises finds nothing."""
    hits: list[tuple[str, Record]] = []
    told: dict[str, Finding] = {}
    for record in records:
        matches = rulebook.match(record)
        hits += ((rule, record) for rule in matches.hits)
        told |= {finding.id: finding for finding in matches.findings if finding.id not in told}
    yield from told.values()
    for matches in correlated(rulebook, hits):
        yield from matches.findings


def correlated(rulebook: Rulebook, hits: Iterable[tuple[str, Record]]) -> Iterator[Matches]:
    """What the correlations find among hits (the id of a watched rule, and the record that it matched), each occurrence once.

    All windows count as over.
    """
    seen: dict[str, list[Sighting]] = {one.rule.id: [] for one in rulebook.correlations}
    for rule, record in hits:
        for one in rulebook.watching.get(rule, ()):
            seen[one.rule.id] += one.sightings(rule, record)
    for one in rulebook.correlations:
        outer = rulebook.watching.get(one.rule.id, ())
        found: dict[str, Matches] = {}
        for occurrence in _occurrences(one, seen.pop(one.rule.id), every=rulebook.every_end(one)):
            matches = rulebook.correlated(one, occurrence)
            for other in outer if matches.hits else ():
                seen[other.rule.id] += other.outer_sightings(occurrence)
            keep(found, occurrence, matches)
        yield from found.values()


def _occurrences(correlation: Correlation, sightings: Iterable[Sighting], *, every: bool) -> Iterator[Occurrence]:
    windows: dict[str, list[Sighting]] = {}
    for one in sightings:
        windows.setdefault(one.window, []).append(one)
    for window in windows.values():
        if not correlation.closing:
            yield from ends(correlation, window, every=every)
            continue
        spans: dict[datetime, list[Sighting]] = {}
        for one in window:
            spans.setdefault(span_start(one.time, correlation.timespan), []).append(one)
        for start, within in spans.items():
            found = judge(correlation, start, within)
            if found is not None:
                yield found
