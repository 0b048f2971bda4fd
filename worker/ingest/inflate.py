"""From an object's bytes to its text: pure. Gzip in one member or several, or plain JSON, and never more than the bound.

A fault is noted with what is wrong, and whatever could be had before it is handed on. The usual object is one gzip member: one libdeflate
call into a buffer of the size that the trailer tells, checked against the bound first. Anything else goes member by member through zlib.
"""

from __future__ import annotations

import re
import zlib

import ahocorasick_rs
import deflate

from worker.ingest.tally import Tally
from worker.ingest.wrappers import BOM

STEP_BYTES = 64 * 1024
MOST_MEMBERS = 10_000
"""CloudTrail writes one; a file put together from a day's objects has thousands."""
_PADDING = re.compile(rb"\0*")
"""RFC 1952 lets zeros pad."""

GZIP_MAGIC = b"\x1f\x8b"
GZIP_MEMBER = b"\x1f\x8b\x08"
"""RFC 1952: the two magic bytes, and the only compression method there is."""
DEFLATE_RATIO = 1032
"""No deflate stream inflates to more than this many times its size (https://zlib.net/zlib_tech.html), whatever its trailer claims."""


_members = ahocorasick_rs.BytesAhoCorasick([GZIP_MEMBER])
"""Finds one pattern at 20 times the speed of `bytes.find`, which would cost a fifth of the inflating."""


class MoreRoomError(Exception):
    """An object inflates to more than it claims, and than whoever reads it has room for just now."""


def claimed(body: bytes, bound: int) -> int:
    """How many bytes an object's text has by its own word, at most `bound`. Of several gzip members the last alone is told of."""
    if not body.startswith(GZIP_MAGIC):
        return min(len(body), bound)
    size = int.from_bytes(body[-4:], "little")
    return min(size, bound, len(body) * DEFLATE_RATIO)


def inflate(body: bytes, bound: int, tally: Tally, room: int | None = None) -> bytes | bytearray:
    """The text of an object, at most `bound` bytes of it; on a fault whatever could be had, and nothing of what would pass the bound.

    Raises `MoreRoomError` where it would pass `room` (None: the bound), before more than that is held.
    """
    room = bound if room is None else min(room, bound)
    if body.startswith(GZIP_MAGIC):
        # One member, as far as can be seen: its size stands in the last four bytes. A second one would show its magic somewhere.
        size = int.from_bytes(body[-4:], "little")
        if size <= min(room, len(body) * DEFLATE_RATIO) and len(_members.find_matches_as_indexes(body)) == 1:
            try:
                data: bytearray = deflate.gzip_decompress(body, max(size, 1))
            except deflate.DeflateError:
                return inflate_exactly(body, bound, tally, room)
            if len(data) == size:
                return data
        return inflate_exactly(body, bound, tally, room)
    if len(body) > bound:
        tally.fault("too-large", f"{len(body)} bytes of plain text are more than the {bound} allowed (TRAILMEND_MAX_INFLATED_BYTES)")
        return b""
    start = body.removeprefix(BOM).lstrip()[:1]
    if not start:
        tally.fault("empty", "the object has no content" if not body else "the object has nothing but white space")
    elif start not in (b"{", b"["):
        tally.fault("not-gzip", f"neither gzip nor JSON: it begins with {body[:16]!r}")
        return b""
    return body


def inflate_exactly(body: bytes, bound: int, tally: Tally, room: int | None = None) -> bytes:
    """Member by member and step by step, never past the bound, keeping what came before a fault. Raises `MoreRoomError` like `inflate`."""
    room = bound if room is None else room
    out = bytearray()
    position = members = 0
    while position < len(body):
        members += 1
        if members > MOST_MEMBERS:
            tally.fault("corrupt-gzip", f"more than {MOST_MEMBERS} gzip members in one object")
            break
        member = zlib.decompressobj(wbits=31)
        while not member.eof and position < len(body):
            piece = memoryview(body)[position : position + STEP_BYTES]
            before = member.copy()
            try:
                out += member.decompress(piece, bound - len(out) + 1)
            except zlib.error as error:
                out += _before_fault(before, piece, bound - len(out))
                tally.fault("corrupt-gzip", f"the gzip stream is damaged ({error}) after {len(out)} inflated bytes")
                return bytes(out)
            if room < len(out) and room < bound:
                raise MoreRoomError
            if len(out) > bound:
                tally.fault("too-large", f"it inflates to more than the {bound} bytes allowed (TRAILMEND_MAX_INFLATED_BYTES)")
                return b""
            position += len(piece) - len(member.unused_data)
        if not member.eof:
            tally.fault("truncated-gzip", f"the gzip stream ends early, after {len(out)} inflated bytes")
            break
        position = _PADDING.match(body, position).end()  # type: ignore[union-attr]  # it matches nothing too
        if position < len(body) and not body.startswith(GZIP_MAGIC, position):
            tally.fault("corrupt-gzip", f"{len(body) - position} bytes that are no gzip follow {len(out)} inflated bytes")
            break
    return bytes(out)


def _before_fault(member: zlib._Decompress, piece: memoryview, bound: int) -> bytes:
    """What a step that fails gives before its fault, byte by byte: Python keeps nothing of a call that fails."""
    out = bytearray()
    for position in range(len(piece)):
        if len(out) >= bound:
            break
        try:
            out += member.decompress(piece[position : position + 1], bound - len(out))
        except zlib.error:
            break
    return bytes(out)
