"""Works taken in turns, so that what else the machine does spoils all of them alike, and the median time of each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from statistics import median
from time import perf_counter
from typing import TypeVar

ROUNDS = 7

Name = TypeVar("Name", bound=Hashable)


def medians(works: Mapping[Name, Callable[[], object]], rounds: int = ROUNDS) -> dict[Name, float]:
    """The median time of each work, in seconds."""
    took: dict[Name, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            began = perf_counter()
            work()
            took[name].append(perf_counter() - began)
    return {name: median(seconds) for name, seconds in took.items()}
