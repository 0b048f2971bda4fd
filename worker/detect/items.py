"""The items of a Sigma detection, and which of them cannot be evaluated as they are written: pure.

A newcomer who finds a combination of modifiers that pySigma takes and that means nothing refuses it here.
"""

from __future__ import annotations

from collections.abc import Iterator

from sigma.modifiers import (
    SigmaBase64Modifier,
    SigmaBase64OffsetModifier,
    SigmaCaseSensitiveModifier,
    SigmaEndswithModifier,
    SigmaFieldReferenceModifier,
    SigmaStartswithModifier,
    SigmaUTF16Modifier,
)
from sigma.rule import SigmaDetection, SigmaDetectionItem
from sigma.types import SigmaNumber, SigmaTimestampPart

from worker.detect.values import UnsupportedError


def items(detection: SigmaDetection) -> Iterator[SigmaDetectionItem]:
    """Every item of a detection, however deep it stands."""
    for part in detection.detection_items:
        if isinstance(part, SigmaDetection):
            yield from items(part)
        else:
            yield part


def refuse(item: SigmaDetectionItem) -> None:
    """Refuse what pySigma parses and whose meaning is lost once it has. Raises `UnsupportedError`."""
    if item.field is None:
        if not item.value:
            raise UnsupportedError("an empty list matches nothing")
        if SigmaStartswithModifier in item.modifiers or SigmaEndswithModifier in item.modifiers:
            raise UnsupportedError("startswith and endswith need a field: an event as a whole has no beginning")
    if SigmaCaseSensitiveModifier in item.modifiers and SigmaFieldReferenceModifier in item.modifiers:
        raise UnsupportedError("fieldref compares without regard to case, so it cannot go with cased")
    if SigmaUTF16Modifier in item.modifiers and not {SigmaBase64Modifier, SigmaBase64OffsetModifier} & set(item.modifiers):
        raise UnsupportedError("utf16 puts a byte order mark before the text, which no text holds: go on with base64 or base64offset")
    if any(isinstance(value, SigmaTimestampPart) for value in item.value):
        for value in item.original_value or ():
            if isinstance(value, SigmaNumber) and isinstance(value.number, float):
                raise UnsupportedError(f"a part of a time is a whole number, {value.number} is not")
