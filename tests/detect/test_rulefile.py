"""A rule file says what it means, or says what is wrong with it and where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detect.reading import read
from worker.model import Level, stable_id

GOOD = """\
title: A profile is gone
id: 5F0E3D1C-9A55-4A4C-8D1D-2F0A3F6F7D11
description: >
  What it means.
references: [https://docs.aws.amazon.com/]
date: 2026-11-23
tags: [attack.impact]
logsource:
  product: aws
  service: cloudtrail
detection:
  selection:
    eventSource: iam.amazonaws.com
    eventName: DeleteInstanceProfile
  condition: selection
falsepositives: [Terraform]
level: high
remediation: [restore-instance-profile]
runbook: docs/runbooks.md#gone
tests:
  - name: gone
    match: true
    event:
      eventTime: 2026-11-02T09:14:31Z
      eventName: DeleteInstanceProfile
"""


def swapped(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_rule_carries_all_that_its_file_says():
    """Sigma's metadata and ours arrive in the compiled rule, times in tests as text."""
    (rule,), faults = read("gone.yml", GOOD)
    assert not faults
    told = rule.rule
    assert (told.id, told.title, told.level) == ("5f0e3d1c-9a55-4a4c-8d1d-2f0a3f6f7d11", "A profile is gone", Level.HIGH)
    assert (told.description, told.tags, told.falsepositives) == ("What it means.", ("attack.impact",), ("Terraform",))
    assert (told.remediation, told.runbook) == (("restore-instance-profile",), "docs/runbooks.md#gone")
    assert (rule.path, rule.line) == ("gone.yml", 1)
    (sample,) = rule.samples
    assert (sample.name, sample.match, sample.line) == ("gone", True, 21)
    assert sample.events == ({"eventTime": "2026-11-02T09:14:31Z", "eventName": "DeleteInstanceProfile"},)


def test_a_rule_says_what_must_be_known():
    """What it wants to be known before it is told arrives in the compiled rule; without it, it wants nothing."""
    for text, wanted in ((GOOD, ()), (swapped("level: high", "level: high\nonly_when: [in-use]"), ("in-use",))):
        (rule,), faults = read("gone.yml", text)
        assert not faults
        assert rule.rule.only_when == wanted


def test_a_rule_without_id_and_level_gets_both():
    """A missing id is made of the title, always the same; a missing level claims nothing."""
    text = swapped("id: 5F0E3D1C-9A55-4A4C-8D1D-2F0A3F6F7D11\n", "").replace("level: high\n", "")
    (rule,), _ = read("gone.yml", text)
    assert (rule.rule.id, rule.rule.level) == (stable_id("rule", "A profile is gone"), Level.INFORMATIONAL)


def test_several_documents_are_several_rules():
    """Documents of one file are read each for itself: empty ones are passed over, and the line of a bad one is that of the file."""
    other = swapped("A profile is gone", "Another").replace("id: 5F0E3D1C-9A55-4A4C-8D1D-2F0A3F6F7D11\n", "")
    rules, faults = read("two.yml", f"---\n{GOOD}---\n---\n{other}")
    assert not faults
    assert [rule.rule.title for rule in rules] == ["A profile is gone", "Another"]
    _, faults = read("three.yml", f"---\n{GOOD}---\n---\ntitle: bad\n---\n{other}")
    assert {fault.line for fault in faults} == {29}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        pytest.param("- a\n- b\n", 1, "no Sigma rule", id="a list"),
        pytest.param("kind: ConfigMap\n", 1, "no Sigma rule", id="some other YAML"),
        pytest.param("just words\n", 1, "no Sigma rule", id="words"),
        pytest.param("a: [1,\nb: }", 2, "this is not YAML", id="no YAML"),
        pytest.param("a: b\n\x00", 2, "this is not YAML", id="a binary file"),
        pytest.param("a: &a [*a]\n", 1, "Recursive", id="a recursive alias"),
        pytest.param(swapped("title: A profile is gone\n", ""), 1, "needs a title", id="no title"),
        pytest.param(swapped("title: A profile is gone", "title: 7"), 1, "title", id="a title that is no text"),
        pytest.param(swapped("id: 5F0E3D1C-", "id: nonsense-"), 2, "no UUID", id="an id that is no UUID"),
        pytest.param(swapped("level: high", "level: severe"), 17, "severe", id="an unknown level"),
        pytest.param(swapped("level: high", "level: 3"), 17, "level", id="a level that is no text"),
        pytest.param(swapped("level: high", "only_when: in-use"), 17, "only_when", id="a condition that is no list"),
        pytest.param(swapped("level: high", "only_when: [on-fire]"), 17, "in-use", id="a condition that nobody knows"),
        pytest.param(swapped("[attack.impact]", "[impact]"), 7, "tag", id="a tag without a namespace"),
        pytest.param(swapped("[attack.impact]", "attack.impact"), 7, "tags", id="tags that are no list"),
        pytest.param(swapped("[Terraform]", "[a: b]"), 16, "falsepositives", id="a false positive that is no text"),
        pytest.param(swapped("date: 2026-11-23", "date: soon"), 6, "date", id="a date that is none"),
        pytest.param(swapped("service: cloudtrail", "service: s3"), 8, "product: aws, service: s3", id="another service"),
        pytest.param(swapped("product: aws", "product: windows"), 8, "product: windows", id="another product"),
        pytest.param(swapped("product: aws", "category: x"), 8, "category: x", id="a category"),
        pytest.param(swapped("logsource:\n  product: aws\n  service: cloudtrail\n", ""), 1, "logsource", id="no logsource"),
        pytest.param(swapped("condition: selection", "condition: other"), 15, "other", id="a condition of what is not there"),
        pytest.param(swapped("condition: selection", "condition: 1 of x*"), 15, "x*", id="a quantifier over nothing"),
        pytest.param(swapped("condition: selection", "condition: selection and"), 15, "condition", id="a condition that stops short"),
        pytest.param(swapped("condition: selection", "condition: selection | count() > 5"), 15, "pipe", id="a count"),
        pytest.param(swapped("  condition: selection\n", ""), 11, "condition", id="no condition"),
        pytest.param(swapped("condition: selection", "condition: selection\n  timeframe: 5m"), 16, "timeframe", id="a timeframe"),
        pytest.param(swapped("eventName: Del", "eventName|nope: Del"), 14, "nope", id="an unknown modifier"),
        pytest.param(swapped("eventName: Del", "eventName|cidr: Del"), 14, "CIDR", id="a CIDR that is none"),
        pytest.param(swapped("eventName: Del", "eventName|re: (Del"), 14, "eventName|re", id="a pattern that is none"),
        pytest.param(swapped("eventName: Del", "eventName|re: (?<=x)Del"), 14, "eventName|re", id="a pattern beyond RE2"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|re: 5"), 14, "must be text", id="a pattern that is no text"),
        pytest.param(swapped("eventName: Del", "eventName|expand: '%x%"), 14, "this is not YAML", id="an open quote"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|expand: '%x%'"), 14, "%x%", id="a placeholder"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|lt: many"), 14, "eventName|lt", id="less than a word"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName: {a: b}"), 14, "eventName", id="a mapping as a value"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName: 9007199254740993"), 14, "too large", id="a number past 2^53"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|hour: 3.5"), 14, "whole number", id="half an hour"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|fieldref|cased: a"), 14, "fieldref", id="fieldref, then cased"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "eventName|cased|fieldref: a"), 14, "fieldref", id="cased, then fieldref"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "'|startswith': a"), 12, "need a field", id="a keyword at a beginning"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "'|hour': 3"), 12, "needs a field", id="a keyword that is an hour"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "'|lt': 3"), 12, "need a field", id="a keyword that is less"),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "7: a"), 12, "field name 7", id="a field name that is no text"),
        pytest.param(
            swapped("selection:\n    eventSource", "other: []\n  selection:\n    eventSource"), 12, "empty", id="an empty detection"
        ),
        pytest.param(swapped("eventName: DeleteInstanceProfile", "mfa: No"), 14, "YAML reads No", id="a word that YAML takes for false"),
        pytest.param(
            swapped("eventName: DeleteInstanceProfile", "a: 012"), 14, "YAML reads 012", id="a number that YAML takes for another"
        ),
        pytest.param(swapped("eventName: Del", "eventSource: Del"), 14, "given twice", id="a key given twice"),
        pytest.param("correlation: {type: event_count}\n" + GOOD, 1, "cannot stand in one document", id="a correlation too"),
        pytest.param(GOOD + "filter: {rules: any}\n", 26, "cannot stand in one document", id="a filter too"),
        pytest.param("action: global\n" + GOOD, 1, "action", id="a collection's action"),
        pytest.param(swapped("[restore-instance-profile]", "restore-instance-profile"), 18, "remediation", id="remediation, no list"),
        pytest.param(swapped("[restore-instance-profile]", "[Restore it]"), 18, "remediation", id="remediation, no action"),
        pytest.param(swapped("[restore-instance-profile]", "[a, a]"), 18, "twice", id="remediation, twice"),
        pytest.param(swapped("docs/runbooks.md#gone", "[x]"), 19, "runbook", id="runbook, no text"),
        pytest.param(swapped("match: true", "match: 1"), 21, "true or false", id="a test's match, no bool"),
        pytest.param(swapped("    match: true\n", ""), 21, "exactly", id="a test without match"),
        pytest.param(swapped("match: true", "match: true\n    event_name: x"), 21, "exactly", id="a test with something else"),
        pytest.param(swapped("eventTime: 2026", "7: 2026"), 23, "JSON", id="a test's event that is no JSON"),
        pytest.param(swapped("eventTime: 2026-11-02T09:14:31Z", "mfa: No"), 24, "YAML reads No", id="a test's word taken for false"),
    ],
)
def test_a_bad_rule_is_refused_with_its_line(text: str, line: int, words: str):
    """Whatever would not mean what it says is refused, with the file, the line and the reason; never evaluated nearly."""
    rules, faults = read("bad.yml", text)
    assert not rules
    assert [(fault.path, fault.line) for fault in faults] == [("bad.yml", line)], faults
    assert words in faults[0].text
    assert str(faults[0]).startswith(f"bad.yml:{line}: ")


def test_all_faults_of_a_rule_are_told_at_once():
    """Faults in different parts of one rule, and in different items of one detection, are each told."""
    text = swapped("product: aws", "product: gcp").replace("eventSource: i", "eventSource|x: i").replace("eventName: D", "eventName|y: D")
    _, faults = read("bad.yml", text.replace("[restore-instance-profile]", "7"))
    assert {fault.line for fault in faults} == {8, 13, 14, 18}


def test_a_merge_may_be_overridden():
    """What a mapping merges (<<) and then says otherwise is not given twice; what it says twice is."""
    merged = swapped("      eventTime: 2026-11-02T09:14:31Z\n", "      <<: &base {eventTime: x}\n      eventTime: y\n")
    (rule,), _ = read("merged.yml", merged)
    assert rule.samples[0].events[0]["eventTime"] == "y"
    _, faults = read("twice.yml", merged.replace("eventTime: y", "eventTime: y\n      eventTime: z"))
    assert ["given twice" in fault.text for fault in faults] == [True]


def test_a_bomb_of_aliases_is_refused():
    """A few lines that expand to millions of nodes are refused before anything walks them."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    rules, faults = read("bomb.yml", "\n".join(lines) + "\n" + GOOD)
    assert not rules
    assert "alias" in faults[0].text


@given(st.text(max_size=200) | st.text("-:[]{}'\"&*!|>\n #abc\t%@`?,0", max_size=60))
def test_no_text_raises(text: str):
    """Any text is read to rules and faults."""
    rules, faults = read("any.yml", text)
    assert not rules
    assert all(fault.path == "any.yml" for fault in faults)


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 40), st.text("-:[]{}'\"&*!|>\n #a7%?", max_size=4))
def test_no_damage_raises(at: int, length: int, instead: str):
    """A good rule with any piece replaced is a good rule or a fault, never an exception."""
    rules, faults = read("any.yml", GOOD[:at] + instead + GOOD[at + length :])
    assert len(rules) + len(faults) > 0
