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
"""Failed attempts at finding the next whole record in broken JSON, so that no file costs more than so many times its reading."""


def loads(data: bytes) -> Any:
    r"""Parse JSON; raises `json.JSONDecodeError`.

    orjson refuses a lone surrogate (`\ud800`), which RFC 8259 allows and which a caller may well put into a user agent to stay unseen:
    the standard library takes it, and a question mark stands in for it from then on.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as refusal:
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
                    yield from _unwrap(document, f"line {number}: ", tally)
        else:
            yield from _salvage(data, str(error), tally)
        return
    yield from _unwrap(document, "", tally)


def _parsed(line: bytes) -> Any:
    """The document on a line, or the complaint about it."""
    try:
        return loads(line)
    except json.JSONDecodeError as error:
        return error


def _is_line_of_json_lines(document: Any) -> bool:
    return isinstance(document, dict) and not document.keys().isdisjoint({"eventName", "Records", "detail", "CloudTrailEvent"})


def _unwrap(document: Any, place: str, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records in one JSON document, whichever wrapper it is."""
    if isinstance(document, list):
        for number, item in enumerate(document, 1):
            yield from _unwrap_item(item, f"{place}record {number} of {len(document)}", tally)
    elif isinstance(document, dict) and "eventName" not in document and "Records" in document:
        records = document["Records"]
        if isinstance(records, list):
            yield from _unwrap(records, place, tally)
        else:
            tally.fault("records-not-a-list", f"{place}Records is a JSON {type(records).__name__}, not a list")
    elif isinstance(document, dict) and "eventName" not in document and isinstance(document.get("Events"), list):
        yield from _unwrap(document["Events"], place, tally)
    else:
        yield from _unwrap_item(document, f"{place}the only record" if not place else place.removesuffix(": "), tally)


def _unwrap_item(item: Any, place: str, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(item, dict):
        tally.fault("record-not-an-object", f"{place} is a JSON {type(item).__name__}, not an object")
    elif isinstance(item.get("CloudTrailEvent"), str):
        inner = _parsed(item["CloudTrailEvent"].encode(errors="surrogatepass"))
        if isinstance(inner, json.JSONDecodeError):
            tally.fault("invalid-json", f"{place}: its CloudTrailEvent is no JSON")
        else:
            yield from _unwrap_item(inner, place, tally)
    elif "detail-type" in item and isinstance(item.get("detail"), dict):
        yield from _unwrap_item(item["detail"], place, tally)
    elif item.get("eventCategory") == "Insight" or item.get("eventType") == "AwsCloudTrailInsight":
        tally.skipped["insight"] += 1
    elif "digestS3Bucket" in item or "digestStartTime" in item:
        tally.skipped["digest"] += 1
    elif isinstance(item.get("eventName"), str) and item["eventName"]:
        yield place, item
    elif isinstance(item.get("Records"), list):
        yield from _unwrap(item["Records"], f"{place}: ", tally)
    else:
        tally.fault("record-without-event-name", f"{place} has no eventName; its members are {sorted(map(str, item))[:8]}")


_NEXT_OBJECT = re.compile(r"[\[,]\s*(?=\{)")


def _salvage(data: bytes, complaint: str, tally: Tally) -> Iterator[tuple[str, dict[str, Any]]]:
    """Whole records out of broken JSON: parse on from every place where a list's next object may begin."""
    text = data.decode(errors="replace")
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    found = failures = position = 0
    while failures < MOST_RESYNCS:
        try:
            document, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError):
            failures += 1
            following = _NEXT_OBJECT.search(text, position)
            if following is None:
                break
            position = following.end()
            continue
        if isinstance(document, dict | list):
            # Parts of a broken record are no records and no news: the file's one fault stands for them.
            whole = orjson.loads(json.dumps(document, ensure_ascii=False).encode(errors="replace"))
            for _, event in _unwrap(whole, "", Tally()):
                found += 1
                yield f"record {found} of those that could be read", event
        position = end
        while (character := text[position : position + 1]) and character in ", \r\n\t":
            position += 1
    if not tally.faults:  # else a truncated or damaged gzip explains it
        tally.fault("invalid-json", f"{complaint}; {found} whole records could be read all the same")
