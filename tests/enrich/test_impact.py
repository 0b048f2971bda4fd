"""How far it reaches when a profile fails: judged from what is known of its instances and of what launches with it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.enrich.impact import STATES, band_of, judge_impact
from worker.enrich.launchers import KINDS, LAUNCHING, entry
from worker.model import BANDS, Fact, FactSource, FactStatus

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
STATE_NAMES = (*STATES, "shutting-down", "terminated")


def fact(name: str, value: Any, *, source: FactSource = FactSource.LIVE, reason: str | None = None, at: datetime = AT) -> Fact:
    return Fact(name, FactStatus.KNOWN, value, at, source, reason)


def unknown(name: str, reason: str = "AccessDenied") -> Fact:
    return Fact(name, FactStatus.UNKNOWN, None, AT, FactSource.LIVE, reason)


def instances(reason: str | None = None, *, environment: str | None = None, **states: int) -> Fact:
    by_state = {name.replace("_", "-"): count for name, count in states.items() if count}
    listed = [
        {"id": f"i-{state}-{number}", "region": "us-east-1", "state": state, "environment": environment}
        for state, count in by_state.items()
        for number in range(count)
    ][:100]
    return fact("instances", {"total": sum(by_state.values()), "by_state": by_state, "instances": listed}, reason=reason)


def dependents(*kinds: str, reason: str | None = None, more: int = 0) -> Fact:
    listed = [entry(kind, f"{kind}-{number}", "us-east-1", "its setting") for number, kind in enumerate(kinds)]
    value = {"total": len(kinds) + more, "launching": sum(kind in LAUNCHING for kind in kinds) + more, "dependents": listed}
    return fact("dependents", value, reason=reason)


@pytest.mark.parametrize(
    ("running", "band"),
    [(0, "0"), (1, "1-10"), (10, "1-10"), (11, "11-100"), (100, "11-100"), (101, "100+"), (10**6, "100+")],
)
def test_the_bands_meet_at_their_edges(running: int, band: str) -> None:
    """Every number has one band, and the last has no end."""
    assert band_of(running) == band


def test_it_is_told_in_numbers_and_in_words() -> None:
    """Running ones make the band, the others stand beside it; each dependent is a sentence."""
    used = instances(environment="prod", running=3, pending=1, stopped=2, terminated=5)
    value = judge_impact(used, dependents("auto-scaling-group", "launch-template"), None, AT).value
    assert value == {
        "band": "1-10",
        "complete": True,
        "running": 3,
        "pending": 1,
        "stopping": 0,
        "stopped": 2,
        "launches": 1,
        "templates": 1,
        "unused": False,
        "wide": False,
        "evidence": [
            "instances that use it: 3 running, 1 pending, 2 stopped",
            "regions: us-east-1 (6)",
            "environments: prod (6)",
            "Auto Scaling group auto-scaling-group-0 in us-east-1 launches with it (its setting)",
            "launch template launch-template-1 in us-east-1 names it (its setting)",
        ],
    }


@pytest.mark.parametrize(
    ("used", "launches", "unused"),
    [
        (instances(), dependents(), True),
        (instances(terminated=3, shutting_down=1), dependents(), True),
        (instances("eu-west-1: denied"), dependents(), False),
        (instances(), dependents(reason="Batch: denied"), False),
        (instances(stopped=1), dependents(), False),
        (instances(pending=1), dependents(), False),
        (instances(stopping=1), dependents(), False),
        (instances(), dependents("launch-template"), False),
        (unknown("instances"), dependents(), False),
        (instances(), unknown("dependents"), False),
        (instances(), None, False),
    ],
)
def test_nothing_is_unused_unless_all_is_known(used: Fact, launches: Fact | None, unused: bool) -> None:
    """One stopped instance, one template or one region that was not told is enough to speak against it."""
    assert judge_impact(used, launches, None, AT).value["unused"] is unused


def test_what_is_not_known_is_said_and_makes_a_least() -> None:
    """The band stands for what was found, and the reason names what is missing; equal reasons are told once."""
    told = judge_impact(instances("eu-west-1: denied", running=11), unknown("dependents", "eu-west-1: denied"), None, AT)
    assert (told.value["band"], told.value["complete"], told.value["wide"], told.value["launches"]) == ("11-100", False, True, None)
    assert told.reason == "instances and dependents: eu-west-1: denied"


def test_dependents_alone_make_no_band() -> None:
    """How many instances run is then not known, and no number is made up; the launches are told."""
    told = judge_impact(unknown("instances"), dependents("eks-node-group"), None, AT)
    assert (told.status, told.value["band"], told.value["running"], told.value["launches"]) == (FactStatus.KNOWN, None, None, 1)
    assert (told.value["complete"], told.value["wide"], told.value["unused"]) == (False, False, False)


def test_with_nothing_to_go_by_it_is_unknown() -> None:
    """And says why."""
    told = judge_impact(unknown("instances"), unknown("dependents", "Throttling"), unknown("profile"), AT)
    assert (told.status, told.reason) == (FactStatus.UNKNOWN, "instances: AccessDenied; dependents: Throttling")


@pytest.mark.parametrize(
    ("remembered", "band"),
    [
        ({"instances": [{"id": f"i-{number}", "region": "us-east-1"} for number in range(12)]}, "11-100"),
        ({"instances": [{"id": "i-1", "until": None}, {"id": "i-2", "until": "2026-01-01T00:00:00Z"}]}, "1-10"),
        ({"instances": [{"id": f"i-{number}", "until": "2026-01-01T00:00:00Z"} for number in range(12)]}, None),
        ({"instances": []}, None),
        ({"instances": None}, None),
        ({}, None),
    ],
)
def test_what_the_log_remembers_serves_where_ec2_tells_nothing(remembered: dict[str, Any], band: str | None) -> None:
    """It is the least there can be, is told as memory, and never makes a profile unused. Without such memory there is no band."""
    at = AT - timedelta(days=3)
    memory = fact("profile", remembered, source=FactSource.MEMORY, at=at)
    told = judge_impact(unknown("instances"), dependents(), memory, AT)
    assert (told.value["band"], told.value["complete"], told.value["unused"]) == (band, False, False)
    if band is not None:
        assert (told.source, told.observed_at) == (FactSource.MEMORY, at)
        assert "as the log remembers" in told.value["evidence"][0]
    live = judge_impact(instances(running=1), dependents(), memory, AT)
    assert (live.source, live.value["band"]) == (FactSource.LIVE, "1-10")


def test_an_answer_from_the_cache_is_told_as_one() -> None:
    """And the whole is as old as its oldest part."""
    older = Fact("dependents", FactStatus.KNOWN, dependents().value, AT - timedelta(seconds=40), FactSource.CACHE)
    told = judge_impact(instances(running=1), older, None, AT)
    assert (told.source, told.observed_at) == (FactSource.CACHE, AT - timedelta(seconds=40))


def test_evidence_is_bounded_and_says_so() -> None:
    """A finding travels in one message."""
    words = judge_impact(instances(running=300), dependents(*["auto-scaling-group"] * 100, more=7), None, AT).value["evidence"]
    assert len(words) == 21
    assert words[1] == "regions of 100 of them: us-east-1 (100)"
    assert words[-1].startswith("and ")


NUMBERS = st.integers(0, 250)
REASONS = st.none() | st.just("denied")
USES = st.none() | st.builds(
    lambda counts, reason: instances(reason, **dict(zip([name.replace("-", "_") for name in STATE_NAMES], counts, strict=True))),
    st.tuples(*[NUMBERS] * len(STATE_NAMES)),
    REASONS,
)
LAUNCHES = st.none() | st.builds(
    lambda kinds, reason: dependents(*kinds, reason=reason), st.lists(st.sampled_from(list(KINDS)), max_size=5), REASONS
)


@given(USES, LAUNCHES)
def test_a_verdict_never_says_less_than_what_is_known(used: Fact | None, launches: Fact | None) -> None:
    """For any counts and gaps: a band of the closed set that fits the live ones, wide and unused never together, unused only when complete."""
    told = judge_impact(used, launches, None, AT)
    if used is None and launches is None:
        assert told.status is FactStatus.UNKNOWN
        return
    value = told.value
    assert value["band"] in (*BANDS, None)
    assert (value["band"] is None) is (used is None)
    if used is not None:
        live = used.value["by_state"].get("running", 0) + used.value["by_state"].get("pending", 0)
        assert value["wide"] is (live > 10)
        assert value["band"] == band_of(live)
    assert not (value["wide"] and value["unused"])
    nothing = not any(value[state] for state in STATES) and value["launches"] == value["templates"] == 0
    assert value["unused"] is (value["complete"] and nothing)
    assert value["complete"] is (used is not None and launches is not None and used.reason is None and launches.reason is None)
    assert (told.reason is None) is (
        value["complete"] or ((used is None or used.reason is None) and (launches is None or launches.reason is None))
    )
    assert len(value["evidence"]) <= 21


@given(NUMBERS, NUMBERS)
def test_more_instances_never_make_a_lower_band(one: int, other: int) -> None:
    """The bands are in order."""
    low, high = sorted((one, other))
    assert BANDS.index(band_of(low)) <= BANDS.index(band_of(high))
