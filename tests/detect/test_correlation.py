"""Correlations say what several events mean together: which events fulfil one, and which rules are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detect.correlations import book, plain, record, watching
from worker.detect import library
from worker.detect.document import RuleFault
from worker.detect.offline import findings
from worker.detect.rulebook import Rulebook
from worker.model import Finding, Record

BY: dict[str, Any] = {"group_by": ["userIdentity.arn"]}


def together(rules: Rulebook, *records: Record) -> list[Finding]:
    """What the correlations of a rulebook find."""
    return [finding for finding in findings(rules, records) if finding.occurrence is not None]


def told(rules: Rulebook, *records: Record) -> list[list[str]]:
    """For each finding of a correlation the names of its events, in order."""
    return [[one.record.name for one in finding.occurrence.sightings] for finding in together(rules, *records) if finding.occurrence]


A = [record("A", second, number=second) for second in range(60)]

CASES: list[tuple[str, dict[str, Any], list[Record], int]] = [
    ("enough events", watching("event_count", "a", **BY, condition={"gte": 3}), [A[0], A[5], A[10]], 1),
    ("too few events", watching("event_count", "a", **BY, condition={"gte": 3}), [A[0], A[5]], 0),
    ("a second too late", watching("event_count", "a", **BY, condition={"gte": 3}), [A[0], A[5], A[11]], 0),
    ("more than", watching("event_count", "a", **BY, condition={"gt": 2}), [A[0], A[5], A[10]], 1),
    ("one event twice is one", watching("event_count", "a", **BY, condition={"gte": 2}), [A[0], A[0]], 0),
    ("across the edge of a span", watching("event_count", "a", **BY, condition={"gte": 3}), [A[8], A[9], A[11]], 1),
    ("events of several rules", watching("event_count", "a", "b", **BY, condition={"gte": 2}), [A[0], record("B", 1)], 1),
    ("of one principal only", watching("event_count", "a", **BY, condition={"gte": 2}), [A[0], record("A", 1, "alice")], 0),
    ("of anybody", watching("event_count", "a", condition={"gte": 2}), [A[0], record("A", 1, "alice")], 1),
    ("nobody is no group", watching("event_count", "a", **BY, condition={"gte": 2}), [record("A", n, userIdentity={}) for n in (1, 2)], 0),
    ("without a time", watching("event_count", "a", condition={"gte": 1}), [record("A", 0, eventTime=None)], 0),
    ("exactly as many", watching("event_count", "a", **BY, condition={"eq": 2}), [A[0], A[1]], 1),
    ("more than exactly", watching("event_count", "a", **BY, condition={"eq": 2}), [A[0], A[1], A[2]], 0),
    ("fewer", watching("event_count", "a", **BY, condition={"lt": 2}), [A[0], A[11], A[12]], 1),
    ("any number but one", watching("event_count", "a", **BY, condition={"neq": 1}), [A[0], A[11], A[12]], 1),
    ("values", watching("value_count", "a", **BY, condition={"gte": 3, "field": "requestParameters.name"}), A[:3], 1),
    ("few values", watching("value_count", "a", condition={"gte": 3, "field": "userIdentity.arn"}), A[:3], 0),
    (
        "values of a list count each",
        watching("value_count", "a", condition={"gte": 3, "field": "resources.arn"}),
        [record("A", 0, resources=[{"arn": "x"}, {"arn": "y"}]), record("A", 1, resources=[{"arn": "z"}])],
        1,
    ),
    (
        "values of two fields together",
        watching("value_count", "a", condition={"gte": 2, "field": ["eventName", "requestParameters.name"]}),
        [A[0], A[1]],
        1,
    ),
    ("all of several rules", watching("temporal", "a", "b", **BY), [record("B", 0), A[3]], 1),
    ("one rule missing", watching("temporal", "a", "b", **BY), [A[0], A[3]], 0),
    ("two of three rules", watching("temporal", "a", "b", "c", **BY, condition={"gte": 2}), [record("C", 0), A[3]], 1),
    ("one rule or another", watching("temporal", **BY, condition="(a or b) and c"), [record("C", 0), record("B", 1)], 1),
    ("one without the other", watching("temporal", "a", "b", **BY, condition="a and not b"), [A[0]], 1),
    ("one with the other", watching("temporal", "a", "b", **BY, condition="a and not b"), [A[0], record("B", 9)], 0),
    ("in order", watching("temporal_ordered", "a", "b", "c", **BY), [record("C", 9), A[0], record("B", 5)], 1),
    ("out of order", watching("temporal_ordered", "a", "b", "c", **BY), [A[0], record("C", 4), record("B", 5)], 0),
    ("in order after a false start", watching("temporal_ordered", "a", "b", **BY), [record("B", 0), A[1], record("B", 2)], 1),
    ("one second has no order", watching("temporal_ordered", "a", "b", "c", **BY), [record("C", 1), record("B", 1), A[1]], 1),
    ("one event is not two steps", watching("temporal_ordered", "a", "a", **BY), [A[0]], 0),
    ("the same step twice", watching("temporal_ordered", "a", "a", **BY), [A[0], A[0], A[1]], 1),
    ("order by a condition", watching("temporal_ordered", **BY, condition="b and a"), [record("B", 0), A[1]], 1),
    ("a sum", watching("value_sum", "a", condition={"gt": 5, "field": "requestParameters.size"}), [A[1], A[2], A[3]], 1),
    ("a small sum", watching("value_sum", "a", condition={"gt": 6, "field": "requestParameters.size"}), [A[1], A[2], A[3]], 0),
    ("an average", watching("value_avg", "a", condition={"eq": 2, "field": "requestParameters.size"}), [A[1], A[2], A[3]], 1),
    ("a median", watching("value_median", "a", condition={"eq": 2, "field": "requestParameters.size"}), [A[1], A[2], A[9]], 1),
    (
        "a percentile",
        watching("value_percentile", "a", condition={"gte": 9, "field": "requestParameters.size", "percentile": 100}),
        [A[1], A[2], A[9]],
        1,
    ),
    ("one event twice is summed once", watching("value_sum", "a", condition={"gt": 5, "field": "requestParameters.size"}), [A[3], A[3]], 0),
    ("no number is no sum", watching("value_sum", "a", condition={"lt": 5, "field": "userIdentity.arn"}), [A[1]], 0),
]


@pytest.mark.parametrize(("correlation", "records", "count"), [pytest.param(*case, id=name) for name, *case in CASES])
def test_what_is_found_together(correlation: dict[str, Any], records: list[Record], count: int):
    """Each kind of correlation finds what the specification and docs/rules.md say, once."""
    assert len(together(book(correlation), *records)) == count


def test_a_finding_names_its_events_and_group():
    """Whoever reads the finding sees what happened, in order, and to whom it was grouped."""
    rules = book(watching("temporal_ordered", "a", "b", **BY))
    (finding,) = together(rules, record("B", 5), record("A", 1), record("A", 0, "alice"))
    assert finding.occurrence is not None
    assert finding.occurrence.group == {"userIdentity.arn": "mallory"}
    assert [one.record.name for one in finding.occurrence.sightings] == ["A", "B"]
    assert (finding.record.name, finding.actor.arn) == ("B", "mallory")


def test_a_storm_is_one_finding_a_span():
    """Sixty denied tries in a minute are one finding for each ten seconds, not fifty-eight."""
    assert len(together(book(watching("event_count", "a", **BY, condition={"gte": 3})), *A)) == 6


def test_aliases_bring_different_fields_together():
    """A group-by name may be another field for each rule."""
    aliases = {"who": {"A done": "userIdentity.arn", "b": "requestParameters.name"}}
    rules = book(watching("temporal", "a", "b", group_by=["who"], aliases=aliases))
    assert together(rules, record("A", 0, "n7"), record("B", 1, number=7))
    assert not together(rules, record("A", 0, "n7"), record("B", 1, number=8))


def test_a_list_puts_an_event_into_each_group():
    """An event whose group-by field holds several values belongs to the group of each."""
    rules = book(watching("event_count", "a", group_by=["resources.arn"], condition={"gte": 2}))
    records = [record("A", 0, resources=[{"arn": "x"}, {"arn": "y"}]), record("A", 1, resources=[{"arn": "y"}])]
    assert [finding.occurrence.group for finding in together(rules, *records) if finding.occurrence] == [{"resources.arn": "y"}]


def test_correlations_watch_correlations():
    """A chained correlation counts the occurrences of an inner one, whose group it may go on with."""
    inner = watching("event_count", "a", **BY, condition={"gte": 2}, title="Burst")
    outer = watching("event_count", "burst", **BY, timespan="1h", condition={"gte": 2}, title="Bursts", generate=True)
    rules = book(outer, inner)
    assert [one.rule.title for one in rules.correlations] == ["Burst", "Bursts"]
    once, twice = [A[0], A[1], A[2], A[3]], [A[30], A[31]]
    assert [finding.rule.title for finding in together(rules, *once)] == ["Burst"]
    assert sorted(finding.rule.title for finding in together(rules, *once, *twice)) == ["Burst", "Burst", "Bursts"]


def test_rules_that_only_serve_a_correlation_are_silent():
    """Without `generate` the watched rules tell nothing by themselves, as the specification says; with it they do."""
    for generate, count in ((False, 0), (True, 2)):
        rules = book(watching("temporal", "a", "b", **BY, generate=generate))
        assert len([f for f in findings(rules, [A[0], record("B", 20)]) if f.occurrence is None]) == count
    both = book(watching("temporal", "a", "b", **BY), watching("temporal", "a", "c", **BY, generate=True, title="Other"))
    assert both.silent == {rule.rule.id for rule in both.rules if rule.name == "b"}


@pytest.mark.parametrize("reference", ["a", "A done", "5f0e3d1c-9a55-4a4c-8d1d-2f0a3f6f7d11", "5F0E3D1C-9A55-4A4C-8D1D-2F0A3F6F7D11"])
def test_rules_are_named_by_id_name_or_title(reference: str):
    """Whatever a rule may be called by leads to it."""
    watched = plain("A", id="5f0e3d1c-9a55-4a4c-8d1d-2f0a3f6f7d11")
    texts = [json.dumps(watched), json.dumps(watching("event_count", reference, condition={"gte": 1}))]
    (correlation,) = library.build([("r.yml", text) for text in texts]).correlations
    assert correlation.rules == ("5f0e3d1c-9a55-4a4c-8d1d-2f0a3f6f7d11",)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("an unknown type", watching("event_sum", "a", condition={"gte": 1}), "event_sum"),
    ("an unknown key", watching("event_count", "a", condition={"gte": 1}, groupby="x"), "no 'groupby'"),
    ("no timespan", watching("event_count", "a", condition={"gte": 1}, timespan=""), "imespan"),
    ("no condition", watching("event_count", "a"), "without condition"),
    ("two conditions", watching("event_count", "a", condition={"gte": 1, "lt": 9}), "exactly one"),
    ("a condition that is no number", watching("event_count", "a", condition={"gte": "many"}), "must be a number"),
    ("a rule that is not there", watching("event_count", "z", condition={"gte": 1}), "leads to no rule"),
    ("no field to count", watching("value_count", "a", condition={"gte": 1}), "field"),
    ("a field without use", watching("event_count", "a", condition={"gte": 1, "field": "x"}), "no use"),
    ("two fields to measure", watching("value_sum", "a", condition={"gte": 1, "field": ["x", "y"]}), "one field"),
    ("a percentile without use", watching("value_sum", "a", condition={"gte": 1, "field": "x", "percentile": 9}), "no use"),
    ("no percentile", watching("value_percentile", "a", condition={"gte": 1, "field": "x"}), "needs a percentile"),
    ("a percentile past 100", watching("value_percentile", "a", condition={"gte": 1, "field": "x", "percentile": 101}), "0 to 100"),
    ("order with not", watching("temporal_ordered", "a", "b", condition="a and not b"), "no order"),
    ("order of some", watching("temporal_ordered", "a", "b", condition={"gte": 1}), "needs all its rules"),
    ("two orders", watching("temporal_ordered", "a", "b", condition="b and a"), "different orders"),
    ("years", watching("event_count", "a", condition={"gte": 1}, timespan="2y"), "366 days"),
    ("an alias of another rule", watching("event_count", "a", condition={"gte": 1}, aliases={"x": {"b": "y"}}), "none of the rules"),
    (
        "an alias that leaves a rule out",
        watching("temporal", "a", "b", group_by=["x"], aliases={"x": {"a": "y"}}),
        "says nothing for one of the rules",
    ),
    ("itself", watching("event_count", "together", condition={"gte": 1}), "watches itself"),
    ("a rule twice", watching("temporal", "a", "a"), "twice"),
    ("a list of nothing", watching("temporal", "a", "b", group_by=[]), "list of texts"),
]


@pytest.mark.parametrize(("correlation", "words"), [pytest.param(*case, id=name) for name, *case in REFUSED])
def test_what_cannot_be_meant_is_refused(correlation: dict[str, Any], words: str):
    """Whatever would be evaluated nearly, or never, is refused when it is loaded, with the file and the reason."""
    with pytest.raises(library.RuleFaults) as refused:
        book(correlation)
    assert [fault.path for fault in refused.value.faults] == ["3.yml"]
    assert words in refused.value.faults[0].text


def test_circles_are_refused():
    """Correlations that watch each other would never be told."""
    one = watching("event_count", "two", condition={"gte": 1}, title="One")
    two = watching("event_count", "one", condition={"gte": 1}, title="Two")
    with pytest.raises(library.RuleFaults, match="watches itself"):
        book(one, two)


def test_two_rules_of_one_title_must_be_named_by_id():
    """A title that leads to two rules leads nowhere."""
    twins = [json.dumps(plain("A", title="Twin", id=f"5f0e3d1c-9a55-4a4c-8d1d-2f0a3f6f7d1{n}")) for n in (1, 2)]
    texts = [*twins, json.dumps(watching("event_count", "Twin", condition={"gte": 1}))]
    with pytest.raises(library.RuleFaults, match="leads to 2 rules"):
        library.build([("r.yml", text) for text in texts])


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.text(max_size=3), max_size=3)


@given(
    st.dictionaries(
        st.sampled_from(["type", "rules", "group-by", "timespan", "aliases", "condition", "generate"]),
        VALUES | st.dictionaries(st.sampled_from(["gte", "lt", "field", "percentile", "a"]), VALUES, max_size=3),
    )
)
def test_no_correlation_raises(section: dict[str, Any]):
    """Any shape of a correlation is a correlation or a fault with a line."""
    whole = {"type": "event_count", "rules": ["a"], "timespan": "1m", "condition": {"gte": 1}, **section}
    faults: tuple[RuleFault, ...] = ()
    try:
        assert len(book({"title": "T", "correlation": whole}).correlations) == 1
    except library.RuleFaults as refused:
        faults = refused.faults
    assert all(fault.line for fault in faults)
