"""The rulebook finds what every rule on every event would find, by asking few."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from tests.detect.reading import read
from worker.detect import library, rulebook
from worker.detect.demands import NOTHING, both, either
from worker.detect.rulefile import CompiledRule
from worker.model import Origin, Record

GONE = {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile"}


def rule_text(title: str, detection: Any, condition: Any = "selection", **more: Any) -> str:
    named = detection if "selection" in detection else {"selection": detection}
    logsource = {"product": "aws", "service": "cloudtrail"}
    return json.dumps({"title": title, "logsource": logsource, "detection": {**named, "condition": condition}, **more})


def rule(title: str, detection: Any, condition: Any = "selection") -> CompiledRule:
    rules, faults = read("rule.yml", rule_text(title, detection, condition))
    assert not faults, faults
    return rules[0]


def asked(one: CompiledRule, answer: Callable[[Any], bool]) -> CompiledRule:
    """The rule with another predicate."""
    return replace(one, matcher=replace(one.matcher, matches=answer))


def record(event: Any) -> Record:
    return Record(event, Origin(path="records.json"))


# The index.

SOURCES = ["iam.amazonaws.com", "IAM.amazonaws.com", "dms.amazonaws.com", ""]
NAMES = ["DeleteInstanceProfile", "deleteinstanceprofile", "ListKeys", "Listkeys", "List\u212aeys", "ΑΣ", "ας", ""]
VALUES = [*SOURCES, *NAMES, "Root", "Delete*", "*", "iam?amazonaws.com", "x", None, 7]
FIELDS = ["eventSource", "eventName", "userIdentity.type", "eventname", "errorCode", "requestParameters.name"]
MODIFIERS = ["", "", "", "|contains", "|startswith", "|cased", "|neq", "|contains|all"]


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    chosen = {}
    for _ in range(draw(st.integers(1, 3))):
        modifier = draw(st.sampled_from(MODIFIERS))
        values = st.sampled_from(VALUES if modifier in ("", "|neq") else [value for value in VALUES if isinstance(value, str)])
        chosen[draw(st.sampled_from(FIELDS)) + modifier] = draw(values | st.lists(values, min_size=1, max_size=4))
    return chosen


CONDITIONS = st.recursive(
    st.sampled_from(["selection", "sel_a", "sel_b", "1 of sel_*", "all of sel_*", "all of them", "1 of them"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda parts: f"({' '.join(parts)})"), inner.map("not {}".format)
    ),
    max_leaves=5,
)


@st.composite
def rules(draw: st.DrawFn) -> CompiledRule:
    detection = {name: draw(items() | st.lists(items(), min_size=1, max_size=2)) for name in ("selection", "sel_a", "sel_b")}
    compiled = rule("generated", detection, draw(CONDITIONS))
    return replace(compiled, rule=replace(compiled.rule, id=str(draw(st.uuids()))))


SCALARS = st.sampled_from([value for value in VALUES if value is not None])
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "eventSource": st.sampled_from(SOURCES) | SCALARS,
        "eventName": st.sampled_from(NAMES) | SCALARS | st.lists(SCALARS, max_size=2),
        "eventname": SCALARS,
        "userIdentity": st.none()
        | SCALARS
        | st.fixed_dictionaries({}, optional={"type": st.sampled_from(["Root", "root", "IAMUser"]) | SCALARS}),
        "errorCode": SCALARS | st.none(),
        "requestParameters": st.none() | st.fixed_dictionaries({"name": SCALARS}),
    },
)


@given(st.lists(rules(), max_size=6), st.lists(EVENTS, min_size=1, max_size=6))
def test_the_index_changes_no_answer(chosen: list[CompiledRule], events: list[dict[str, Any]]):
    """Indexed matching finds, in the same order, what asking every rule finds; and the interest wants every record that any matches."""
    book = rulebook.index(chosen)
    for one in events:
        expected = [compiled.rule.id for compiled in chosen if compiled.matches(one)]
        matches = book.match(record(one))
        assert [finding.rule.id for finding in matches.findings] == expected
        assert not matches.errors
        source, name = one.get("eventSource"), one.get("eventName")
        if expected and isinstance(source, str) and isinstance(name, str):
            event("a record matched")
            assert book.interest.wants(source, name, record(one).identity_type)


DEMAND = st.tuples(st.sampled_from(["s", "t", None]), st.sampled_from(["n", "m", None]), st.sampled_from(["i", None]))
DEMANDS = st.frozensets(DEMAND, max_size=4)


def fulfils(told: tuple[str, str, str], demands: Any) -> bool:
    return any(all(want in (None, has) for want, has in zip(demand, told, strict=True)) for demand in demands)


@given(st.lists(DEMANDS, min_size=1, max_size=3), st.tuples(st.sampled_from("stu"), st.sampled_from("nmo"), st.sampled_from("ij")))
def test_demands_combine_as_their_conditions_do(parts: list[Any], told: tuple[str, str, str]):
    """What fulfils an OR's demands fulfils one part's; what fulfils an AND's fulfils every part's."""
    truths = [fulfils(told, part) for part in parts]
    assert fulfils(told, either(parts)) == any(truths)
    assert fulfils(told, both(parts)) == all(truths)


def test_an_and_of_long_lists_is_indexed_by_one_of_them():
    """A product of thousands of pairs is not built; the shorter list alone lets through no less."""
    names = frozenset((None, f"n{number}", None) for number in range(5000))
    sources = frozenset((f"s{number}", None, None) for number in range(100))
    assert both([names, sources]) == sources
    assert both([sources, names]) == sources
    assert both([NOTHING, names]) == names


@pytest.mark.parametrize(
    ("detection", "condition", "pairs", "interest"),
    [
        (GONE, "selection", {("iam.amazonaws.com", "deleteinstanceprofile")}, (set(), set(), False)),
        ({"eventSource": "A", "eventName": ["B", "C"]}, "selection", {("a", "b"), ("a", "c")}, (set(), set(), False)),
        ([{"eventSource": "A", "eventName": "B"}, {"eventName": "C"}], "selection", {("a", "b")}, (set(), {"c"}, False)),
        ({"selection": {"eventSource": "A"}, "sel_b": {"eventName": "B"}}, "all of sel*", {("a", "b")}, (set(), set(), False)),
        ({"selection": {"eventSource": "A"}, "sel_b": {"eventName": "B"}}, "1 of sel*", set(), ({"a"}, {"b"}, False)),
        ({"selection": GONE, "sel_b": {"errorCode": "x"}}, "selection and not sel_b", {tuple(v.lower() for v in GONE.values())}, None),
        ({"eventName": "B", "errorCode|exists": True}, "selection", set(), (set(), {"b"}, False)),
        ({"eventSource": "A", "eventName|startswith": "B"}, "selection", set(), ({"a"}, set(), False)),
        ({"eventName": "Dele*"}, "selection", set(), (set(), set(), True)),
        ({"selection": GONE}, "not selection", set(), (set(), set(), True)),
        ({"eventname": "B"}, "selection", set(), (set(), set(), True)),
        ({"eventName|cased": "B"}, "selection", set(), (set(), {"b"}, False)),
        ({"eventName|re": "^B$"}, "selection", set(), (set(), set(), True)),
    ],
)
def test_a_rule_is_indexed_by_what_it_demands(detection: Any, condition: str, pairs: set[Any], interest: Any):
    """Literal sources and names are found through AND, OR, lists and quantifiers; wildcards, patterns and NOT demand nothing."""
    compiled = rule("T", detection, condition)
    book = rulebook.index([compiled])
    assert book.interest.pairs == pairs
    if interest is not None:
        assert (book.interest.sources, book.interest.names, book.interest.everything) == interest
    assert book.unindexed == ((compiled,) if book.interest.everything else ())


def test_only_candidates_are_asked():
    """A rule that demands another event is not evaluated at all."""
    book = rulebook.index([asked(rule("T", GONE), raising)])
    other = {"eventSource": "iam.amazonaws.com", "eventName": "ListUsers", "userIdentity": {"type": "IAMUser"}}
    assert book.match(record(other)) == rulebook.Matches()


def test_findings_come_in_the_order_of_the_rules():
    """Rules found by their pair and rules found by the name alone are asked in the order in which they were loaded."""
    # A set of 7 and 8 gives the 8 first.
    others = [rule(f"other {number}", {"eventName": "Other"}) for number in range(7)]
    book = rulebook.index([*others, rule("First", GONE), rule("Second", {"eventName": GONE["eventName"]})])
    assert [finding.rule.title for finding in book.match(record(GONE)).findings] == ["First", "Second"]


def raising(_: Any) -> bool:
    raise RecursionError("too deep")


def test_a_rule_that_raises_is_an_error_and_spoils_no_other():
    """A raising rule is told as such, never as "no match", and the rules around it still answer."""
    first, second, third = (rule(title, GONE) for title in ("First", "Second", "Third"))
    matches = rulebook.index([first, asked(second, raising), third]).match(record(GONE))
    assert [finding.rule.title for finding in matches.findings] == ["First", "Third"]
    assert matches.errors == (rulebook.RuleError(second.rule.id, "RecursionError: too deep"),)


def test_a_finding_says_who_and_what():
    """A finding carries the record with its actor and its subject."""
    one = {**GONE, "userIdentity": {"type": "IAMUser", "userName": "bob"}, "requestParameters": {"instanceProfileName": "web"}}
    (finding,) = rulebook.index([rule("T", GONE)]).match(record(one)).findings
    assert (finding.record.event, finding.actor.name, finding.subject.type, finding.subject.name) == (one, "bob", "instance-profile", "web")


# Real material.


def test_every_sigmahq_rule_loads_and_none_raises(shared_data: Path):
    """All 57 CloudTrail rules of SigmaHQ load, and match thousands of real records without an error, indexed or not."""
    book = library.load([shared_data / "sigma" / "sigmahq"])
    assert len([compiled for compiled in book.rules if "sigmahq" in compiled.path]) == 57
    found = 0
    for path in [*sorted((shared_data / "cloudtrail").rglob("*.json.gz")), *sorted((shared_data / "cloudtrail").glob("*/records.jsonl"))]:
        for one in read_records(path):
            matches = book.match(record(one))
            assert not matches.errors
            assert [finding.rule.id for finding in matches.findings] == [each.rule.id for each in book.rules if each.matches(one)]
            found += len(matches.findings)
    assert found > 900


def read_records(path: Path) -> list[Any]:
    import gzip

    if path.suffix == ".gz":
        return list(json.loads(gzip.decompress(path.read_bytes()))["Records"])
    return [json.loads(line) for line in path.read_text().splitlines()]
