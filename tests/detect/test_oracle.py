"""The compiled rules, through their index, against the specification read by hand (`reference.py`): no unexplained difference.

Generated rules and events, and real records with the rules of SigmaHQ and ours, as they are and changed. `EXPLAINED` lists where the two
differ and why; a row that no longer differs fails, so the list cannot go stale.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.detect import reference
from tests.detect.rule_strategies import LOGSOURCE, MODIFIERS, Case, Choose, case, cases, chance, pick, places, single_item, tree
from worker.detect import library
from worker.detect.rulebook import Rulebook
from worker.model import Origin, Record

ORIGIN = Origin(path="records.json")


def text_of(rules: tuple[dict[str, Any], ...]) -> str:
    """Rules as one file holds them."""
    return yaml.dump_all(rules, Dumper=yaml.CSafeDumper, allow_unicode=True, sort_keys=False)


def found(rulebook: Rulebook, record: dict[str, Any]) -> set[str]:
    """The titles of the rules that match a record, told by themselves or only watched by a correlation."""
    matches = rulebook.match(Record(record, ORIGIN))
    assert not matches.errors
    titles = {rule.rule.id: rule.rule.title for rule in rulebook.rules}
    told = [*matches.findings, *(finding for finding, _ in matches.suppressed)]
    return {titles[rule] for rule in (*(finding.rule.id for finding in told), *matches.hits)}


def expected(rules: list[dict[str, Any]], record: dict[str, Any]) -> set[str]:
    """The titles of the rules that match a record by the book, each asked alone."""
    return {rule["title"] for rule in rules if reference.matches(rule, record)}


# Generated rules and events.


def compared(case: Case) -> bool:
    """Holds a case's rules against the reference; whether any matched."""
    text = text_of(case.rules)
    rules = reference.documents(text)
    assert rules == list(case.rules)
    titles = expected(rules, case.event)
    assert found(library.build([("rules.yml", text)]), case.event) == titles
    return bool(titles)


@settings(max_examples=500)
@given(cases())
def test_a_rule_matches_what_the_specification_says(case: Case):
    """A rule, asked through the index, matches an event if and only if it does by the book."""
    event("matches" if compared(case) else "does not match")


@settings(max_examples=150)
@given(cases(most=5))
def test_rules_loaded_together_find_what_each_finds_alone(case: Case):
    """The index changes nothing: several rules find together what the reference finds when it asks each of them alone."""
    event("some match" if compared(case) else "none matches")


@settings(max_examples=200)
@given(cases(), cases())
def test_a_rule_written_for_another_event_is_held_against_the_book_too(one: Case, other: Case):
    """Rules agree with the reference on events that they were not written in view of."""
    event("matches" if compared(Case(other.event, one.rules)) else "does not match")


EXPLAINED: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("windash turns only dashes that begin a word, as pySigma does: flags, not paths or ranges", {"a|windash": "a-b"}, {"a": "a/b"}, False),
    ("windash leaves the second of two dashes", {"a|windash": "--x"}, {"a": "//x"}, False),
    ("windash leaves a dash with nothing behind it", {"a|windash": "x -"}, {"a": "x /"}, False),
    ("windash turns hyphens and slashes only, into any dash", {"a|windash": "x \u2013y"}, {"a": "x -y"}, False),
]
"""Why, a detection, an event, and what the compiled rule says of it; the book says the opposite."""


@pytest.mark.parametrize(("detection", "record", "match"), [pytest.param(*case[1:], id=case[0]) for case in EXPLAINED])
def test_the_explained_differences_are_still_there(detection: dict[str, Any], record: dict[str, Any], match: bool):
    """Each row is a place where the worker knowingly differs from the letter of the specification."""
    rule = {"title": "Rule", "logsource": LOGSOURCE, "detection": {"selection": detection, "condition": "selection"}}
    assert ("Rule" in found(library.build([("rules.yml", text_of((rule,)))]), record)) is match
    assert reference.matches(rule, record) is not match


@pytest.mark.parametrize(
    "identity",
    [
        {"useridentity": {"type": "Root"}},
        {"userIdentity": {"Type": "root"}},
        {"userIdentity.type": "Root"},
        {"userIdentity": [{"type": "Root"}]},
    ],
    ids=str,
)
def test_the_index_asks_of_an_identity_that_is_spelt_otherwise(identity: dict[str, Any]):
    """A rule that demands a type of identity is asked of records whose `userIdentity.type` goes by another spelling."""
    rule = {"title": "Rule", "logsource": LOGSOURCE, "detection": {"selection": {"userIdentity.type": "Root"}, "condition": "selection"}}
    assert compared(Case({"eventSource": "iam.amazonaws.com", "eventName": "CreateUser", **identity}, (rule,)))


# The oracle itself.


@cache
def sampled(modifier: str) -> list[Case]:
    """Always the same events with rules of one item with a modifier; `rules` are whole rules, and the empty modifier is none."""
    choose = Random(modifier).randint
    return [case(choose) if modifier == "rules" else single_item(choose, modifier) for _ in range(300)]


def items_of(definition: Any) -> list[tuple[str, Any]]:
    """Every item of a detection, with its key as it is written."""
    parts = definition if isinstance(definition, list) else [definition]
    return [item for part in parts if isinstance(part, dict) for item in part.items()]


def by_the_book(case: Case) -> bool:
    return reference.matches(case.rules[0], case.event)


def test_generated_rules_hit():
    """The comparison means something: at least 30 % of the generated rules match, and every form of a condition is among those."""
    matching = [case for case in sampled("rules") if by_the_book(case)]
    assert len(matching) >= 0.3 * len(sampled("rules"))
    conditions = " ; ".join(str(case.rules[0]["detection"]["condition"]) for case in matching)
    for form in (" and ", " or ", "not ", "1 of them", "all of them", "1 of sel*", "(", "['"):
        assert form in conditions, form


@pytest.mark.parametrize("modifier", ["", *MODIFIERS])
def test_every_modifier_is_met(modifier: str):
    """Among generated items with a modifier some hold for their event and some do not."""
    held = sum(by_the_book(case) for case in sampled(modifier))
    assert 20 <= held <= 285


Mistake = Callable[[dict[str, Any]], dict[str, Any]]
"""What a detection would be read as."""


def mistaken_items(change: Callable[[str, Any], tuple[str, Any]]) -> Mistake:
    """Each item, a key and a list of values, is taken for another."""

    def within(definition: Any) -> Any:
        if isinstance(definition, dict):
            return dict(change(key, value if isinstance(value, list) else [value]) for key, value in definition.items())
        return [within(part) for part in definition] if isinstance(definition, list) else definition

    return lambda detection: {name: one if name == "condition" else within(one) for name, one in detection.items()}


def mistaken_modifier(old: str, new: str | None = None) -> Mistake:
    """One modifier is taken for another, or passed over."""
    return mistaken_items(
        lambda key, value: ("|".join(step for one in key.split("|") if (step := new if one == old else one) is not None), value)
    )


def mistaken_value(old: Any, new: Any) -> Mistake:
    """One value, where it has no modifiers, is taken for another."""
    return mistaken_items(lambda key, value: (key, value if "|" in key else [new if one is old else one for one in value]))


def mistaken_word(old: str, new: str) -> Mistake:
    """A word of the condition is taken for another."""

    def change(detection: dict[str, Any]) -> dict[str, Any]:
        condition = detection["condition"]
        conditions = [condition] if isinstance(condition, str) else condition
        return {**detection, "condition": [one.replace(old, new) for one in conditions]}

    return change


def unescaped(key: str, value: list[Any]) -> tuple[str, Any]:
    """A backslash is always itself."""
    return key, [one.replace("\\", "\\\\") if isinstance(one, str) else one for one in value]


MISTAKES: dict[str, tuple[str, Mistake]] = {
    "contains is startswith": ("contains", mistaken_modifier("contains", "startswith")),
    "endswith is contains": ("endswith", mistaken_modifier("endswith", "contains")),
    "startswith is contains": ("startswith", mistaken_modifier("startswith", "contains")),
    "cased is passed over": ("cased", mistaken_modifier("cased")),
    "lt is lte": ("lt", mistaken_modifier("lt", "lte")),
    "gte is gt": ("gte", mistaken_modifier("gte", "gt")),
    "hour is minute": ("hour", mistaken_modifier("hour", "minute")),
    "all is passed over": ("all", mistaken_modifier("all")),
    "neq is passed over": ("neq", mistaken_modifier("neq")),
    "windash is passed over": ("windash", mistaken_modifier("windash")),
    "base64offset is base64": ("base64offset", mistaken_modifier("base64offset", "base64")),
    "null is empty": ("", mistaken_value(None, "")),
    "true is 1": ("", mistaken_value(True, 1)),  # noqa: FBT003  # it is the value
    "escapes are backslashes": ("", mistaken_items(unescaped)),
    "and is or": ("rules", mistaken_word(" and ", " or ")),
    "all of is 1 of": ("rules", mistaken_word("all of", "1 of")),
    "not is passed over": ("rules", mistaken_word("not ", "")),
}
"""Ways to read rules wrongly, and the sample that is to tell of it."""


@pytest.mark.parametrize(("modifier", "mistake"), MISTAKES.values(), ids=MISTAKES)
def test_the_oracle_notices(modifier: str, mistake: Mistake):
    """If the worker read rules in this wrong way, generated cases would tell."""

    def differs(case: Case) -> bool:
        rule = {**case.rules[0], "detection": mistake(case.rules[0]["detection"])}
        if rule == case.rules[0]:
            return False
        return found(library.build([("rules.yml", text_of((rule,)))]), case.event) != expected([case.rules[0]], case.event)

    assert any(differs(case) for case in sampled(modifier))


# Real records.


@dataclass(frozen=True, slots=True)
class Real:
    """The real records, and the rules of SigmaHQ with ours: compiled, and as plain data."""

    records: list[dict[str, Any]]
    rulebook: Rulebook
    rules: list[dict[str, Any]]
    matching: list[int]

    def __repr__(self) -> str:  # what Hypothesis writes with a failing case
        return f"{len(self.records)} records, {len(self.rules)} rules"


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Real:
    records: list[dict[str, Any]] = []
    for path in sorted((shared_data / "cloudtrail").rglob("*.json.gz")):
        records += json.loads(gzip.decompress(path.read_bytes()))["Records"]
    for path in sorted((shared_data / "cloudtrail").rglob("*.jsonl")):
        records += [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    folder = shared_data / "sigma" / "sigmahq"
    files = library.files([library.SHIPPED, folder], [])
    rules = [rule for path in files for rule in reference.documents(path.read_text("utf-8"))]
    rulebook = library.load([folder])
    return Real(records, rulebook, rules, [number for number, record in enumerate(records) if found(rulebook, record)])


def test_real_records_find_what_the_specification_says(real: Real):
    """On every real record, the rules of SigmaHQ and ours find exactly what they find by the book."""
    assert len(real.records) > 3_500
    assert {rule["title"] for rule in real.rules} == {rule.rule.title for rule in real.rulebook.rules}
    assert len(real.rules) == len({rule["title"] for rule in real.rules}) > 75
    hits = Counter[str]()
    for record in real.records:
        titles = expected(real.rules, record)
        assert found(real.rulebook, record) == titles, record
        hits.update(titles)
    assert hits.total() > 300
    assert len(hits) > 15


def put(record: dict[str, Any], path: list[str], value: Any) -> None:
    """Makes a record hold a value under nested names, in place of what is in the way; what it shared with others is copied first."""
    for name in path[:-1]:
        inner = record.get(name)
        record[name] = dict(inner) if isinstance(inner, dict) else {}
        record = record[name]
    record[path[-1]] = value


def satisfied(choose: Choose, record: dict[str, Any], definition: Any) -> None:
    """Gives a record what the items of a detection are probably content with: their literals, less the wildcards."""
    for key, value in items_of(definition):
        field, *modifiers = key.split("|")
        values = value if isinstance(value, list) else [value]
        one = "".join(values) if "all" in modifiers else pick(choose, values)
        if modifiers != ["exists"] or one:
            put(record, field.split("."), one.replace("*", "x") if isinstance(one, str) else one)


def made_a_list(record: dict[str, Any], path: list[str], new: Any) -> None:
    record[path[0]] = [record.get(path[0]), new]


def renamed(record: dict[str, Any], path: list[str], _: Any) -> None:
    record[path[0].swapcase()] = record.pop(path[0], None)


def flattened(record: dict[str, Any], path: list[str], new: Any) -> None:
    record.pop(path[0], None)
    record[".".join(path)] = new


def gone(record: dict[str, Any], path: list[str], _: Any) -> None:
    record.pop(path[0], None)


CHANGES: list[Callable[[dict[str, Any], list[str], Any], None]] = [put, put, made_a_list, renamed, flattened, gone]


def changed(choose: Choose, real: Real) -> dict[str, Any]:
    """A real record, mostly made like what one of the rules looks for, and then changed in a few members."""
    record = dict(real.records[pick(choose, real.matching if chance(choose, 2) else range(len(real.records)))])
    if not chance(choose, 4):
        for name, definition in pick(choose, real.rules)["detection"].items():
            if name != "condition" and not chance(choose, 4):
                satisfied(choose, record, definition)
    for _ in range(choose(0, 3)):
        path, value = pick(choose, list(places(record)) or [("eventName", None)])
        names = path.split(".")
        other = pick(choose, real.records).get(names[0])
        recased = value.swapcase() if isinstance(value, str) else [value]
        new = tree(choose) if chance(choose, 3) else pick(choose, [None, "", {}, [], False, 0, other, recased, value])
        pick(choose, CHANGES)(record, names, new)
    return record


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_real_records_find_what_the_specification_says(real: Real, data: st.DataObject):
    """Real records with members changed, and made alike to what rules look for, find exactly what they find by the book."""
    record = changed(lambda first, last: data.draw(st.integers(first, last)), real)
    titles = expected(real.rules, record)
    event("matches" if titles else "does not match")
    assert found(real.rulebook, record) == titles
