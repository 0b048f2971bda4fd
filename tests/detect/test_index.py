"""The index leaves no rule out that would match, and asks few that would not."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from tests.detect.rule_strategies import Case, cases
from worker.detect import library
from worker.detect.hints import MOST_ALTERNATIVES, Hint, Sort, all_of, hints
from worker.detect.rulebook import Rulebook
from worker.model import Origin, Record

IAM = {"eventSource": "iam.amazonaws.com", "eventName": "DeleteUser"}


def book(*searches: Any, condition: str = "selection") -> Rulebook:
    """A rulebook of rules that differ in their search alone; a mapping with a `selection` holds several searches."""
    detections = [search if "selection" in search else {"selection": search} for search in searches]
    rules = [
        {"title": f"T{number}", "logsource": {"product": "aws"}, "detection": {**one, "condition": condition}}
        for number, one in enumerate(detections)
    ]
    return library.build([(f"{number}.yml", json.dumps(rule, ensure_ascii=False)) for number, rule in enumerate(rules)])


def asked(rules: Rulebook, event: Any) -> list[int]:
    return list(rules.places.candidates(event))


@given(cases(most=6))
def test_no_rule_that_matches_is_left_out(case: Case):
    """For any rules and event the candidates hold every rule that matches, in order and once."""
    try:
        texts = [(f"{n}.yml", json.dumps(rule, ensure_ascii=False)) for n, rule in enumerate(case.rules)]
        rules = library.build(texts)
    except library.RuleFaults:
        return
    found = asked(rules, case.event)
    assert found == sorted(set(found))
    assert {place for place, rule in enumerate(rules.rules) if rule.matches(case.event)} <= set(found)


@pytest.mark.parametrize(
    ("search", "event", "count"),
    [
        pytest.param({"userAgent": "TruffleHog"}, {"userAgent": "trufflehog"}, 1, id="a whole text"),
        pytest.param({"userAgent|contains": "Hog"}, {"userAgent": "x-TRUFFLEHOG"}, 1, id="a text within"),
        pytest.param({"userAgent": "a*long-one*b"}, {"userAgent": "a long-one b"}, 1, id="the longest piece between stars"),
        pytest.param({"arn|re": ".+:assumed-role/aws:.+"}, {"arn": "x:assumed-role/aws:y"}, 1, id="a piece of a pattern"),
        pytest.param({"a|contains": "needle"}, {"a": {"b": ["a needle"]}}, 1, id="in the JSON of an object"),
        pytest.param({"a|contains": '"x"'}, {"a": ['say "x"']}, 1, id="in a text that JSON escapes"),
        pytest.param({"a": 443}, {"a": "443"}, 1, id="a number as text"),
        pytest.param({"a": 443}, {"a": 443.0}, 1, id="a number as a fraction"),
        pytest.param({"a": False}, {"a": "False"}, 1, id="truth as text"),
        pytest.param({"a": 0}, {"a": -0.0}, 1, id="less than nothing"),
        pytest.param({"a|cased": "Xyz"}, {"a": "Xyz"}, 1, id="with regard to case"),
        pytest.param({"a|contains": "\u0391\u03a3x"}, {"a": "\u03b1\u03c2 x \u03b1\u03c3x"}, 1, id="sigmas"),
        pytest.param({"a|contains": "\u017fee"}, {"a": "\u017fee"}, 1, id="a long s"),
        pytest.param({"a|re|i": "mask"}, {"a": "MA\u017fK"}, 1, id="a long s for an s"),
        pytest.param({"a|contains": "xyz"}, {"a": "\ud800xyz"}, 1, id="half a surrogate beside it"),
        pytest.param({"A.B": "x"}, {"a": [{"b": ["x"]}]}, 1, id="another spelling, through lists"),
    ],
)
def test_what_matches_is_asked_and_others_are_not(search: Any, event: Any, count: int):
    """Of a hundred rules like it, with other texts, an event asks the one that matches and no other."""
    (key, value), *_ = search.items()
    others = [
        {
            key: str(value).replace("one", f"one-{number}-")
            if "*" in str(value)
            else f"Q{number}{value}"
            if isinstance(value, str)
            else f"Q{number}"
        }
        for number in range(100)
    ]
    if key.endswith(("|re", "|i")):
        others = [{key: f"Q{number}Q.*"} for number in range(100)]
    rules = book(search, *others)
    assert rules.rules[0].matches(event)
    assert asked(rules, event) == [0] * count
    assert asked(rules, {"userAgent": "none", "arn": "none", "a": "none"}) == []


def test_rules_of_one_event_are_parted_by_what_else_they_need():
    """Many rules for one event, each with a parameter of its own: the event asks those of its own parameter."""
    rules = book(*({**IAM, "requestParameters.userName": f"user-{number}"} for number in range(500)))
    assert asked(rules, {**IAM, "requestParameters": {"userName": "user-7"}}) == [7]


def test_what_demands_nothing_is_always_asked():
    """A negation, a missing field or a comparison is no hint."""
    rules = book(
        {"a|exists": False}, {"a": None}, {"a|lt": 5}, {"a|neq": "x"}, {"a|cidr": "10.0.0.0/8"}, {"a|contains": "x"}, {"a|fieldref": "b"}
    )
    assert asked(rules, {}) == list(range(7))


def test_long_lists_are_bounded():
    """An AND of lists whose combinations are many keeps as many lists as the bound allows, and loses no match."""
    lists = {field: [f"{field}{number}" for number in range(40)] for field in ("a", "b", "c")}
    rules = book({**IAM, **lists})
    assert MOST_ALTERNATIVES < 40**3
    assert asked(rules, {**IAM, "a": "a1", "b": "b2", "c": "c3"}) == [0]
    assert asked(rules, {**IAM, "a": "x", "b": "y", "c": "z"}) in ([], [0])


def test_a_class_that_begins_with_a_bracket_is_no_text():
    """`[^]abcd[x]` is one class of characters, and demands none of them."""
    rules = book(*[{"a|re": "[^]abcd[x]"}] * 4)
    assert asked(rules, {"a": "zz"}) == [0, 1, 2, 3]


def test_hundreds_of_texts_together_are_looked_up_by_some():
    """A rule that needs five hundred texts loads, and is found by a few of them."""
    rules = book(*({"a|contains|all": [f"text-{number}" for number in range(500)]} for _ in range(4)))
    whole = " ".join(f"text-{number}" for number in range(500))
    assert asked(rules, {"a": whole}) == [0, 1, 2, 3]
    assert asked(rules, {"a": "none"}) == []


def test_products_of_lists_stay_small():
    """Lists that would multiply to a thousand combinations are looked up by some of them, and long lists by themselves."""
    lists = {field: [f"{field}-{number}" for number in range(10)] for field in ("a", "b", "c")}
    assert len(all_of([tuple(frozenset({Hint(f, Sort.IS, t)}) for t in texts) for f, texts in lists.items()], ())) <= 64
    rules = book(*({"a": [f"x{number}" for number in range(1025)], "b": [f"y{number}" for number in range(1025)]} for _ in range(3)))
    assert asked(rules, {"a": "none", "b": "y1"}) == []


def test_a_record_too_deep_to_be_written_out_is_asked_by_all():
    """Where the index cannot look into a member, every rule is asked; the one that looks there too is told apart."""
    deep: Any = "x"
    for _ in range(3000):
        deep = [deep]
    rules = book(*({"a|contains": f"text-{number}"} for number in range(4)), {"eventName": "ConsoleLogin"})
    matches = rules.match(Record({"eventName": "ConsoleLogin", "a": {"b": deep}}, Origin(path="x")))
    assert [finding.rule.title for finding in matches.findings] == ["T4"]
    assert len(matches.errors) == 4


SOUND = st.lists(
    st.sampled_from(
        [
            "a",
            "role",
            "/",
            r"\.",
            r"\-",
            ".",
            ".+",
            ".*",
            "[ab]",
            "[^x]",
            r"\d",
            r"\w+",
            "x?",
            "y+",
            "z*",
            "q{2}",
            "^",
            "$",
            r"\b",
            " ",
            "(a|b)",
            "|c",
        ]
    ),
    max_size=8,
).map("".join)


@given(SOUND, st.text("aroleyzqcbx./-1 ", max_size=14))
@example(".+:assumed-role/aws:.+", "x:assumed-role/aws:y")
def test_a_pattern_needs_what_is_said_of_it(pattern: str, text: str):
    """Whatever a pattern matches holds the text that the index looks for."""
    from sigma.types import SigmaRegularExpression

    try:
        matched = re.search(pattern, text) is not None
    except re.error:
        return
    for hint in hints("a", SigmaRegularExpression(pattern)):
        assert hint.sort is Sort.HAS
        assert not matched or hint.text in text


def test_copies_of_rules_change_no_answer(shared_data: Any):
    """Hundreds of SigmaHQ's rules and copies with other literals find on real records what asking each of them finds."""
    from benchmarks import rules as bench

    originals = [yaml.safe_load(path.read_text()) for path in sorted((shared_data / "sigma" / "sigmahq").glob("*.yml"))]
    lines = (shared_data / "cloudtrail" / "opensearch" / "records.jsonl").read_text().splitlines()
    records = [Record(json.loads(line), Origin(path="x")) for line in lines[::4]]
    for changes in bench.SORTS.values():
        rules = bench.book_of(bench.copies(originals, 300, changes))
        for record in records:
            matched = [rule.rule.id for rule in rules.rules if rule.matches(record.event)]
            assert [finding.rule.id for finding in rules.match(record).findings] == matched
