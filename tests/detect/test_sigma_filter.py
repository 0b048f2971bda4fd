"""Sigma filters narrow the rules that they name, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.detect.correlations import book, record, watching
from worker.detect import library
from worker.detect.rulebook import Rulebook


def sigma_filter(rules: Any, condition: Any = "not selection", **more: Any) -> dict[str, Any]:
    """A filter that lets everybody through but alice."""
    section = {"rules": rules, "selection": {"userIdentity.arn": "alice"}, "condition": condition}
    return {"title": "Not alice", "logsource": {"product": "aws", "service": "cloudtrail"}, "filter": section, **more}


def found(rules: Rulebook, name: str, who: str) -> bool:
    return bool(rules.match(record(name, 0, who)).findings)


@pytest.mark.parametrize(("rules", "narrowed"), [("any", "ABC"), ("a", "A"), (["a", "B done"], "AB")])
def test_a_filter_narrows_the_rules_that_it_names(rules: Any, narrowed: str):
    """By id, name or title, or any: what the filter does not let through, those rules do not match. Others do."""
    within = book(sigma_filter(rules))
    for name in "ABC":
        assert found(within, name, "mallory")
        assert found(within, name, "alice") is (name not in narrowed)


def test_filters_add_up():
    """Several filters on one rule must all let an event through."""
    other = sigma_filter("a")
    other["filter"]["selection"] = {"userIdentity.arn": "bob"}
    within = book(sigma_filter("a"), other)
    assert [found(within, "A", who) for who in ("alice", "bob", "mallory")] == [False, False, True]


def test_a_filtered_rule_keeps_its_index():
    """A filter takes nothing from what a rule demands, so no record more is built for it."""
    within, without = book(sigma_filter("any")), book()
    assert within.interest == without.interest
    assert not within.unindexed


def test_correlations_count_what_the_filter_lets_through():
    """An event that a filter keeps from a rule is none for the correlations that watch the rule."""
    counting = watching("event_count", "a", condition={"gte": 1})
    assert book(counting).match(record("A", 0, "alice")).hits
    assert not book(counting, sigma_filter("a")).match(record("A", 0, "alice")).hits


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (sigma_filter("nobody"), "leads to no rule"),
        (sigma_filter(None), "names the rules"),
        (sigma_filter([]), "names the rules"),
        (sigma_filter([7]), "names the rules"),
        (sigma_filter("a", ["selection"]), "one condition"),
        (sigma_filter("a", "other"), "other"),
        (sigma_filter("a", ""), "needs a condition"),
        (sigma_filter("a", logsource={"product": "windows"}), "product: windows"),
        ({**sigma_filter("a"), "filter": ["selection"]}, "filter is needed"),
        ({**sigma_filter("a"), "title": ""}, "title"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(document: dict[str, Any], words: str):
    """A filter that would filter nothing, or something else, is refused with its file and the reason."""
    with pytest.raises(library.RuleFaults) as refused:
        book(document)
    assert {fault.path for fault in refused.value.faults} == {"3.yml"}
    assert any(words in fault.text for fault in refused.value.faults)


def test_a_correlation_is_not_filtered():
    """Filters are for rules; a correlation is narrowed by the rules that it watches."""
    with pytest.raises(library.RuleFaults, match="is a correlation"):
        library.build(
            [("1.yml", json.dumps(one)) for one in (watching("event_count", "x", condition={"gte": 1}), sigma_filter("together"))]
            + [
                (
                    "2.yml",
                    json.dumps(
                        {
                            "title": "X",
                            "name": "x",
                            "logsource": {"product": "aws"},
                            "detection": {"s": {"eventName": "X"}, "condition": "s"},
                        }
                    ),
                )
            ]
        )
