"""Whatever records are wrapped in, and what is none: pure, and exact.

Wrappers: `{"Records": [...]}`, a bare list, JSON lines, one object, EventBridge's `detail`, LookupEvents' `CloudTrailEvent` string. What is
no record is noted: as a skip where it is no log on purpose (insights, a digest), as a fault otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from worker.ingest.lazy import LISTS, OBJECTS, each, member, parse
from worker.ingest.tally import Tally

BOM = b"\xef\xbb\xbf"
MOST_ENVELOPES = 8
"""Wrappers in one another; deeper is no log of anybody's."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


class Place(NamedTuple):
    """Which record it is: `number` from 1, of `total` where that is known; number 0 is the only one. `within` is empty, or ends in a colon and a space."""

    within: str
    number: int
    total: int | None

    def __str__(self) -> str:
        if self.number == 0:
            return self.within.removesuffix(": ") or "the only record"
        return f"{self.within}record {self.number}" + ("" if self.total is None else f" of {self.total}")


class Items(NamedTuple):
    """A list of what should be records, the first of which has the number `first` (0: there is only one)."""

    within: str
    values: Any
    first: int = 1
    total: int | None = None


def loads(data: bytes) -> Any:
    r"""Parse JSON; raises `json.JSONDecodeError`.

    orjson refuses a lone surrogate (`\ud800`), which RFC 8259 allows and which a caller may well put into a user agent to stay unseen:
    the standard library takes it, and a question mark stands in for it from then on.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as refusal:
        if _SURROGATE.search(data) is None:
            raise
        try:
            value = json.loads(data, parse_constant=no_constant)
            return orjson.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            raise refusal from None


def no_constant(name: str) -> None:
    """For `json`, which would take NaN and Infinity. Raises `ValueError`."""
    raise ValueError(f"{name} is no JSON")


def parsed(line: bytes | bytearray | memoryview | str) -> Any:
    """The document in a text, or the complaint about it."""
    try:
        return parse(line)
    except json.JSONDecodeError as error:
        return error


def items(document: Any, within: str, tally: Tally) -> Items:
    """The records in one JSON document, whichever wrapper it is."""
    if isinstance(document, LISTS):
        return Items(within, document, total=len(document))
    if isinstance(document, OBJECTS) and "eventName" not in document:
        name = "Records" if "Records" in document else "Events"
        records = member(document, name)
        if isinstance(records, LISTS):
            return Items(within, records, total=len(records))
        if name == "Records":
            tally.fault("records-not-a-list", f"{within}Records is a JSON {type(records).__name__}, not a list")
            return Items(within, ())
    return Items(within, (document,), first=0)


def records(item: Any, place: Place, tally: Tally, envelopes: int = MOST_ENVELOPES) -> Iterator[tuple[Place, Any]]:
    """The records in one item of a list: itself, or what it wraps."""
    if not isinstance(item, OBJECTS):
        tally.fault("record-not-an-object", lambda: f"{place} is a JSON {type(item).__name__}, not an object")
    elif envelopes == 0:
        tally.fault("record-without-event-name", f"{place} is wrapped more than {MOST_ENVELOPES} times")
    elif isinstance(name := member(item, "eventName"), str) and name:
        yield place, item
    elif isinstance(told := member(item, "CloudTrailEvent"), str):
        inner = parsed(told.encode(errors="replace"))
        if isinstance(inner, json.JSONDecodeError):
            tally.fault("invalid-json", lambda: f"{place}: its CloudTrailEvent is no JSON")
        else:
            yield from records(inner, place, tally, envelopes - 1)
    elif isinstance(detail := member(item, "detail"), OBJECTS):
        yield from records(detail, place, tally, envelopes - 1)
    elif isinstance(wrapped := member(item, "Records"), LISTS):
        for number, one in enumerate(each(wrapped), 1):
            yield from records(one, Place(f"{place}: ", number, len(wrapped)), tally, envelopes - 1)
    else:
        _note(item, place, tally)


def _note(item: Any, place: Place, tally: Tally) -> None:
    """An object that is no record: passed over on purpose, or a fault."""
    if member(item, "eventCategory") == "Insight" or member(item, "eventType") == "AwsCloudTrailInsight":
        tally.skipped["insight"] += 1
    elif "digestS3Bucket" in item or "digestStartTime" in item:
        tally.skipped["digest"] += 1
    else:
        tally.fault(
            "record-without-event-name",
            lambda: f"{place} has no eventName; its members are {[name[:64] for name, _ in zip(item, range(8), strict=False)]}",
        )
