"""The order in which remembered events happened, where their times do not tell it. Pure.

CloudTrail's times are whole seconds, and a Terraform replacement removes, deletes, creates and adds within one. So no fixed order of kinds is
right. But every event remembered succeeded, so within a second the events are taken in the order in which AWS would have let all of them
succeed, given what came before (`as_allowed`). Where several orders would do, or none because an event is missing, the fewest refusals win
and then the rank of the kinds.

A snapshot is an event too, dated by the end of its listing, and AWS may answer with what was true some time before. What the log tells
from just before a snapshot therefore counts for more than what the snapshot says of the same thing (`overtaken`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from worker.model import ProfileEvent

S = TypeVar("S")

SEEN, MISSING = "Snapshot", "Missing"
"""The kinds of event that snapshots teach: a thing was there and looked so, or was there at the last snapshot and was not at this."""

SETTLED_AFTER = timedelta(minutes=3)
"""How long before the end of a listing an event may have happened that the listing does not show: a listing may take one minute, and
IAM and EC2 may answer with the past for about as long (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html, eventual
consistency); doubled."""

MOST_TOGETHER = 6
"""Events of one second whose order is looked for (720 at worst); a replacement with tags has five. More are taken in the order of rank."""

MOST_REFUSED = 2
"""Of these, how many AWS may have had to refuse: so many events may be missing. Records that fit nowhere would have every order tried, and
the loop held up by whoever writes them."""


def distinct(events: Iterable[ProfileEvent], rank: Mapping[str, int]) -> list[ProfileEvent]:
    """Events of the kinds that are ranked, each once, by time, then rank, then key."""
    known = (event for event in events if event.kind in rank)
    return list({event.key: event for event in sorted(known, key=lambda event: (event.time, rank[event.kind], event.key))}.values())


def as_looked(events: Sequence[ProfileEvent], looked: datetime | None) -> Sequence[ProfileEvent]:
    """The events of one thing, with what the last whole listing showed of it, which ended at `looked`.

    A snapshot is written down only where it shows something new. So the last listing showed what the last of them did, and where
    there is none it did not show the thing. Tags are not listed.
    """
    if looked is None or not events:
        return events
    told = [event for event in events if event.kind in (SEEN, MISSING)]
    last = max(
        told, key=lambda event: event.time, default=replace(events[0], kind=MISSING, time=datetime.min.replace(tzinfo=UTC), detail={})
    )
    if last.time >= looked:
        return events
    detail = {name: value for name, value in last.detail.items() if name != "tags"}
    return [*events, replace(last, time=looked, key=f"snapshot {looked.isoformat()}", detail=detail)]


def overtaken(snapshot: ProfileEvent, events: Iterable[ProfileEvent]) -> frozenset[str]:
    """The kinds of the log's events that happened so shortly before the end of a listing that it may not show them."""
    begin = snapshot.time - SETTLED_AFTER
    return frozenset(event.kind for event in events if event.kind not in (SEEN, MISSING) and begin <= event.time <= snapshot.time)


def as_allowed(
    state: S, together: tuple[ProfileEvent, ...], allowed: Callable[[S, ProfileEvent], bool], then: Callable[[S, ProfileEvent], S]
) -> tuple[ProfileEvent, ...]:
    """Events of one second, ranked, in the first order with the fewest refusals; with more than `MOST_REFUSED` they stay as they are.

    `allowed` says whether AWS would let an event succeed in a state, `then` what state follows.
    """
    if not 1 < len(together) <= MOST_TOGETHER:
        return together
    orders = (_order(state, together, refusals, allowed, then) for refusals in range(MOST_REFUSED + 1))
    return next((order for order in orders if order is not None), together)


def _order(
    state: S,
    left: tuple[ProfileEvent, ...],
    refusals: int,
    allowed: Callable[[S, ProfileEvent], bool],
    then: Callable[[S, ProfileEvent], S],
) -> tuple[ProfileEvent, ...] | None:
    """The first order of the events left that AWS would refuse at most so often, or None."""
    if not left:
        return ()
    for number, event in enumerate(left):
        spare = refusals - (not allowed(state, event))
        if spare >= 0:
            rest = _order(then(state, event), left[:number] + left[number + 1 :], spare, allowed, then)
            if rest is not None:
                return (event, *rest)
    return None
