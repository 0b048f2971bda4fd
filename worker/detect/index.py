"""The index: which rules are worth asking of an event, found without asking them. Pure.

In go the conditions of rules, out come for an event the places of the rules that it may match, in order; never one too few. The rules stand in
a tree that parts them by what they need (`hints.py`): first by the event's name and source, then by whichever fields part the rest.
A field is read once for all rules that need something of it, and texts within others are looked for all at once (Aho-Corasick), so
that the cost of an event grows with the rules that may match it and not with those that are loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ahocorasick_rs import AhoCorasick

from worker.detect.explanation import Claim, Node, Word
from worker.detect.fields import Event, Reader, elements, fold, json_text, leaves, reader, text_of
from worker.detect.hints import LONG_S, NONE, Alternatives, Hint, Sort, all_of, any_of

FIRST = ("eventName", "eventSource")
"""Where the tree begins; every CloudTrail record has both."""
FEW = 2
"""So many rules are asked rather than parted further."""

Entry = tuple[int, frozenset[Hint]]
"""The place of a rule, and what is still to be found out of one of its alternatives."""


class _Whole(NamedTuple):
    """A parting by the whole texts of a field."""

    field: str
    read: Reader
    branches: dict[str, _Branch]


class _Within(NamedTuple):
    """A parting by texts that stand within those of a field."""

    field: str
    read: Reader
    texts: AhoCorasick
    branches: tuple[_Branch, ...]


class _Branch(NamedTuple):
    """Rules to be asked once one has come so far, and the ways on."""

    places: tuple[int, ...]
    wholes: tuple[_Whole, ...]
    withins: tuple[_Within, ...]


class Index:
    """Rules by what an event must hold for them. Conditions are given in the order of the rules."""

    def __init__(self, conditions: Iterable[Node]) -> None:
        entries = [(place, one) for place, condition in enumerate(conditions) for one in _alternatives(condition)]
        self._root = _grow(entries)

    def candidates(self, event: Event) -> Sequence[int]:
        """The places of the rules that may match an event, in order, each once."""
        found: list[int] = []
        read: dict[str, list[Any]] = {}
        come = [self._root]
        for branch in come:
            found += branch.places
            for field, reading, branches in branch.wholes:
                values = read.get(field)
                if values is None:
                    values = read[field] = reading(event)
                for value in values:
                    # Nearly always one text; written out, because this is what every record costs.
                    if type(value) is str:
                        further = branches.get(value.lower() if value.isascii() else fold(value))
                        if further is not None:
                            come.append(further)
                    else:
                        come += [branches[text] for text in _texts(value) if text in branches]
            for field, reading, texts, within in branch.withins:
                values = read.get(field)
                if values is None:
                    values = read[field] = reading(event)
                if values:
                    come += [within[number] for number in _found(texts, values)]
        return found if len(found) < 2 else sorted(set(found))  # one alone is in order


def _alternatives(node: Node) -> Alternatives:
    if isinstance(node, Claim):
        return tuple(frozenset({hint}) for hint in node.hints) or NONE
    if node.word is Word.NOT:
        return NONE
    parts = [_alternatives(part) for part in node.parts]
    return any_of(parts) if node.word is Word.OR else all_of(parts, FIRST)


def _grow(entries: Sequence[Entry]) -> _Branch:
    """The branch that parts some entries by one hint of each; those that have none left stay here."""
    weights = Counter((hint.sort, hint.field) for _, needs in entries for hint in needs)

    def rank(hint: Hint) -> tuple[int, int, int, int, str]:
        # What is nested deep is often missing, and to find that out takes longest.
        early = FIRST.index(hint.field) if hint.field in FIRST and hint.sort is Sort.IS else len(FIRST)
        return early, hint.sort is Sort.HAS, -weights[hint.sort, hint.field], hint.field.count("."), hint.field + hint.text

    places: list[int] = []
    parted: dict[tuple[str, Sort], dict[str, list[Entry]]] = {}
    few = len({place for place, _ in entries}) <= FEW
    for place, needs in entries:
        hint = min(needs, key=rank, default=None)
        if hint is None or (few and rank(hint)[0] == len(FIRST)):
            places.append(place)
        else:
            parted.setdefault((hint.field, hint.sort), {}).setdefault(hint.text, []).append((place, needs - {hint}))
    return _Branch(
        tuple(sorted(set(places))),
        tuple(
            _Whole(field, reader(field), {text: _grow(rest) for text, rest in texts.items()})
            for (field, sort), texts in parted.items()
            if sort is Sort.IS
        ),
        tuple(
            _Within(field, reader(field), AhoCorasick(list(texts)), tuple(_grow(rest) for rest in texts.values()))
            for (field, sort), texts in parted.items()
            if sort is Sort.HAS
        ),
    )


def _texts(value: Any) -> set[str]:
    """The folded texts of a scalar, or of those in a list."""
    return {fold(text) for one in (elements(value) if isinstance(value, list) else [value]) if (text := text_of(one)) is not None}


def _found(texts: AhoCorasick, values: list[Any]) -> set[int]:
    """The numbers of the texts that stand within any of the values: in a scalar, in the JSON of an object or list, in a text within it."""
    found: set[int] = set()
    for value in values:
        if type(value) is str and value.isascii():
            spelt = [value.lower()]
        elif isinstance(value, (dict, list)):
            spelt = [_plain(text) for text in (json_text(value), *(leaf for leaf in leaves(value) if isinstance(leaf, str)))]
        else:
            text = text_of(value)
            spelt = [] if text is None else [_plain(text)]
        for text in spelt:
            for number, _, _ in texts.find_matches_as_indexes(text, overlapping=True):
                found.add(number)
    return found


def _plain(text: str) -> str:
    """The text as hints are sought in it: folded, with the long s as an s, and without half surrogates."""
    folded = fold(text)
    return folded if folded.isascii() else folded.replace(LONG_S, "s").encode("utf-8", "replace").decode()
