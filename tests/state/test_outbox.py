"""The promises of `worker/state/store.py` about the outbox, asked of every store we ship."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.state.stores import Opened
from worker.model import Backlog, Delivery, Outgoing
from worker.state.store import Claim, Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def delivery(number: int, sink: str = "https://sqs/queue", seconds: int = 0) -> Delivery:
    outgoing = Outgoing(f"id-{number}", "group", f'{{"tëxt": "\U0001f600 {number}"}}'.encode() * 200, "task")
    return Delivery(sink, "sqs", f"item-{number}", outgoing, NOW, NOW + timedelta(seconds=seconds))


async def test_what_is_posted_comes_back_whole_when_it_is_due(opened: Opened) -> None:
    """The longest due first, no more than were asked for, none before its time and none of another sink; another process sees the same."""
    waiting = [delivery(number, seconds=number) for number in range(5)]
    for one in (waiting[3], waiting[0], waiting[4], waiting[1], waiting[2], delivery(9, sink="file:/x")):
        await opened.store.post(one, "a", NOW)
    again = await opened.again()
    assert await again.posted("https://sqs/queue", NOW + timedelta(seconds=3), 9) == waiting[:4]
    assert await again.posted("https://sqs/queue", NOW + MINUTE, 2) == waiting[:2]
    assert await again.posted("https://sqs/queue", NOW - timedelta(microseconds=1), 9) == []
    assert await again.posted("https://sqs", NOW + MINUTE, 9) == []


async def test_posting_settles_and_what_is_settled_is_not_posted(store: Store) -> None:
    """So a delivery is handed over once: to the sink, or to the outbox."""
    await store.post(delivery(1), "a", NOW)
    await store.settle([delivery(2).key], "a", NOW)
    await store.post(delivery(2), "b", NOW)
    await store.post(replace(delivery(1), due_at=NOW + MINUTE), "b", NOW)
    assert await store.settled([delivery(1).key, delivery(2).key]) == {delivery(1).key, delivery(2).key}
    assert await store.posted("https://sqs/queue", NOW + MINUTE, 9) == [delivery(1)]
    await store.unpost(delivery(1))
    await store.post(delivery(1), "a", NOW)
    assert await store.posted("https://sqs/queue", NOW + MINUTE, 9) == []


async def test_a_claimed_key_can_be_posted(store: Store) -> None:
    """A lease stands in nobody's way, as with `settle`."""
    assert await store.claim(delivery(1).key, "b", NOW, MINUTE) is Claim.WON
    await store.post(delivery(1), "a", NOW)
    assert await store.posted("https://sqs/queue", NOW, 9) == [delivery(1)]


async def test_of_many_that_put_it_off_exactly_one_has_it(opened: Opened) -> None:
    """It is then due later and counts one attempt more, and whoever holds what it was before can do nothing with it."""
    stores = [opened.store, await opened.again()]
    for number in range(5):
        await opened.store.post(delivery(number), "a", NOW)
        later = NOW + MINUTE
        answers = await asyncio.gather(*(stores[n % 2].postpone(delivery(number), later) for n in range(10)))
        (won,) = [one for one in answers if one is not None]
        assert won == replace(delivery(number), due_at=later, attempts=1)
        await opened.store.unpost(delivery(number))
        assert await opened.store.posted(won.sink, NOW, 9) == []
        assert await opened.store.posted(won.sink, later, 9) == [won]
        await opened.store.unpost(won)
        assert await opened.store.postpone(won, later + MINUTE) is None
    assert await opened.store.backlogs() == []


@pytest.mark.parametrize("count", [0, 1, 120])
async def test_backlogs_count_what_waits_by_sink(count: int, store: Store) -> None:
    """With the time of the first, also where it was put off."""
    for number in range(count):
        await store.post(replace(delivery(number), posted_at=NOW - number * MINUTE), "a", NOW)
    await store.post(Delivery("hook", "webhook", "item", Outgoing("id", "g", b"{}"), NOW, NOW), "a", NOW)
    if count:
        assert await store.postpone(replace(delivery(0), posted_at=NOW), NOW + MINUTE) is not None
    expected = [Backlog("hook", "webhook", 1, NOW)]
    if count:
        expected.append(Backlog("https://sqs/queue", "sqs", count, NOW - (count - 1) * MINUTE))
    assert sorted(await store.backlogs(), key=lambda one: one.sink) == expected
