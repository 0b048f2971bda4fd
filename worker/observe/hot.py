"""Counters and histograms for what happens thousands of times a second: plain numbers, told as any other series when somebody asks.

The client library's own take a lock for each change and look their labels up under another: two to five microseconds, ten times for an object.
These cost a tenth of that, and are for one thread: the loop's. At most one label.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

NO_LABEL = ""


class HotCounter(Collector):
    """A counter, by the values of its `label` if it has one."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, label: str | None = None) -> None:
        self._name, self._text, self._labels = name, text, () if label is None else (label,)
        self._counts: dict[str, float] = {} if self._labels else {NO_LABEL: 0}
        registry.register(self)

    def add(self, amount: float, value: str = NO_LABEL) -> None:
        """Count `amount` more, for a value of the label."""
        self._counts[value] = self._counts.get(value, 0) + amount

    def describe(self) -> Iterable[Metric]:
        """So that the registry refuses a second series of the name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for value, count in self._counts.items():
            family.add_metric((value,) if self._labels else (), count)
        yield family


class HotHistogram(Collector):
    """A histogram, by the values of its `label`. `buckets` are upper bounds, ascending; one without a bound is added."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float], label: str) -> None:
        self._name, self._text, self._label = name, text, label
        self._buckets = tuple(float(bound) for bound in buckets)
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, amount: float, value: str) -> None:
        """Count `amount` in its bucket, for a value of the label."""
        counts = self._counts.get(value)
        if counts is None:
            counts = self._counts[value] = [0] * (len(self._buckets) + 1)
            self._sums[value] = 0.0
        counts[bisect_left(self._buckets, amount)] += 1
        self._sums[value] += amount

    def describe(self) -> Iterable[Metric]:
        """So that the registry refuses a second series of the name."""
        return self.collect()

    def collect(self) -> Iterable[Metric]:
        family = HistogramMetricFamily(self._name, self._text, labels=(self._label,))
        bounds = [*map(str, self._buckets), "+Inf"]
        for value, counts in self._counts.items():
            family.add_metric((value,), list(zip(bounds, accumulate(counts), strict=True)), self._sums[value])
        yield family
