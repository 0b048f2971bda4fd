"""From an object's bytes to its text: pure. Gzip in one member or several, or plain JSON, and never more than the bound.

A fault is noted with what is wrong, and whatever could be had before it is handed on. The usual object is one gzip member: one libdeflate
call into a buffer of the size that the trailer tells, checked against the bound first. Anything else goes member by member through zlib.
"""

from __future__ import annotations

import zlib

import deflate

from worker.ingest.tally import Tally
from worker.ingest.wrappers import BOM

GZIP_MAGIC = b"\x1f\x8b"
GZIP_MEMBER = b"\x1f\x8b\x08"
"""RFC 1952: the two magic bytes, and the only compression method there is."""
DEFLATE_RATIO = 1032
"""No deflate stream inflates to more than this many times its size (https://zlib.net/zlib_tech.html), whatever its trailer claims."""


def inflate(body: bytes, bound: int, tally: Tally) -> bytes:
    """The text of an object, at most `bound` bytes of it; on a fault whatever could be had, and nothing of what would pass the bound."""
    if body.startswith(GZIP_MAGIC):
        # One member, as far as can be seen: its size stands in the last four bytes. A second one would show its magic somewhere.
        size = int.from_bytes(body[-4:], "little")
        if size <= min(bound, len(body) * DEFLATE_RATIO) and body.find(GZIP_MEMBER, len(GZIP_MEMBER)) < 0:
            try:
                data: bytes = bytes(deflate.gzip_decompress(body, max(size, 1)))
            except deflate.DeflateError:
                return inflate_exactly(body, bound, tally)
            if len(data) == size:
                return data
        return inflate_exactly(body, bound, tally)
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


def inflate_exactly(body: bytes, bound: int, tally: Tally) -> bytes:
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
            tally.fault("corrupt-gzip", f"the gzip stream is damaged ({error}) after {sum(map(len, parts))} inflated bytes")
            break
        parts.append(part)
        total += len(part)
        if total > bound:
            tally.fault("too-large", f"it inflates to more than the {bound} bytes allowed (TRAILMEND_MAX_INFLATED_BYTES)")
            return b""
        if not member.eof:
            tally.fault("truncated-gzip", f"the gzip stream ends early, after {total} inflated bytes")
            break
        rest = member.unused_data.lstrip(b"\0")  # RFC 1952 lets zeros pad
        if rest and not rest.startswith(GZIP_MAGIC):
            tally.fault("corrupt-gzip", f"{len(rest)} bytes that are no gzip follow {total} inflated bytes")
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
