"""How a series is made: the prefix that all bear, and the buckets that several share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from worker.observe.hot import HotCounter, HotHistogram

LAGS = (1, 5, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)


def counters(registry: CollectorRegistry) -> Callable[..., Counter]:
    """Counters of a registry: name, what it tells, labels."""
    return lambda name, text, *labels: Counter(f"trailmend_{name}", text, labels, registry=registry)


def gauges(registry: CollectorRegistry) -> Callable[..., Gauge]:
    """Gauges of a registry: name, what it tells, labels."""
    return lambda name, text, *labels: Gauge(f"trailmend_{name}", text, labels, registry=registry)


def histograms(registry: CollectorRegistry) -> Callable[..., Histogram]:
    """Histograms of a registry: name, what it tells, buckets, labels."""
    return lambda name, text, buckets, *labels: Histogram(f"trailmend_{name}", text, labels, buckets=buckets, registry=registry)


def hot_counter(registry: CollectorRegistry, name: str, text: str, label: str | None = None) -> HotCounter:
    """A counter of what happens for every object or message."""
    return HotCounter(registry, f"trailmend_{name}", text, label)


def hot_histogram(registry: CollectorRegistry, name: str, text: str, buckets: Sequence[float], label: str) -> HotHistogram:
    """A histogram of what happens for every object or message."""
    return HotHistogram(registry, f"trailmend_{name}", text, buckets, label)
