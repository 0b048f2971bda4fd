"""The usual text of a CloudTrail object, judged in one pass: pure, and compiled where there is a compiler.

Nearly every object that AWS writes is plain: `{"Records":[{..},{..}]}` without white space. The pass (`text.c`) proves that a text is such a one, every
byte of it, and gives back only the records that are not known to be dull; it builds nothing. Of any other text, broken or just unusual, it says nothing,
and `wrappers.py` reads it. So there are never two opinions: what the pass knows is what the exact way would have found (tests/ingest/test_skim.py).

Without the compiled part (no C compiler when Trailmend was installed, a processor without AVX2) everything is read the exact way, in one and a half times
the time.
"""

from __future__ import annotations

from contextlib import suppress
from typing import NamedTuple

try:
    from worker.ingest.skim import _skim
except ImportError:
    AVAILABLE = False
else:
    AVAILABLE = True

BYTES_A_RECORD = 16_384
"""Where more than one record in so many bytes may be wanted, parsing the whole is cheaper than parsing them one by one."""
FEW = 4


class Skimmed(NamedTuple):
    """What a plain text holds: how many records, and number (from 1), begin and end (bytes) of those that somebody may want."""

    records: int
    wanted: list[tuple[int, int, int]]


class Skimmer:
    """Knows what nobody wants, and leaves it out. Several threads may use one."""

    def __init__(self) -> None:
        self._known = _skim.Skimmer() if AVAILABLE else None
        self._learnt: list[tuple[str | None, str, str | None]] = []

    def add(self, source: str | None, name: str, kind: str | None) -> None:
        """Learn that nobody wants records of this eventSource, eventName and userIdentity.type; None where it is absent or no string."""
        if self._known is not None:
            self._learnt.append((source, name, kind))

    def skim(self, text: bytes | bytearray) -> Skimmed | None:
        """What a text holds; None where it is not plain, where too much of it may be wanted, or without the compiled part."""
        if self._known is None:
            return None
        with suppress(IndexError):  # another thread may take the last one first
            while self._known.add(*(event := self._learnt.pop())):
                pass
            self._learnt.append(event)  # not now: another thread skims a long text
        told = self._known.skim(text, FEW + len(text) // BYTES_A_RECORD)
        return None if told is None else Skimmed(*told)
