"""The tests inside rules say whether their rule answers as its author meant."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from tests.detect.reading import read
from worker.detect import rulebook, samples

GONE = {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile"}
RULE = {"title": "T", "logsource": {"product": "aws"}, "detection": {"selection": GONE, "condition": "selection"}}


def raise_(_: Any) -> bool:
    raise RecursionError("too deep")


def test_samples_tell_what_went_wrong():
    """A sample passes when its rule answers as it says; otherwise its result says how not, and a raising rule passes nothing."""
    tests = [
        {"name": "hit", "match": True, "event": GONE},
        {"name": "no miss", "match": False, "event": GONE},
        {"name": "no hit", "match": True, "event": {**GONE, "eventName": "x"}},
    ]
    (compiled,), _ = read("rule.yml", json.dumps({**RULE, "tests": tests}))
    results = samples.run(rulebook.index([compiled]))
    assert [result.passed for result in results] == [True, False, False]
    assert [result.text for result in results] == [None, "the rule matches, and should not", "the rule does not match, and should"]
    broken = samples.run(rulebook.index([replace(compiled, matcher=replace(compiled.matcher, matches=raise_))]))
    assert [result.text for result in broken[:2]] == ["the rule raised RecursionError: too deep"] * 2
