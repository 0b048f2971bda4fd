"""The promises of `worker/state/store.py` about the windows of correlations, asked of every store we ship."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.session import get_session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.state.stores import Opened, make_table, reset
from worker.aws import Accounts
from worker.model import Census, Closing, Origin, Record, Sighting
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
MANY = 100_000


def sighting(number: int, time: datetime = NOW, window: str = "w", **parameters: Any) -> Sighting:
    event = {
        "eventID": str(number),
        "eventTime": time.isoformat(),
        "eventName": "DeleteInstanceProfile",
        "userIdentity": {"arn": "arn:aws:iam::111111111111:user/zoë", "sessionContext": None},
        "requestParameters": {"instanceProfileName": "wéb\x00\n", "largest": 2**64 - 1, "ratio": 0.1, **parameters},
    }
    record = Record(event, Origin(bucket="trail", key="AWSLogs/o/a+b.json.gz"))
    return Sighting(window, "rule", record.key, time, record, ("zoë", ""), ("1.5", "x"))


def ordered(sightings: Sequence[Sighting]) -> list[Sighting]:
    return sorted(sightings, key=lambda one: (one.time, one.key))


async def all_of(store: Store, window: str = "w") -> Sequence[Sighting]:
    return await store.sightings(window, EARLIEST, LATEST, MANY)


# Sightings.


async def test_a_sighting_comes_back_as_it_was_whatever_its_record_holds(opened: Opened) -> None:
    """Record, origin, group and values are equal, and so are the keys; another process sees them once `sight` has returned."""
    other = await opened.again()
    inline = Sighting("w", "another", "i", NOW, Record({"list": [{}, None, True]}, Origin(message="m-1")))
    seen = [sighting(1), sighting(2), inline]
    await opened.store.sight(seen, LATER)
    found = await all_of(other)
    assert found == ordered(seen)
    assert [one.key for one in found] == [one.key for one in ordered(seen)]
    assert [one.record.key for one in found] == [one.record.key for one in ordered(seen)]
    assert await all_of(other, "another window") == []


async def test_a_window_is_read_from_one_time_to_another_both_included(store: Store) -> None:
    """To the microsecond; what ends before it begins holds nothing."""
    step = timedelta(microseconds=1)
    seen = [sighting(n, NOW + n * step) for n in range(5)]
    await store.sight(seen, LATER)
    assert await store.sightings("w", NOW + step, NOW + 3 * step, MANY) == seen[1:4]
    assert await store.sightings("w", NOW + step, NOW + step, MANY) == seen[1:2]
    assert await store.sightings("w", NOW + step, NOW, MANY) == []


async def test_any_time_of_the_calendar_has_its_place(store: Store) -> None:
    """From the year 1 to 9999, before 1970 and after: in the order of time."""
    times = [EARLIEST, *(datetime(year, 12, 31, 23, 59, 59, 999_999, UTC) for year in (999, 1969, 1970, 2026)), LATEST]
    seen = [sighting(n, time) for n, time in enumerate(times)]
    await store.sight(seen[::-1], LATEST)
    assert await all_of(store) == seen
    assert await store.sightings("w", EARLIEST, times[2], MANY) == seen[:3]
    assert await store.sightings("w", times[2], LATEST, MANY) == seen[2:]


@pytest.mark.parametrize("limit", [0, 1, 7, 20, 21])
async def test_of_a_window_the_first_are_read_up_to_the_limit(limit: int, store: Store) -> None:
    """By time, and by key where the time is the same."""
    seen = [sighting(n, NOW + timedelta(seconds=n // 5)) for n in range(20)]
    await store.sight(seen, LATER)
    assert await store.sightings("w", EARLIEST, LATEST, limit) == ordered(seen)[:limit]


async def test_a_window_larger_than_a_page_is_read_whole(store: Store) -> None:
    """More than the 1 MB that DynamoDB answers at once."""
    chance = random.Random(1)
    seen = [sighting(n, noise=chance.randbytes(50_000).hex()) for n in range(30)]
    await store.sight(seen, LATER)
    assert await all_of(store) == ordered(seen)
    assert await store.sightings("w", EARLIEST, LATEST, 25) == ordered(seen)[:25]


async def test_a_record_too_large_to_keep_is_kept_without_its_largest_parts(opened: Opened) -> None:
    """A megabyte that cannot be compressed: who, what and when come back, and keys and order are those of the whole record."""
    whole = sighting(1, noise=random.Random(1).randbytes(500_000).hex())
    seen = [whole, sighting(2)]
    await opened.store.sight(seen, LATER)
    await (await opened.again()).sight(seen[::-1], LATER)
    found = await all_of(opened.store)
    assert [one.key for one in found] == [one.key for one in ordered(seen)]
    (large,) = (one for one in found if one.item == whole.item)
    assert large.record.key == whole.record.key
    assert "requestParameters" not in large.record.event
    assert {**large.record.event, "requestParameters": whole.record.event["requestParameters"]} == whole.record.event


async def test_what_was_seen_over_two_connections_at_once_is_seen_whole(opened: Opened) -> None:
    """Twenty calls that overlap, of ten each: after each call its own are there, and in the end all, each once."""
    stores = [opened.store, await opened.again()]

    async def see(number: int) -> None:
        own = [sighting(one) for one in range(5 * number, 5 * number + 10)]
        await stores[number % 2].sight(own, LATER)
        assert {one.key for one in own} <= {one.key for one in await all_of(stores[1 - number % 2])}

    await asyncio.gather(*(see(number) for number in range(20)))
    assert await all_of(opened.store) == ordered([sighting(n) for n in range(105)])


@pytest.mark.parametrize("kind", ["memory", "dynamodb"])
async def test_order_and_repetition_of_sighting_do_not_matter(kind: str, request: pytest.FixtureRequest) -> None:
    """Whatever the order, the batches and the repeats, the same is found; and it is kept until the latest time that was asked for."""
    endpoint = request.getfixturevalue("embedded_aws") if kind == "dynamodb" else None

    async def check(told: list[tuple[str, int, int]], size: int) -> None:
        if endpoint is not None:
            await asyncio.to_thread(reset, endpoint)
        async with Accounts(get_session(), Settings()) as accounts:
            if endpoint is not None:
                await make_table(await accounts.client("dynamodb"))
            store = await open_store("sqlite:///:memory:" if endpoint is None else "dynamodb://trailmend", accounts)
            kept: dict[tuple[str, int], int] = {}
            for start in range(0, len(told), size):
                batch = told[start : start + size]
                minute = batch[0][2]
                await store.sight([of(window, number) for window, number, _ in batch], NOW + timedelta(minutes=minute))
                for window, number, _ in batch:
                    kept[window, number] = max(minute, kept.get((window, number), 0))
            for minute, window in itertools.product(range(4), "vw"):
                await store.prune(EARLIEST, EARLIEST, NOW + timedelta(minutes=minute))
                left = [of(*one) for one, until in kept.items() if one[0] == window and until >= minute]
                assert await all_of(store, window) == ordered(left)
            await store.close()

    def of(window: str, number: int) -> Sighting:
        return sighting(number, NOW + timedelta(seconds=number % 5), window)

    told = st.lists(st.tuples(st.sampled_from("vw"), st.integers(0, 6), st.integers(0, 3)), max_size=40)

    @settings(max_examples=60 if endpoint is None else 10, suppress_health_check=list(HealthCheck))
    @given(told, st.integers(1, 20))
    def property_holds(told: list[tuple[str, int, int]], size: int) -> None:
        asyncio.run(check(told, size))

    await asyncio.to_thread(property_holds)


async def test_a_sighting_is_kept_until_the_latest_time_that_was_asked_for(opened: Opened) -> None:
    """Whether that was asked first or last, and in whichever process."""
    other = await opened.again()
    early, late = [sighting(1)], [sighting(2)]
    await opened.store.sight(early, NOW)
    await other.sight(early, LATER)
    await opened.store.sight(late, LATER)
    await other.sight(late, NOW)
    assert (await opened.store.prune(NOW, NOW, LATER))["sightings"] == 0
    assert await all_of(other) == ordered([*early, *late])
    assert (await opened.store.prune(NOW, NOW, LATER + timedelta(microseconds=1)))["sightings"] == 2


async def test_pruning_forgets_sightings_whose_time_is_over(store: Store) -> None:
    """Those kept until before now go, and are counted; those kept until just now stay, and so do closings, however long due."""
    await store.sight([sighting(n) for n in range(30)], NOW - timedelta(microseconds=1))
    await store.sight([sighting(99)], NOW)
    await store.schedule([closing(1)])
    assert await store.prune(NOW, NOW, NOW) == {"claims": 0, "profile_events": 0, "sightings": 30}
    assert await all_of(store) == [sighting(99)]
    assert await store.due(LATEST, MANY) == [closing(1)]


# Censuses.


def counted(sightings: Sequence[Sighting]) -> Census:
    """The census that the sightings themselves give."""
    latest = max((one.time for one in sightings), default=None)
    return Census(Counter((one.rule, one.values) for one in sightings), 0, latest)


def seen_by(rule: str, number: int, seconds: int = 0, window: str = "w", values: tuple[str, ...] = ()) -> Sighting:
    time = NOW + timedelta(seconds=seconds)
    return Sighting(window, rule, f"{number}", time, sighting(number, time).record, ("g",), values)


async def test_a_census_counts_what_reading_finds(opened: Opened) -> None:
    """By rule and values, from one time to another, both included; another process counts the same; what is seen twice counts once."""
    chance = random.Random(4)
    seen = [
        seen_by(chance.choice("ab"), number, chance.randint(0, 9), chance.choice("vw"), (chance.choice("xé"), "y")[: number % 3])
        for number in range(60)
    ]
    await opened.store.sight(seen, LATER)
    await opened.store.sight(seen[:9], LATER)
    other = await opened.again()
    for window, first, last in itertools.product("uvw", (0, 4, 9), (0, 5, 9)):
        since, until = NOW + timedelta(seconds=first), NOW + timedelta(seconds=last)
        assert await other.census(window, since, until) == counted(await other.sightings(window, since, until, MANY))
    assert (await other.census("w", EARLIEST, LATEST)).counts


async def test_values_too_long_to_be_counted_by_are_told_apart(store: Store) -> None:
    """They are counted as such, and as the latest where they are."""
    await store.sight([seen_by("a", 1), seen_by("a", 2, 1, values=("x" * 2_000,)), seen_by("a", 3, 2, values=("y" * 2_000,))], LATER)
    assert await store.census("w", EARLIEST, LATEST) == Census({("a", ()): 1}, 2, NOW + timedelta(seconds=2))


# Closings.


def closing(number: int, minutes: int = 0) -> Closing:
    return Closing(f"fingerprint-{number}", "w", NOW, NOW + timedelta(minutes=minutes))


async def test_what_is_scheduled_is_due_from_its_time_on(opened: Opened) -> None:
    """Not a microsecond before; the longest due first, up to the limit; another process sees the same."""
    closings = [closing(n, minutes=-n) for n in range(8)]
    await opened.store.schedule(closings[:5])
    await opened.store.schedule([*closings[5:], closing(9, minutes=1)])
    other = await opened.again()
    assert await other.due(NOW, MANY) == closings[::-1]
    assert await other.due(NOW - timedelta(microseconds=1), MANY) == closings[:0:-1]
    assert await other.due(NOW, 3) == closings[:4:-1]
    assert await other.due(NOW, 0) == []


async def test_what_is_due_at_the_same_time_comes_by_key(store: Store) -> None:
    """So that every worker takes them in the same order."""
    closings = [closing(n) for n in range(20)]
    await store.schedule(closings)
    assert await store.due(NOW, MANY) == sorted(closings, key=lambda one: one.key)


async def test_a_closing_scheduled_again_stays_due_when_it_was(opened: Opened) -> None:
    """Neither an earlier nor a later `due_at` takes the place of the first, in the same call or another."""
    await opened.store.schedule([closing(1, minutes=5)])
    await (await opened.again()).schedule([closing(1, minutes=9), closing(1, minutes=0), closing(2, minutes=7)])
    assert await opened.store.due(LATEST, MANY) == [closing(1, minutes=5), closing(2, minutes=7)]


async def test_what_is_unscheduled_is_never_due(opened: Opened) -> None:
    """Also twice in one call and more than a batch; unknown keys are no error; what was not named stays."""
    closings = [closing(n) for n in range(60)]
    await opened.store.schedule(closings)
    gone = [one.key for one in closings[1:]]
    await (await opened.again()).unschedule([*gone, gone[0], "unknown"])
    assert await opened.store.due(LATEST, MANY) == closings[:1]


async def test_nothing_is_a_valid_question_of_windows(store: Store) -> None:
    """Empty lists and windows nobody has seen are answered with nothing."""
    await store.sight([], LATER)
    await store.schedule([])
    await store.unschedule([])
    assert await all_of(store) == []
    assert await store.due(LATEST, MANY) == []
