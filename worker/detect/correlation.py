"""A correlation: which rules it watches, how their records fall into groups, and what a group must fulfil. Pure.

In goes a record that a watched rule matched, out come its `Sighting`s, one for each group that it belongs to. How a rule file becomes a
`Correlation` stands in `correlation_file.py`, what is found in a window in `windows.py`.

Two sorts are judged differently. An *open* correlation can only become true by more events (at least five of them, all of these rules), so it
is told as soon as it is true. A *closing* one can become false again (fewer than five, an average, a rule that did not match), so its
span is judged once, when it is over.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import islice, product
from typing import Any

import orjson

from worker.detect.fields import Reader, elements, text_of
from worker.detect.heading import Sample
from worker.model import Occurrence, Record, Rule, Sighting, stable_id

MOST_GROUPS = 16
"""One record falls into at most so many groups: one for each value that a list in it holds under a group-by field."""
LONGEST_VALUE = 2048
"""Characters of one value that is grouped by or counted; an id stands for what is longer, so that nobody's text fills the store."""
FIRST_YEAR, LAST_YEAR = 1971, 9000
"""What lies outside is no time of CloudTrail's, and a window around it might have none either."""


class Kind(StrEnum):
    """What a correlation asks of a window, as the specification names it."""

    EVENT_COUNT = "event_count"
    VALUE_COUNT = "value_count"
    TEMPORAL = "temporal"
    TEMPORAL_ORDERED = "temporal_ordered"
    VALUE_SUM = "value_sum"
    VALUE_AVG = "value_avg"
    VALUE_PERCENTILE = "value_percentile"
    VALUE_MEDIAN = "value_median"


OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "eq": operator.eq,
    "neq": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """`op` is one of lt, lte, gt, gte, eq, neq; `percentile` is from 0 to 100."""

    op: str
    count: float
    percentile: int | None = None

    def holds(self, measured: float) -> bool:
        return OPERATORS[self.op](measured, self.count)


@dataclass(frozen=True, slots=True)
class Watch:
    """How the records of one rule are read: for each group-by name, and for each field that is counted or measured."""

    groups: tuple[Reader, ...]
    values: tuple[Reader, ...]


@dataclass(frozen=True, slots=True)
class Correlation:
    """A correlation ready to be asked. `rules` are the ids of those it watches, in its order; `fingerprint` changes with its meaning."""

    rule: Rule
    kind: Kind
    rules: tuple[str, ...]
    watches: Mapping[str, Watch]
    group_by: tuple[str, ...]
    timespan: timedelta
    threshold: Threshold
    expression: Callable[[frozenset[str]], bool] | None
    closing: bool
    generate: bool
    fingerprint: str
    told: str
    path: str
    line: int | None = None
    name: str | None = None
    samples: tuple[Sample, ...] = ()

    def sightings(self, rule: str, record: Record) -> Iterator[Sighting]:
        """A record that a watched rule matched, once for each group that it belongs to: none where a group-by field or its time is missing."""
        if timed(record):
            yield from self._grouped(rule, record, record.key, {})

    def outer_sightings(self, inner: Occurrence) -> Iterator[Sighting]:
        """What another correlation found, as a sighting of this one. What it is grouped by is known from there."""
        yield from self._grouped(inner.rule, inner.sightings[-1].record, inner.id, inner.group)

    def _grouped(self, rule: str, record: Record, item: str, known: Mapping[str, str]) -> Iterator[Sighting]:
        watch, time = self.watches[rule], record.time
        if time is None:
            return
        told = [
            (known[name],) if name in known else tuple(dict.fromkeys(map(_short, _texts(read(record.event)))))
            for name, read in zip(self.group_by, watch.groups, strict=True)
        ]
        values = tuple(
            _short(_joined(parts)) for parts in islice(product(*(_texts(read(record.event)) for read in watch.values)), MOST_GROUPS)
        )
        for group in islice(product(*told), MOST_GROUPS):
            yield Sighting(stable_id("window", self.fingerprint, *group), rule, item, time, record, group, values if watch.values else ())


def timed(record: Record) -> bool:
    """Whether a record has a time that windows can be made of."""
    return record.time is not None and FIRST_YEAR <= record.time.year < LAST_YEAR


def _texts(values: list[Any]) -> list[str]:
    return [text for value in elements(values) if (text := text_of(value)) is not None]


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else orjson.dumps(parts).decode()


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else stable_id("value", text)
