"""The journal as it stands outside the store: lines packed into objects, read back, and held against the store's. Pure.

An object holds some lines in a row and is named by the number of the first, so that no two writers can both write the same line: S3 takes a name once.
Each line is JSON on a line of its own: `number` from 1, `entry`, its `hash` and that of the line before it (`previous`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from worker.model import JournalEntry
from worker.state import canonical

Line = tuple[JournalEntry, str, str]
"""A journal entry, its hash and that of the one before it, as a store answers them."""
SUFFIX = ".jsonl"
_DIGITS = 12


class SpoiltError(Exception):
    """What was exported is not as it was written. The text says where."""


def name(first: int) -> str:
    """The name of the object whose first line has a number; names are in the order of lines."""
    return f"{first:0{_DIGITS}d}{SUFFIX}"


def first_of(name: str) -> int | None:
    """The number that `name` wrote; None for a name of another make."""
    digits = name.removesuffix(SUFFIX)
    return int(digits) if digits + SUFFIX == name and len(digits) == _DIGITS and digits.isdecimal() and digits.isascii() else None


def pack(first: int, lines: Iterable[Line]) -> bytes:
    """Lines in a row, the first of which has a number, as the bytes of their object."""
    told = (
        {"number": number, "entry": canonical.load(canonical.line(entry)), "hash": mark, "previous": previous}
        for number, (entry, mark, previous) in enumerate(lines, first)
    )
    return "".join(f"{canonical.dump(one)}\n" for one in told).encode("ascii")


def unpack(first: int, body: bytes) -> list[Line]:
    """The lines that `pack` wrote. Raises `SpoiltError`."""
    lines: list[Line] = []
    for number, text in enumerate(body.decode("ascii", "replace").splitlines(), first):
        try:
            told = canonical.load(text)
            entry = canonical.entry(canonical.dump(told["entry"]))
            line = entry, str(told["hash"]), str(told["previous"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SpoiltError(f"line {number} of {name(first)} cannot be read: {type(error).__name__}: {error}") from error
        if told["number"] != number:
            raise SpoiltError(f"line {number} of {name(first)} bears the number {told['number']}")
        lines.append(line)
    if not lines:
        raise SpoiltError(f"{name(first)} holds no line")
    return lines


async def batches(first: int, lines: AsyncIterator[Line], most_bytes: int) -> AsyncIterator[tuple[int, bytes, int, str]]:
    """Lines in objects of at most so many bytes (a longer line has one for itself): each with its first line's number, its body, its lines
    and the hash of the last of them.
    """
    packed: list[bytes] = []
    head = ""
    async for line in lines:
        one = pack(first + len(packed), [line])
        if packed and sum(map(len, packed)) + len(one) > most_bytes:
            yield first, b"".join(packed), len(packed), head
            first, packed = first + len(packed), []
        packed.append(one)
        head = line[1]
    if packed:
        yield first, b"".join(packed), len(packed), head


@dataclass(frozen=True, slots=True)
class Comparison:
    """The store's journal held against what was exported: how many lines agree, how many the store has beyond them, and what is wrong, if anything."""

    agreeing: int
    beyond: int = 0
    fault: str | None = None


async def compare(first: int, exported: AsyncIterator[Line], stored: AsyncIterator[Line]) -> Comparison:
    """Hold every exported line, the first of which has a number, against the store's from there on. Raises what the two raise.

    Whoever rewrote the whole table, hashes and all, did not rewrite what was exported before. The chain of what was exported is computed again too.
    """
    number, head = first, None
    async for entry, mark, previous in exported:
        if head not in (None, previous) or mark != canonical.link(previous, canonical.line(entry)):
            return Comparison(number - first, fault=f"line {number} of the export does not follow line {number - 1}, or is not what it was")
        ours = await anext(stored, None)
        if ours is None:
            return Comparison(number - first, fault=f"line {number} was exported and is not in the store: lines were cut off its end")
        if (canonical.line(ours[0]), ours[1], ours[2]) != (canonical.line(entry), mark, previous):
            return Comparison(number - first, fault=f"line {number}, of task {entry.task_id} in the export, is another in the store")
        number, head = number + 1, mark
    beyond = 0
    async for _ in stored:
        beyond += 1
    return Comparison(number - first, beyond)
