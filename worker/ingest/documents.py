"""From a file's text to its lists of records: one document, several, or JSON lines; pure, and exact.

A text longer than `piece_bytes` is taken in pieces of whole records, so that what it needs beside itself is small. A piece ends where a record does:
a run of text that parses as a list by itself cannot end inside a string or a nested list. What is broken goes to `salvage.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from worker.ingest.lazy import LISTS, OBJECTS, each, parse
from worker.ingest.salvage import salvaged
from worker.ingest.tally import Tally
from worker.ingest.wrappers import Items, items, parsed

MOST_CUTS = 4
"""Places tried for the end of a piece, of each kind; then one of each in larger pieces, for a record larger than a piece."""
NEAR_BYTES = 64 * 1024
"""Where these places are looked for first: before the end of a piece."""


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
            yield from salvaged(data, str(error), tally)
        return
    yield items(document, "", tally)


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
            yield items(document, f"line {number}: ", tally)


def _is_line_of_json_lines(document: Any) -> bool:
    if isinstance(document, LISTS):
        document = next(each(document), None)
    return isinstance(document, OBJECTS) and any(
        name in document for name in ("eventName", "Records", "Events", "detail", "CloudTrailEvent")
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
                yield from salvaged(data[left + 1 :], complaint, tally, whole_documents=False)
                return
            yield Items("", values, first)
            first += len(values)
            left = right
        position = ending or left
    if data[position:].strip():
        yield from salvaged(data[position:], "what follows the last list is broken", tally)


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
