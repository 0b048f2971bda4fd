"""Which instance used which instance profile, and from when until when, put together from what the log and snapshots told. Pure.

In go the events of one instance (and of its associations), in any order and as often as they were delivered; out come its uses. `sequence.py`
finds the order of those that share a second: an association's id tells what came after what, and an instance is launched first and
terminated last. `spent` says which of them no longer matter.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from worker.enrich.fact import stamp
from worker.enrich.instance_events import CALLS, DISASSOCIATE, RUN, TERMINATE, pointer
from worker.enrich.sequence import MISSING, SEEN, as_allowed, distinct, overtaken
from worker.model import ProfileEvent

RANK = {kind: rank for rank, kind in enumerate((*CALLS, SEEN, MISSING))}


@dataclass(frozen=True, slots=True)
class Use:
    """A stretch of time in which an instance used a profile. `until` is None while it does, as far as was told.

    `since` is None where a snapshot found it; an end that only a snapshot noticed is dated by the snapshot. `how` is the call or `Snapshot` that
    told of it first, `told_at` when it was last told that the instance uses it. `profile_id` tells profiles of the same name apart.
    """

    instance: str
    profile: str
    told_at: datetime
    how: str
    region: str | None = None
    profile_id: str | None = None
    association: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def as_value(self) -> dict[str, Any]:
        """JSON, as the fact `profile` carries it (docs/facts.md)."""
        return {
            "id": self.instance,
            "region": self.region,
            "since": stamp(self.since),
            "until": stamp(self.until),
            "learnt_at": stamp(self.told_at),
            "how": self.how,
        }


def uses(events: Iterable[ProfileEvent]) -> list[Use]:
    """The uses that the events of an instance (and of its associations) tell of, oldest first."""
    told = distinct(events, RANK)
    trusted = [event for event in told if event.kind in CALLS or not overtaken(event, told)]
    state, past = _State(), list[Use]()
    for _, together in groupby(trusted, key=lambda event: event.time):
        for event in as_allowed(state, tuple(together), _allowed, _then):
            after = _then(state, event)
            if state.use is not None and after.use is not state.use and not _confirms(state.use, event):
                past.append(replace(state.use, until=event.time))
            state = after
    return past if state.use is None else [*past, state.use]


@dataclass(frozen=True, slots=True)
class _State:
    """What decides whether EC2 lets a call succeed. `known` is whether it is known that nothing is in use where `use` is None."""

    use: Use | None = None
    known: bool = False
    run: bool = False
    dead: bool = False
    over: frozenset[str] = field(default_factory=frozenset)


def _allowed(state: _State, event: ProfileEvent) -> bool:
    """Whether EC2 would let this succeed; what is not known is no obstacle."""
    if event.kind == RUN:
        return not state.run and state.use is None and not state.known
    if state.dead:
        return event.kind in (TERMINATE, MISSING)
    match event.kind:
        case "AssociateIamInstanceProfile":
            return state.use is None and event.detail.get("association") not in state.over
        case "ReplaceIamInstanceProfileAssociation":
            return _has(state, event.detail.get("replaces"))
        case "DisassociateIamInstanceProfile":
            return _has(state, event.detail.get("association"))
        case _:
            return True


def _has(state: _State, association: str | None) -> bool:
    if state.use is None:
        return not state.known
    return None in (association, state.use.association) or state.use.association == association


def _then(state: _State, event: ProfileEvent) -> _State:
    detail, use = event.detail, state.use
    association = detail.get("association")
    over = state.over if use is None or use.association is None else state.over | {use.association}
    if state.dead or event.kind == TERMINATE:
        return replace(state, use=None, known=True, run=True, dead=True)
    if event.kind == MISSING:
        return _State(None, known=True, run=True, over=over)
    if event.kind == DISASSOCIATE:
        ended = frozenset[str]() if association is None else frozenset({association})
        if not _has(state, association):
            return replace(state, over=state.over | ended)
        return _State(None, known=True, run=True, over=over | ended)
    if "instance" not in detail:
        # A replacement of which only the old association is known. An instance that had it has another now, and which is not told.
        return _State(None, known=False, run=True, over=over) if use is not None and _has(state, detail.get("replaces")) else state
    if use is not None and _confirms(use, event):
        found = replace(
            use,
            told_at=event.time,
            region=use.region or detail.get("region"),
            profile_id=use.profile_id or detail.get("profile_id"),
            association=association or use.association,
        )
        return replace(state, use=found)
    since = None if event.kind == SEEN else event.time
    begun = Use(
        detail["instance"],
        detail["profile"],
        event.time,
        event.kind,
        detail.get("region"),
        detail.get("profile_id"),
        association,
        since,
    )
    return _State(begun, known=True, run=True, over=over - {association})


def _confirms(use: Use, event: ProfileEvent) -> bool:
    """Whether a snapshot shows a use that was known."""
    ids = {use.profile_id, event.detail.get("profile_id")} - {None}
    return event.kind == SEEN and use.profile == event.detail["profile"] and len(ids) <= 1


# Forgetting.

FORGOTTEN_AFTER = timedelta(days=30)
"""What is over so long is forgotten. Longer than SQS and a dead-letter queue together keep a message that would tell of it again (28 days)."""
UNCONFIRMED_AFTER = timedelta(days=400)
"""What was told so long ago and never since is forgotten too: an instance may end without a record, as a Spot Instance does."""


def spent(events: Sequence[ProfileEvent], now: datetime) -> list[ProfileEvent]:
    """Those events of an instance or association that no longer matter, with their pointers.

    All from before the use that was going on when `FORGOTTEN_AFTER` began, and all that nothing has confirmed for `UNCONFIRMED_AFTER`.
    """
    old = [event for event in events if event.time < now - FORGOTTEN_AFTER]
    instance = next((event.detail["instance"] for event in events if "instance" in event.detail), None)
    begun: datetime | None = None
    if instance is not None and old:
        last = uses(old)[-1:]
        going_on = next((use for use in last if use.until is None), None)
        begun = None if going_on is None else going_on.since or min((e.time for e in old if _tells(e, going_on)), default=None)
        gone = old if begun is None else [event for event in old if event.time < begun]
    else:
        gone = []
    gone = [event for event in events if event in gone or event.time < now - UNCONFIRMED_AFTER]
    pointers = [
        pointer(event.account, event.detail["profile"], event.detail["instance"], event.time, event.kind)
        for event in gone
        if "profile" in event.detail and "instance" in event.detail
    ]
    return [*gone, *pointers]


def _tells(event: ProfileEvent, use: Use) -> bool:
    return event.detail.get("profile") == use.profile and event.time <= use.told_at
