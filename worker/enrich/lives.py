"""The lives of an instance profile, put together from what the log told of it. Pure.

In go the remembered events of one profile, in any order and as often as they were delivered; out come its lives, each from a
CreateInstanceProfile to its DeleteInstanceProfile, with what is needed to make the profile again: role, path and tags.

Order. CloudTrail's times are whole seconds, and a Terraform replacement removes, deletes, creates and adds within one. So no fixed order
of kinds is right: Create comes before Delete in a short life and after it in a replacement. But every event remembered succeeded, so
within a second the events are taken in the order in which IAM would have let all of them succeed (no delete while a role is in it, one
role at most, no create where one exists), given what came before. Where several orders would do, or none because an event is missing,
the fewest refusals win and then the order of `RANK`. That reads a second whose past is unknown as a replacement: one is daily business,
a whole life within a second is not. Untag stands before Tag because that is how tools change a tag's value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from worker.model import ProfileEvent

CREATE, DELETE = "CreateInstanceProfile", "DeleteInstanceProfile"
ADD_ROLE, REMOVE_ROLE = "AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"
TAG, UNTAG = "TagInstanceProfile", "UntagInstanceProfile"
RANK = {kind: rank for rank, kind in enumerate((REMOVE_ROLE, DELETE, CREATE, ADD_ROLE, UNTAG, TAG))}

MOST_TOGETHER = 6
"""Events of one second whose order is looked for (720 at worst); a replacement with tags has five. More are taken in the order of RANK."""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a profile: when (UTC), by whom (ARN), and by which principal across sessions."""

    at: datetime
    by: str | None
    principal: str | None


@dataclass(frozen=True, slots=True)
class Life:
    """A profile from its creation to its deletion, as far as the log told.

    `role` is the role in it at the end of what is known, `role_known` whether that is known (also that there is none); `last_role` the
    role that was in it last, also after it was taken out (`role_removed`). `tags` and `path` are None where nothing told them;
    `told_at` is the time of the last event about this life.
    """

    told_at: datetime
    created: Deed | None = None
    deleted: Deed | None = None
    role: str | None = None
    role_known: bool = False
    last_role: str | None = None
    role_removed: Deed | None = None
    path: str | None = None
    tags: Mapping[str, str] | None = None
    id: str | None = None
    arn: str | None = None

    @property
    def empty(self) -> bool:
        """Whether it tells nothing about the profile but that it was deleted."""
        return self.created is None and self.last_role is None and self.tags is None


def lives(events: Iterable[ProfileEvent]) -> Iterator[Life]:
    """The lives that the events of one profile tell of, oldest first; the order and repetitions of the events make no difference."""
    known = [event for event in events if event.kind in RANK]
    distinct = {event.key: event for event in sorted(known, key=lambda event: (event.time, RANK[event.kind], event.key))}
    life: Life | None = None
    for _, together in groupby(distinct.values(), key=lambda event: event.time):
        for event in _as_allowed(life, tuple(together)):
            if life is not None and _begins(life, event):
                yield life
                life = None
            life = _after(life, event)
    if life is not None:
        yield life


@dataclass(frozen=True, slots=True)
class _State:
    """What decides whether IAM lets a call succeed. `exists` is None where nothing is known."""

    exists: bool | None = None
    role_known: bool = False
    role: str | None = None


def _as_allowed(life: Life | None, together: tuple[ProfileEvent, ...]) -> tuple[ProfileEvent, ...]:
    """Events of one second, ranked, in the first order with the fewest refusals."""
    if not 1 < len(together) <= MOST_TOGETHER:
        return together
    state = _State() if life is None else _State(life.deleted is None, life.role_known, life.role)
    orders = (_order(state, together, refusals) for refusals in range(len(together) + 1))
    return next(order for order in orders if order is not None)


def _order(state: _State, left: tuple[ProfileEvent, ...], refusals: int) -> tuple[ProfileEvent, ...] | None:
    """The first order of the events left that IAM would refuse at most so often, or None."""
    if not left:
        return ()
    for number, event in enumerate(left):
        spare = refusals - (not _allowed(state, event))
        if spare >= 0:
            rest = _order(_then(state, event), left[:number] + left[number + 1 :], spare)
            if rest is not None:
                return (event, *rest)
    return None


def _allowed(state: _State, event: ProfileEvent) -> bool:
    """Whether IAM would let this succeed; what is not known is no obstacle."""
    match event.kind:
        case "CreateInstanceProfile":
            return state.exists is not True
        case "RemoveRoleFromInstanceProfile":
            return state.exists is not False and (not state.role_known or state.role == event.detail.get("role"))
        case "AddRoleToInstanceProfile" | "DeleteInstanceProfile":
            return state.exists is not False and state.role is None
        case _:
            return state.exists is not False


def _then(state: _State, event: ProfileEvent) -> _State:
    match event.kind:
        case "CreateInstanceProfile" | "DeleteInstanceProfile":
            return _State(event.kind == CREATE, role_known=True)
        case "AddRoleToInstanceProfile":
            return _State(exists=True, role_known=True, role=event.detail.get("role"))
        case "RemoveRoleFromInstanceProfile":
            return _State(exists=True, role_known=True)
        case _:
            return replace(state, exists=True)


def _begins(life: Life, event: ProfileEvent) -> bool:
    """Whether this event cannot belong to the life before it: a create, or anything after its delete (the create was never read)."""
    return event.kind == CREATE or life.deleted is not None


def _after(life: Life | None, event: ProfileEvent) -> Life:
    detail = event.detail
    deed = Deed(event.time, detail.get("actor"), detail.get("principal"))
    now = replace(life, told_at=event.time) if life is not None else Life(event.time)
    match event.kind:
        case "CreateInstanceProfile":
            return replace(
                now,
                created=deed,
                role_known=True,
                tags=dict(detail.get("tags", {})),
                path=detail.get("path"),
                id=detail.get("id"),
                arn=detail.get("arn"),
            )
        case "DeleteInstanceProfile":
            return replace(now, deleted=deed, role=None, role_known=True)
        case "AddRoleToInstanceProfile":
            return replace(now, role=detail.get("role"), role_known=True, last_role=detail.get("role"), role_removed=None)
        case "RemoveRoleFromInstanceProfile":
            return replace(now, role=None, role_known=True, last_role=detail.get("role"), role_removed=deed)
        case "TagInstanceProfile":
            return replace(now, tags={**(now.tags or {}), **detail.get("tags", {})})
        case _:
            gone = frozenset(detail.get("tag_keys", ()))
            return replace(now, tags=None if now.tags is None else {key: tag for key, tag in now.tags.items() if key not in gone})
