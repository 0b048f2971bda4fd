"""The promises of `worker/state/store.py`, asked of every store we ship; those about windows stand in `test_windows.py`."""

import asyncio
import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aiobotocore.session import get_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.state.stores import Opened, make_table, reset
from worker.aws import Accounts
from worker.model import JournalEntry, ProfileEvent, stable_id
from worker.settings import Settings
from worker.state import canonical
from worker.state.opening import open_store
from worker.state.store import Claim, Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LEASE = timedelta(minutes=5)


def profile_event(number: int, *, seconds: int = 0, profile: str = "web") -> ProfileEvent:
    detail = {"role": "web", "path": "/", "tags": {"team": "käse\x00\n", "n": str(number)}, "actor": None}
    key = stable_id("record", str(number))
    return ProfileEvent("111111111111", profile, NOW + timedelta(seconds=seconds), key, "TagInstanceProfile", detail)


# Claims.


async def test_a_claim_is_won_once_and_then_busy_until_its_lease_ends(store: Store) -> None:
    """The second owner is told BUSY to the last microsecond of the lease, and wins at its end."""
    assert await store.claim("k", "a", NOW, LEASE) is Claim.WON
    assert await store.claim("k", "b", NOW, LEASE) is Claim.BUSY
    assert await store.claim("k", "b", NOW + LEASE - timedelta(microseconds=1), LEASE) is Claim.BUSY
    assert await store.claim("k", "b", NOW + LEASE, LEASE) is Claim.WON
    assert await store.claim("k", "a", NOW + LEASE, LEASE) is Claim.BUSY


async def test_an_owner_extends_its_own_running_claim(store: Store) -> None:
    """Claiming again moves the end of the lease, so that others wait longer."""
    await store.claim("k", "a", NOW, LEASE)
    later = NOW + LEASE / 2
    assert await store.claim("k", "a", later, LEASE) is Claim.WON
    assert await store.claim("k", "b", NOW + LEASE, LEASE) is Claim.BUSY
    assert await store.claim("k", "b", later + LEASE, LEASE) is Claim.WON


async def test_what_is_settled_is_settled_for_everybody_and_for_good(opened: Opened) -> None:
    """Settled claims are won by nobody, not by their owner and not after the lease; another process sees the same."""
    store = opened.store
    await store.claim("k", "a", NOW, LEASE)
    await store.settle(["k"], "a", NOW)
    await store.settle(["k"], "b", NOW)
    other = await opened.again()
    for owner, at in itertools.product(("a", "b"), (NOW, NOW + 10 * LEASE)):
        assert await other.claim("k", owner, at, LEASE) is Claim.SETTLED
    await other.release("k", "a")
    assert await store.settled(["k", "x"]) == {"k"}


async def test_settling_needs_no_claim_and_heeds_no_lease(store: Store) -> None:
    """The work has been done: a key never claimed, and one whose lease is another's, are settled all the same."""
    await store.claim("other", "b", NOW, LEASE)
    await store.settle(["never", "other", "never"], "a", NOW)
    assert await store.settled(["never", "other", "third"]) == {"never", "other"}
    assert await store.claim("other", "b", NOW, LEASE) is Claim.SETTLED


async def test_releasing_frees_a_claim_at_once_but_only_for_its_owner(store: Store) -> None:
    """A stranger's release does nothing; the owner's lets the next one win; releasing what is not there is no error."""
    await store.claim("k", "a", NOW, LEASE)
    await store.release("k", "b")
    assert await store.claim("k", "b", NOW, LEASE) is Claim.BUSY
    await store.release("k", "a")
    assert await store.claim("k", "b", NOW, LEASE) is Claim.WON
    await store.release("nothing", "a")


async def test_of_concurrent_claimants_exactly_one_wins(opened: Opened) -> None:
    """Twenty owners over two connections, for each of ten keys: one WON, nineteen BUSY."""
    stores = [opened.store, await opened.again()]
    for key in range(10):
        answers = await asyncio.gather(*(stores[n % 2].claim(f"k{key}", f"owner{n}", NOW, LEASE) for n in range(20)))
        assert sorted(answers) == [Claim.BUSY] * 19 + [Claim.WON]


async def test_nothing_is_a_valid_question(store: Store) -> None:
    """Empty lists, unknown profiles and an empty journal are answered with nothing."""
    await store.settle([], "a", NOW)
    await store.learn([])
    await store.forget([])
    assert await store.latest("111111111111", "web", 5) == []
    assert await store.settled([]) == frozenset()
    assert await store.recall("111111111111", "web") == []
    assert [line async for line in store.journal()] == []


async def test_hundreds_of_keys_at_once(store: Store) -> None:
    """More keys than a batch of any store holds are settled and found."""
    keys = [f"finding:{n}" for n in range(230)]
    await store.settle(keys, "a", NOW)
    assert await store.settled([*keys, "other"]) == frozenset(keys)


# Profile memory.


async def test_a_profile_is_recalled_as_it_was_learnt(opened: Opened) -> None:
    """Detail, time to the microsecond, and any letter in a name come back; by time, then key; nothing of other profiles."""
    odd = "wéb\x00#/" + "x" * 3000
    events = [profile_event(n, seconds=-n, profile=odd) for n in range(40)]
    await opened.store.learn([*events, profile_event(99), profile_event(98, profile=odd + "!")])
    again = await opened.again()
    assert await again.recall("111111111111", odd) == sorted(events, key=lambda e: (e.time, e.key))
    assert await again.recall("222222222222", odd) == []


@pytest.mark.parametrize("kind", ["memory", "dynamodb"])
async def test_order_and_repetition_of_learning_do_not_matter(kind: str, request: pytest.FixtureRequest) -> None:
    """Whatever the order, the batches and the repeats in which events come, the same is recalled."""
    endpoint = None
    if kind == "dynamodb":
        endpoint = request.getfixturevalue("embedded_aws")

    async def check(events: list[tuple[int, int]], cuts: list[int], seed: int) -> None:
        if endpoint is not None:
            await asyncio.to_thread(reset, endpoint)
        async with Accounts(get_session(), Settings()) as accounts:
            if endpoint is not None:
                await make_table(await accounts.client("dynamodb"))
            store = await open_store("sqlite:///:memory:" if endpoint is None else "dynamodb://trailmend", accounts)
            known = [profile_event(number, seconds=seconds) for number, seconds in dict(events).items()]
            told = [*known, *known[::2]]
            random.Random(seed).shuffle(told)
            bounds = [0, *sorted(cuts), len(told)]
            for start, end in itertools.pairwise(bounds):
                await store.learn(told[start:end])
            assert await store.recall("111111111111", "web") == sorted(known, key=lambda e: (e.time, e.key))
            await store.close()

    pairs = st.lists(st.tuples(st.integers(0, 30), st.integers(-3, 3)), max_size=40)

    @settings(max_examples=60 if endpoint is None else 10, suppress_health_check=list(HealthCheck))
    @given(pairs, st.lists(st.integers(0, 20), max_size=3), st.integers(0, 1000))
    def property_holds(events: list[tuple[int, int]], cuts: list[int], seed: int) -> None:
        asyncio.run(check(events, cuts, seed))

    await asyncio.to_thread(property_holds)


async def test_an_event_of_a_known_key_takes_its_place(opened: Opened) -> None:
    """Detail, kind and time are those of the last that was learnt, in whichever process."""
    await opened.store.learn([profile_event(1)])
    later = replace(profile_event(1, seconds=9), kind="Snapshot", detail={"role": None})
    await (await opened.again()).learn([later])
    assert await opened.store.recall("111111111111", "web") == [later]


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 21])
async def test_the_latest_of_a_profile_come_by_their_keys(limit: int, store: Store) -> None:
    """The last key first, whatever the time, and no more than were asked for."""
    events = [replace(profile_event(n, seconds=-n), key=f"{n:03}") for n in range(20)]
    await store.learn([*events, profile_event(99, profile="other")])
    assert await store.latest("111111111111", "web", limit) == events[::-1][:limit]


async def test_what_is_remembered_under_a_beginning_is_told_page_by_page(store: Store) -> None:
    """Of every account and of more than a page: what is from before the time, and nothing of other names."""
    old = [profile_event(n, seconds=-1 - n, profile=f"instance/i-{n % 7}") for n in range(450)]
    other = replace(profile_event(998, seconds=-1, profile="instance/i-0"), account="222222222222")
    await store.learn([*old, other, profile_event(999, profile="instance/i-0"), profile_event(997, seconds=-5, profile="instance")])
    told = [event async for event in store.remembered("instance/", NOW)]
    assert sorted(told, key=lambda e: (e.time, e.key)) == sorted([*old, other], key=lambda e: (e.time, e.key))
    assert [event async for event in store.remembered("nothing/", NOW)] == []


async def test_what_is_forgotten_is_gone_and_nothing_else(opened: Opened) -> None:
    """Also twice in one call, more than a batch, and while it is being told; unknown ones are no error."""
    events = [profile_event(n, seconds=-1) for n in range(60)]
    await opened.store.learn(events)
    await (await opened.again()).forget([*events[1:], events[1], profile_event(99), replace(events[0], account="222222222222")])
    assert await opened.store.recall("111111111111", "web") == [events[0]]
    async for event in opened.store.remembered("web", NOW):
        await opened.store.forget([event])
    assert await opened.store.recall("111111111111", "web") == []


# The journal.


def entry(number: int) -> JournalEntry:
    body = {"plan": [{"api": "CreateInstanceProfile", "says": "mäke it \U0001f600 \x00"}], "n": number, "before": None, "ratio": 0.1}
    return JournalEntry(f"task-{number}", NOW + timedelta(microseconds=number), "applied", body)


async def test_the_journal_is_a_chain_that_anybody_can_check(opened: Opened) -> None:
    """Entries come back in order and whole, each with the hash of the one before, and the hashes can be computed anew."""
    hashes = [await opened.store.append(entry(n)) for n in range(5)]
    lines = [line async for line in (await opened.again()).journal()]
    assert [line[0] for line in lines] == [entry(n) for n in range(5)]
    assert [line[1] for line in lines] == hashes
    assert [line[2] for line in lines] == ["", *hashes[:-1]]
    for written, mark, previous in lines:
        assert canonical.link(previous, canonical.line(written)) == mark


async def test_concurrent_appends_lose_nothing_and_fork_nothing(opened: Opened) -> None:
    """Thirty appends over two connections give thirty lines in one unbroken chain."""
    stores = [opened.store, await opened.again()]
    hashes = await asyncio.gather(*(stores[n % 2].append(entry(n)) for n in range(30)))
    lines = [line async for line in opened.store.journal()]
    assert sorted(line[1] for line in lines) == sorted(hashes)
    assert len(set(hashes)) == 30
    assert [line[2] for line in lines] == ["", *(line[1] for line in lines[:-1])]


async def test_a_journal_of_hundreds_of_lines_is_read_page_by_page(store: Store) -> None:
    """More lines than a page holds, and a line of half a megabyte, come back."""
    for n in range(205):
        await store.append(entry(n))
    large = JournalEntry("large", NOW, "shadowed", {"plan": [f"associate i-{n:017x} with the profile" for n in range(14_000)]})
    await store.append(large)
    lines = [line async for line in store.journal()]
    assert [line[0].task_id for line in lines] == [*(f"task-{n}" for n in range(205)), "large"]
    assert lines[-1][0] == large


# Forgetting.


async def test_pruning_forgets_what_is_old_and_keeps_the_journal(store: Store) -> None:
    """Settled claims and events older than the limit go and are counted; running claims, younger ones and the journal stay."""
    old, limit = NOW - timedelta(days=40), NOW - timedelta(days=30)
    await store.settle(["old", "old2"], "a", old)
    await store.settle(["new"], "a", NOW)
    await store.claim("running", "a", old, LEASE)
    await store.learn([profile_event(1, seconds=-40 * 86_400), profile_event(2)])
    await store.append(entry(1))
    assert await store.prune(limit, limit, NOW) == {"claims": 2, "profile_events": 1, "sightings": 0}
    assert await store.settled(["old", "old2", "new"]) == {"new"}
    assert await store.recall("111111111111", "web") == [profile_event(2)]
    assert len([line async for line in store.journal()]) == 1
    assert await store.claim("running", "b", old, LEASE) is Claim.BUSY
    assert await store.prune(limit, limit, NOW) == {"claims": 0, "profile_events": 0, "sightings": 0}
