"""From a file's text to its records, whatever they are wrapped in: pure, exact, and with an eye for what a broken file still holds.

Wrappers: `{"Records": [...]}`, a bare list, JSON lines, one object, EventBridge's `detail`, LookupEvents' `CloudTrailEvent` string. What is
no record is noted: as a skip where it is no log on purpose (insights, a digest), as a fault otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson

from worker.ingest.tally import Tally

BOM = b"\xef\xbb\xbf"
MOST_RESYNCS = 1_000
"""Failed attempts at finding the next whole record in broken JSON."""
MOST_REREADS = 8
"""How many times a broken text's length these attempts may read in all, so that no file costs much more than its reading."""
MOST_ENVELOPES = 8
"""Wrappers in one another; deeper is no log of anybody's."""
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


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


def events(data: bytes, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record, with its place in words."""
    if not data.strip():
        if not tally.faults:
            tally.fault("empty", "the object inflates to nothing")
        return
    try:
        document = loads(data)
    except json.JSONDecodeError as error:
        lines = data.split(b"\n")
        documents = [_parsed(line) for line in lines]
        if any(map(_is_line_of_json_lines, documents)):
            for number, (line, document) in enumerate(zip(lines, documents, strict=True), 1):
                if not line.strip():
                    continue
                if isinstance(document, json.JSONDecodeError):
                    tally.fault("invalid-json", f"line {number} of {len(lines)}: {document}")
                else:
                    yield from unwrap(document, f"line {number}: ", tally)
        else:
            yield from _salvage(data, str(error), tally)
        return
    yield from unwrap(document, "", tally)


def _parsed(line: bytes) -> Any:
    """The document on a line, or the complaint about it."""
    try:
        return loads(line)
    except json.JSONDecodeError as error:
        return error


def _is_line_of_json_lines(document: Any) -> bool:
    if isinstance(document, list) and document:
        document = document[0]
    return isinstance(document, dict) and not document.keys().isdisjoint({"eventName", "Records", "Events", "detail", "CloudTrailEvent"})


def unwrap(document: Any, place: str, tally: Tally, envelopes: int = MOST_ENVELOPES) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records in one JSON document, whichever wrapper it is. `place` is empty, or ends in a colon and a space."""
    if isinstance(document, list):
        for number, item in enumerate(document, 1):
            yield from _unwrap_item(item, f"{place}record {number} of {len(document)}", tally, envelopes)
    elif isinstance(document, dict) and "eventName" not in document and ("Records" in document or isinstance(document.get("Events"), list)):
        name = "Records" if "Records" in document else "Events"
        records = document[name]
        if isinstance(records, list):
            yield from unwrap(records, place, tally, envelopes)
        else:
            tally.fault("records-not-a-list", f"{place}{name} is a JSON {type(records).__name__}, not a list")
    else:
        yield from _unwrap_item(document, place.removesuffix(": ") or "the only record", tally, envelopes)


def _unwrap_item(item: Any, place: str, tally: Tally, envelopes: int) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(item, dict):
        tally.fault("record-not-an-object", f"{place} is a JSON {type(item).__name__}, not an object")
    elif envelopes == 0:
        tally.fault("record-without-event-name", f"{place} is wrapped more than {MOST_ENVELOPES} times")
    elif isinstance(item.get("CloudTrailEvent"), str):
        inner = _parsed(item["CloudTrailEvent"].encode(errors="surrogatepass"))
        if isinstance(inner, json.JSONDecodeError):
            tally.fault("invalid-json", f"{place}: its CloudTrailEvent is no JSON")
        else:
            yield from _unwrap_item(inner, place, tally, envelopes - 1)
    elif isinstance(item.get("eventName"), str) and item["eventName"]:
        yield place, item
    elif isinstance(item.get("detail"), dict):
        yield from _unwrap_item(item["detail"], place, tally, envelopes - 1)
    elif item.get("eventCategory") == "Insight" or item.get("eventType") == "AwsCloudTrailInsight":
        tally.skipped["insight"] += 1
    elif "digestS3Bucket" in item or "digestStartTime" in item:
        tally.skipped["digest"] += 1
    elif isinstance(item.get("Records"), list):
        yield from unwrap(item["Records"], f"{place}: ", tally, envelopes - 1)
    else:
        tally.fault("record-without-event-name", f"{place} has no eventName; its members are {[name[:64] for name in list(item)[:8]]}")


_NEXT_OBJECT = re.compile(r"[\[,]\s*(?=\{)")


def _salvage(data: bytes, complaint: str, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole records out of broken JSON: parse on from every place where a list's next object may begin."""
    text = data.decode(errors="replace")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    found = failures = position = reread = 0
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
            for _, event in unwrap(whole, "", Tally()):
                found += 1
                yield f"record {found} of those that could be read", event
        position = end
        while (character := text[position : position + 1]) and character in ", \r\n\t":
            position += 1
    # Several whole documents one after the other are no fault; and a truncated or damaged gzip explains one by itself.
    if not tally.faults and (failures or position < len(text) or "\ufffd" in text):
        tally.fault("invalid-json", f"{complaint}; {found} whole records could be read all the same")
