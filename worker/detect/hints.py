"""What an event must hold for a condition to be worth asking: pure.

A `Hint` says that a field holds a certain text as a whole (IS), or within one (HAS). From one value of a rule come hints of which any event
that the value matches fulfils at least one; from a condition's tree come alternatives, each a set of hints that go together. Hints may let
through more events than match, never fewer; where nothing is certain there is none. `index.py` looks rules up by them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from sigma.types import SigmaBool, SigmaNumber, SigmaRegularExpression, SigmaString, SigmaTimestampPart, SigmaType

from worker.detect.fields import fold

MOST_ALTERNATIVES = 1024
"""An AND of lists about the event is looked up by so many combinations at most; then by fewer of its parts."""
MOST_MULTIPLIED = 64
"""The same with a list about anything else: a few hundred rules of such products would fill the memory."""
MOST_TIMES = 6
"""Or, where there are many combinations already, by so many times more of them."""
MOST_LISTED = 50_000
"""A longer OR is no hint."""
MOST_TOGETHER = 8
"""Hints that go together at most; the best of them."""
SHORTEST = 3
"""Characters of a text that is worth looking for within others."""

LONG_S = "\u017f"
"""The one letter beyond ASCII that a pattern without regard to case takes for an ASCII one (s) and that lower case does not."""

PLAIN = re.compile(r"(?:[\w :/,=@\"'<>!#%&~;-]|\\[^\w\s])", re.ASCII)
"""One character of a regular expression that stands for itself."""
COUNTED = re.compile(r"[?*+]\??|\{[0-9,]*\}\??", re.ASCII)
CLASS = re.compile(r"\[(?:\^[^\]\[\\^]|[^\]\[\\^])[^\]\[\\]*\]|\.|\\[dDwWsSbB]|\^|\$")
"""What stands for characters that are not certain, or for none."""


class Sort(StrEnum):
    """How a field holds a text."""

    IS = "is"
    HAS = "has"


class Hint(NamedTuple):
    """`text` is folded, as `fields.fold` does it; in one that is sought within others the long s is an s."""

    field: str
    sort: Sort
    text: str


Alternatives = tuple[frozenset[Hint], ...]
"""Sets of hints; what matches fulfils all of at least one. An empty set is fulfilled by every event."""

NONE: Alternatives = (frozenset(),)


def hints(field: str, value: SigmaType) -> tuple[Hint, ...]:
    """Hints of which whatever matches a value fulfils one; none where nothing is certain."""
    if isinstance(value, SigmaString):
        parts = [part for part in value.s if isinstance(part, str)]
        if len(parts) == len(value.s):
            return _sure(field, Sort.IS, fold("".join(parts)))
        return _sure(field, Sort.HAS, fold(max(parts, key=len, default="")))
    if isinstance(value, SigmaBool):
        return _sure(field, Sort.IS, "true" if value.boolean else "false")
    if isinstance(value, SigmaTimestampPart):  # before SigmaNumber, which it is also
        return ()
    if isinstance(value, SigmaNumber):
        number = value.number
        spelt = {str(number), str(float(number)), *([str(int(number))] if number == int(number) else []), *([] if number else ["-0.0"])}
        return tuple(Hint(field, Sort.IS, text) for text in sorted(spelt))
    if isinstance(value, SigmaRegularExpression):
        return _sure(field, Sort.HAS, fold(max(_runs(str(value.regexp)), key=len, default="")))
    return ()


def _sure(field: str, sort: Sort, text: str) -> tuple[Hint, ...]:
    """A hint, unless its text is too short to tell much, or holds half surrogates, which are looked for nowhere."""
    text = text.replace(LONG_S, "s") if sort is Sort.HAS else text
    sound = not any("\ud800" <= letter <= "\udfff" for letter in text)
    return (Hint(field, sort, text),) if sound and (sort is Sort.IS or len(text) >= SHORTEST) else ()


def _runs(pattern: str) -> list[str]:
    """Texts that whatever a regular expression matches is sure to hold; none where it has groups, alternatives or what is not known here."""
    runs, at = [""], 0
    while at < len(pattern):
        plain = PLAIN.match(pattern, at)
        told = plain or CLASS.match(pattern, at)
        if told is None:
            return []
        at = told.end()
        counted = COUNTED.match(pattern, at)
        if plain is not None and (counted is None or counted.group()[0] == "+"):
            runs[-1] += plain.group()[-1]
        if counted is not None or plain is None:
            runs.append("")
            at = counted.end() if counted is not None else at
    return runs


# Conditions.


def any_of(parts: Sequence[Alternatives]) -> Alternatives:
    """The alternatives of an OR."""
    union = tuple(dict.fromkeys(one for part in parts for one in part))
    return NONE if frozenset() in union or len(union) > MOST_LISTED else union


def all_of(parts: Sequence[Alternatives], first: Sequence[str]) -> Alternatives:
    """The alternatives of an AND: as many parts together as the bounds allow, those about the fields in `first` before others, short ones first."""
    whole: Alternatives = NONE
    early = [any(hint.field in first for one in part for hint in one) for part in parts]
    for is_early, part in sorted(zip(early, parts, strict=True), key=lambda told: (not told[0], len(told[1]))):
        bound = MOST_ALTERNATIVES if is_early else max(MOST_MULTIPLIED, min(MOST_ALTERNATIVES, MOST_TIMES * len(whole)))
        if whole == NONE or len(whole) * len(part) <= bound:
            whole = tuple(dict.fromkeys(_best(left | right, first) for left in whole for right in part))
    return whole


def _best(together: frozenset[Hint], first: Sequence[str]) -> frozenset[Hint]:
    if len(together) <= MOST_TOGETHER:
        return together
    ranked = sorted(together, key=lambda hint: (hint.field not in first, hint.sort is Sort.HAS, -len(hint.text), hint))
    return frozenset(ranked[:MOST_TOGETHER])
