"""What a Sigma value, modifier or condition means here, as tables: a detection, an event, and whether they match."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sigma.types import SigmaString

from tests.detect.reading import read
from worker.detect.rulefile import CompiledRule
from worker.detect.values import test as value_test


def compiled(detection: Any, condition: str | list[str] = "selection") -> CompiledRule:
    """A rule of one or several detections; a plain mapping or list stands for the detection `selection`."""
    named = detection if "selection" in detection else {"selection": detection}
    rule = {"title": "T", "logsource": {"product": "aws", "service": "cloudtrail"}, "detection": {**named, "condition": condition}}
    rules, faults = read("rule.yml", json.dumps(rule))
    assert not faults, faults
    return rules[0]


FIELDS: list[tuple[str, Any, Any, bool]] = [
    ("dots step into objects", {"a.b.c": "x"}, {"a": {"b": {"c": "x"}}}, True),
    ("a step into a scalar finds nothing", {"a.b": "x"}, {"a": "x"}, False),
    ("a step into null finds nothing", {"requestParameters.a": "x"}, {"requestParameters": None}, False),
    ("a name with dots of its own", {"a.b.c": "x"}, {"a.b.c": "x"}, True),
    ("a name with dots of its own, deeper", {"a.b.c": "x"}, {"a": {"b.c": "x"}}, True),
    ("lists are stepped through", {"a.b": "x"}, {"a": [{"b": "y"}, {"b": "x"}]}, True),
    ("lists of lists are stepped through", {"a.b": "x"}, {"a": [[{"b": "x"}]]}, True),
    ("any element of a list", {"a": "x"}, {"a": ["y", ["x"]]}, True),
    ("no element of a list", {"a": "x"}, {"a": ["y", {"b": "x"}]}, False),
    ("a name in another case", {"eventname": "x"}, {"eventName": "x"}, True),
    ("the exact name hides another case", {"eventname": "x"}, {"eventName": "x", "eventname": "y"}, False),
    ("a nested name in another case", {"USERIDENTITY.TYPE": "root"}, {"userIdentity": {"type": "Root"}}, True),
]

STRINGS: list[tuple[str, Any, Any, bool]] = [
    ("case does not matter", {"a": "DELETE"}, {"a": "delete"}, True),
    ("case does not matter beyond ASCII", {"a": "ÄPFEL"}, {"a": "äpfel"}, True),
    ("the final sigma is a sigma", {"a|contains": "\u0391\u03a3"}, {"a": "\u03b1\u03c3\u03b1"}, True),
    ("cased", {"a|cased": "Delete"}, {"a": "delete"}, False),
    ("cased, the same", {"a|cased": "Delete"}, {"a": "Delete"}, True),
    ("cased and contains", {"a|contains|cased": "Let"}, {"a": "deLete"}, True),
    ("contains and cased, another case", {"a|cased|contains": "Let"}, {"a": "delete"}, False),
    ("the whole value", {"a": "del"}, {"a": "delete"}, False),
    ("contains", {"a|contains": "LET"}, {"a": "delete"}, True),
    ("startswith", {"a|startswith": "del"}, {"a": "delete"}, True),
    ("startswith, elsewhere", {"a|startswith": "let"}, {"a": "delete"}, False),
    ("endswith", {"a|endswith": "ete"}, {"a": "delete"}, True),
    ("a star is anything", {"a": "d*e*e"}, {"a": "delete"}, True),
    ("a star is also nothing", {"a": "delete*"}, {"a": "delete"}, True),
    ("stars do not overlap", {"a": "ab*ba"}, {"a": "aba"}, False),
    ("a question mark is one character", {"a": "d?lete"}, {"a": "delete"}, True),
    ("a question mark is not nothing", {"a": "delete?"}, {"a": "delete"}, False),
    ("a question mark is a line's end", {"a": "x?y"}, {"a": "x\ny"}, True),
    ("an escaped star is a star", {"a": "arn:\\*"}, {"a": "arn:*"}, True),
    ("an escaped star is only a star", {"a": "arn:\\*"}, {"a": "arn:x"}, False),
    ("an escaped question mark", {"a|contains": "\\?"}, {"a": "what"}, False),
    ("a backslash is itself", {"a": "c:\\temp"}, {"a": "c:\\temp"}, True),
    ("two backslashes and a star are a backslash and anything", {"a": "c:\\\\*"}, {"a": "c:\\temp"}, True),
    ("characters of regular expressions are plain", {"a": "a.c?"}, {"a": "abcd"}, False),
    ("a list is any of it", {"a": ["x", "y"]}, {"a": "y"}, True),
    ("all of a list", {"a|contains|all": ["x", "y"]}, {"a": "xy"}, True),
    ("all of a list, one missing", {"a|contains|all": ["x", "z"]}, {"a": "xy"}, False),
    ("a star alone asks for any value", {"a": "*"}, {"a": ""}, True),
    ("a star alone is not met by null", {"a": "*"}, {"a": None}, False),
    ("a star alone is met by an object", {"a": "*"}, {"a": {"b": 1}}, True),
    ("empty is empty", {"a": ""}, {"a": ""}, True),
    ("empty is not missing", {"a": ""}, {}, False),
    ("contains looks into an object's JSON", {"a|contains": '"b":false'}, {"a": {"b": False}}, True),
    ("contains looks into a list's JSON", {"a|contains": '["x","y"]'}, {"a": ["x", "y"]}, True),
    ("contains looks into JSON within JSON", {"a|contains": '"Effect":"Allow"'}, {"a": {"policyDocument": '{"Effect":"Allow"}'}}, True),
    ("JSON keeps letters beyond ASCII", {"a|contains": "ü"}, {"a": {"b": "Ü"}}, True),
    ("startswith does not look into objects", {"a|startswith": "{"}, {"a": {"b": 1}}, False),
    ("base64", {"a|base64|contains": "rm -rf"}, {"a": "x cm0gLXJm y"}, True),
    ("base64offset", {"a|base64offset|contains": "rm -rf"}, {"a": "eHJtIC1yZg=="}, True),
    ("windash", {"a|windash|contains": " -enc"}, {"a": "x /enc"}, True),
    ("windash under all", {"a|windash|contains|all": [" -enc", " -x"]}, {"a": "p /enc"}, False),
]

OTHERS: list[tuple[str, Any, Any, bool]] = [
    ("re is searched for", {"a|re": "el.t"}, {"a": "delete"}, True),
    ("re minds case", {"a|re": "DEL"}, {"a": "delete"}, False),
    ("re with i", {"a|re|i": "DEL"}, {"a": "delete"}, True),
    ("re without s", {"a|re": "x.y"}, {"a": "x\ny"}, False),
    ("re with s", {"a|re|s": "x.y"}, {"a": "x\ny"}, True),
    ("re without m", {"a|re": "^y"}, {"a": "x\ny"}, False),
    ("re with m", {"a|re|m": "^y"}, {"a": "x\ny"}, True),
    ("re with all", {"a|re|all": ["^d", "e$"]}, {"a": "delete"}, True),
    ("re on a number", {"a|re": "^4[0-9]+$"}, {"a": 443}, True),
    ("re on an object's JSON", {"a|re": '"b":[0-9]'}, {"a": {"b": 1}}, True),
    ("re on half a surrogate", {"a|re": "x"}, {"a": "\ud800x"}, True),
    ("re on null", {"a|re": ".*"}, {"a": None}, False),
    ("a number", {"a": 443}, {"a": 443}, True),
    ("a number as text", {"a": 443}, {"a": "443"}, True),
    ("text as a number", {"a": "443"}, {"a": 443}, True),
    ("a fraction", {"a": 1.5}, {"a": "1.5"}, True),
    ("one is not true", {"a": 1}, {"a": True}, False),
    ("a bool", {"a": False}, {"a": False}, True),
    ("a bool as text", {"a": False}, {"a": "False"}, True),
    ("text as a bool", {"a": "TRUE"}, {"a": True}, True),
    ("false is not missing", {"a": False}, {}, False),
    ("false is not zero", {"a": False}, {"a": 0}, False),
    ("null is missing", {"a.b": None}, {"a": None}, True),
    ("null is null", {"a": None}, {"a": None}, True),
    ("null is not empty", {"a": None}, {"a": ""}, False),
    ("null is not an empty list", {"a": None}, {"a": []}, False),
    ("null in a list", {"a": None}, {"a": [1, None]}, True),
    ("null or a value", {"a": [None, "x"]}, {"a": "x"}, True),
    ("a list of nothing is null", {"a": []}, {}, True),
    ("exists", {"a|exists": True}, {"a": "x"}, True),
    ("exists, with null", {"a|exists": True}, {"a": None}, True),
    ("exists not", {"a|exists": False}, {"b": 1}, True),
    ("exists not, but does", {"a.b|exists": False}, {"a": {"b": 1}}, False),
    ("lt", {"a|lt": 14}, {"a": 8}, True),
    ("lt, equal", {"a|lt": 14}, {"a": 14}, False),
    ("lt on text", {"a|lt": 14}, {"a": "8"}, True),
    ("lt on words", {"a|lt": 14}, {"a": "eight"}, False),
    ("lt on a bool", {"a|lt": 14}, {"a": True}, False),
    ("lt on what is missing", {"a|lt": 14}, {}, False),
    ("lte", {"a|lte": 14}, {"a": 14}, True),
    ("gt", {"a|gt": 1.5}, {"a": 1.6}, True),
    ("gt on a very long number", {"a|gt": 5}, {"a": "9" * 5000}, True),
    ("gte", {"a|gte": -1}, {"a": "-1"}, True),
    ("neq", {"a|neq": "x"}, {"a": "y"}, True),
    ("neq on what is missing", {"a|neq": "x"}, {}, True),
    ("neq of a list is none of it", {"a|neq": ["x", "y"]}, {"a": "y"}, False),
    ("cidr", {"a|cidr": "10.0.0.0/8"}, {"a": "10.1.2.3"}, True),
    ("cidr, outside", {"a|cidr": "10.0.0.0/8"}, {"a": "11.1.2.3"}, False),
    ("cidr v6", {"a|cidr": "2001:db8::/32"}, {"a": "2001:DB8::1"}, True),
    ("cidr of v4 in v6", {"a|cidr": "10.0.0.0/8"}, {"a": "::ffff:10.1.2.3"}, True),
    ("cidr on a service", {"a|cidr": "0.0.0.0/0"}, {"a": "AWS Internal"}, False),
    ("cidr on two addresses", {"a|cidr": "10.0.0.0/8"}, {"a": "1.2.3.4, 10.0.0.1"}, True),
    ("cidr on a number", {"a|cidr": "0.0.0.0/0"}, {"a": 1}, False),
    ("fieldref", {"a|fieldref": "b.c"}, {"a": "X", "b": {"c": "x"}}, True),
    ("fieldref, different", {"a|fieldref": "b"}, {"a": "x", "b": "y"}, False),
    ("fieldref with both missing", {"a|fieldref": "b"}, {}, False),
    ("fieldref contains", {"a|fieldref|contains": "b"}, {"a": "user/bob", "b": "bob"}, True),
    ("fieldref endswith", {"a|fieldref|endswith": "b"}, {"a": "bobby", "b": "bob"}, False),
    ("fieldref startswith", {"a|fieldref|startswith": "b"}, {"a": "bobby", "b": "bob"}, True),
    ("hour", {"t|hour": 22}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("hour is UTC's", {"t|hour": 21}, {"t": "2026-11-02T22:14:31+01:00"}, True),
    ("hour compared", {"t|hour|gte": 20}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("minute", {"t|minute": 14}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("day", {"t|day": 2}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("week", {"t|week": 45}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("month", {"t|month": 11}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("year", {"t|year": 2026}, {"t": "2026-11-02T22:14:31Z"}, True),
    ("a part of no time", {"t|year": 2026}, {"t": "yesterday"}, False),
    ("a part of a time beyond the calendar", {"t|year": 1}, {"t": "0001-01-01T00:00:00+23:59"}, False),
    ("a keyword is in any value", ["needle"], {"a": [{"b": "a Needle here"}]}, True),
    ("a keyword is not in names", ["needle"], {"needle": "hay"}, False),
    ("a keyword with a star", ["a*here"], {"b": "say a Needle here now"}, True),
    ("a keyword's number", [443], {"a": {"port": 443}}, True),
    ("a keyword by re", {"|re": "^ne+dle$"}, {"a": "needle"}, True),
    ("all keywords, in different values", {"|all": ["one", "two"]}, {"a": "one", "b": "two"}, True),
    ("all keywords, one missing", {"|all": ["one", "two"]}, {"a": "one"}, False),
    ("a map is all of it", {"a": "x", "b": "y"}, {"a": "x"}, False),
    ("a list of maps is any of it", [{"a": "x", "b": "y"}, {"c": "z"}], {"c": "z"}, True),
    ("a list of maps and words is any of it", [{"a": "x"}, "word"], {"b": "a word"}, True),
]


@pytest.mark.parametrize(("detection", "event", "match"), [pytest.param(*case[1:], id=case[0]) for case in FIELDS + STRINGS + OTHERS])
def test_a_detection_means(detection: Any, event: dict[str, Any], match: bool):
    """A detection matches exactly the events that its values, modifiers and field names describe."""
    rule = compiled(detection)
    assert rule.matches(event) is match


ONE, TWO, BOTH, NEITHER = {"a": "1"}, {"b": "2"}, {"a": "1", "b": "2"}, {"c": "3"}


@pytest.mark.parametrize(
    ("condition", "matching"),
    [
        ("selection and sel_b", [BOTH]),
        ("selection or sel_b", [ONE, TWO, BOTH]),
        ("not selection", [TWO, NEITHER]),
        ("selection and not sel_b", [ONE]),
        ("not (selection or sel_b)", [NEITHER]),
        ("not not selection", [ONE, BOTH]),
        ("selection or sel_b and not sel_b", [ONE, BOTH]),
        ("1 of sel*", [ONE, TWO, BOTH]),
        ("any of sel*", [ONE, TWO, BOTH]),
        ("all of sel*", [BOTH]),
        ("1 of them", [ONE, TWO, BOTH]),
        ("all of them", [BOTH]),
        ("not 1 of sel_*", [ONE, NEITHER]),
        (["selection and sel_b", "not selection and not sel_b"], [BOTH, NEITHER]),
    ],
)
def test_a_condition_means(condition: str | list[str], matching: list[dict[str, str]]):
    """AND, OR, NOT, brackets, quantifiers, and several conditions (any of them) combine detections as the specification says."""
    rule = compiled({"selection": {"a": "1"}, "sel_b": {"b": "2"}}, condition)
    assert [event for event in (ONE, TWO, BOTH, NEITHER) if rule.matches(event)] == matching


@given(st.text("ab*?\\.", max_size=8), st.text("ab.\\*?\n", max_size=8))
def test_wildcards_agree_with_a_regular_expression(pattern: str, text: str):
    """Any mix of wildcards, escapes and plain characters matches what its translation to Python's `re` matches."""
    value = SigmaString(pattern)
    wild = {"*": ".*", "?": "."}
    translated = "".join(
        re.escape(part) if isinstance(part, str) else wild["*" if part.name == "WILDCARD_MULTI" else "?"] for part in value.s
    )
    assert value_test(value)(text) == bool(re.fullmatch(translated, text, re.DOTALL))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "c", "A", "a.b"]), inner, max_size=3),
    max_leaves=12,
)
DETECTIONS = [case[1] for case in FIELDS + STRINGS + OTHERS]
RULES = [compiled(detection) for detection in DETECTIONS]


@given(st.dictionaries(st.sampled_from(["a", "b", "t", "A", "a.b", "eventName"]), JSON, max_size=4))
def test_no_event_makes_a_rule_raise(event: dict[str, Any]):
    """Whatever JSON an event holds, every kind of test answers."""
    for rule in RULES:
        assert rule.matches(event) in (True, False)


@pytest.mark.parametrize("pattern", ["^(a+)+$", "(a|aa)+$", "(.*a){20}$", "([a-z]+)*x"])
def test_no_pattern_stalls(pattern: str):
    """Patterns that make a backtracking engine try 2^100000 ways are answered; it would not come back from them in this universe."""
    assert not compiled({"userAgent|re": pattern.replace("x", "X")}).matches({"userAgent": "a" * 100_000 + "!"})
