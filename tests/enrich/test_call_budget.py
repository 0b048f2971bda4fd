"""A budget of calls: what it never allows, how it learns, and how it gets over it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.enrich.call_budget import (
    FIRST_PAUSE_SECONDS,
    LEAST_RATE,
    MOST_UNANSWERED,
    RECOVERY_SECONDS,
    SILENT_SECONDS,
    CallBudget,
    Rate,
)

MOST = Rate(10, 20)

happenings = st.lists(
    st.tuples(st.sampled_from(["take", "throttled", "unanswered", "answered"]), st.floats(0, 3, allow_nan=False)), max_size=200
)


@given(happenings)
def test_no_more_calls_than_the_rate_and_a_burst_in_any_stretch_of_time(steps):
    """Whatever AWS answers in between: from any call to any later one."""
    budget, now, allowed = CallBudget(MOST, 0.0), 0.0, []
    for what, passes in steps:
        now += passes
        if what == "take":
            if budget.take(now) == 0:
                allowed.append(now)
        elif what == "throttled":
            budget.throttled(now, now)
        elif what == "unanswered":
            budget.unanswered(now)
        else:
            budget.answered()
    for first, since in enumerate(allowed):
        for last, until in enumerate(allowed[first:], 1):
            assert last <= MOST.burst + (until - since) * MOST.a_second + 1e-6


@given(happenings)
def test_whoever_waits_as_long_as_told_is_let_through_in_the_end(steps):
    """No state that was learnt keeps everybody out for good."""
    budget, now = CallBudget(MOST, 0.0), 0.0
    for what, passes in steps:
        now += passes
        if what == "throttled":
            budget.throttled(now, now)
        else:
            budget.take(now)
    for _ in range(10):
        wait = budget.take(now)
        if wait == 0:
            return
        now += wait
    pytest.fail(f"still waiting at {now}")


def burst(budget: CallBudget, now: float) -> int:
    count = 0
    while budget.take(now) == 0:
        count += 1
    return count


def test_throttled_calls_that_were_under_way_together_teach_once():
    """Eight refusals of one moment halve the rate once; a call made after that and refused halves it again."""
    budget = CallBudget(MOST, 0.0)
    for _ in range(8):
        budget.throttled(0.9, 1.0)
        budget.throttled(0.9, 1.1)
    assert budget.rate == pytest.approx(MOST.a_second / 2, rel=0.05)
    budget.throttled(2.0, 2.1)
    assert budget.rate == pytest.approx(MOST.a_second / 4, rel=0.1)


def test_a_throttled_api_gets_a_pause_then_half_the_rate_and_in_time_all_of_it():
    """The pause is over when it says; then calls drip; a minute later it is as it was."""
    budget = CallBudget(MOST, 0.0)
    assert burst(budget, 0.0) == MOST.burst
    budget.throttled(0.0, 0.0)
    assert budget.take(0.0) == pytest.approx(FIRST_PAUSE_SECONDS)
    assert burst(budget, FIRST_PAUSE_SECONDS) <= 3
    for _ in range(30):
        budget.throttled(1.0, 1.0)
        budget.throttled(2.0, 2.0)
    assert budget.rate >= LEAST_RATE
    assert burst(budget, RECOVERY_SECONDS * 3) == MOST.burst
    assert budget.rate == MOST.a_second


def test_an_api_that_answers_nobody_is_left_alone_and_then_tried_by_one():
    """Any answer ends it; a probe without one prolongs it."""
    budget = CallBudget(MOST, 0.0)
    for _ in range(MOST_UNANSWERED - 1):
        budget.unanswered(0.0)
        assert not budget.silent(0.0)
    budget.unanswered(0.0)
    assert budget.silent(0.1)
    assert not budget.silent(SILENT_SECONDS)  # the one who looks
    assert budget.silent(SILENT_SECONDS)
    budget.unanswered(SILENT_SECONDS + 5)
    assert budget.silent(SILENT_SECONDS + 6)
    budget.answered()
    assert not budget.silent(SILENT_SECONDS + 6)
