"""The rulebook: every rule, indexed by what an event must hold for it, and what watches the rules together.

A record is asked of only those rules that it may match (`index.py`), with the same answer as if it were asked of all. What a rule found is then a finding, unless a suppression speaks against it or it serves correlations alone, and a
hit for the correlations that watch it. A newcomer adds a rule as a YAML file in `rules/` or in a folder of their own: docs/rules.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from worker.detect import suppression
from worker.detect.correlation import Correlation
from worker.detect.demands import ANYTHING, interest
from worker.detect.index import Index
from worker.detect.levels import Tables
from worker.detect.rulefile import CompiledRule
from worker.detect.subject import actor_of, subject_of
from worker.detect.suppression import Suppression
from worker.model import Finding, Interest, Occurrence, Record, Rule


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule that raised on a record: not "no match", but not known."""

    rule_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Matches:
    """What the rules say of one record: findings in the order of the rules, and the rules that could not say.

    `hits` are the ids of the rules that matched and that a correlation watches, told by themselves or not.
    """

    findings: tuple[Finding, ...] = ()
    errors: tuple[RuleError, ...] = ()
    hits: tuple[str, ...] = ()
    suppressed: tuple[tuple[Finding, Suppression], ...] = ()


NO_MATCH = Matches()


def keep(found: dict[str, Matches], occurrence: Occurrence, matches: Matches) -> None:
    """Keep what an occurrence is, under its id: one that is told rather than one that is suppressed."""
    before = found.get(occurrence.id)
    if before is None or (before.suppressed and not matches.suppressed):
        found[occurrence.id] = matches


@dataclass(frozen=True, slots=True)
class Rulebook:
    """Rules in a stable order; correlations, those that others watch first. `interest` is what records must be built for.

    `unindexed` are the rules for which every record must be built, `silent` the ids of those that only serve correlations (whose `generate` says no).
    `house` has the rows that this house put into the rules' tables of levels.
    """

    rules: tuple[CompiledRule, ...]
    correlations: tuple[Correlation, ...]
    suppressions: tuple[Suppression, ...]
    interest: Interest
    unindexed: tuple[CompiledRule, ...]
    silent: frozenset[str]
    watching: Mapping[str, tuple[Correlation, ...]] = field(repr=False)
    places: Index = field(repr=False)
    house: Tables = field(repr=False)

    def match(self, record: Record) -> Matches:
        """What the rules say of a record. Never raises: a rule that does is among the errors and spoils no other."""
        places: Sequence[int]
        try:
            places = self.places.candidates(record.event)
        except RecursionError:  # nested deeper than can be written out: each rule for itself can tell whether that concerns it
            places = range(len(self.rules))
        if not places:
            return NO_MATCH
        matched: list[Rule] = []
        errors: list[RuleError] = []
        for place in places:
            compiled = self.rules[place]
            try:
                if compiled.matcher.matches(record.event):
                    matched.append(compiled.rule)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this rule's alone
                errors.append(RuleError(compiled.rule.id, f"{type(error).__name__}: {error}"))
        if not matched:
            return Matches(errors=tuple(errors)) if errors else NO_MATCH
        actor, subject = actor_of(record), subject_of(record)
        return self._sorted([Finding(rule, record, actor, subject) for rule in matched], tuple(errors))

    def correlated(self, correlation: Correlation, occurrence: Occurrence) -> Matches:
        """What an occurrence is: a finding of its last record and whoever acted in it, and a hit for the correlations that watch this one."""
        record = occurrence.sightings[-1].record
        return self._sorted([Finding(correlation.rule, record, actor_of(record), subject_of(record), occurrence)])

    def every_end(self, correlation: Correlation) -> bool:
        """Whether every end of a span matters and not the first alone: to what watches the correlation, or to suppressions.

        A suppression speaks against an occurrence only if it does against all its events, so it may let the next end through.
        """
        rule = correlation.rule.id
        return rule in self.watching or any(one.rules is None or rule in one.rules for one in self.suppressions)

    def _sorted(self, found: list[Finding], errors: tuple[RuleError, ...] = ()) -> Matches:
        against = [suppression.first(self.suppressions, finding) for finding in found] if self.suppressions else [None] * len(found)
        free = [finding for finding, one in zip(found, against, strict=True) if one is None]
        return Matches(
            findings=tuple([finding for finding in free if finding.rule.id not in self.silent]) if self.silent else tuple(free),
            errors=errors,
            hits=tuple([finding.rule.id for finding in free if finding.rule.id in self.watching]),
            suppressed=tuple([(finding, one) for finding, one in zip(found, against, strict=True) if one is not None]),
        )

    def candidates(self, record: Record) -> Iterator[CompiledRule]:
        """The rules that may match a record, in order."""
        return (self.rules[place] for place in self.places.candidates(record.event))


def index(
    rules: Iterable[CompiledRule],
    correlations: Iterable[Correlation] = (),
    suppressions: Iterable[Suppression] = (),
    house: Tables = MappingProxyType({}),
) -> Rulebook:
    """The rulebook of some rules, in their order; correlations come with those that others watch first."""
    rules, correlations = tuple(rules), tuple(correlations)
    watching: dict[str, list[Correlation]] = {}
    for one in correlations:
        for watched in dict.fromkeys(one.rules):
            watching.setdefault(watched, []).append(one)
    return Rulebook(
        rules=rules,
        correlations=correlations,
        suppressions=tuple(suppressions),
        interest=interest(rule.demands for rule in rules),
        unindexed=tuple(rule for rule in rules if ANYTHING in rule.demands),
        silent=frozenset(watched for watched, by in watching.items() if not any(one.generate for one in by)),
        watching={watched: tuple(by) for watched, by in watching.items()},
        places=Index(rule.matcher.tree for rule in rules),
        house=house,
    )
