"""The metrics of several processes read as those of one, and never fall."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from tests.fakes import metrics
from worker.observe.aggregate import GREATEST, LEAST, Totals, registry_of


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


def test_every_gauge_that_is_no_sum_is_one_that_the_worker_has():
    """A name here that no metric bears would put nothing together."""
    of = metrics()
    gauges = {made._name for made in of.registry._collector_to_names if isinstance(made, MetricWrapperBase) and made._type == "gauge"}
    assert {name for name in GREATEST | LEAST if name.startswith("trailmend_")} <= gauges
