"""The usual text of a CloudTrail object, judged in one pass: pure, and compiled where there is a compiler.

Nearly every object that AWS writes is plain: `{"Records":[{..},{..}]}` without white space. The pass (`text.c`) proves that a text is such a one, every
byte of it, and gives back only the records that are not known to be dull; it builds nothing. Of any other text, broken or just unusual, it says nothing,
and `documents.py` reads it. So there are never two opinions: what the pass knows is what the exact way would have found (tests/ingest/test_skim_reading.py).

Without the compiled part (no C compiler when Trailmend was installed, a processor without AVX2) everything is read the exact way, in one and a half times
the time.
"""

from __future__ import annotations

from typing import NamedTuple

WHY_NOT: str | None = None
try:
    from worker.ingest.skim._skim import Skimmer as Known
except ModuleNotFoundError:
    WHY_NOT = "the compiled reader was not built when Trailmend was installed: it takes a C compiler and an x86-64 processor"
except ImportError as error:
    WHY_NOT = f"the compiled reader cannot be used: {error}"

AVAILABLE = WHY_NOT is None

BYTES_A_RECORD = 16_384
"""Where more than one record in so many bytes may be wanted, parsing the whole is cheaper than parsing them one by one."""
FEW = 4
"""So many are parsed one by one in any text: small objects with a hit."""


class Skimmed(NamedTuple):
    """What a plain text holds: how many records, and number (from 1), begin and end (bytes) of those that somebody may want."""

    records: int
    wanted: list[tuple[int, int, int]]


class Skimmer:
    """Knows what nobody wants, and leaves it out. Several threads may use one."""

    def __init__(self) -> None:
        self._known = Known() if AVAILABLE else None
        self._learnt: list[tuple[str | None, str, str | None]] = []

    def add(self, source: str | None, name: str, kind: str | None) -> None:
        """Learn that nobody wants records of this eventSource, eventName and userIdentity.type; None where it is absent or no string."""
        if self._known is not None:
            self._learnt.append((source, name, kind))

    def skim(self, text: bytes | bytearray) -> Skimmed | None:
        """What a text holds; None where it is not plain, where too much of it may be wanted, or without the compiled part.

        The text must not change meanwhile.
        """
        if self._known is None:
            return None
        while True:
            try:
                event = self._learnt.pop()
            except IndexError:  # another thread may have had the last one
                break
            if not self._known.add(*event):  # while another thread skims a long text
                self._learnt.append(event)
                break
        told = self._known.skim(text, FEW + len(text) // BYTES_A_RECORD)
        return None if told is None else Skimmed(*told)
