"""The samples of SigmaHQ's rules as `sigmahq_samples.yml` has them: events made whole with what all have, misses made from hits.

In goes the file; out comes one `Samples` a rule. What the file's keys mean stands at its head.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

Event = dict[str, Any]

FILE = Path(__file__).with_name("sigmahq_samples.yml")


@dataclass(frozen=True, slots=True)
class Reason:
    """Why CloudTrail falls short of a rule or the rule of CloudTrail, and where that can be read."""

    because: str
    source: str


@dataclass(frozen=True, slots=True)
class Samples:
    """The events of one rule. `hits` and `formal` match it; a miss has its name and the place, among those two, of what it was made from.

    `never`: one of the reasons is why no event of CloudTrail can match.
    """

    id: str
    title: str
    hits: tuple[Event, ...]
    formal: tuple[Event, ...]
    misses: tuple[tuple[str, int, Event], ...]
    reasons: tuple[Reason, ...]
    never: bool

    @property
    def matching(self) -> tuple[Event, ...]:
        return self.hits + self.formal


def read() -> Iterator[Samples]:
    """The samples of each rule, in the order of the file."""
    document = yaml.safe_load(FILE.read_text("utf-8"))
    for rule in document["rules"]:
        hits, formal = ([{**document["frame"], **event} for event in rule.get(kind, ())] for kind in ("hits", "formal"))
        misses = [(miss["is"], miss.get("of", 0), changed((hits + formal)[miss.get("of", 0)], miss)) for miss in rule["misses"]]
        reasons = [Reason(**told) for told in (*rule.get("limits", ()), *([rule["never"]] if "never" in rule else ()))]
        yield Samples(rule["id"], rule["title"], tuple(hits), tuple(formal), tuple(misses), tuple(reasons), "never" in rule)


def changed(hit: Event, miss: Event) -> Event:
    """What a miss makes of a hit."""
    event = deepcopy(hit)
    for path, value in miss.get("set", {}).items():
        *way, last = steps(path)
        reduce(lambda owner, step: owner[step], way, event)[last] = deepcopy(value)
    for path in miss.get("cut", ()):
        *way, last = steps(path)
        del reduce(lambda owner, step: owner[step], way, event)[last]
    return event


def steps(path: str) -> list[Any]:
    return [int(step) if step.isdigit() else step for step in path.split(".")]


def differences(left: Any, right: Any) -> int:
    """In how many places two events differ.

    A value in place of another, an object that has no name in common with the one it replaces, and another caller each count once.
    """
    if left == right:
        return 0
    if isinstance(left, dict) and isinstance(right, dict) and left.keys() & right.keys():
        if left.get("type") != right.get("type") and "principalId" in left and "principalId" in right:
            return 1
        return sum(differences(left.get(name, ...), right.get(name, ...)) for name in left.keys() | right.keys())
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return sum(map(differences, left, right))
    return 1
