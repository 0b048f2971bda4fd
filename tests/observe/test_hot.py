"""The plain counters and histograms tell what the client library's own would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from worker.observe.hot import HotCounter, HotHistogram


def test_a_second_series_of_a_name_is_refused():
    """As the registry refuses the library's own."""
    registry = CollectorRegistry()
    HotCounter(registry, "t_seen", "Seen.")
    HotHistogram(registry, "t_seconds", "Seconds.", BUCKETS, "stage")
    with pytest.raises(ValueError, match="Duplicated"):
        HotCounter(registry, "t_seen", "Seen.")
    with pytest.raises(ValueError, match="Duplicated"):
        HotHistogram(registry, "t_seconds", "Seconds.", BUCKETS, "stage")


LABELS = st.sampled_from(["read", "tell", 'a "quote"', "a\nline"])
BUCKETS = (0.005, 0.1, 1, 60, 86400)


def told(registry):
    """What a scrape tells, without the times at which the library's own were made."""
    lines = generate_latest(registry).decode().splitlines()
    return sorted(line for line in lines if "_created" not in line)


@given(st.lists(st.tuples(LABELS, st.integers(0, 10**9))), st.lists(st.integers(0, 10**9)))
def test_a_counter_tells_what_the_librarys_tells(labelled, plain):
    """For any amounts, with a label and without; without one it is there from the start."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    hot, hot_plain = HotCounter(ours, "t_bytes", "Bytes.", "kind"), HotCounter(ours, "t_seen", "Seen.")
    own, own_plain = Counter("t_bytes", "Bytes.", ["kind"], registry=theirs), Counter("t_seen", "Seen.", registry=theirs)
    for label, amount in labelled:
        hot.add(amount, label)
        own.labels(label).inc(amount)
    for amount in plain:
        hot_plain.add(amount)
        own_plain.inc(amount)
    assert told(ours) == told(theirs)


@given(st.lists(st.tuples(LABELS, st.sampled_from([*BUCKETS, 0.0, 0.0051, 2.5, 1e6]))))
def test_a_histogram_tells_what_the_librarys_tells(observed):
    """For any values, those on a bucket's very bound and beyond the last among them."""
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    hot = HotHistogram(ours, "t_seconds", "Seconds.", BUCKETS, "stage")
    own = Histogram("t_seconds", "Seconds.", ["stage"], buckets=BUCKETS, registry=theirs)
    for label, seconds in observed:
        hot.observe(seconds, label)
        own.labels(label).observe(seconds)
    assert told(ours) == told(theirs)
