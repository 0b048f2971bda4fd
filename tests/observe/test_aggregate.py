"""The metrics of several processes read as those of one, and never fall."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from tests.fakes import metrics
from worker.observe.aggregate import GAUGES, Totals, registry_of


def text(counts, seconds, in_hand, refused):
    registry = CollectorRegistry()
    counter = Counter("trailmend_left", "Left.", ["reason"], registry=registry)
    for reason, count in counts.items():
        counter.labels(reason).inc(count)
    histogram = Histogram("trailmend_stage_seconds", "Stage.", registry=registry, buckets=(1, 5))
    for one in seconds:
        histogram.observe(one)
    Gauge("trailmend_messages_in_hand", "In hand.", registry=registry).set(in_hand)
    Gauge("trailmend_rules_refused", "Refused.", registry=registry).set(refused)
    return generate_latest(registry).decode()


ONE, TWO = text({"a": 3, "b": 1}, [0.5, 7], 4, 0), text({"a": 2}, [2], 5, 1)


def test_counts_and_times_are_summed_and_gauges_as_they_mean():
    """Two processes: each reason's counts, each bucket, what both hold, and whether either is refused."""
    registry = registry_of(Totals(lambda: [ONE, TWO]))
    value = registry.get_sample_value
    assert [value("trailmend_left_total", {"reason": reason}) for reason in "ab"] == [5, 1]
    assert [value("trailmend_stage_seconds_bucket", {"le": le}) for le in ("1.0", "5.0", "+Inf")] == [1, 2, 3]
    assert (value("trailmend_stage_seconds_count"), value("trailmend_stage_seconds_sum")) == (3, 9.5)
    assert (value("trailmend_messages_in_hand"), value("trailmend_rules_refused")) == (9, 1)
    assert "# TYPE trailmend_left_total counter" in generate_latest(registry).decode()


def test_what_a_process_has_counted_outlives_it_and_what_it_held_does_not():
    """A restart leaves counters where they were; the messages in hand of a dead process are in nobody's."""
    living = [ONE, TWO]
    totals = Totals(lambda: living)
    value = registry_of(totals).get_sample_value
    totals.carry(living.pop(0))
    assert (value("trailmend_left_total", {"reason": "a"}), value("trailmend_left_total", {"reason": "b"})) == (5, 1)
    assert value("trailmend_messages_in_hand") == 5
    totals.carry(living.pop())
    assert value("trailmend_left_total", {"reason": "a"}) == 5
    assert value("trailmend_stage_seconds_count") == 3


COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), max_size=3)


@given(st.lists(st.tuples(st.integers(0, 2), COUNTS, st.booleans()), max_size=8))
def test_counters_never_fall(happenings):
    """Whatever processes count, and whenever they end and begin anew from nothing."""
    living: dict[int, dict[str, int]] = {number: {} for number in range(3)}
    before: dict[str, float] = {}
    totals = Totals(lambda: [text(counts, [], 0, 0) for counts in living.values()])
    registry = registry_of(totals)
    for number, more, ends in happenings:
        for reason, count in more.items():
            living[number][reason] = living[number].get(reason, 0) + count
        if ends:
            totals.carry(text(living[number], [], 0, 0))
            living[number] = {}
        now = {reason: registry.get_sample_value("trailmend_left_total", {"reason": reason}) or 0 for reason in "abc"}
        assert all(now[reason] >= before.get(reason, 0) for reason in "abc")
        before = now
    expected = {reason: sum(more.get(reason, 0) for _, more, _ in happenings) for reason in "abc"}
    assert before == (expected if happenings else {})


def test_when_it_began_outlives_a_process():
    """Counts are carried on; were they told as those of a process begun just now, an alert on young processes would take all of them for new."""
    living = ["# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 100\n"]
    totals = Totals(lambda: living)
    value = registry_of(totals).get_sample_value
    totals.carry(living.pop())
    assert value("process_start_time_seconds") == 100
    living.append("# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds 900\n")
    assert value("process_start_time_seconds") == 100


@pytest.mark.parametrize("carried", [False, True])
def test_both_formats_can_be_read(carried):
    """Prometheus asks for OpenMetrics, which knows each name once."""
    totals = Totals(lambda: [ONE, TWO])
    if carried:
        totals.carry(ONE)
    encode, _ = choose_encoder("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in openmetrics(encode(registry_of(totals)).decode())}
    assert names == {family.name for family in plain(generate_latest(registry_of(totals)).decode())}
    assert names == {"trailmend_left", "trailmend_stage_seconds", "trailmend_messages_in_hand", "trailmend_rules_refused"}


def test_of_every_gauge_it_is_said_how_it_is_put_together():
    """A gauge that nobody thought of would be summed, and a name that no gauge bears would put nothing together."""
    of = metrics()
    gauges = {made._name for made in of.registry._collector_to_names if isinstance(made, MetricWrapperBase) and made._type == "gauge"}
    assert {name for name in GAUGES if name.startswith("trailmend_")} == gauges
