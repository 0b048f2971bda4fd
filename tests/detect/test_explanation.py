"""A condition as a person reads it says what the predicate does, and why it did not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.rule_strategies import Case, cases
from worker.detect import library
from worker.detect.demands import NOTHING
from worker.detect.explanation import Claim, Junction, Node, Outcome, Word, evaluate, missing, unbound
from worker.detect.rulefile import CompiledRule

LOGSOURCE = {"product": "aws", "service": "cloudtrail"}


def compiled(detection: dict[str, Any], condition: str | list[str] = "s") -> CompiledRule:
    """A rule with these searches."""
    rule = {"title": "T", "logsource": LOGSOURCE, "detection": {**detection, "condition": condition}}
    return library.build([("rule.yml", json.dumps(rule, ensure_ascii=False))]).rules[0]


def lines(node: Node) -> list[str]:
    """A tree as indented lines."""
    name = f"{node.name}: " if node.name else ""
    if isinstance(node, Claim):
        return [name + node.text]
    return [name + node.word, *(f"  {line}" for part in node.parts for line in lines(part))]


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"a": "X"}, "a = X"),
        ({"a": ["X", "y"]}, "a = any of X, y"),
        ({"a": [f"n{number}" for number in range(22)]}, f"a = any of {', '.join(f'n{number}' for number in range(20))} and 2 more"),
        ({"a": ""}, "a = ''"),
        ({"a": " x"}, "a = ' x'"),
        ({"a": "x*"}, "a startswith x"),
        ({"a|endswith": "x"}, "a endswith x"),
        ({"a|contains": "x"}, "a contains x"),
        ({"a|contains": "x*"}, "a contains x"),
        ({"a": "x*y?\\*"}, "a like x*y?\\*"),
        ({"a": "arn:\\*"}, "a = arn:*"),
        ({"a": "*"}, "a like *"),
        ({"a|cased|contains": "X"}, "a cased contains X"),
        ({"a": 443}, "a = 443"),
        ({"a": False}, "a = false"),
        ({"a": None}, "a is null"),
        ({"a|exists": True}, "a exists"),
        ({"a|exists": False}, "a does not exist"),
        ({"a|re": "x.*"}, "a re x.*"),
        ({"a|re|s|i": "x.*"}, "a re|is x.*"),
        ({"a|cidr": "10.0.0.0/8"}, "a in network 10.0.0.0/8"),
        ({"a|gte": 3}, "a >= 3"),
        ({"a|lt": 3}, "a < 3"),
        ({"a|hour": 3}, "a hour = 3"),
        ({"a|hour|gt": 3}, "a hour > 3"),
        ({"a|fieldref": "b"}, "a = the field b"),
        ({"a|fieldref|startswith": "b"}, "a startswith the field b"),
        ({"a|fieldref|endswith": "b"}, "a endswith the field b"),
        ({"a|base64": "x"}, "a = eA=="),
        ("x", "any text contains x"),
        ({"|cased": "x"}, "any text cased contains x"),
        ([443, 443], "any text contains 443 OR any text contains 443"),
        ({"|re": "x"}, "any text re x"),
        ({"a|neq": "x"}, "NOT a = x"),
        ({"a|neq": ["x", "y*"]}, "NOT (a startswith y OR a = x)"),
        ({"a": "x", "b": "y"}, "a = x AND b = y"),
    ],
)
def test_a_test_is_told_in_words(item, text):
    """Each kind of value is told with its field, what is asked, and for what."""
    assert compiled({"s": item}).matcher.tree.text == text


def test_the_tree_is_the_condition_with_the_names_of_its_searches():
    """AND, OR and NOT stand as the condition has them, and a search under its own name."""
    searches = {"sel_a": {"eventName": ["A", "B"], "x|contains": "y"}, "sel_b": {"eventName|endswith": "C"}, "filter": {"who": "me"}}
    assert lines(compiled(searches, "1 of sel_* and not filter").matcher.tree) == [
        "AND",
        "  OR",
        "    sel_a: AND",
        "      eventName = any of A, B",
        "      x contains y",
        "    sel_b: eventName endswith C",
        "  NOT",
        "    filter: who = me",
    ]


def test_several_conditions_are_any_of_them():
    """Each condition is a part of one OR."""
    assert lines(compiled({"a": {"x": 1}, "b": {"y": 2}}, ["a", "not b"]).matcher.tree) == ["OR", "  a: x = 1", "  NOT", "    b: y = 2"]


def test_a_filter_stands_in_the_tree_under_its_name():
    """A Sigma filter is told with its title and place, and the rule says that it is narrowed."""
    rule = {"title": "T", "logsource": LOGSOURCE, "detection": {"s": {"eventName": "X", "a": 1}, "condition": "s"}}
    narrowing = {"title": "Not CI", "logsource": LOGSOURCE, "filter": {"rules": "any", "ci": {"who": "ci"}, "condition": "not ci"}}
    (narrowed,) = library.build(
        [("rule.yml", json.dumps(rule, ensure_ascii=False)), ("ci.yml", json.dumps(narrowing, ensure_ascii=False))]
    ).rules
    assert narrowed.matcher.filters == ("filter 'Not CI' (ci.yml:1)",)
    assert lines(narrowed.matcher.tree) == [
        "AND",
        "  s: AND",
        "    eventName = X",
        "    a = 1",
        "  filter 'Not CI' (ci.yml:1): NOT",
        "    ci: who = ci",
    ]


def test_what_was_found_is_told_for_each_test():
    """A test tells the values of its field, of the other field that it names, and the texts that a keyword hit."""
    rule = compiled({"s": {"a.b": "x", "c|fieldref": "d"}, "k": ["odd"]}, "s or k")
    outcome = evaluate(rule.matcher.tree, {"a": [{"b": "x"}, {"b": None}], "c": 1, "d": {}, "e": "how odd"})
    found = {claim.node.text: claim.found for claim in claims(outcome)}
    assert found == {
        "a.b = x": (("a.b", ("x", None)),),
        "c = the field d": (("c", (1,)), ("d", ({},))),
        "any text contains odd": (("any text", ("how odd",)),),
    }


@pytest.mark.parametrize(
    ("condition", "event", "told"),
    [
        ("a and b and c", {"a": 1}, ["b = 1", "c = 1"]),
        ("a or (b and c)", {}, ["a = 1"]),
        ("(a and b) or (b and c and d)", {"c": 1, "d": 1}, ["b = 1"]),
        ("a and not b", {"a": 1, "b": 1}, ["b = 1"]),
        ("a and not b", {"b": 1}, ["a = 1", "b = 1"]),
        ("not (a or b or c)", {"a": 1, "c": 1}, ["a = 1", "c = 1"]),
        ("not (a and b)", {"a": 1, "b": 1}, ["a = 1"]),
        ("a and (a or b)", {}, ["a = 1"]),
    ],
)
def test_the_fewest_tests_that_failed_are_named(condition, event, told):
    """Of all ways to a match the one that the event came nearest to is told."""
    rule = compiled({name: {name: 1} for name in "abcd"}, condition)
    assert [one.node.text for one in missing(evaluate(rule.matcher.tree, event))] == told


@pytest.mark.parametrize(
    ("condition", "told"),
    [
        ("a", []),
        ("a and b", []),
        ("b", ["who = me"]),
        ("a or b", ["who = me"]),
        ("a or (b and c)", ["who = me AND where contains x"]),
        ("not a", ["NOT eventName = X"]),
    ],
)
def test_what_keeps_a_rule_out_of_the_index_is_named(condition, told):
    """The parts without which a rule would demand an event are named, and none where it does."""
    rule = compiled({"a": {"eventName": "X"}, "b": {"who": "me"}, "c": {"where|contains": "x"}}, condition)
    assert [part.text for part in unbound(rule.matcher.tree)] == told


def claims(outcome: Outcome) -> Iterator[Outcome]:
    """The outcomes of all claims."""
    if isinstance(outcome.node, Claim):
        yield outcome
    for part in outcome.parts:
        yield from claims(part)


@settings(max_examples=200)
@given(cases(most=1))
def test_the_explanation_says_what_the_predicate_says(case: Case):
    """For any rule and event the tree holds exactly when the rule matches, and what does not match is in want of something."""
    for rule in case.rules:
        (compiled_rule,) = library.build([("rule.yml", json.dumps(rule, ensure_ascii=False))]).rules
        outcome = evaluate(compiled_rule.matcher.tree, case.event)
        assert outcome.held is compiled_rule.matches(case.event)
        wanted = missing(outcome)
        assert wanted
        assert {id(one) for one in wanted} <= {id(one) for one in claims(outcome)}
        assert bool(list(unbound(compiled_rule.matcher.tree))) is (compiled_rule.demands == NOTHING)


def a_claim(name: str) -> Claim:
    """What holds for an event that has a member of the name."""
    return Claim(name, "exists", (), lambda event: name in event, NOTHING, ((name, lambda event: [event[name]] if name in event else []),))


def trees(names: list[str]) -> st.SearchStrategy[Node]:
    """Trees in which each name stands once."""
    if len(names) == 1:
        whole = st.just(a_claim(names[0]))
        return st.one_of(whole, whole.map(lambda node: Junction(Word.NOT, (node,), NOTHING)))
    joined = st.integers(1, len(names) - 1).flatmap(
        lambda cut: st.builds(
            lambda word, left, right: Junction(word, (left, right), NOTHING),
            st.sampled_from([Word.AND, Word.OR]),
            trees(names[:cut]),
            trees(names[cut:]),
        )
    )
    return st.one_of(joined, joined.map(lambda node: Junction(Word.NOT, (node,), NOTHING)))


@settings(max_examples=300)
@given(st.integers(1, 6).flatmap(lambda count: trees(list("abcdef"[:count]))), st.sets(st.sampled_from("abcdef")))
def test_turning_what_is_missing_turns_the_whole_and_nothing_less_does(tree: Node, members: set[str]):
    """With the tests that are named the other way round the whole is too, and no smaller set of tests would do."""
    outcome = evaluate(tree, dict.fromkeys(members))
    named = {one.node.field or "" for one in missing(outcome) if isinstance(one.node, Claim)}
    assert evaluate(tree, dict.fromkeys(members ^ named)).held is not outcome.held
    for fewer in combinations("abcdef", len(named) - 1):
        assert evaluate(tree, dict.fromkeys(members ^ set(fewer))).held is outcome.held
