"""The fact `marks`: that a change bears our own marks and is no call of ours, and which marks these are.

Only there for such records. Of a call that the executor wrote down no finding is made (`own_records.py`), so whatever comes here with our marks
has them from somebody else, or from a call that was forgotten. Pure; not for `scan`, which knows of no call.
"""

from __future__ import annotations

from worker.enrich.fact import Case, FactKind
from worker.model import Fact, FactSource, Finding, is_marked, marks_of
from worker.settings import Settings

SAYS = "says that Trailmend made it, and no call of Trailmend's has its request id"


def _applies(finding: Finding, _: Settings) -> bool:
    return is_marked(finding.record)


async def _marks(case: Case) -> Fact:
    record = case.finding.record
    return MARKS.known({"marks": list(marks_of(record)), "own_call": False, "summary": SAYS}, record.time or case.clock())


MARKS = FactKind("marks", FactSource.EVENT, _applies, _marks)
