"""What a snapshot of an account teaches: the listing of this time against the roster, which is what the listing of last time showed. Pure.

In go what AWS listed and what the store holds of the roster; out comes `News`: events about profiles and instances (`Snapshot`, `Missing`), and
how the roster changes. Only what is new is written, so a quiet account costs a snapshot its questions and hardly a write. What was seen last time and is missing
from a whole listing was ended in between; its record may be late or never come.

A roster stands in the store under a name of its own (`profiles_of`, `instances_of`), an event for each thing, whose key is the thing's name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from worker.enrich import recollection
from worker.enrich.instance_events import of_instance, pointer
from worker.enrich.sequence import MISSING, SEEN
from worker.model import ProfileEvent

PROFILES = "roster/profiles"
"""Under this stand the profiles that the last listing of an account showed."""
CONFIRMED_EVERY = timedelta(days=7)
"""How often it is written down anew that an instance still uses its profile, so that it is among the latest that are looked at."""


def instances_of(region: str) -> str:
    """Under this stand the instances with a profile that the last listing of a region showed."""
    return f"roster/instances/{region}"


@dataclass(frozen=True, slots=True)
class Profile:
    """An instance profile as ListInstanceProfiles shows it. `tags` is None where they were not asked for."""

    name: str
    id: str
    arn: str
    path: str
    role: str | None
    created: datetime | None = None
    tags: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class User:
    """An instance and the profile that it uses, as EC2 shows it."""

    instance: str
    profile: str
    profile_id: str | None = None
    association: str | None = None


@dataclass(frozen=True, slots=True)
class News:
    """What there is to learn and, after that, to forget."""

    learn: tuple[ProfileEvent, ...] = ()
    forget: tuple[ProfileEvent, ...] = ()


def without_tags(listed: Iterable[Profile], roster: Iterable[ProfileEvent]) -> list[Profile]:
    """The profiles whose tags nobody has asked for yet."""
    told = {(entry.key, entry.detail.get("id")) for entry in roster if entry.detail.get("tags_told")}
    return [profile for profile in listed if (profile.name, profile.id) not in told]


def of_profiles(account: str, at: datetime, listed: Iterable[Profile], roster: Sequence[ProfileEvent], told: Collection[str] = ()) -> News:
    """The news of a whole listing of an account's profiles, which ended at `at`. `told` names those whose tags the log has told."""
    before = {entry.key: entry for entry in roster}
    learn: list[ProfileEvent] = []
    for profile in listed:
        entry = before.pop(profile.name, None)
        look = _look(profile)
        known: Mapping[str, Any] = {} if entry is None else entry.detail
        same = all(name in known and known[name] == value for name, value in look.items())
        asked = known.get("id") == profile.id and known.get("tags_told") is True
        entered = {**look, "tags_told": asked or profile.tags is not None or profile.name in told}
        if not same or profile.tags is not None:
            tags = {} if profile.tags is None else {"tags": dict(profile.tags)}
            learn.append(ProfileEvent(account, profile.name, at, _key(at), SEEN, {**look, **tags}))
        if entered != known:
            learn.append(ProfileEvent(account, PROFILES, at, profile.name, SEEN, entered))
    missing = [ProfileEvent(account, name, at, _key(at), MISSING, {}) for name in before]
    return News((*learn, *missing, _looked(account, recollection.PROFILES, at)), tuple(before.values()))


def _look(profile: Profile) -> dict[str, Any]:
    created = None if profile.created is None else profile.created.isoformat()
    return {"id": profile.id, "arn": profile.arn, "path": profile.path, "role": profile.role, "created": created}


def of_region(account: str, region: str, at: datetime, listed: Iterable[User], roster: Sequence[ProfileEvent]) -> News:
    """The news of a whole listing of a region's instances that have a profile, which ended at `at`."""
    before = {entry.key: entry for entry in roster}
    learn: list[ProfileEvent] = []
    for user in listed:
        entry = before.pop(user.instance, None)
        look = {"instance": user.instance, "profile": user.profile, "region": region}
        look |= {} if user.profile_id is None else {"profile_id": user.profile_id}
        look |= {} if user.association is None else {"association": user.association}
        if entry is not None and entry.detail == look and at - entry.time < CONFIRMED_EVERY:
            continue
        seen = ProfileEvent(account, of_instance(user.instance), at, _key(at), SEEN, look)
        learn += [seen, pointer(account, user.profile, user.instance, at, SEEN)]
        learn.append(replace(seen, profile=instances_of(region), key=user.instance))
    missing = [ProfileEvent(account, of_instance(name), at, _key(at), MISSING, {"instance": name, "region": region}) for name in before]
    return News((*learn, *missing, _looked(account, region, at)), tuple(before.values()))


def _looked(account: str, what: str, at: datetime) -> ProfileEvent:
    """That all was seen. It is learnt last, because it says that whatever was not seen is gone."""
    return ProfileEvent(account, recollection.LOOKED, at, what, SEEN, {})


def _key(at: datetime) -> str:
    return f"snapshot {at.isoformat()}"
