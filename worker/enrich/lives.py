"""The lives of an instance profile, put together from what the log and snapshots told of it. Pure.

In go the remembered events of one profile, in any order and as often as they were delivered; out come its lives, each from a
CreateInstanceProfile to its DeleteInstanceProfile, with what is needed to make the profile again: role, path and tags.

`sequence.py` finds the order of events that share a second. The order of `RANK` decides where it is open: a second whose past is unknown is
read as a replacement, because one is daily business and a whole life within a second is not. Untag stands before Tag because that is how
tools change a tag's value.

A snapshot tells what the log did not: it is the whole truth of a profile that was made before the log was read, and the end of one whose
delete never came. Where the log tells of a change from just before, the log has it, and the snapshot is silent on that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from worker.enrich.sequence import MISSING, SEEN, as_allowed, distinct, overtaken
from worker.model import ProfileEvent

CREATE, DELETE = "CreateInstanceProfile", "DeleteInstanceProfile"
ADD_ROLE, REMOVE_ROLE = "AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile"
TAG, UNTAG = "TagInstanceProfile", "UntagInstanceProfile"
CALLS = (REMOVE_ROLE, DELETE, CREATE, ADD_ROLE, UNTAG, TAG)
RANK = {kind: rank for rank, kind in enumerate((*CALLS, SEEN, MISSING))}


@dataclass(frozen=True, slots=True)
class Deed:
    """Something done to a profile: when (UTC), by whom (ARN), and by which principal across sessions.

    Nobody: a snapshot tells that it was done, and for an end only by when.
    """

    at: datetime
    by: str | None = None
    principal: str | None = None


@dataclass(frozen=True, slots=True)
class Life:
    """A profile from its creation to its deletion, as far as the log told.

    `role` is the role in it at the end of what is known, `role_known` whether that is known (also that there is none); `last_role` the
    role that was in it last, also after it was taken out (`role_removed`). `tags` and `path` are None where nothing told them, and
    `complete` is whether all of both are known. `told_at` is the time of the last event about this life; `path_at`, `role_at` (of the last
    role) and `tags_at` are when the event was that told each of them.
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
    complete: bool = False
    path_at: datetime | None = None
    role_at: datetime | None = None
    tags_at: datetime | None = None

    @property
    def empty(self) -> bool:
        """Whether it tells nothing about the profile but that it was deleted."""
        return self.created is None and self.last_role is None and self.tags is None and self.path is None


def lives(events: Iterable[ProfileEvent]) -> Iterator[Life]:
    """The lives that the events of one profile tell of, oldest first; the order and repetitions of the events make no difference."""
    life: Life | None = None
    for _, together in groupby(_trusted(distinct(events, RANK)), key=lambda event: event.time):
        for event in as_allowed(_state(life), tuple(together), _allowed, _then):
            if life is not None and _begins(life, event):
                yield life
                life = None
            life = _after(life, event)
    if life is not None:
        yield life


def _trusted(events: Sequence[ProfileEvent]) -> Iterator[ProfileEvent]:
    """The events without what snapshots say of things that the log tells to have changed just before."""
    for event in events:
        if event.kind not in (SEEN, MISSING):
            yield event
        elif not {CREATE, DELETE} & (changed := overtaken(event, events)):
            unsure = {"role"} if {ADD_ROLE, REMOVE_ROLE} & changed else set()
            unsure |= {"tags"} if {TAG, UNTAG} & changed else set()
            yield replace(event, detail={name: value for name, value in event.detail.items() if name not in unsure})


@dataclass(frozen=True, slots=True)
class _State:
    """What decides whether IAM lets a call succeed. `exists` is None where nothing is known."""

    exists: bool | None = None
    role_known: bool = False
    role: str | None = None


def _state(life: Life | None) -> _State:
    return _State() if life is None else _State(life.deleted is None, life.role_known, life.role)


def _allowed(state: _State, event: ProfileEvent) -> bool:
    """Whether IAM would let this succeed; what is not known is no obstacle."""
    match event.kind:
        case "CreateInstanceProfile":
            return state.exists is not True
        case "RemoveRoleFromInstanceProfile":
            return state.exists is not False and (not state.role_known or state.role == event.detail.get("role"))
        case "AddRoleToInstanceProfile" | "DeleteInstanceProfile":
            return state.exists is not False and state.role is None
        case "Missing":
            return True
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
        case "Missing":
            return _State(exists=False, role_known=True)
        case "Snapshot":
            return _State(exists=True, role_known="role" in event.detail or state.role_known, role=event.detail.get("role", state.role))
        case _:
            return replace(state, exists=True)


def _begins(life: Life, event: ProfileEvent) -> bool:
    """Whether this event cannot belong to the life before it.

    A create, anything after its delete (the create was never read), or a snapshot of another profile under its name (nothing was read in
    between).
    """
    if event.kind == MISSING:
        return False
    other = event.kind == SEEN and life.id is not None and event.detail.get("id") not in (None, life.id)
    return event.kind == CREATE or life.deleted is not None or other


def _after(life: Life | None, event: ProfileEvent) -> Life | None:
    if event.kind == MISSING and (life is None or life.deleted is not None):
        return life
    detail = event.detail
    deed = Deed(event.time, detail.get("actor"), detail.get("principal"))
    now = replace(life, told_at=event.time) if life is not None else Life(event.time)
    match event.kind:
        case "CreateInstanceProfile":
            path = detail.get("path")
            return replace(
                now,
                created=deed,
                role_known=True,
                tags=dict(detail.get("tags", {})),
                tags_at=event.time,
                path=path,
                path_at=None if path is None else event.time,
                id=detail.get("id"),
                arn=detail.get("arn"),
                complete=True,
            )
        case "DeleteInstanceProfile" | "Missing":
            return replace(now, deleted=deed, role=None, role_known=True)
        case "AddRoleToInstanceProfile":
            return _holding(now, detail.get("role"), event.time)
        case "RemoveRoleFromInstanceProfile":
            return replace(_holding(now, detail.get("role"), event.time), role=None, role_removed=deed)
        case "TagInstanceProfile":
            return replace(now, tags={**(now.tags or {}), **detail.get("tags", {})}, tags_at=event.time)
        case "UntagInstanceProfile":
            gone = frozenset(detail.get("tag_keys", ()))
            kept = None if now.tags is None else {key: tag for key, tag in now.tags.items() if key not in gone}
            return replace(now, tags=kept, tags_at=None if kept is None else event.time)
        case _:
            return _as_seen(now, event)


def _holding(life: Life, role: str | None, at: datetime) -> Life:
    """With a role in it. One that was in it already was learnt when it was."""
    known_since = life.role_at if life.role == role else at
    return replace(life, role=role, role_known=True, last_role=role, role_removed=None, role_at=known_since)


def _as_seen(life: Life, event: ProfileEvent) -> Life:
    """With what a snapshot tells beside: what it says as well as the log did stays learnt from the log."""
    detail, at = event.detail, event.time
    if life.created is None and (made := detail.get("created")) is not None:
        life = replace(life, created=Deed(datetime.fromisoformat(made)))
    if life.path != detail.get("path"):
        life = replace(life, path=detail.get("path"), path_at=at)
    life = replace(life, id=detail.get("id") or life.id, arn=detail.get("arn") or life.arn)
    if "role" in detail:
        role = detail["role"]
        life = replace(life, role=None, role_known=True) if role is None else _holding(life, role, at)
    if "tags" in detail:
        same = life.complete and life.tags == detail["tags"]
        life = replace(life, tags=dict(detail["tags"]), tags_at=life.tags_at if same else at, complete=life.path is not None)
    return life
