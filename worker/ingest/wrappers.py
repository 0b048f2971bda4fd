"""From a file's text to its records, whatever they are wrapped in: pure, exact, and with an eye for what a broken file still holds.

Wrappers: `{"Records": [...]}`, a bare list, JSON lines, one object, EventBridge's `detail`, LookupEvents' `CloudTrailEvent` string. What is
no record is noted: as a skip where it is no log on purpose (insights, a digest), as a fault otherwise.

A text longer than `piece_bytes` is taken in pieces of whole records, so that what it needs beside itself is small. A piece ends where a record does:
a run of text that parses as a list by itself cannot end inside a string or a nested list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import orjson

from worker.ingest.lazy import LISTS, OBJECTS, each, member, parse
from worker.ingest.tally import Tally

BOM = b"\xef\xbb\xbf"
MOST_RESYNCS = 1_000
"""Failed attempts at finding the next whole record in broken JSON."""
MOST_REREADS = 8
"""How many times a broken text's length these attempts may read in all, so that no file costs much more than its reading."""
MOST_ENVELOPES = 8
"""Wrappers in one another; deeper is no log of anybody's."""
MOST_CUTS = 4
"""Places tried for the end of a piece, of each kind; then one of each in larger pieces, for a record larger than a piece."""
NEAR_BYTES = 64 * 1024
"""Where these places are looked for first: before the end of a piece."""
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
            value = json.loads(data, parse_constant=_no_constant)
            return orjson.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError):
            raise refusal from None


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def lists(data: bytes | bytearray, tally: Tally, piece_bytes: int) -> Iterator[Items]:
    """Every list of records in a file's text."""
    if not data[:64].strip() and not data.strip():
        if not tally:
            tally.fault("empty", "the object inflates to nothing")
        return
    if len(data) > piece_bytes and _OPENING.match(data):
        yield from _pieces(data if isinstance(data, bytearray) else bytearray(data), tally, piece_bytes)
        return
    if len(data) > piece_bytes and _is_line_of_json_lines(parsed(data[: data.find(b"\n") + 1])):
        yield from _lines(data, tally)
        return
    try:
        document = parse(data)
    except json.JSONDecodeError as error:
        if any(_is_line_of_json_lines(parsed(line)) for line in data.split(b"\n")):
            yield from _lines(data, tally)
        else:
            yield from _salvage(data, str(error), tally)
        return
    yield _items(document, "", tally)


def _lines(data: bytes | bytearray, tally: Tally) -> Iterator[Items]:
    start, number, total = 0, 0, data.count(b"\n") + 1
    while start <= len(data):
        end = data.find(b"\n", start)
        end = len(data) if end < 0 else end
        line = data[start:end]
        start, number = end + 1, number + 1
        if not line.strip():
            continue
        document = parsed(line)
        if isinstance(document, json.JSONDecodeError):
            tally.fault("invalid-json", f"line {number} of {total}: {document}")
        else:
            yield _items(document, f"line {number}: ", tally)


def parsed(line: bytes | bytearray | memoryview | str) -> Any:
    """The document in a text, or the complaint about it."""
    try:
        return parse(line)
    except json.JSONDecodeError as error:
        return error


def _is_line_of_json_lines(document: Any) -> bool:
    if isinstance(document, LISTS):
        document = next(each(document), None)
    return isinstance(document, OBJECTS) and any(
        name in document for name in ("eventName", "Records", "Events", "detail", "CloudTrailEvent")
    )


def _items(document: Any, within: str, tally: Tally) -> Items:
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


# Pieces of a long list.

_OPENING = re.compile(rb'(?:\xef\xbb\xbf)?[ \t\r\n]*(\{[ \t\r\n]*"(?:Records|Events)"[ \t\r\n]*:[ \t\r\n]*)?\[')
_END = re.compile(rb"(\])[ \t\r\n]*\}?[, \t\r\n]*\Z")
_NEXT_RECORD = re.compile(rb'\}[ \t\r\n]*(,)[ \t\r\n]*\{[ \t\r\n]*"(?:eventVersion|Records|EventId|version)"')
_NEXT_OF_ANY_KIND = re.compile(rb"\}[ \t\r\n]*(,)[ \t\r\n]*\{")
_NEXT_DOCUMENT = re.compile(rb'(\])[ \t\r\n]*\}?(?:[ \t\r\n]*(?=[\[{])|[, \t\r\n]*(?=\{[ \t\r\n]*"(?:Records|Events)"))')
_NEXT_AFTER_A_COMMA = re.compile(rb"(\])[ \t\r\n]*\}?[, \t\r\n]*(?=[\[{])")  # as a record that ends in a list looks, too
_WRAPPED_END = re.compile(rb"\][ \t\r\n]*\}[, \t\r\n]*(?=[\[{]|\Z)")
_BARE_END = re.compile(rb"\][, \t\r\n]*(?=[\[{]|\Z)")


def _pieces(data: bytearray, tally: Tally, piece_bytes: int) -> Iterator[Items]:
    """The lists of one document, or of several one after the other, a piece at a time."""
    first, position = 1, 0
    while opening := _OPENING.match(data, position):
        left = position = opening.end() - 1
        ending: int | None = left
        while data[left] != ord("]"):
            right, values = _next_piece(data, left, piece_bytes)
            if values is not None and data[right] == ord("]"):
                ending = _after(data, right, wrapped=opening[1] is not None)
            if values is None or ending is None:
                complaint = f"the list that begins at byte {position} is broken after byte {left}"
                yield from _salvage(data[left + 1 :], complaint, tally, whole_documents=False)
                return
            yield Items("", values, first)
            first += len(values)
            left = right
        position = ending or left
    if data[position:].strip():
        yield from _salvage(data[position:], "what follows the last list is broken", tally)


def _after(data: bytearray, right: int, *, wrapped: bool) -> int | None:
    """Where the document is over whose list ends at `right`; None where it goes on."""
    found = _WRAPPED_END.match(data, right) if wrapped else _BARE_END.match(data, right)
    return None if found is None else found.end()


def _next_piece(data: bytearray, left: int, piece_bytes: int) -> tuple[int, Any]:
    """Where the piece that follows `left` ends, at a comma or at the list's end, and its list; None where nothing can be parsed."""
    for times, most in ((1, MOST_CUTS), (2, 1), (8, 1)):
        stop = min(left + piece_bytes * times, len(data))
        for places in _cuts(data, left, stop):
            for place in places[:most]:
                values = _list_between(data, left, place)
                if values is not None:
                    return place, values
        if stop == len(data):
            return left, None
    # A record longer than all these, or many within that look like a list's own: the rest as a whole, whatever that needs.
    for place in _list_ends(data, left):
        return place, _list_between(data, left, place)
    return left, None


def _list_ends(data: bytearray, left: int) -> list[int]:
    """Where the list may end that reaches the end of the text: one place, or none."""
    return [found.start(1) for found in _END.finditer(data, max(left + 1, len(data) - NEAR_BYTES))][:1]


def _cuts(data: bytearray, left: int, stop: int) -> Iterator[list[int]]:
    """Places where a piece may end, the likeliest first."""
    if stop == len(data):
        yield _list_ends(data, left)
    for near in (NEAR_BYTES, stop - left):
        start = max(left + 1, stop - near)
        for pattern in (_NEXT_RECORD, _NEXT_OF_ANY_KIND):
            yield [found.start(1) for found in pattern.finditer(data, start, stop)][: -MOST_CUTS - 1 : -1]
        for pattern in (_NEXT_DOCUMENT, _NEXT_AFTER_A_COMMA):
            yield [found.start(1) for found in islice(pattern.finditer(data, left + 1, stop), MOST_CUTS)]


def _list_between(data: bytearray, left: int, right: int) -> Any:
    """What stands between two bytes, as a list; None where it is none. The two are made brackets for as long as it takes: nothing is copied."""
    before = data[left], data[right]
    data[left], data[right] = b"[]"
    try:
        values = parse(memoryview(data)[left : right + 1])
    except json.JSONDecodeError:
        return None
    finally:
        data[left], data[right] = before
    return values


# What is left of a broken text.

_NEXT_OBJECT = re.compile(r"[\[,]\s*(?=\{)")


def _salvage(data: bytes | bytearray, complaint: str, tally: Tally, *, whole_documents: bool = True) -> Iterator[Items]:
    """Whole records out of broken JSON: parse on from every place where a list's next object may begin.

    `whole_documents` says that the text is the whole file: then several documents one after the other are no fault.
    """
    text = data.decode(errors="replace")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    found = failures = reread = 0
    position = len(text) - len(text.lstrip(", \r\n\t"))
    while position < len(text) and failures < MOST_RESYNCS and reread <= MOST_REREADS * len(text):
        try:
            document, end = decoder.raw_decode(text, position)
            # Parts of a broken record are no records and no news: the file's one fault stands for them.
            whole = orjson.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
        except (ValueError, RecursionError) as error:
            failures += 1
            # An unterminated string was read to the end of the text, whatever the error's position says.
            reached = error.pos if isinstance(error, json.JSONDecodeError) and "Unterminated" not in error.msg else len(text)
            reread += max(reached - position, 0)
            following = _NEXT_OBJECT.search(text, position)
            if following is None:
                break
            position = following.end()
            continue
        if isinstance(whole, dict | list):
            unwrapped = _items(whole, "", Tally())
            events = [event for item in unwrapped.values for _, event in records(item, Place("", 0, None), Tally())]
            if events:
                yield Items("salvaged ", events, found + 1)
            found += len(events)
        position = end
        while (character := text[position : position + 1]) and character in ", \r\n\t":
            position += 1
    # A truncated or damaged gzip explains it by itself.
    if not tally.has("truncated-gzip", "corrupt-gzip") and (not whole_documents or failures or position < len(text) or "\ufffd" in text):
        tally.fault("invalid-json", f"{complaint}; {found} whole records could be read all the same")
