"""Profile memory comes to the truth: whatever the order, repetition and lateness of the log, over snapshots, restarts and forgetting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from aiobotocore.session import get_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.enrich.history import ACCOUNT, INSTANCES, NAMES, REGION, History, Truth
from tests.state.stores import make_table, reset
from worker.aws import Accounts
from worker.enrich import roster
from worker.enrich.instance_events import of_instance, users_of
from worker.enrich.profile import events_of, fold
from worker.enrich.recollection import forget, recollect
from worker.enrich.roster import News, Profile, User
from worker.enrich.uses import FORGOTTEN_AFTER
from worker.model import Record
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Store

Listing = tuple[list[Profile], list[User]]
Heard = tuple[datetime, Record | Listing]
LATENESS = (0, 0, 1, 90, 400, 5_000, 100_000)


def heard(dice: Random, calls: int, *, lost: float = 0.0) -> tuple[list[Heard], History]:
    """What a worker hears of a history, in the order in which it does: late and repeated records, and snapshots when they are taken."""
    history = History(dice)
    told: list[Heard] = [(history.now + timedelta(seconds=dice.choice(LATENESS)), record) for record in history.begin()]
    for number in range(calls):
        history.wait()
        record = history.call()
        times = dice.choice((1, 1, 2)) if dice.random() >= lost else 0
        told += [(history.now + timedelta(seconds=dice.choice(LATENESS)), record) for _ in range(times)]
        if dice.random() < 0.2:
            told.append((history.now + timedelta(microseconds=500_000 + number), history.listed()))
    # Of what is heard at the same time anything may come first.
    dice.shuffle(told)
    return sorted(told, key=lambda one: one[0]), history


async def learn(store: Store, told: Sequence[Heard], dice: Random) -> None:
    for at, one in told:
        if isinstance(one, Record):
            await store.learn(events_of(one))
        else:
            await look(store, at, one, dice)


async def look(store: Store, at: datetime, listing: Listing, dice: Random) -> None:
    """A snapshot; who has no tags yet is asked for them, or another time."""
    profiles, users = listing
    known = await store.recall(ACCOUNT, roster.PROFILES)
    asked = {one.name for one in roster.without_tags(profiles, known) if dice.random() < 0.5}
    shown = [one if one.name in asked else replace(one, tags=None) for one in profiles]
    await note(store, roster.of_profiles(ACCOUNT, at, shown, known))
    await note(store, roster.of_region(ACCOUNT, REGION, at, users, await store.recall(ACCOUNT, roster.instances_of(REGION))))


async def note(store: Store, news: News) -> None:
    await store.learn(news.learn)
    await store.forget(news.forget)


async def check(store: Store, truth: Truth, *, tags: bool = True) -> None:
    """All that is remembered of every profile is so."""
    for name in NAMES:
        recollected = await recollect(store, ACCOUNT, name)
        life, there = fold(recollected.events, None).life, truth.profiles.get(name)
        if there is None:
            assert life is None or life.deleted is not None, name
        else:
            assert life is not None, name
            assert (life.deleted, life.id, life.path, life.role) == (None, there.id, there.path, there.role), name
            assert not tags or (life.complete and life.tags == there.tags), name
        using = {use.instance: use.profile_id for use in recollected.uses if use.until is None}
        assert using == {user.instance: user.profile_id for user in truth.users.values() if user.profile == name}, name


@settings(max_examples=120, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_memory_comes_to_the_truth_over_restarts(seed: int, calls: int) -> None:
    """Any history of two profiles and three instances, heard late, twice and out of order beside snapshots, in one file that is closed and
    opened again on the way: at the horizon existence, id, path, role, tags and instances are those of IAM and EC2.
    """
    dice = Random(seed)
    told, history = heard(dice, calls)
    cut = dice.randint(0, len(told))

    async def holds(path: Path) -> None:
        for part in (told[:cut], told[cut:]):
            store = await open_store(f"sqlite:///{path}/state.db", None)
            await learn(store, part, dice)
            await store.close()
        store = await open_store(f"sqlite:///{path}/state.db", None)
        await check(store, history.truth)
        await store.close()

    with TemporaryDirectory() as folder:
        asyncio.run(holds(Path(folder)))


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_a_snapshot_mends_what_the_log_lost(seed: int, calls: int) -> None:
    """A third of the records never comes: a last snapshot brings existence, id, path, role and instances to the truth all the same."""
    dice = Random(seed)
    told, history = heard(dice, calls, lost=0.3)

    async def holds() -> None:
        store = await open_store("sqlite:///:memory:", None)
        await learn(store, told, dice)
        later = max(history.now, *(at for at, _ in told)) + timedelta(hours=1)
        await look(store, later, (list(history.truth.profiles.values()), list(history.truth.users.values())), dice)
        await check(store, history.truth, tags=False)
        await store.close()

    asyncio.run(holds())


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32), st.integers(1, 60))
def test_forgetting_takes_nothing_that_still_is(seed: int, calls: int) -> None:
    """A month later what is over is forgotten, and what an instance still uses is told as before; a second time nothing more goes."""
    dice = Random(seed)
    told, history = heard(dice, calls)

    async def holds() -> None:
        store = await open_store("sqlite:///:memory:", None)
        await learn(store, told, dice)
        later = history.now + FORGOTTEN_AFTER + timedelta(days=2)
        await forget(store, later)
        await check(store, history.truth)
        for instance in INSTANCES:
            assert instance in history.truth.users or await store.recall(ACCOUNT, of_instance(instance)) == []
        for name in NAMES:
            left = {event.detail["instance"] for event in await store.latest(ACCOUNT, users_of(name), 1000)}
            assert left <= history.truth.users.keys()
        assert await forget(store, later) == 0
        await store.close()

    asyncio.run(holds())


async def test_a_fleets_table_comes_to_the_same_truth(embedded_aws: str) -> None:
    """The same over DynamoDB: two workers hear every other part, and a third tells."""

    async def holds(seed: int) -> None:
        await asyncio.to_thread(reset, embedded_aws)
        dice = Random(seed)
        told, history = heard(dice, 30)
        async with Accounts(get_session(), Settings()) as accounts:
            await make_table(await accounts.client("dynamodb"))
            workers = [await open_store("dynamodb://trailmend", accounts) for _ in range(3)]
            for number in range(0, len(told), 5):
                await learn(workers[number // 5 % 2], told[number : number + 5], dice)
            await check(workers[2], history.truth)
            await forget(workers[0], history.now + FORGOTTEN_AFTER + timedelta(days=2))
            await check(workers[2], history.truth)

    for seed in range(8):
        await holds(seed)
