"""What is remembered of an instance profile, asked of the store: its own events, and which instances used it.

In go an account and a name, out comes a `Recollection`; deciding is left to `lives.py` and `uses.py`. A profile of a busy Auto Scaling group
is remembered with thousands of instances: the latest `MOST_INSTANCES` of them are looked at, and it is told when there are more.
`forget` lets go of the instances that no longer matter, so that there are seldom more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from worker.enrich.instance_events import of_association, of_instance, tries_of, users_of
from worker.enrich.sequence import as_looked
from worker.enrich.uses import FORGOTTEN_AFTER, Use, spent, uses
from worker.model import ProfileEvent
from worker.state.store import Store

T = TypeVar("T")

LOOKED = "looked/"
"""Under this stands when a snapshot last saw all of an account's profiles, and all instances of each region."""
PROFILES = "profiles"
"""Its key for the profiles. A region's is the region's name."""
MOST_INSTANCES = 200
MOST_TRIES = 20
"""Failed launches that are looked at, the latest: something that launches goes on trying."""
AT_ONCE = 16
"""Questions to the store under way for one recollection."""


@dataclass(frozen=True, slots=True)
class Recollection:
    """The events of a profile, and its uses by instances: those that go on first, then the latest ended. `cut`: there are more.

    `tries` are the latest launches with it that failed, the latest first.
    """

    events: tuple[ProfileEvent, ...] = ()
    uses: tuple[Use, ...] = ()
    cut: bool = False
    tries: tuple[ProfileEvent, ...] = ()


async def every(asking: Iterable[Awaitable[T]]) -> list[T]:
    """All the answers, in order. An error is raised when every question has come to its end, so that none is left behind."""
    told: list[T] = []
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer
        told.append(answer)
    return told


async def recollect(store: Store, account: str, profile: str, more: Iterable[ProfileEvent] = ()) -> Recollection:
    """All that is remembered of a profile, and what `more` events tell that may not have been learnt yet. Raises `StoreError`."""
    more = tuple(more)
    at_once = asyncio.Semaphore(AT_ONCE)

    async def recall(where: str) -> tuple[ProfileEvent, ...]:
        async with at_once:
            return (*await store.recall(account, where), *(event for event in more if event.profile == where))

    async def used_by(instance: str) -> list[Use]:
        events = await recall(of_instance(instance))
        associations = {event.detail["association"] for event in events if "association" in event.detail}
        for association in sorted(associations):
            events += await recall(of_association(association))
        region = next((str(event.detail["region"]) for event in events if "region" in event.detail), "")
        return uses(as_looked(events, seen.get(region)))

    own, looked = await every([recall(profile), recall(LOOKED)])
    seen = {event.key: event.time for event in looked}
    latest = await store.latest(account, users_of(profile), MOST_INSTANCES + 1)
    pointers = [*latest[:MOST_INSTANCES], *(event for event in more if event.profile == users_of(profile))]
    instances = dict.fromkeys(str(event.detail["instance"]) for event in pointers)
    found = [use for told in await every(map(used_by, instances)) for use in told if use.profile == profile]
    found.sort(key=lambda use: (use.until is None, use.until or use.told_at, use.told_at, use.instance), reverse=True)
    tried = await store.latest(account, tries_of(profile), MOST_TRIES)
    tries = {event.key: event for event in (*tried, *more) if event.profile == tries_of(profile)}
    return Recollection(
        tuple(as_looked(own, seen.get(PROFILES))),
        tuple(found),
        len(latest) > MOST_INSTANCES,
        tuple(sorted(tries.values(), key=lambda event: event.key, reverse=True)),
    )


async def forget(store: Store, now: datetime) -> int:
    """Let go of what is remembered of instances and no longer matters; answers how many events went. Raises `StoreError`."""
    gone = 0
    for under in (of_instance(""), of_association("")):
        looked_at: set[tuple[str, str]] = set()
        async for event in store.remembered(under, now - FORGOTTEN_AFTER):
            one = (event.account, event.profile)
            if one not in looked_at:
                looked_at.add(one)
                going = spent(await store.recall(*one), now)
                await store.forget(going)
                gone += len(going)
    async for event in store.remembered(tries_of(""), now - FORGOTTEN_AFTER):
        await store.forget([event])
        gone += 1
    return gone
