"""The promises of `worker/state/store.py` about approvals, asked of every store we ship."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.state.stores import Opened
from worker.model import Answer, Approval, Decision
from worker.state.store import Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)
HOUR = timedelta(hours=1)


def asked(number: int = 1, at: datetime = NOW, needed: int = 1) -> Approval:
    task = {
        "id": f"task-{number}",
        "action": "enforce-mfa",
        "params": {"n": number},
        "finding": {"actor": None, "text": "mäke\x00 \U0001f600"},
    }
    steps = ({"api": "PutUserPolicy", "says": f"deny user {n}", "parameters": {"UserName": "x" * 300}} for n in range(200))
    return Approval(task, at, at + (10 - number) * HOUR, needed, tuple(steps), ("one", "zwö"), "it can", ("arn:executor",))


def answer(who: str, what: Answer = Answer.YES, seconds: int = 0) -> Decision:
    return Decision(f"arn:aws:sts::1:assumed-role/x.y/{who}", what, f"bécause {who}", NOW + timedelta(seconds=seconds))


async def test_what_waits_comes_back_whole(opened: Opened) -> None:
    """In whichever process, what ends first first; what does not wait is None."""
    for number in (1, 3, 2):
        assert await opened.store.ask(asked(number))
    again = await opened.again()
    assert await again.approvals() == [asked(3), asked(2), asked(1)]
    assert await again.approval("task-2") == asked(2)
    assert await again.approval("task-") is None


async def test_the_same_task_is_asked_once(store: Store) -> None:
    """The second asking changes nothing, not even where nobody has decided; none begins with decisions."""
    assert await store.ask(replace(asked(), decisions=(answer("alice"),)))
    assert not await store.ask(asked(at=NOW + HOUR))
    assert await store.approvals() == [asked()]


async def test_of_many_that_ask_at_once_exactly_one_does(opened: Opened) -> None:
    """Over two connections; and so it is where they ask again."""
    stores = [opened.store, await opened.again()]
    askings = [asked(at=NOW + n * HOUR) for n in range(10)]
    assert sorted(await asyncio.gather(*(stores[n % 2].ask(askings[n]) for n in range(10)))) == [False] * 9 + [True]
    (standing,) = await opened.store.approvals()
    later = [asked(at=NOW + (20 + n) * HOUR) for n in range(10)]
    assert sorted(await asyncio.gather(*(stores[n % 2].ask(later[n], standing) for n in range(10)))) == [False] * 9 + [True]


async def test_decisions_come_back_by_their_time(opened: Opened) -> None:
    """With who, what, why and when to the microsecond; those of one task are no other's."""
    await opened.store.ask(asked(1))
    await opened.store.ask(asked(2))
    await opened.store.decide(asked(1), answer("bob", seconds=2))
    told = await (await opened.again()).decide(asked(1), answer("alice", Answer.NO, seconds=1))
    assert told == replace(asked(1), decisions=(answer("alice", Answer.NO, seconds=1), answer("bob", seconds=2)))
    assert await opened.store.approvals() == [asked(2), told]


async def test_whoever_decides_at_once_counts_each(opened: Opened) -> None:
    """Twelve people over two connections, some of them twice: twelve decisions."""
    stores = [opened.store, await opened.again()]
    await opened.store.ask(asked())
    people = [answer(f"person-{n % 12}", seconds=n % 12) for n in range(20)]
    await asyncio.gather(*(stores[n % 2].decide(asked(), one) for n, one in enumerate(people)))
    standing = await opened.store.approval("task-1")
    assert standing is not None
    assert standing.decisions == tuple(answer(f"person-{n}", seconds=n) for n in range(12))


@pytest.mark.parametrize(
    ("first", "second", "stands"),
    [(Answer.YES, Answer.YES, 0), (Answer.NO, Answer.NO, 0), (Answer.NO, Answer.YES, 0), (Answer.YES, Answer.NO, 1)],
)
async def test_one_approver_has_one_decision(first: Answer, second: Answer, stands: int, store: Store) -> None:
    """The first, but that a yes may be taken back by a no."""
    await store.ask(asked())
    decisions = [answer("alice", first), answer("alice", second, seconds=5)]
    for one in decisions:
        told = await store.decide(asked(), one)
    assert told == replace(asked(), decisions=(decisions[stands],))


async def test_what_was_asked_again_has_no_decisions_of_before(store: Store) -> None:
    """And takes none that answers what was asked before."""
    before, again = asked(), asked(at=NOW + HOUR)
    await store.ask(before)
    await store.decide(before, answer("alice"))
    assert await store.ask(again, before)
    assert await store.decide(before, answer("bob")) is None
    assert await store.approval("task-1") == again
    assert not await store.ask(asked(at=NOW + 2 * HOUR), before)
    await store.withdraw(before)
    assert await store.approvals() == [again]


async def test_what_was_withdrawn_waits_no_more(store: Store) -> None:
    """Nobody can decide it; asked anew it has no decisions; withdrawing twice is no error."""
    await store.ask(asked())
    await store.decide(asked(), answer("alice"))
    await store.withdraw(asked())
    await store.withdraw(asked())
    assert await store.decide(asked(), answer("bob")) is None
    assert await store.approvals() == []
    assert not await store.ask(asked(at=NOW + HOUR), asked())
    assert await store.ask(asked())
    assert await store.approval("task-1") == asked()


async def test_pruning_keeps_what_waits(store: Store) -> None:
    """However old it is: whoever carries out tasks ends it."""
    await store.ask(asked())
    await store.prune(NOW + 99 * HOUR, NOW + 99 * HOUR, NOW + 99 * HOUR)
    assert await store.approvals() == [asked()]
