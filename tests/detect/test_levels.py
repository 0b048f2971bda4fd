"""A house changes the levels of rules without copying them; what is not said clearly is refused, with its place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.detect import library
from worker.detect.library import RuleFaults
from worker.detect.rulebook import Rulebook
from worker.model import CIRCUMSTANCES, Level

ID, STORM = "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"
RULE = {
    "title": "Deleted",
    "id": ID,
    "name": "deleted",
    "logsource": {"product": "aws", "service": "cloudtrail"},
    "detection": {"s": {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile"}, "condition": "s"},
    "level": "high",
    "level_when": {"authorised": "low", "documented": "medium"},
}
MANY = {
    "title": "Many deleted",
    "id": STORM,
    "correlation": {"type": "event_count", "rules": ["deleted"], "timespan": "5m", "condition": {"gte": 5}, "generate": True},
    "level": "critical",
}


def book(*levels: Any) -> Rulebook:
    """A rule and a correlation, each in its file, and documents of levels in theirs."""
    documents = [RULE, MANY, *({"levels": one} for one in levels)]
    return library.build([(f"{number}.yml", json.dumps(one)) for number, one in enumerate(documents)])


def faults(*texts: str) -> list[str]:
    with pytest.raises(RuleFaults) as refused:
        library.build([("rule.yml", json.dumps(RULE)), *((f"levels-{number}.yml", text) for number, text in enumerate(texts))])
    return [str(fault) for fault in refused.value.faults]


@pytest.mark.parametrize("called", [ID, "deleted", "Deleted"])
def test_a_house_sets_a_row_by_any_name_of_a_rule(called: str) -> None:
    """Its row comes over the author's, the other rows stay, and the other rule is as it was."""
    told = book({called: {"authorised": "informational", "wide": "critical"}})
    (rule,), (many,) = told.rules, told.correlations
    assert rule.rule.level_when == {"authorised": "informational", "documented": "medium", "wide": "critical"}
    assert rule.rule.level is Level.HIGH
    assert many.rule.level_when == {}


def test_a_row_for_every_rule_yields_to_that_of_one() -> None:
    """`*` reaches rules and correlations, and a rule's own entry counts for what it says."""
    told = book({"*": {"authorised": "medium", "unused": "low"}, "Many deleted": {"unused": "high"}})
    assert told.rules[0].rule.level_when == {"authorised": "medium", "documented": "medium", "unused": "low"}
    assert told.correlations[0].rule.level_when == {"authorised": "medium", "unused": "high"}


def test_without_levels_every_rule_is_as_its_author_wrote_it() -> None:
    """An empty document changes nothing either."""
    for told in (book(), book({}), book({"deleted": {}})):
        assert told.rules[0].rule.level_when == {"authorised": "low", "documented": "medium"}


def test_what_a_house_set_is_known_with_its_place() -> None:
    """File and line, for whoever asks why a level is what it is."""
    text = '# ours\nlevels:\n  "*": {unused: low}\n  deleted:\n    wide: critical\n'
    told = library.build([("rule.yml", json.dumps(RULE)), ("ours.yml", text)]).house
    assert {name: {key: row.told_at for key, row in table.items()} for name, table in told.items()} == {
        "*": {"unused": "ours.yml:3"},
        ID: {"wide": "ours.yml:5"},
    }


KNOWN = ", ".join(CIRCUMSTANCES)
NAMES = ", ".join(Level)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("levels: [x]", "levels-0.yml:1: levels must be a mapping of rules, or * for every one, to {circumstance: level}"),
        ("levels:\n  nobody: {wide: low}", "levels-0.yml:2: 'nobody' leads to no rule: it is no id, name or title of any that is loaded"),
        ("levels:\n  deleted: low", f"levels-0.yml:2: what levels has for 'deleted' must be a mapping of {KNOWN} to levels"),
        ("levels:\n  deleted:\n    broad: low", f"levels-0.yml:3: levels knows {KNOWN}, not 'broad'"),
        ("levels:\n  deleted:\n    wide: urgent", f"levels-0.yml:3: 'urgent' is none of the levels {NAMES}"),
        ("levels:\n  deleted:\n    wide: [low]", f"levels-0.yml:3: '['low']' is none of the levels {NAMES}"),
        ("levels:\n  7: {wide: low}", "levels-0.yml:1: '7' is no id, name or title of a rule: put it in quotes"),
        ("levels: {deleted: {wide: low}}\nnote: x", "levels-0.yml:1: levels stand in a document of their own"),
        ("levels:\n  deleted: {wide: low}\n  deleted: {wide: high}", "levels-0.yml:3: the key 'deleted' is given twice"),
        (
            f"levels:\n  deleted: {{wide: low}}\n  {ID}: {{wide: high}}",
            f"levels-0.yml:3: the level of 'wide' for {ID} also stands at levels-0.yml:2",
        ),
    ],
)
def test_what_is_not_clear_is_refused_at_its_line(text: str, told: str) -> None:
    """Like any fault of a rule: at the start nothing runs, and a reload leaves the old set in force."""
    assert faults(text) == [told]


def test_two_files_may_not_say_the_same() -> None:
    """Whichever came first by its name would count, and nobody could see that; for every rule too."""
    assert faults('levels: {"*": {wide: low}}', '\nlevels: {"*": {wide: low}}') == [
        "levels-1.yml:2: the level of 'wide' for * also stands at levels-0.yml:1"
    ]


TABLES = st.dictionaries(st.sampled_from(CIRCUMSTANCES), st.sampled_from([one.value for one in Level]))


@given(every=TABLES, own=TABLES)
def test_a_row_is_the_nearest_that_is_given(every: dict[str, str], own: dict[str, str]) -> None:
    """For any tables: a rule's entry, else that for every rule, else its author's."""
    told = book({"*": every, "deleted": own}).rules[0].rule.level_when
    assert told == {**RULE["level_when"], **every, **own}  # type: ignore[dict-item]
