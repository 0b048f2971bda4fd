"""A rule's condition as a person reads it, and why it did or did not hold for an event: pure.

Beside the predicate that matches, `sigma.py` builds a tree of `Claim`s joined by `Junction`s. Matching never touches it. In goes such a tree
and an event, out comes an `Outcome` for every node: whether it held, and what the event holds in the fields that were asked. `missing`
names the smallest set of claims that stood between the event and a match, `unbound` what keeps a rule out of the index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from worker.detect.demands import ANYTHING, Demands
from worker.detect.fields import Event, Reader
from worker.detect.hints import Hint

MOST_VALUES = 20
"""Alternatives that a claim's text names before it counts the others."""


ANYWHERE = "any text"
"""What a claim without a field is about."""


class Word(StrEnum):
    """How the parts of a condition are joined."""

    AND = "AND"
    OR = "OR"
    NOT = "NOT"


@dataclass(frozen=True, slots=True)
class Claim:
    """One test: the field (None: any text in the event), what is asked of it, and the values of which any will do.

    `reads` are the fields it looks at, by name; an event for which it holds fulfils one of its `hints`, if there are any. `name` is that of
    the search which is nothing but this.
    """

    field: str | None
    asks: str
    values: tuple[str, ...]
    holds: Callable[[Event], bool]
    demands: Demands
    reads: tuple[tuple[str, Reader], ...]
    hints: tuple[Hint, ...] = ()
    name: str | None = None

    @property
    def text(self) -> str:
        """`field asks value`, the values quoted where they would not be seen."""
        shown = [value if value.strip() == value != "" else f"'{value}'" for value in self.values[:MOST_VALUES]]
        more = len(self.values) - len(shown)
        told = f"any of {', '.join(shown)}" if len(self.values) > 1 else "".join(shown)
        return " ".join(part for part in (self.field or ANYWHERE, self.asks, told, f"and {more} more" if more else "") if part)


@dataclass(frozen=True, slots=True)
class Junction:
    """What holds when all of its parts do (AND), any (OR), or its one part does not (NOT)."""

    word: Word
    parts: tuple[Node, ...]
    demands: Demands
    name: str | None = None

    @property
    def text(self) -> str:
        """Itself on one line."""
        if self.word is Word.NOT:
            return f"NOT {self.parts[0].text}" if isinstance(self.parts[0], Claim) else f"NOT ({self.parts[0].text})"
        return f" {self.word} ".join(f"({part.text})" if isinstance(part, Junction) else part.text for part in self.parts)


Node = Claim | Junction


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a node. `found` has for each field that a claim asked its name and its values, none where there is no such member."""

    node: Node
    held: bool
    parts: tuple[Outcome, ...] = ()
    found: tuple[tuple[str, tuple[Any, ...]], ...] = ()


def evaluate(node: Node, event: Event) -> Outcome:
    """What becomes of every node of a tree, also of those that matching would not have come to."""
    if isinstance(node, Claim):
        return Outcome(node, node.holds(event), found=tuple((name, tuple(read(event))) for name, read in node.reads))
    parts = tuple(evaluate(part, event) for part in node.parts)
    if node.word is Word.NOT:
        return Outcome(node, not parts[0].held, parts)
    return Outcome(node, (all if node.word is Word.AND else any)(part.held for part in parts), parts)


def missing(outcome: Outcome) -> tuple[Outcome, ...]:
    """The fewest claims that would have to turn out the other way for the whole to. Never empty.

    Those that held stood against it under a NOT. The parts are taken to be independent of each other.
    """
    return tuple({one.node.text: one for one in _turning(outcome)}.values())


def _turning(outcome: Outcome) -> list[Outcome]:
    node, parts = outcome.node, outcome.parts
    if isinstance(node, Claim):
        return [outcome]
    if node.word is Word.NOT:
        return _turning(parts[0])
    if outcome.held is (node.word is Word.OR):  # an OR that is to fail, an AND that is to hold: every part that stands against it
        return [one for part in parts if part.held is outcome.held for one in _turning(part)]
    return min(map(_turning, parts), key=len)


def unbound(node: Node) -> Iterator[Node]:
    """The parts of a tree that demand no event source, name or identity, so that the whole demands none."""
    if ANYTHING not in node.demands:
        return
    if isinstance(node, Junction) and node.word is Word.OR:
        for part in node.parts:
            yield from unbound(part)
    else:
        yield node
