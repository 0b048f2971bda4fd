r"""The modifier `expand`: a detection with the values of placeholders in the place of their `%names%`. Pure.

In go detections as pySigma parsed them and the values of every placeholder; out come the same without placeholders, or an
`UnsupportedError` that says what to write. Sigma leaves what a placeholder becomes to a pipeline; here it is what pySigma's
`value_placeholders` make of it: a value that names one becomes a list of values, any of which will do, or with `all` every one of which must
hold. Several placeholders in one value give every combination. The values are read as Sigma's strings are: `*` and `?` are wildcards,
`\*` is a star. pySigma pastes them into a regular expression as they are; here they stand for the same texts there as anywhere, so
that `10.0.0.1` is that address alone.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from itertools import groupby, product
from math import prod

import re2
from sigma.modifiers import (
    SigmaBase64Modifier,
    SigmaBase64OffsetModifier,
    SigmaExpandModifier,
    SigmaFieldReferenceModifier,
    SigmaUTF16BEModifier,
    SigmaUTF16Modifier,
    SigmaWideModifier,
    SigmaWindowsDashModifier,
)
from sigma.rule import SigmaDetection, SigmaDetectionItem, SigmaDetections
from sigma.types import Placeholder, SigmaRegularExpression, SigmaString, SigmaType, SpecialChars

from worker.detect.values import UnsupportedError

MOST_COMBINATIONS = 10_000
"""Values that one value with placeholders may become."""

ALTERING = {
    SigmaBase64Modifier: "base64",
    SigmaBase64OffsetModifier: "base64offset",
    SigmaWideModifier: "wide",
    SigmaUTF16Modifier: "utf16",
    SigmaUTF16BEModifier: "utf16be",
    SigmaWindowsDashModifier: "windash",
    SigmaFieldReferenceModifier: "fieldref",
}
"""Modifiers that make something else of a text, and would make it of a placeholder's name."""

SPELT = {SpecialChars.WILDCARD_MULTI: "*", SpecialChars.WILDCARD_SINGLE: "?"}
"""What stood in a regular expression where pySigma, looking for placeholders, saw wildcards."""
PATTERN = {SpecialChars.WILDCARD_MULTI: "(?s:.*)", SpecialChars.WILDCARD_SINGLE: "(?s:.)"}
"""What a placeholder's wildcards are in a regular expression."""

Part = str | SpecialChars


def expanded(detections: SigmaDetections, placeholders: Mapping[str, tuple[str, ...]]) -> SigmaDetections:
    """The detections without placeholders. Raises `UnsupportedError`."""
    searches = {name: _search(detection, placeholders) for name, detection in detections.detections.items()}
    return SigmaDetections(searches, detections.condition, detections.source, detections.policy)


def expanded_item(item: SigmaDetectionItem, placeholders: Mapping[str, tuple[str, ...]]) -> SigmaDetectionItem:
    """One item of a detection without placeholders. Raises `UnsupportedError`."""
    if SigmaExpandModifier not in item.modifiers:
        return item
    for modifier, name in ALTERING.items():
        if modifier in item.modifiers:
            raise UnsupportedError(f"expand cannot go with {name}: write the values out")
    fresh = copy.copy(item)
    fresh.value = [one for value in item.value for one in _values(value, placeholders)]
    return fresh


def _search(detection: SigmaDetection, placeholders: Mapping[str, tuple[str, ...]]) -> SigmaDetection:
    parts = [
        _search(part, placeholders) if isinstance(part, SigmaDetection) else expanded_item(part, placeholders)
        for part in detection.detection_items
    ]
    return SigmaDetection(parts, detection.source, detection.item_linking)


def _values(value: SigmaType, placeholders: Mapping[str, tuple[str, ...]]) -> Iterator[SigmaType]:
    if isinstance(value, SigmaRegularExpression) and value.contains_placeholder():
        _check_places(value.regexp)
        for parts in _combinations(value.regexp, placeholders, _pattern):
            # As text, because pySigma would escape the stars of a string that is put together from parts.
            yield SigmaRegularExpression("".join(part if isinstance(part, str) else SPELT[part] for part in parts), set(value.flags))
    elif isinstance(value, SigmaString) and value.contains_placeholder():
        for parts in _combinations(value, placeholders, _parts):
            fresh = type(value)()  # a cased string stays one
            fresh.s = list(_merged(parts))
            yield fresh
    else:
        yield value


def _combinations(
    value: SigmaString, placeholders: Mapping[str, tuple[str, ...]], read: Callable[[str], tuple[Part, ...]]
) -> Iterator[tuple[Part, ...]]:
    """The parts of a value, once for each combination of what its placeholders stand for."""
    choices = [[read(text) for text in _texts(part.name, placeholders)] if isinstance(part, Placeholder) else [(part,)] for part in value.s]
    if prod(map(len, choices)) > MOST_COMBINATIONS:
        raise UnsupportedError(f"its placeholders make more than {MOST_COMBINATIONS} combinations: name one of them in a search of its own")
    for chosen in product(*choices):
        yield tuple(part for parts in chosen for part in parts)


def _texts(name: str, placeholders: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    texts = placeholders.get(name)
    if texts is None:
        raise UnsupportedError(
            f"the placeholder %{name}% has no values: write `placeholders: {{{name}: [...]}}` into a file beside the rules"
        )
    return tuple(dict.fromkeys(texts))


def _parts(text: str) -> tuple[Part, ...]:
    return tuple(part for part in SigmaString(text).s if not isinstance(part, Placeholder))


def _pattern(text: str) -> tuple[Part, ...]:
    return (f"(?:{''.join(re2.escape(part) if isinstance(part, str) else PATTERN[part] for part in _parts(text))})",)


def _merged(parts: tuple[Part, ...]) -> Iterator[Part]:
    """The parts with neighbouring texts joined, as pySigma has them."""
    for is_text, together in groupby(parts, lambda part: isinstance(part, str)):
        if is_text:
            yield "".join(map(str, together))
        else:
            yield from together


def _check_places(regexp: SigmaString) -> None:
    """Refuse a placeholder where a group of its values would not be read as one: in a class or a count, or behind a backslash."""
    escaped, within, first = False, "", False
    for part in regexp.s:
        if isinstance(part, Placeholder):
            if escaped or within:
                raise UnsupportedError(f"%{part.name}% stands within [] or {{}} or behind a backslash: name it outside of them")
            continue
        for character in part if isinstance(part, str) else SPELT[part]:
            if escaped:
                escaped, first = False, False
            elif character == "\\":
                escaped = True
            elif within:
                # The first thing in a class is a member of it even if it is its closing bracket.
                within = "" if character == within and not first else within
                first = first and character == "^"
            else:
                within, first = {"[": "]", "{": "}"}.get(character, ""), character == "["
