"""Calls that CloudTrail is to tell of: each is expected once, and confirmed or missed once, whoever asks and how often."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.state.stores import Opened
from worker.model import Expectation, JournalEntry
from worker.state.store import Store

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def call(number: int, due_at: datetime = NOW + HOUR) -> Expectation:
    return Expectation(f"request-{number}", "task", "enforce-mfa", "111122223333", "PutUserPolicy", due_at)


async def test_what_is_expected_is_known_to_every_process_until_it_is_confirmed(opened: Opened) -> None:
    """Its key stays settled beyond that, for later copies of the record."""
    await opened.store.expect(call(1), "a", NOW, spent=["spent"])
    again = await opened.again()
    assert await again.settled([call(1).key, "spent", "other"]) == {call(1).key, "spent"}
    assert await again.expected(["request-1", "request-1", "request-2"]) == [call(1)]
    assert await again.confirm(call(1))
    assert await opened.store.expected(["request-1"]) == []
    assert await opened.store.settled([call(1).key]) == {call(1).key}


async def test_what_was_seen_already_is_not_expected(store: Store) -> None:
    """Its record may come by before its answer is written down, and no second one would come."""
    await store.settle([call(1).key], "worker", NOW)
    await store.expect(call(1), "a", NOW, spent=["spent"])
    assert await store.expected(["request-1"]) == []


async def test_expecting_twice_is_expecting_once(store: Store) -> None:
    """A client that repeats a request whose answer was lost does not have a confirmed call expected again."""
    await store.expect(call(1), "a", NOW)
    assert await store.confirm(call(1))
    await store.expect(call(1), "a", NOW)
    assert await store.expected(["request-1"]) == []


async def test_what_is_overdue_comes_the_longest_due_first_and_no_more_once_missed(store: Store) -> None:
    """A missed call is still there to be confirmed late."""
    calls = [call(number, NOW + timedelta(seconds=number)) for number in range(5)]
    for one in (calls[3], calls[0], calls[4], calls[1], calls[2]):
        await store.expect(one, "a", NOW)
    assert await store.overdue(NOW + timedelta(seconds=3), 9) == calls[:4]
    assert await store.overdue(NOW + HOUR, 2) == calls[:2]
    assert await store.overdue(NOW - timedelta(microseconds=1), 9) == []
    assert await store.miss(calls[0])
    assert await store.overdue(NOW + HOUR, 9) == calls[1:]
    assert await store.expected(["request-0"]) == [replace(calls[0], missed=True)]


@pytest.mark.parametrize("what", ["miss", "confirm"])
async def test_of_many_that_decide_exactly_one_does(what: str, opened: Opened) -> None:
    """In whichever process."""
    stores = [opened.store, await opened.again()]
    await opened.store.expect(call(1), "a", NOW)
    answers = await asyncio.gather(*(getattr(stores[n % 2], what)(call(1)) for n in range(10)))
    assert sorted(answers) == [False] * 9 + [True]


async def test_what_was_missed_meanwhile_is_not_confirmed_as_if_it_had_not_been(store: Store) -> None:
    """Nor is missed what was confirmed: each call is counted as one of the two, or as late."""
    for number in (1, 2):
        await store.expect(call(number), "a", NOW)
    assert await store.miss(call(1))
    assert not await store.confirm(call(1))
    assert await store.confirm(replace(call(1), missed=True))
    assert await store.confirm(call(2))
    assert not await store.miss(call(2))


async def test_calls_are_forgotten_with_the_claims(store: Store) -> None:
    """Those that nobody has told of for months."""
    await store.expect(call(1, NOW), "a", NOW)
    await store.expect(call(2, NOW + 2 * HOUR), "a", NOW)
    await store.prune(NOW + HOUR, NOW, NOW)
    assert await store.expected(["request-1", "request-2"]) == [call(2, NOW + 2 * HOUR)]


@pytest.mark.parametrize(("after", "told"), [(0, "abc"), (1, "bc"), (2, "c"), (3, ""), (9, "")])
async def test_the_journal_is_read_from_any_line_on(after: int, told: str, store: Store) -> None:
    """So an export reads only what is new."""
    for name in "abc":
        await store.append(JournalEntry(name, NOW, "started", {}))
    assert "".join([entry.task_id async for entry, _, _ in store.journal(after)]) == told
