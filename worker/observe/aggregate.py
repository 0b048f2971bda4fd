"""The metrics of several processes as those of one: pure.

In go texts in Prometheus' exposition format, out comes one. Counters and histograms are summed, and what a process had counted that is gone is carried
on, so that they never fall. A gauge is put together as its meaning asks: whoever adds one says how in `GAUGES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

START = "process_start_time_seconds"
GAUGES = {
    **dict.fromkeys(("trailmend_processes", "trailmend_messages_in_hand", "trailmend_in_flight_bytes"), "sum"),
    **dict.fromkeys(("process_resident_memory_bytes", "process_virtual_memory_bytes", "process_open_fds"), "sum"),
    # What every process tells alike, and what is as good as the best of them or as bad as the worst.
    **dict.fromkeys(("trailmend_queue_messages", "trailmend_rules", "trailmend_correlations", "trailmend_rules_unindexed"), "max"),
    **dict.fromkeys(("trailmend_accounts_closed", "trailmend_outbox_deliveries", "trailmend_outbox_oldest_age_seconds"), "max"),
    **dict.fromkeys(("trailmend_journal_unexported_lines", "trailmend_remediation_stopped"), "max"),
    **dict.fromkeys(("trailmend_approvals_waiting", "trailmend_approvals_expiring"), "max"),
    **dict.fromkeys(("trailmend_last_receive_timestamp_seconds", "trailmend_last_progress_timestamp_seconds"), "max"),
    **dict.fromkeys(("trailmend_rules_refused", "process_max_fds", "python_info"), "max"),
    # What is as old as the oldest of them.
    **dict.fromkeys(("trailmend_rules_loaded_timestamp_seconds", START), "min"),
}
"""Each gauge and how the values of several processes become one."""
CUMULATIVE = frozenset({"counter", "histogram"})
TOGETHER: Mapping[str, Callable[[Sequence[float]], float]] = {"sum": sum, "max": max, "min": min}

Key = tuple[str, tuple[tuple[str, str], ...]]


class Totals(Collector):
    """Metrics put together. `living` gives the texts of the processes that are there; hand the last text of one that has gone to `carry`."""

    def __init__(self, living: Callable[[], Iterable[str]]) -> None:
        self._living = living
        self._carried: dict[Key, float] = {}
        self._families: dict[str, Metric] = {}

    def carry(self, text: str) -> None:
        """Keep what a process has counted beyond its life, and since when: an alert that takes a young process's counts for new ones asks for both."""
        for family in _families_of(text):
            if family.type in CUMULATIVE or family.name == START:
                self._families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                together = _together(family)
                for sample in family.samples:
                    key = _key(sample)
                    self._carried[key] = together([self._carried[key], sample.value]) if key in self._carried else sample.value

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[Key, float]] = {}
        for name, family in self._families.items():
            families[name], values[name] = family, {}
        for key, value in self._carried.items():
            values[self._family_of(key)][key] = value
        for text in self._living():
            for family in _families_of(text):
                known = values.setdefault(family.name, {})
                families.setdefault(family.name, family)
                together = _together(family)
                for sample in family.samples:
                    key = _key(sample)
                    known[key] = together([known[key], sample.value]) if key in known else sample.value
        for name, family in families.items():
            made = Metric(name, family.documentation, family.type)
            for (sample_name, labels), value in values[name].items():
                made.add_sample(sample_name, dict(labels), value)
            yield made

    def _family_of(self, key: Key) -> str:
        name = key[0]
        return next(
            one for one in (name, *(name.removesuffix(end) for end in ("_total", "_bucket", "_sum", "_count"))) if one in self._families
        )


def registry_of(totals: Totals) -> CollectorRegistry:
    """A registry that tells the totals and nothing else."""
    registry = CollectorRegistry()
    registry.register(totals)
    return registry


def _families_of(text: str) -> Iterator[Metric]:
    # When a counter was made is a gauge in this format and a part of the counter in OpenMetrics, where the two would bear one name.
    return (family for family in text_string_to_metric_families(text) if not (family.type == "gauge" and family.name.endswith("_created")))


def _together(family: Metric) -> Callable[[Sequence[float]], float]:
    return sum if family.type in CUMULATIVE else TOGETHER[GAUGES.get(family.name, "sum")]


def _key(sample: Sample) -> Key:
    return sample.name, tuple(sorted(sample.labels.items()))
