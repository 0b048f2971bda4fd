"""From a Sigma rule to a predicate: pure, and done once a rule.

In goes a rule as pySigma parsed it, out comes a `Matcher`: a closure over plain Python values that says whether an event matches, and the
event sources and names that it demands. No object of pySigma is touched while matching. What cannot be evaluated exactly is refused
here with `UnsupportedError`, never evaluated nearly. Sigma's rules: https://sigmahq.io/sigma-specification/specification/sigma-rules-specification.html

How a field is looked up stands in `fields.py`, what a value means in `values.py`. Here: AND, OR, NOT, keywords, and the tests that concern
a field as a whole. A field holds a value when any of the values found under it does, or any element of one that is a list; so a
negation over a missing field is true. `null` holds for a missing member, for null, and for a list with a null in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sigma.conditions import (
    ConditionAND,
    ConditionFieldEqualsValueExpression,
    ConditionNOT,
    ConditionOR,
    ConditionValueExpression,
)
from sigma.modifiers import SigmaCaseSensitiveModifier, SigmaEndswithModifier, SigmaFieldReferenceModifier, SigmaStartswithModifier
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaRule
from sigma.types import (
    SigmaCasedString,
    SigmaExists,
    SigmaExpansion,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaTimestampPart,
    SigmaType,
)

from worker.detect.demands import NOTHING, Demands, both, either, literal
from worker.detect.fields import Event, Reader, elements, fold, leaves, reader, text_of
from worker.detect.values import Test, UnsupportedError, keyword, test, whole

Predicate = Callable[[Event], bool]


@dataclass(frozen=True, slots=True)
class Matcher:
    """What a rule's conditions became: whether an event matches, and what every event that does is bound to have."""

    matches: Predicate
    demands: Demands


@dataclass(frozen=True, slots=True)
class ItemFault:
    """Why one item of a detection cannot be evaluated; `field` is None for a keyword."""

    detection: str
    field: str | None
    text: str


def compile_rule(rule: SigmaRule) -> Matcher:
    """The rule's conditions, joined by OR when there are several. Raises `UnsupportedError`, and pySigma's errors for a bad condition."""
    return _or([_matcher(condition.parsed) for condition in rule.detection.parsed_condition])


def item_faults(rule: SigmaRule) -> Iterator[ItemFault]:
    """Everything in the rule's detections that `compile_rule` would refuse, used by a condition or not."""
    for name, detection in rule.detection.detections.items():
        for item in _items(detection):
            try:
                _check(item)
                for value in item.value:
                    _keyword(value) if item.field is None else _field(item.field, value)
            except UnsupportedError as fault:
                yield ItemFault(name, item.field, str(fault))


def _items(detection: SigmaDetection) -> Iterator[SigmaDetectionItem]:
    for part in detection.detection_items:
        if isinstance(part, SigmaDetection):
            yield from _items(part)
        else:
            yield part


def _check(item: SigmaDetectionItem) -> None:
    """Refuse what pySigma parses and whose meaning is lost once it has."""
    if item.field is None:
        if not item.value:
            raise UnsupportedError("an empty list matches nothing")
        if SigmaStartswithModifier in item.modifiers or SigmaEndswithModifier in item.modifiers:
            raise UnsupportedError("startswith and endswith need a field: an event as a whole has no beginning")
    if SigmaCaseSensitiveModifier in item.modifiers and SigmaFieldReferenceModifier in item.modifiers:
        raise UnsupportedError("fieldref compares without regard to case, so it cannot go with cased")
    if any(isinstance(value, SigmaTimestampPart) for value in item.value):
        for value in item.original_value or ():
            if isinstance(value, SigmaNumber) and isinstance(value.number, float):
                raise UnsupportedError(f"a part of a time is a whole number, {value.number} is not")


# The condition's tree.


def _matcher(node: Any) -> Matcher:
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
    tests = tuple(part.matches for part in parts)

    def matches(event: Event) -> bool:
        for one in tests:  # noqa: SIM110  # a generator costs more than the tests themselves
            if not one(event):
                return False
        return True

    return Matcher(tests[0] if len(tests) == 1 else matches, both(part.demands for part in parts))


def _or(parts: list[Matcher]) -> Matcher:
    tests = tuple(part.matches for part in parts)

    def matches(event: Event) -> bool:
        for one in tests:  # noqa: SIM110  # as above
            if one(event):
                return True
        return False

    return Matcher(tests[0] if len(tests) == 1 else matches, either(part.demands for part in parts))


def _not(part: Matcher) -> Matcher:
    matches = part.matches
    return Matcher(lambda event: not matches(event), NOTHING)


def _alternatives(node: ConditionOR) -> Iterator[Matcher]:
    """An OR's parts, with all whole-text alternatives of one field as a single look into a set: the long lists that rules are made of."""
    choices: dict[str, set[str]] = {}
    for part in node.args:
        text = whole(part.value) if isinstance(part, ConditionFieldEqualsValueExpression) else None
        if text is None or not isinstance(part, ConditionFieldEqualsValueExpression) or isinstance(part.value, SigmaCasedString):
            yield _matcher(part)
        else:
            choices.setdefault(part.field, set()).add(text)
    for field, texts in choices.items():
        yield Matcher(_any_value(reader(field), _one_of(frozenset(texts))), either(literal(field, text) for text in texts))


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
    if isinstance(value, SigmaNull):
        return Matcher(_null(read), NOTHING)
    if isinstance(value, SigmaExists):
        wanted = value.exists
        return Matcher(lambda event: bool(read(event)) is wanted, NOTHING)
    if isinstance(value, SigmaFieldReference):
        return Matcher(_reference(read, value), NOTHING)
    text = whole(value)
    return Matcher(_any_value(read, test(value)), NOTHING if text is None else literal(field, text))


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
    holds = keyword(value)
    return Matcher(lambda event: any(map(holds, leaves(event))), NOTHING)
