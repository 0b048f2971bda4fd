"""A finding of a record with our marks says which they are, and that the call is none of ours."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

import pytest

from tests.fakes import NOON
from worker.enrich.fact import Case
from worker.enrich.marks import MARKS
from worker.model import FactSource, FactStatus, Finding
from worker.settings import Settings

ROLE = {"type": "AssumedRole", "arn": "arn:aws:sts::111122223333:assumed-role/admin/trailmend"}


@pytest.mark.parametrize(
    ("told", "marks"),
    [
        ({"userAgent": "x trailmend"}, ["user_agent"]),
        ({"userIdentity": ROLE}, ["session_name"]),
        ({"userIdentity": {**ROLE, "arn": "x", "sessionContext": {"sourceIdentity": "trailmend"}}}, ["source_identity"]),
        ({"userAgent": "x trailmend", "userIdentity": ROLE}, ["user_agent", "session_name"]),
    ],
)
async def test_the_marks_are_told_as_of_the_event(told: dict[str, Any], marks: list[str], make_finding: Callable[..., Finding]) -> None:
    """By the record itself."""
    finding = make_finding(**told)
    assert MARKS.applies(finding, Settings())
    clock: Callable[[], datetime] = lambda: NOON  # noqa: E731
    fact = await MARKS.learn(Case(finding, Settings(), cast("Any", None), clock, cast("Any", None), cast("Any", None)))
    assert (fact.status, fact.source, fact.observed_at) == (FactStatus.KNOWN, FactSource.EVENT, finding.record.time)
    assert (fact.value["marks"], fact.value["own_call"]) == (marks, False)


def test_of_anybody_else_there_is_no_such_fact(make_finding: Callable[..., Finding]) -> None:
    """Nothing is said of what says nothing."""
    assert not MARKS.applies(make_finding(), Settings())
