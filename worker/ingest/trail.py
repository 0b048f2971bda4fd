"""From the bytes of a CloudTrail object to the records that matter: pure.

In come compressed (or plain) bytes and the interest that anybody has; out goes a `Trail`: the interesting records, how many there were at all,
and everything that could not be read, by reason. It never raises on bad input, and a bad record never hides a good one: what a
truncated gzip or a broken JSON still holds is found.

Fast path: one libdeflate call into a buffer of the size the gzip trailer tells (checked against the bound first), one msgspec
projection of every record on eventSource, eventName and userIdentity.type, and only where one is wanted a second pass that cuts out its bytes for orjson.
Anything out of the ordinary takes the exact path, slower, with the same result: several gzip members, wrappers, JSON lines, odd types.

Wrappers: `{"Records": [...]}`, a bare list, JSON lines, one object, EventBridge's `detail`, LookupEvents' `CloudTrailEvent` string.
"""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import deflate
import msgspec
import orjson

from worker.model import Fault, Interest, Origin, Record

GZIP_MAGIC = b"\x1f\x8b"
GZIP_MEMBER = b"\x1f\x8b\x08"
"""RFC 1952: the two magic bytes, and the only compression method there is."""
DEFLATE_RATIO = 1032
"""No deflate stream inflates to more than this many times its size (https://zlib.net/zlib_tech.html), whatever its trailer claims."""
BOM = b"\xef\xbb\xbf"
MOST_RESYNCS = 1_000
"""Failed attempts at finding the next whole record in broken JSON, so that no file costs more than so many times its reading."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one object may inflate to, and that one interesting record may have as compact JSON; bytes."""

    inflated_bytes: int
    record_bytes: int


@dataclass(frozen=True, slots=True)
class Trail:
    """What one object held. `seen` counts all records; `skipped` counts by reason what is no log on purpose (digest, insight)."""

    records: tuple[Record, ...] = ()
    seen: int = 0
    inflated_bytes: int = 0
    faults: tuple[Fault, ...] = ()
    skipped: Mapping[str, int] | None = None


def read(body: bytes, origin: Origin, interest: Interest, bounds: Bounds) -> Trail:
    """The records of one object that `interest` wants."""
    notes = _Notes()
    data = _inflate(body, bounds.inflated_bytes, notes)
    trail = None if notes.faults else _project(data, origin, interest, bounds)
    return trail or _walk(data, origin, interest, bounds, notes)


class _Notes:
    """Gathers faults and skips: one of each reason, with the place of the first and the count of all."""

    def __init__(self) -> None:
        self.faults: dict[str, Fault] = {}
        self.skipped: Counter[str] = Counter()

    def fault(self, reason: str, detail: str) -> None:
        first = self.faults.get(reason)
        self.faults[reason] = Fault(reason, detail) if first is None else Fault(reason, first.detail, first.count + 1)


# Inflating.


def _inflate(body: bytes, bound: int, notes: _Notes) -> bytes:
    """The inflated bytes; on a fault whatever could be had of them."""
    if body.startswith(GZIP_MAGIC):
        # One member, as far as can be seen: its size stands in the last four bytes. A second one would show its magic somewhere.
        size = int.from_bytes(body[-4:], "little")
        if size <= min(bound, len(body) * DEFLATE_RATIO) and body.find(GZIP_MEMBER, len(GZIP_MEMBER)) < 0:
            try:
                data: bytes = bytes(deflate.gzip_decompress(body, max(size, 1)))
            except deflate.DeflateError:
                return _inflate_exactly(body, bound, notes)
            if len(data) == size:
                return data
        return _inflate_exactly(body, bound, notes)
    if len(body) > bound:
        notes.fault("too-large", f"{len(body)} bytes of plain text are more than the {bound} allowed (TRAILMEND_MAX_INFLATED_BYTES)")
        return b""
    start = body.removeprefix(BOM).lstrip()[:1]
    if not start:
        notes.fault("empty", "the object has no content" if not body else "the object has nothing but white space")
    elif start not in (b"{", b"["):
        notes.fault("not-gzip", f"neither gzip nor JSON: it begins with {body[:16]!r}")
        return b""
    return body


def _inflate_exactly(body: bytes, bound: int, notes: _Notes) -> bytes:
    """Member by member, never past the bound, keeping what came before a fault."""
    parts: list[bytes] = []
    total = 0
    rest = body
    while rest:
        member = zlib.decompressobj(wbits=31)
        try:
            part = member.decompress(rest, bound - total + 1)
        except zlib.error as error:
            # Python keeps nothing of a call that fails, so what precedes the fault is had again piece by piece.
            parts.append(_inflate_until_fault(rest, bound - total))
            notes.fault("corrupt-gzip", f"the gzip stream is damaged ({error}) after {sum(map(len, parts))} inflated bytes")
            break
        parts.append(part)
        total += len(part)
        if total > bound:
            notes.fault("too-large", f"it inflates to more than the {bound} bytes allowed (TRAILMEND_MAX_INFLATED_BYTES)")
            return b""
        if not member.eof:
            notes.fault("truncated-gzip", f"the gzip stream ends early, after {total} inflated bytes")
            break
        rest = member.unused_data.lstrip(b"\0")  # RFC 1952 lets zeros pad
        if rest and not rest.startswith(GZIP_MAGIC):
            notes.fault("corrupt-gzip", f"{len(rest)} bytes that are no gzip follow {total} inflated bytes")
            break
    return b"".join(parts)


def _inflate_until_fault(body: bytes, bound: int) -> bytes:
    """All that a damaged member gives before its fault: in steps of 4,096 bytes, and the step that fails byte by byte."""
    member = zlib.decompressobj(wbits=31)
    out = bytearray()
    size = 4096
    start = 0
    while start < len(body) and len(out) < bound:
        before = member.copy()
        try:
            out += member.decompress(body[start : start + size], bound - len(out))
            start += size
        except zlib.error:
            if size == 1:
                break
            member, size = before, 1
    return bytes(out)


# The fast path.


class _Identity(msgspec.Struct, gc=False):
    type: str | None = ""


class _Head(msgspec.Struct, gc=False):
    eventSource: str = ""  # noqa: N815  # CloudTrail's name
    eventName: str = ""  # noqa: N815
    userIdentity: _Identity | None = None  # noqa: N815


class _Heads(msgspec.Struct):
    Records: list[_Head]


class _Raws(msgspec.Struct):
    Records: list[msgspec.Raw]


_heads = msgspec.json.Decoder(_Heads)
_raws = msgspec.json.Decoder(_Raws)


def _project(data: bytes, origin: Origin, interest: Interest, bounds: Bounds) -> Trail | None:
    """The trail of an ordinary file; None for anything else, whose reading is `_walk`'s."""
    if not data.isascii() and not _is_utf8(data):
        return None
    try:
        heads = _heads.decode(data).Records
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    wanted = _wanted(heads, interest)
    if wanted is None:
        return None
    if not wanted:
        return Trail(seen=len(heads), inflated_bytes=len(data))
    notes = _Notes()
    records: list[Record] = []
    raws = _raws.decode(data).Records
    for number in wanted:
        place = f"record {number + 1} of {len(heads)}"
        try:
            event = _loads(bytes(raws[number]))
        except json.JSONDecodeError as error:
            notes.fault("invalid-json", f"{place}: {error}")
            continue
        if _fits(event, bounds, place, notes, len(raws[number])):
            records.append(Record(event, origin))
    return Trail(tuple(records), len(heads), len(data), tuple(notes.faults.values()))


def _wanted(heads: list[_Head], interest: Interest) -> list[int] | None:
    """The places of the wanted records, or None where one has no event name and so is for `_walk` to judge."""
    known: dict[tuple[str, str, str], bool] = {}
    wanted: list[int] = []
    for number, head in enumerate(heads):
        identity = head.userIdentity
        told = (head.eventSource, head.eventName, (identity.type or "") if identity is not None else "")
        wants = known.get(told)
        if wants is None:
            if not head.eventName:
                return None
            wants = known[told] = interest.wants(*told)
        if wants:
            wanted.append(number)
    return wanted


def _fits(event: Mapping[str, Any], bounds: Bounds, place: str, notes: _Notes, at_most: int | None = None) -> bool:
    if at_most is not None and at_most <= bounds.record_bytes:
        return True
    size = len(orjson.dumps(event))
    if size > bounds.record_bytes:
        notes.fault(
            "record-too-large", f"{place} has {size} bytes, more than the {bounds.record_bytes} allowed (TRAILMEND_MAX_RECORD_BYTES)"
        )
        return False
    return True


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _loads(data: bytes) -> Any:
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


# The exact path.


def _walk(data: bytes, origin: Origin, interest: Interest, bounds: Bounds, notes: _Notes) -> Trail:
    records: list[Record] = []
    seen = 0
    for place, event in _events(data.removeprefix(BOM), notes):
        seen += 1
        record = Record(event, origin)
        source = event.get("eventSource")
        wants = interest.wants(source if isinstance(source, str) else "", record.name, record.identity_type)
        if wants and _fits(event, bounds, place, notes):
            records.append(record)
    return Trail(tuple(records), seen, len(data), tuple(notes.faults.values()), dict(notes.skipped))


def _events(data: bytes, notes: _Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record, with its place in words."""
    if not data.strip():
        if not notes.faults:
            notes.fault("empty", "the object inflates to nothing")
        return
    try:
        document = _loads(data)
    except json.JSONDecodeError as error:
        lines = data.split(b"\n")
        documents = [_parsed(line) for line in lines]
        if any(map(_is_line_of_json_lines, documents)):
            for number, (line, document) in enumerate(zip(lines, documents, strict=True), 1):
                if not line.strip():
                    continue
                if isinstance(document, json.JSONDecodeError):
                    notes.fault("invalid-json", f"line {number} of {len(lines)}: {document}")
                else:
                    yield from _unwrap(document, f"line {number}: ", notes)
        else:
            yield from _salvage(data, str(error), notes)
        return
    yield from _unwrap(document, "", notes)


def _parsed(line: bytes) -> Any:
    """The document on a line, or the complaint about it."""
    try:
        return _loads(line)
    except json.JSONDecodeError as error:
        return error


def _is_line_of_json_lines(document: Any) -> bool:
    return isinstance(document, dict) and not document.keys().isdisjoint({"eventName", "Records", "detail", "CloudTrailEvent"})


def _unwrap(document: Any, place: str, notes: _Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records in one JSON document, whichever wrapper it is."""
    if isinstance(document, list):
        for number, item in enumerate(document, 1):
            yield from _unwrap_item(item, f"{place}record {number} of {len(document)}", notes)
    elif isinstance(document, dict) and "eventName" not in document and "Records" in document:
        records = document["Records"]
        if isinstance(records, list):
            yield from _unwrap(records, place, notes)
        else:
            notes.fault("records-not-a-list", f"{place}Records is a JSON {type(records).__name__}, not a list")
    elif isinstance(document, dict) and "eventName" not in document and isinstance(document.get("Events"), list):
        yield from _unwrap(document["Events"], place, notes)
    else:
        yield from _unwrap_item(document, f"{place}the only record" if not place else place.removesuffix(": "), notes)


def _unwrap_item(item: Any, place: str, notes: _Notes) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(item, dict):
        notes.fault("record-not-an-object", f"{place} is a JSON {type(item).__name__}, not an object")
    elif isinstance(item.get("CloudTrailEvent"), str):
        inner = _parsed(item["CloudTrailEvent"].encode(errors="surrogatepass"))
        if isinstance(inner, json.JSONDecodeError):
            notes.fault("invalid-json", f"{place}: its CloudTrailEvent is no JSON")
        else:
            yield from _unwrap_item(inner, place, notes)
    elif "detail-type" in item and isinstance(item.get("detail"), dict):
        yield from _unwrap_item(item["detail"], place, notes)
    elif item.get("eventCategory") == "Insight" or item.get("eventType") == "AwsCloudTrailInsight":
        notes.skipped["insight"] += 1
    elif "digestS3Bucket" in item or "digestStartTime" in item:
        notes.skipped["digest"] += 1
    elif isinstance(item.get("eventName"), str) and item["eventName"]:
        yield place, item
    elif isinstance(item.get("Records"), list):
        yield from _unwrap(item["Records"], f"{place}: ", notes)
    else:
        notes.fault("record-without-event-name", f"{place} has no eventName; its members are {sorted(map(str, item))[:8]}")


_NEXT_OBJECT = re.compile(r"[\[,]\s*(?=\{)")


def _salvage(data: bytes, complaint: str, notes: _Notes) -> Iterator[tuple[str, dict[str, Any]]]:
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
            for _, event in _unwrap(whole, "", _Notes()):
                found += 1
                yield f"record {found} of those that could be read", event
        position = end
        while (character := text[position : position + 1]) and character in ", \r\n\t":
            position += 1
    if not notes.faults:  # else a truncated or damaged gzip explains it
        notes.fault("invalid-json", f"{complaint}; {found} whole records could be read all the same")
