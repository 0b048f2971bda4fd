"""What can be told of a window by counting it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detect.correlations import book, record, watching
from worker.detect.rulebook import Rulebook
from worker.detect.windows import ends, may_hold
from worker.model import Census, Record, Sighting

OPEN = book(
    watching("event_count", "a", "b", condition={"gte": 3}, title="Count"),
    watching("value_count", "a", condition={"gt": 2, "field": "requestParameters.name"}, title="Values"),
    watching("temporal", "a", "b", title="Two"),
    watching("temporal", "a", "b", "c", condition={"gte": 2}, title="Some"),
    watching("temporal", condition="a and (b or c)", title="Either"),
    watching("temporal_ordered", "a", "b", "c", title="Chain"),
)
RECORDS = st.lists(st.builds(record, st.sampled_from("ABC"), st.integers(0, 30), number=st.integers(0, 3)), max_size=9)


def seen(rules: Rulebook, title: str, records: Sequence[Record]) -> list[Sighting]:
    (one,) = (one for one in rules.correlations if one.rule.title == title)
    return [
        sighting for found in records for rule in rules.match(found).hits if rule in one.rules for sighting in one.sightings(rule, found)
    ]


def counted(sightings: Sequence[Sighting], untold: int = 0) -> Census:
    return Census(Counter((one.rule, one.values) for one in sightings), untold)


@pytest.mark.parametrize("title", [one.rule.title for one in OPEN.correlations])
@given(records=RECORDS)
def test_where_something_ends_a_census_says_so(title: str, records: list[Record]):
    """Whatever the sightings: a census that rules a correlation out is right."""
    (one,) = (one for one in OPEN.correlations if one.rule.title == title)
    sightings = seen(OPEN, title, records)
    assert may_hold(one, counted(sightings)) or not list(ends(one, sightings))


A, B, C = ([record(name, second, number=second) for second in range(4)] for name in "ABC")

TOO_LITTLE: list[tuple[str, list[Record]]] = [
    ("Count", [A[0], B[0]]),
    ("Values", [*A[:2], record("A", 3, number=1)]),
    ("Two", A),
    ("Some", C),
    ("Either", [*B, *C]),
    ("Chain", [*A, *C]),
]


@pytest.mark.parametrize(("title", "records"), TOO_LITTLE)
def test_too_little_is_ruled_out_unless_some_of_it_is_untold(title: str, records: list[Record]):
    """However often a rule that is not enough was seen."""
    (one,) = (one for one in OPEN.correlations if one.rule.title == title)
    sightings = seen(OPEN, title, records)
    assert sightings
    assert not may_hold(one, counted(sightings))
    assert may_hold(one, counted(sightings, untold=1))


def test_a_step_that_comes_twice_is_seen_twice():
    """An ordered chain in which one rule stands twice asks for two of its events."""
    chain: dict[str, Any] = watching("temporal_ordered", "a", "b", "a", title="Again")
    rules = book(chain)
    (one,) = rules.correlations
    assert not may_hold(one, counted(seen(rules, "Again", [A[0], *B])))
    assert may_hold(one, counted(seen(rules, "Again", [*A[:2], B[0]])))
