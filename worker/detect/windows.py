"""What correlations find in the sightings of a window: pure, and the same for any order in which those came in.

In go a `Correlation` and sightings of one window; out come `Occurrence`s. Time is the events' own. Time is cut into *spans* as long as the
correlation's timespan, counted from 1970; an occurrence belongs to the span in which its last event lies, and its finding's id is made of
correlation, group and span: so whoever finds it, in whichever order, means the same finding, and a storm is one finding a span.

Open correlations look back from each event over one timespan, both ends included, whichever spans it lies in. For any set of sightings the
ends that fulfil them are a property of the set, and more sightings only add ends: so what was told early stays true. Closing correlations are judged over
one whole span. A newcomer adds a kind with a tally and a line in `tally`, and in `may_hold` one if it can be ruled out by counting.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from statistics import fmean, median
from typing import Protocol

from worker.detect.correlation import Correlation, Kind, Threshold
from worker.detect.values import NUMBER
from worker.model import Census, Occurrence, Sighting

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST = 1e100
"""A number beyond it measures nothing, and a few of them would be more than can be added up."""


def span_start(time: datetime, timespan: timedelta) -> datetime:
    """When the span began in which a time lies."""
    return BEGINNING + (time - BEGINNING) // timespan * timespan


def ends(
    correlation: Correlation, sightings: Iterable[Sighting], since: datetime = BEGINNING, *, every: bool = False
) -> Iterator[Occurrence]:
    """The sightings, of those from `since` on, with which an open correlation is fulfilled: the first of each span, or every one.

    An occurrence holds all that lies within its timespan before such a sighting, which stands last. `sightings` must hold everything from
    one timespan before `since` on.
    """
    counted = tally(correlation)
    told: datetime | None = None
    window: deque[Sighting] = deque()
    for time, together in groupby(_ordered(sightings), lambda one: one.time):
        while window and window[0].time < time - correlation.timespan:
            counted.remove(window.popleft())
        fresh = list(together)
        for one in fresh:
            window.append(one)
            counted.add(one)
        start = span_start(time, correlation.timespan)
        if time < since or (start == told and not every) or not counted.holds():
            continue
        told = start
        before = tuple(window)[: len(window) - len(fresh)]
        for last in fresh if every else fresh[-1:]:
            others = tuple(one for one in fresh if one is not last)
            yield _occurrence(correlation, start, (*before, *others, last))


def may_hold(correlation: Correlation, census: Census) -> bool:
    """Whether an open correlation may be fulfilled anywhere in what a census counted. Where it says no, `ends` finds nothing.

    It asks the condition of everything that was counted, as if all of it lay together: less cannot fulfil what this does not.
    """
    if census.untold:
        return True
    rules = Counter[str]()
    for (rule, _), count in census.counts.items():
        rules[rule] += count
    match correlation.kind:
        case Kind.EVENT_COUNT:
            return correlation.threshold.holds(rules.total())
        case Kind.VALUE_COUNT:
            return correlation.threshold.holds(len({value for _, values in census.counts for value in values}))
        case Kind.TEMPORAL if correlation.expression is not None:
            return correlation.expression(frozenset(rules))
        case Kind.TEMPORAL:
            return correlation.threshold.holds(len(rules))
        case Kind.TEMPORAL_ORDERED:
            return Counter(correlation.rules) <= rules
        case _:
            return True


def judge(correlation: Correlation, start: datetime, sightings: Iterable[Sighting]) -> Occurrence | None:
    """What a closing correlation finds in the span that begins at `start`, of which `sightings` are all."""
    found = _ordered(one for one in sightings if start <= one.time < start + correlation.timespan)
    if not found:
        return None
    counted = tally(correlation)
    for one in found:
        counted.add(one)
    return _occurrence(correlation, start, tuple(found)) if counted.holds() else None


def _ordered(sightings: Iterable[Sighting]) -> list[Sighting]:
    """By time, then key, each once."""
    return [one for _, one in sorted({(one.time, one.key): one for one in sightings}.items())]


def _occurrence(correlation: Correlation, start: datetime, sightings: tuple[Sighting, ...]) -> Occurrence:
    group = dict(zip(correlation.group_by, sightings[-1].group, strict=True))
    return Occurrence(correlation.rule.id, sightings[-1].window, start, group, sightings)


# What is counted.


class Tally(Protocol):
    """A running count over a window: sightings are added in the order of time and removed in the same."""

    def add(self, sighting: Sighting) -> None: ...

    def remove(self, sighting: Sighting) -> None: ...

    def holds(self) -> bool: ...


def tally(correlation: Correlation) -> Tally:
    """The count that a correlation asks for, empty."""
    if correlation.kind is Kind.TEMPORAL_ORDERED:
        return _Ordered(correlation.rules, correlation.timespan)
    if correlation.kind is Kind.TEMPORAL:
        return _Rules(correlation)
    if correlation.kind in (Kind.EVENT_COUNT, Kind.VALUE_COUNT):
        return _Distinct(correlation.threshold, values=correlation.kind is Kind.VALUE_COUNT)
    return _Measured(correlation.kind, correlation.threshold)


class _Distinct:
    def __init__(self, threshold: Threshold, *, values: bool) -> None:
        self._threshold = threshold
        self._values = values
        self._seen: Counter[str] = Counter()

    def add(self, sighting: Sighting) -> None:
        self._seen.update(sighting.values if self._values else (sighting.item,))

    def remove(self, sighting: Sighting) -> None:
        for one in sighting.values if self._values else (sighting.item,):
            self._seen[one] -= 1
            if not self._seen[one]:
                del self._seen[one]

    def holds(self) -> bool:
        return self._threshold.holds(len(self._seen))


class _Rules:
    def __init__(self, correlation: Correlation) -> None:
        self._threshold = correlation.threshold
        self._expression = correlation.expression
        self._seen: Counter[str] = Counter()

    def add(self, sighting: Sighting) -> None:
        self._seen[sighting.rule] += 1

    def remove(self, sighting: Sighting) -> None:
        self._seen[sighting.rule] -= 1
        if not self._seen[sighting.rule]:
            del self._seen[sighting.rule]

    def holds(self) -> bool:
        if self._expression is not None:
            return self._expression(frozenset(self._seen))
        return self._threshold.holds(len(self._seen))


class _Ordered:
    """All rules in their order, each by an event of its own. CloudTrail's times are whole seconds: events of one second fit in any order.

    For each number of first steps it keeps the latest time at which they can have begun, so it need not look back.
    """

    def __init__(self, rules: Sequence[str], timespan: timedelta) -> None:
        self._rules = rules
        self._timespan = timespan
        self._begun: list[datetime | None] = [None] * (len(rules) + 1)
        self._time = BEGINNING
        self._fresh: dict[str, set[str]] = {}

    def add(self, sighting: Sighting) -> None:
        if sighting.time != self._time:
            self._step()
            self._time = sighting.time
        self._fresh.setdefault(sighting.item, set()).add(sighting.rule)

    def remove(self, sighting: Sighting) -> None:
        """What began too long ago is seen by its time."""

    def holds(self) -> bool:
        self._step()
        begun = self._begun[-1]
        return begun is not None and begun >= self._time - self._timespan

    def _step(self) -> None:
        """Go on by the events of one second."""
        if not self._fresh:
            return
        before = [self._time, *self._begun[1:]]
        for done, begun in enumerate(before):
            if begun is not None:
                for further in range(1, _longest(self._fresh, self._rules[done:]) + 1):
                    other = self._begun[done + further]
                    self._begun[done + further] = begun if other is None else max(begun, other)
        self._fresh = {}


def _longest(matched: Mapping[str, set[str]], wanted: Sequence[str]) -> int:
    """How many of the rules, from the first on, can each have an item of its own (augmenting paths)."""
    taken: dict[str, int] = {}

    def place(number: int, tried: set[str]) -> bool:
        for item, rules in matched.items():
            if wanted[number] in rules and item not in tried:
                tried.add(item)
                if item not in taken or place(taken[item], tried):
                    taken[item] = number
                    return True
        return False

    count = 0
    while count < len(wanted) and place(count, set()):
        count += 1
    return count


class _Measured:
    """A measure over the numbers that a field holds; no number is no measure, and fulfils nothing."""

    def __init__(self, kind: Kind, threshold: Threshold) -> None:
        self._kind = kind
        self._threshold = threshold
        self._numbers: list[float] = []

    def add(self, sighting: Sighting) -> None:
        self._numbers += _numbers(sighting)

    def remove(self, sighting: Sighting) -> None:
        for number in _numbers(sighting):
            self._numbers.remove(number)

    def holds(self) -> bool:
        numbers = self._numbers
        if not numbers:
            return False
        if self._kind is Kind.VALUE_SUM:
            return self._threshold.holds(sum(numbers))
        if self._kind is Kind.VALUE_AVG:
            return self._threshold.holds(fmean(numbers))
        if self._kind is Kind.VALUE_MEDIAN:
            return self._threshold.holds(median(numbers))
        return self._threshold.holds(_percentile(sorted(numbers), self._threshold.percentile or 0))


def _numbers(sighting: Sighting) -> list[float]:
    numbers = [float(value) for value in sighting.values if NUMBER.fullmatch(value)]
    return [number for number in numbers if abs(number) <= LARGEST]


def _percentile(numbers: Sequence[float], percentile: int) -> float:
    """Between the two nearest ranks, in proportion (what SQL calls percentile_cont)."""
    at = (len(numbers) - 1) * percentile / 100
    low = int(at)
    return numbers[low] + (numbers[min(low + 1, len(numbers) - 1)] - numbers[low]) * (at - low)
