"""From a Sigma rule to a predicate: pure, and done once a rule.

In goes a rule as pySigma parsed it, out comes a `Matcher`: a closure over plain Python values that says whether an event matches, and the
event sources and names that it demands. No object of pySigma is touched while matching. What cannot be evaluated exactly is refused
here with `UnsupportedError`, never evaluated nearly. Sigma's rules: https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html

How a field is looked up stands in `fields.py`, what a value means in `values.py`, what `expand` makes of it in `expansion.py`. Here: AND, OR, NOT,
keywords, and the tests that concern a field as a whole. A field holds a value when any of the values found under it does, or any element of one that is a list; so a
negation over a missing field is true. `null` holds for a missing member, for null, and for a list with a null in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionIdentifier,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.exceptions import SigmaError
from sigma.modifiers import (
    SigmaWideModifier,
    modifier_mapping,
)
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections
from sigma.types import (
    SigmaBool,
    SigmaCasedString,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaString,
    SigmaType,
)

from worker.detect.demands import NOTHING, Demands, both, either, literal
from worker.detect.expansion import expanded, expanded_item
from worker.detect.explanation import ANYWHERE, Claim, Junction, Node, Word
from worker.detect.fields import Event, Reader, elements, fold, leaves, reader, text_of
from worker.detect.hints import Hint, Sort, hints
from worker.detect.items import items, refuse
from worker.detect.values import ANY_TEXT, Test, UnsupportedError, keyword, test, whole
from worker.detect.wording import words

# The specification's own name for what pySigma knows as `wide` alone.
modifier_mapping.setdefault("utf16le", SigmaWideModifier)

Predicate = Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a rule's conditions became: whether an event matches, and the same as a tree that can be read.

    `filters` are the Sigma filters that stand in the tree, by title and place.
    """

    matches: Predicate
    tree: Node
    filters: tuple[str, ...] = ()

    @property
    def demands(self) -> Demands:
        """What every event that matches is bound to have."""
        return self.tree.demands


@dataclass(frozen=True, slots=True)
class ItemFault:
    """Why one item of a detection cannot be evaluated; `field` is None for a keyword."""

    detection: str
    field: str | None
    text: str


def compile_detections(detections: SigmaDetections, placeholders: Mapping[str, tuple[str, ...]]) -> Matcher:
    """The conditions, joined by OR when there are several. Raises `UnsupportedError`, and pySigma's errors for a bad condition."""
    return _or([_matcher(condition.parsed) for condition in expanded(detections, placeholders).parsed_condition])


def both_match(matchers: Sequence[Matcher]) -> Matcher:
    """What matches when all of them do."""
    joined = _and(list(matchers))
    return Matcher(joined.matches, joined.tree, tuple(name for one in matchers for name in one.filters))


def as_filter(matcher: Matcher, name: str) -> Matcher:
    """The matcher of a Sigma filter, told by its name wherever it stands."""
    return Matcher(matcher.matches, replace(matcher.tree, name=name), (name,))


def item_faults(detections: SigmaDetections, placeholders: Mapping[str, tuple[str, ...]]) -> Iterator[ItemFault]:
    """Everything in the searches that `compile_detections` would refuse, used by a condition or not."""
    for name, detection in detections.detections.items():
        for item in items(detection):
            try:
                refuse(item)
                for value in expanded_item(item, placeholders).value:
                    _keyword(value) if item.field is None else _field(item.field, value)
            except (UnsupportedError, SigmaError) as fault:
                yield ItemFault(name, item.field, str(fault))


# The condition's tree.


def _matcher(node: Any) -> Matcher:
    matcher, search = _joined(node), _search(node)
    return matcher if search is None else Matcher(matcher.matches, replace(matcher.tree, name=search))


def _search(node: Any) -> str | None:
    """The name of the search that a node of the condition is the whole of."""
    around = node.parent
    while isinstance(around, (SigmaDetection, SigmaDetectionItem)):
        around = around.parent
    return around.identifier if isinstance(around, ConditionIdentifier) else None


def _joined(node: Any) -> Matcher:
    if isinstance(node, ConditionAND):
        return _and([_matcher(part) for part in node.args])
    if isinstance(node, ConditionOR):
        return _or(list(_alternatives(node)))
    if isinstance(node, ConditionNOT):
        return _not(_matcher(node.args[0]))
    if isinstance(node, ConditionFieldEqualsValueExpression):
        return _field(node.field, node.value)
    if isinstance(node, ConditionValueExpression):
        return _keyword(node.value)
    raise UnsupportedError(f"conditions of the kind {type(node).__name__} are not supported")


def _and(parts: list[Matcher]) -> Matcher:
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.matches for part in parts)

    def matches(event: Event) -> bool:
        for one in tests:  # noqa: SIM110  # a generator costs more than the tests themselves
            if not one(event):
                return False
        return True

    return Matcher(matches, Junction(Word.AND, _flat(Word.AND, parts), both(part.demands for part in parts)))


def _or(parts: list[Matcher]) -> Matcher:
    if len(parts) == 1:
        return parts[0]
    tests = tuple(part.matches for part in parts)

    def matches(event: Event) -> bool:
        for one in tests:  # noqa: SIM110  # as above
            if one(event):
                return True
        return False

    return Matcher(matches, Junction(Word.OR, _flat(Word.OR, parts), either(part.demands for part in parts)))


def _flat(word: Word, parts: list[Matcher]) -> tuple[Node, ...]:
    """The trees of some parts; one that joins its own with the same word, and has no name, gives those."""
    trees = [part.tree for part in parts]
    return tuple(
        one for tree in trees for one in (tree.parts if isinstance(tree, Junction) and tree.word is word and tree.name is None else (tree,))
    )


def _not(part: Matcher) -> Matcher:
    matches = part.matches
    return Matcher(lambda event: not matches(event), Junction(Word.NOT, (part.tree,), NOTHING))


def _alternatives(node: ConditionOR) -> Iterator[Matcher]:
    """An OR's parts, with all whole-text alternatives of one field as a single look into a set: the long lists that rules are made of."""
    choices: dict[str, dict[str, str]] = {}
    for part in node.args:
        text = whole(part.value) if isinstance(part, ConditionFieldEqualsValueExpression) else None
        if text is None or not isinstance(part, ConditionFieldEqualsValueExpression) or isinstance(part.value, SigmaCasedString):
            yield _matcher(part)
        else:
            choices.setdefault(part.field, {}).setdefault(text, words(part.value)[1])
    for field, texts in choices.items():
        one_of = _any_value(reader(field), _one_of(frozenset(texts)))
        demands, needs = either(literal(field, text) for text in texts), tuple(Hint(field, Sort.IS, text) for text in texts)
        yield _claim(field, "=", tuple(texts.values()), one_of, demands, needs)


def _claim(
    field: str | None,
    asks: str,
    values: tuple[str, ...],
    matches: Predicate,
    demands: Demands = NOTHING,
    needs: tuple[Hint, ...] = (),
    other: str | None = None,
) -> Matcher:
    """The matcher of one test. `other` is a field that it looks at beside its own."""
    return Matcher(matches, Claim(field, asks, values, matches, demands, tuple((one, reader(one)) for one in (field, other) if one), needs))


def _one_of(texts: frozenset[str]) -> Test:
    def holds(value: Any) -> bool:
        text = text_of(value)
        return text is not None and fold(text) in texts

    return holds


# One field, or none.


def _field(field: str, value: SigmaType) -> Matcher:
    read = reader(field)
    if isinstance(value, SigmaExpansion):
        return _or([_field(field, part) for part in value.values])
    asks, text = words(value)
    if isinstance(value, SigmaNull):
        return _claim(field, asks, (), _null(read))
    if isinstance(value, SigmaExists):
        wanted = value.exists
        return _claim(field, asks, (), lambda event: bool(read(event)) is wanted)
    if isinstance(value, SigmaFieldReference):
        return _claim(field, asks, (text,), _reference(read, value), other=value.field)
    folded = whole(value)
    demands = NOTHING if folded is None else literal(field, folded)
    return _claim(field, asks, (text,), _any_value(read, test(value)), demands, hints(field, value))


def _any_value(read: Reader, holds: Test) -> Predicate:
    def matches(event: Event) -> bool:
        for value in read(event):  # noqa: SIM110  # as above
            if holds(value) or (isinstance(value, list) and any(map(holds, elements(value)))):
                return True
        return False

    return matches


def _null(read: Reader) -> Predicate:
    def matches(event: Event) -> bool:
        values = read(event)
        return not values or any(value is None or (isinstance(value, list) and None in elements(value)) for value in values)

    return matches


def _reference(read: Reader, reference: SigmaFieldReference) -> Predicate:
    """Whether the field's text equals (begins with, ends with, holds) the text of the field that the rule names; false without both."""
    read_other = reader(reference.field)
    starts, ends = reference.starts_with, reference.ends_with

    def fits(text: str, other: str) -> bool:
        if starts and ends:
            return other in text
        if starts:
            return text.startswith(other)
        return text.endswith(other) if ends else text == other

    def matches(event: Event) -> bool:
        others = _texts(read_other(event))
        return bool(others) and any(fits(text, other) for text in _texts(read(event)) for other in others)

    return matches


def _texts(values: list[Any]) -> set[str]:
    return {fold(text) for value in elements(values) if (text := text_of(value)) is not None}


def _keyword(value: SigmaType) -> Matcher:
    if isinstance(value, SigmaExpansion):
        return _or([_keyword(part) for part in value.values])
    holds = keyword(value)
    asks, text = words(ANY_TEXT + value + ANY_TEXT if isinstance(value, SigmaString) else value)
    if isinstance(value, (SigmaNumber, SigmaBool)):
        asks = "contains"

    def matches(event: Event) -> bool:
        return any(map(holds, leaves(event)))

    return Matcher(matches, Claim(None, asks, (text,), matches, NOTHING, ((ANYWHERE, lambda event: list(filter(holds, leaves(event)))),)))
