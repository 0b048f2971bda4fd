"""A Sigma value in words: what it asks of a field, and the text it asks for. Pure.

In goes a value as pySigma parsed it, out come words such as `contains` and a text such as `Admin`; that comparison is without regard to
case goes without saying. `values.py` says what it means; a newcomer who adds a kind of value there adds its words here.
"""

from __future__ import annotations

from sigma.types import (
    CompareOperators,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaExists,
    SigmaFieldReference,
    SigmaNull,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
)

from worker.detect.values import ANY_TEXT, FLAGS

COMPARED: dict[CompareOperators, str] = {
    CompareOperators.LT: "<",
    CompareOperators.LTE: "<=",
    CompareOperators.GT: ">",
    CompareOperators.GTE: ">=",
}
PLACED = {(False, False): "=", (True, False): "startswith", (False, True): "endswith", (True, True): "contains"}
"""Where a text stands, by whether anything may follow it and go before it."""


def words(value: SigmaType) -> tuple[str, str]:
    """What is asked, and of which text; the text is empty where nothing more is to be said."""
    if isinstance(value, SigmaString):
        asks, text = _string(value)
        return (f"cased {asks}" if isinstance(value, SigmaCasedString) else asks), text
    if isinstance(value, SigmaNull):
        return "is null", ""
    if isinstance(value, SigmaExists):
        return ("exists" if value.exists else "does not exist"), ""
    if isinstance(value, SigmaFieldReference):
        return PLACED[value.starts_with, value.ends_with], f"the field {value.field}"
    if isinstance(value, SigmaRegularExpression):
        flags = "".join(sorted(FLAGS[flag] for flag in value.flags))
        return (f"re|{flags}" if flags else "re"), str(value.regexp)
    if isinstance(value, SigmaCIDRExpression):
        return "in network", str(value.network)
    if isinstance(value, SigmaCompareExpression):
        return _number(value.number, COMPARED[value.op])
    if isinstance(value, SigmaNumber):
        return _number(value, "=")
    return "=", str(value).lower()


def _number(value: SigmaNumber, compared: str) -> tuple[str, str]:
    part = f"{value.timestamp_part.name.lower()} " if isinstance(value, SigmaTimestampPart) else ""
    return part + compared, str(value.number)


def _string(value: SigmaString) -> tuple[str, str]:
    parts = value.s
    texts = [part for part in parts if isinstance(part, str)]
    if len(texts) == len(parts):
        return "=", "".join(texts)
    if len(texts) == 1 and all(isinstance(part, str) or part is ANY_TEXT for part in parts):
        return PLACED[parts[-1] is ANY_TEXT, parts[0] is ANY_TEXT], texts[0]
    spelt = {SpecialChars.WILDCARD_MULTI: "*", SpecialChars.WILDCARD_SINGLE: "?"}
    return "like", "".join(
        spelt[part] if isinstance(part, SpecialChars) else str(part).replace("*", "\\*").replace("?", "\\?") for part in parts
    )
