"""Placeholders stand for their values, wherever a rule names them, and what cannot be filled in is refused with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.detect import library
from worker.detect.demands import NOTHING
from worker.detect.rulefile import CompiledRule

VALUES: dict[str, Any] = {
    "users": ["ops-1", "ops-2"],
    "one": "Root",
    "number": 443,
    "stars": ["dep*", "\\*"],
    "dots": ["a.b", "x+", "q?"],
    "paths": ["/a", "/b"],
    "names": ["GetUser", "PutUser"],
    "source": "iam.amazonaws.com",
}


def built(detection: Any, condition: str = "s", values: Any = None) -> CompiledRule:
    """A rule of one search named `s`, beside a file of placeholders."""
    rule = {"title": "T", "logsource": {"product": "aws", "service": "cloudtrail"}, "detection": {"s": detection, "condition": condition}}
    words = json.dumps({"placeholders": VALUES if values is None else values})
    (compiled,) = library.build([("words.yml", words), ("rule.yml", json.dumps(rule))]).rules
    return compiled


MEANINGS: list[tuple[str, Any, Any, bool]] = [
    ("one of its values", {"a|expand": "%users%"}, {"a": "OPS-2"}, True),
    ("none of its values", {"a|expand": "%users%"}, {"a": "ops-3"}, False),
    ("not its own name", {"a|expand": "%users%"}, {"a": "%users%"}, False),
    ("a single value", {"a|expand": "%one%"}, {"a": "root"}, True),
    ("a number", {"a|expand": "%number%"}, {"a": 443}, True),
    ("within a text", {"a|expand": "user/%users%"}, {"a": "user/ops-1"}, True),
    ("beside other values", {"a|expand": ["x", "%users%"]}, {"a": "x"}, True),
    ("without expand it is text", {"a": "%users%"}, {"a": "%users%"}, True),
    ("two make every combination", {"a|expand": "%paths%:%users%"}, {"a": "/b:ops-1"}, True),
    ("two make only combinations", {"a|expand": "%paths%:%users%"}, {"a": "/b:/a"}, False),
    ("contains", {"a|contains|expand": "%users%"}, {"a": "x ops-2 y"}, True),
    ("contains after expand", {"a|expand|contains": "%users%"}, {"a": "x ops-2 y"}, True),
    ("startswith", {"a|startswith|expand": "%users%"}, {"a": "ops-1x"}, True),
    ("startswith, elsewhere", {"a|startswith|expand": "%users%"}, {"a": "xops-1"}, False),
    ("endswith", {"a|endswith|expand": "/%users%"}, {"a": "arn:x/ops-1"}, True),
    ("cased", {"a|cased|expand": "%one%"}, {"a": "root"}, False),
    ("cased after expand", {"a|expand|cased": "%one%"}, {"a": "root"}, False),
    ("cased, the same", {"a|expand|cased": "%one%"}, {"a": "Root"}, True),
    ("all of its values", {"a|contains|expand|all": "%users%"}, {"a": "ops-1 ops-2"}, True),
    ("all, one missing", {"a|contains|expand|all": "%users%"}, {"a": "ops-1"}, False),
    ("neq any of them", {"a|neq|expand": "%users%"}, {"a": "ops-1"}, False),
    ("neq none of them", {"a|neq|expand": "%users%"}, {"a": "x"}, True),
    ("a star in a value is a wildcard", {"a|expand": "%stars%"}, {"a": "deploy"}, True),
    ("an escaped star in a value is a star", {"a|expand": "%stars%"}, {"a": "*"}, True),
    ("an escaped star in a value is only that", {"a|expand": "%stars%"}, {"a": "x"}, False),
    ("a keyword", {"|expand": "%users%"}, {"b": ["x ops-1"]}, True),
    ("a keyword elsewhere", {"|expand": "%users%"}, {"b": "x"}, False),
    ("re", {"a|re|expand": "^x/%users%$"}, {"a": "x/ops-2"}, True),
    ("re minds case", {"a|re|expand": "^x/%users%$"}, {"a": "x/OPS-2"}, False),
    ("re with i", {"a|re|i|expand": "^x/%users%$"}, {"a": "x/OPS-2"}, True),
    ("re, flag after expand", {"a|re|expand|i": "^x/%users%$"}, {"a": "x/OPS-2"}, True),
    ("a dot of a value is a dot in re", {"a|re|expand": "^%dots%$"}, {"a": "a.b"}, True),
    ("a dot of a value is only a dot in re", {"a|re|expand": "^%dots%$"}, {"a": "axb"}, False),
    ("a plus of a value is a plus in re", {"a|re|expand": "^%dots%$"}, {"a": "x+"}, True),
    ("a wildcard of a value is one in re", {"a|re|expand": "^%dots%$"}, {"a": "q1"}, True),
    ("re repeats the value as a whole", {"a|re|expand": "^(%users%,)+$"}, {"a": "ops-1,ops-1,"}, True),
    ("re keeps its own operators", {"a|re|expand": "^[a-z]?.*%one%"}, {"a": "xyRoot"}, True),
]


@pytest.mark.parametrize(("detection", "event", "expected"), [pytest.param(*case[1:], id=case[0]) for case in MEANINGS])
def test_placeholders_stand_for_their_values(detection, event, expected):
    """A value with placeholders holds exactly where one of its values would."""
    assert built(detection).matches(event) is expected


def test_values_are_indexed_and_looked_up_at_once():
    """A long list demands its events, and is one claim with one look into a set."""
    names = [f"Name{number}" for number in range(500)]
    rule = built({"eventSource|expand": "%source%", "eventName|expand": "%names%"}, values={"names": names, "source": "iam.amazonaws.com"})
    assert rule.demands == {("iam.amazonaws.com", name.lower(), None) for name in names}
    assert len(rule.matcher.tree.parts) == 2  # type: ignore[union-attr]
    assert rule.matches({"eventSource": "iam.amazonaws.com", "eventName": "name499"})
    assert built({"eventName|startswith|expand": "%names%"}).demands == NOTHING


def test_a_filled_in_value_reads_as_if_written_so():
    """In words, a value shows what its placeholders stand for, and keeps its modifier."""
    assert built({"a|contains|expand": "x/%one%"}).matcher.tree.text == "a contains x/Root"
    assert built({"a|expand": "x/%users%"}).matcher.tree.text == "a = any of x/ops-1, x/ops-2"


def test_a_filter_is_filled_in_too():
    """A Sigma filter beside a rule takes placeholders as a rule does."""
    logsource = {"product": "aws", "service": "cloudtrail"}
    rule = {"title": "T", "logsource": logsource, "detection": {"s": {"eventName": "X"}, "condition": "s"}}
    without = {"rules": ["T"], "s": {"user|expand": "%users%"}, "condition": "not s"}
    texts = [{"title": "F", "logsource": logsource, "filter": without}, rule, {"placeholders": VALUES}]
    (compiled,) = library.build([(f"{number}.yml", json.dumps(text)) for number, text in enumerate(texts)]).rules
    assert compiled.matches({"eventName": "X", "user": "x"})
    assert not compiled.matches({"eventName": "X", "user": "ops-1"})


RULE = """\
title: T
logsource: {product: aws, service: cloudtrail}
detection:
  s:
    eventName: X
    KEY: VALUE
  condition: s
"""


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("a|expand", "'%nobody%'", "placeholders: {nobody: [...]}"),
        ("a|re|expand", "'^%nobody%'", "placeholders: {nobody: [...]}"),
        ("a|expand|base64", "'%users%'", "expand cannot go with base64"),
        ("a|wide|base64offset|expand", "'%users%'", "expand cannot go with"),
        ("a|expand|windash", "'%users%'", "expand cannot go with windash"),
        ("a|expand|fieldref", "'%users%'", "expand cannot go with fieldref"),
        ("a|re|expand", "'[%users%]'", "%users% stands within"),
        ("a|re|expand", "'[]%users%]'", "%users% stands within"),
        ("a|re|expand", "'[^]%users%]'", "%users% stands within"),
        ("a|re|expand", "'x{%number%}'", "%number% stands within"),
        ("a|re|expand", r"'\%users%'", "%users% stands within"),
        ("a|re|expand", "'(?P<%one%>x)'", "Regular expression"),
        ("a|expand", "'%many%%many%%many%'", "more than 10000 combinations"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(key, value, told):
    """A placeholder without values, or where they cannot stand, is a fault with the rule's file and line."""
    words = json.dumps({"placeholders": {**VALUES, "many": [f"v{number}" for number in range(30)]}})
    with pytest.raises(library.RuleFaults) as caught:
        library.build([("words.yml", words), ("rule.yml", RULE.replace("KEY", key).replace("VALUE", value))])
    (fault,) = caught.value.faults
    assert (fault.path, fault.line) == ("rule.yml", 6)
    assert told in fault.text


@pytest.mark.parametrize(
    ("placeholders", "line"),
    [
        ("placeholders: [a]", 1),
        ("placeholders:\n  a: []", 2),
        ("placeholders:\n  a: ''", 2),
        ("placeholders:\n  a:", 2),
        ("placeholders:\n  a: {b: c}", 2),
        ("placeholders:\n  a: [true]", 2),
        ("placeholders:\n  a: no", 2),
        ("placeholders:\n  1: x", 1),
        ("placeholders:\n  'a%b': x", 1),
        ("placeholders: {a: x}\ntitle: T", 1),
        ("placeholders: {a: x}\n---\nplaceholders:\n  a: y", 4),
    ],
)
def test_what_is_no_placeholder_is_refused(placeholders, line):
    """Values that are no texts, that are none at all, or that are given twice are faults with file and line."""
    with pytest.raises(library.RuleFaults) as caught:
        library.build([("words.yml", placeholders)])
    assert ("words.yml", line) in {(fault.path, fault.line) for fault in caught.value.faults}


LETTERS = st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"], exclude_characters="*?\\")
"""What is no wildcard, and what both YAML and JSON spell alike."""
TEXTS = st.text("aB%*?\\.é ", min_size=1, max_size=4)
PLAIN = st.text("aB.é ", max_size=3)
SHAPES = st.sampled_from(["", "|contains", "|startswith", "|endswith", "|cased", "|cased|contains"])


@settings(max_examples=200)
@given(SHAPES, PLAIN, st.lists(TEXTS, min_size=1, max_size=3), st.booleans(), st.text("aAbB%*?\\.é ", max_size=6))
def test_a_placeholder_is_its_values_written_out(shape, before, values, every, text):
    """A rule with a placeholder, and the same rule with its values in the place of it, say the same of any text."""
    linked = "|all" if every and len(set(values)) > 1 else ""
    filled = built({f"a{shape}|expand{linked}": f"{before}%v%"}, values={"v": values})
    written = built({f"a{shape}{linked}": [before + value for value in values]}, values={})
    assert filled.matches({"a": text}) is written.matches({"a": text})


@settings(max_examples=200)
@given(st.text(LETTERS, min_size=1, max_size=6), st.text(LETTERS, max_size=3))
def test_a_value_in_a_regular_expression_is_its_own_text(value, other):
    """Whatever characters a value has, a regular expression finds it and nothing else."""
    rule = built({"a|re|expand": r"\Ax%v%\z"}, values={"v": value})
    assert rule.matches({"a": f"x{value}"})
    assert rule.matches({"a": f"x{other}"}) is (other == value)
