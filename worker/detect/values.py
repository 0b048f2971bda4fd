"""One Sigma value as a test of one JSON value: pure.

In goes a value as pySigma parsed it with its modifiers applied, out comes a test that no longer knows pySigma. A test takes any JSON
value, answers False for kinds it says nothing about, and never raises for what JSON can hold. What cannot be tested exactly is an
`UnsupportedError` when the rule is loaded. Modifiers: https://sigmahq.io/sigma-specification/specification/sigma-appendix-modifiers.html

Choices where Sigma leaves one: comparison is by text, so that `false` equals false and "false" (CloudTrail writes `mfaAuthenticated`
as a string) and 443 equals "443"; a pattern with `*` at both ends, and a regular expression, also search the compact JSON of an object or
list; a regular expression is searched for, not anchored; a CIDR holds when any of several comma-separated addresses lies in it.
A newcomer adds a kind of value with a function and a line in `test`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address
from typing import Any

import re2
from sigma.types import (
    CompareOperators,
    Placeholder,
    SigmaBool,
    SigmaCasedString,
    SigmaCIDRExpression,
    SigmaCompareExpression,
    SigmaNumber,
    SigmaRegularExpression,
    SigmaRegularExpressionFlag,
    SigmaString,
    SigmaTimestampPart,
    SigmaType,
    SpecialChars,
    TimestampPart,
)

from worker.detect.fields import fold, json_text, leaves, text_of

Test = Callable[[Any], bool]
TextTest = Callable[[str], bool]

ANY_TEXT, ANY_CHARACTER = SpecialChars.WILDCARD_MULTI, SpecialChars.WILDCARD_SINGLE

EXACT_INTEGERS = 2**53
"""pySigma reads numbers by way of a double, which is exact up to here."""

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?", re.ASCII)
LONGEST_INTEGER = 18

COMPARISONS: dict[CompareOperators, Callable[[float, float], bool]] = {
    CompareOperators.LT: operator.lt,
    CompareOperators.LTE: operator.le,
    CompareOperators.GT: operator.gt,
    CompareOperators.GTE: operator.ge,
}

TIMESTAMP_PARTS: dict[TimestampPart, Callable[[datetime], int]] = {
    TimestampPart.MINUTE: lambda moment: moment.minute,
    TimestampPart.HOUR: lambda moment: moment.hour,
    TimestampPart.DAY: lambda moment: moment.day,
    TimestampPart.WEEK: lambda moment: moment.isocalendar().week,
    TimestampPart.MONTH: lambda moment: moment.month,
    TimestampPart.YEAR: lambda moment: moment.year,
}

FLAGS = {SigmaRegularExpressionFlag.IGNORECASE: "i", SigmaRegularExpressionFlag.MULTILINE: "m", SigmaRegularExpressionFlag.DOTALL: "s"}


class UnsupportedError(ValueError):
    """A rule asks for something that cannot be answered exactly. The text says what, and what to write instead."""


def test(value: SigmaType) -> Test:
    """The test of one value of a field. Raises `UnsupportedError`."""
    if isinstance(value, SigmaString):
        return _string(value)
    if isinstance(value, SigmaTimestampPart):  # before SigmaNumber, which it is also
        return _compared(operator.eq, value)
    if isinstance(value, SigmaNumber):
        return _number(value)
    if isinstance(value, SigmaBool):
        return _bool(value.boolean)
    if isinstance(value, SigmaRegularExpression):
        return _regex(value)
    if isinstance(value, SigmaCIDRExpression):
        return _cidr(value)
    if isinstance(value, SigmaCompareExpression) and value.op in COMPARISONS:
        return _compared(COMPARISONS[value.op], value.number)
    raise UnsupportedError(f"values of the kind {type(value).__name__} are not supported")


def keyword(value: SigmaType) -> Test:
    """The test of one scalar for a value that stands without a field: found anywhere within it. Raises `UnsupportedError`."""
    if isinstance(value, SigmaString):
        return _string(ANY_TEXT + value + ANY_TEXT)
    if isinstance(value, SigmaTimestampPart):
        raise UnsupportedError("a part of a time needs a field to be read from")
    if isinstance(value, (SigmaNumber, SigmaBool)):
        return _string(ANY_TEXT + SigmaString(str(_exact(value)) if isinstance(value, SigmaNumber) else str(value).lower()) + ANY_TEXT)
    if isinstance(value, (SigmaRegularExpression, SigmaCIDRExpression)):
        return test(value)
    raise UnsupportedError(f"values of the kind {type(value).__name__} need a field")


def whole(value: SigmaType) -> str | None:
    """The folded text of a string that has no wildcards, compared with regard to case or not; None for every other value."""
    if not isinstance(value, SigmaString) or not all(isinstance(part, str) for part in value.s):
        return None
    return fold("".join(part for part in value.s if isinstance(part, str)))


# Strings.


def _string(value: SigmaString) -> Test:
    cased = isinstance(value, SigmaCasedString)
    parts: list[str | SpecialChars] = []
    for part in value.s:
        assert not isinstance(part, Placeholder), "expansion.py leaves none"
        parts.append(part if cased or isinstance(part, SpecialChars) else fold(part))
    fits = _glob(parts)
    searches = bool(parts) and parts[0] is ANY_TEXT and parts[-1] is ANY_TEXT
    # What JSON writes with a backslash is also sought in the text itself, so that a rule can quote a policy document as it is.
    escaped = any(part is ANY_CHARACTER or (isinstance(part, str) and re.search(r'["\\\x00-\x1f]', part)) for part in parts)

    def holds(value: Any) -> bool:
        text = text_of(value)
        if text is not None:
            return fits(text if cased else fold(text))
        if not searches or value is None:
            return False
        whole = json_text(value)
        if fits(whole if cased else fold(whole)):
            return True
        return escaped and any(fits(leaf if cased else fold(leaf)) for leaf in leaves(value) if isinstance(leaf, str))

    return holds


def _glob(parts: list[str | SpecialChars]) -> TextTest:
    """A test of a whole text against literals and wildcards, in time linear in the text."""
    if ANY_CHARACTER in parts:
        wild = {ANY_TEXT: ".*", ANY_CHARACTER: "."}
        pattern = "".join(wild[part] if isinstance(part, SpecialChars) else re2.escape(part) for part in parts)
        return _search(f"(?s)\\A(?:{pattern})\\z")
    pieces = [""]
    for part in parts:
        if isinstance(part, SpecialChars):
            pieces.append("")
        else:
            pieces[-1] += part
    first, last = pieces[0], pieces[-1]
    if len(pieces) == 1:
        return first.__eq__
    middle = [piece for piece in pieces[1:-1] if piece]
    if not first and not last and len(middle) == 1:
        needle = middle[0]
        return lambda text: needle in text

    def fits(text: str) -> bool:
        at, end = len(first), len(text) - len(last)
        if at > end or not text.startswith(first) or not text.endswith(last):
            return False
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return fits


_OPTIONS = re2.Options()
_OPTIONS.log_errors = False  # whoever wrote the pattern is told by the fault, with file and line


def _search(pattern: str) -> TextTest:
    try:
        compiled = re2.compile(pattern, _OPTIONS)
    except re2.error as fault:
        raise UnsupportedError(f"RE2 does not accept the regular expression '{pattern}': {_told(fault)}") from None
    # Half surrogates, which JSON can spell and UTF-8 cannot, become a question mark; bytes spare RE2 the counting of characters.
    return lambda text: compiled.search(text.encode("utf-8", "replace")) is not None


def _regex(value: SigmaRegularExpression) -> Test:
    flags = "".join(sorted(FLAGS[flag] for flag in value.flags))
    found = _search((f"(?{flags})" if flags else "") + str(value.regexp))

    def holds(value: Any) -> bool:
        text = text_of(value)
        if text is None:
            return value is not None and found(json_text(value))
        return found(text)

    return holds


def _told(fault: Exception) -> str:
    told = fault.args[0] if fault.args else fault
    return told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)


# Numbers, truth and time.


def _exact(value: SigmaNumber) -> int | float:
    if isinstance(value.number, float) and abs(value.number) >= EXACT_INTEGERS:
        raise UnsupportedError(f"the number {value.number:.0f} is too large to be read exactly: write it as a string")
    return value.number


def _number(value: SigmaNumber) -> Test:
    number = _exact(value)
    text = str(number)

    def holds(value: Any) -> bool:
        if isinstance(value, str):
            return value == text
        return isinstance(value, (int, float)) and not isinstance(value, bool) and value == number

    return holds


def _bool(truth: bool) -> Test:
    text = "true" if truth else "false"

    def holds(value: Any) -> bool:
        return value is truth or (isinstance(value, str) and fold(value) == text)

    return holds


def _compared(fits: Callable[[float, float], bool], value: SigmaNumber) -> Test:
    number = _exact(value)
    if isinstance(value, SigmaTimestampPart):
        part = TIMESTAMP_PARTS[value.timestamp_part]

        def holds_in_time(value: Any) -> bool:
            moment = _moment(value)
            return moment is not None and fits(part(moment), number)

        return holds_in_time

    def holds(value: Any) -> bool:
        measured = _measure(value)
        return measured is not None and fits(measured, number)

    return holds


def _measure(value: Any) -> int | float | None:
    """A number, or a string that is one in decimal; a bool is none."""
    if isinstance(value, str):
        if not NUMBER.fullmatch(value):
            return None
        return int(value) if len(value) <= LONGEST_INTEGER and "." not in value else float(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _moment(value: Any) -> datetime | None:
    """An ISO 8601 time in UTC, as CloudTrail writes its own."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


# Addresses.


def _cidr(value: SigmaCIDRExpression) -> Test:
    network = value.network

    def within(text: str) -> bool:
        try:
            address = ip_address(text.strip())
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None and network.version == 4:
            address = address.ipv4_mapped
        return address in network

    def holds(value: Any) -> bool:
        # sourceIPAddress may name two addresses with a comma, and may be no address at all ("AWS Internal").
        return isinstance(value, str) and any(within(part) for part in value.split(","))

    return holds
