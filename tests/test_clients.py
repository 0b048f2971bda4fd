"""Open clients are bounded, and none is closed that may be in use."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiobotocore.session import AioSession

from worker.aws import Accounts
from worker.clients import BUSY_SECONDS, OpenClients
from worker.settings import Settings


class Maker:
    """Makes clients that are their own names, and knows which are open."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.open: list[str] = []

    @asynccontextmanager
    async def one(self, name: str) -> Any:
        self.open.append(name)
        yield name
        self.open.remove(name)

    async def get(self, clients: OpenClients, name: str) -> Any:
        async def make() -> Any:
            self.made.append(name)
            return self.one(name)

        return await clients.get((name, None, None), make)


@pytest.fixture
def loop_time(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The loop's time, to be set; for whoever asks and waits for nothing."""
    time = [0.0]

    class Loop:
        def time(self) -> float:
            return time[0]

    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    return time


async def test_a_client_is_made_once_and_closed_at_the_end() -> None:
    """Without a bound, whatever the number."""
    maker, clients = Maker(), OpenClients()
    for name in [*"abcabc"]:
        assert await maker.get(clients, name) == name
    assert maker.made == maker.open == ["a", "b", "c"]
    await clients.close()
    assert maker.open == []


async def test_the_one_used_longest_ago_goes_when_there_are_too_many(loop_time: list[float]) -> None:
    """Not the one made first: using it keeps it; and it is made anew when it is wanted again."""
    maker, clients = Maker(), OpenClients(2)
    for name in "ab":
        await maker.get(clients, name)
    loop_time[0] += 1
    await maker.get(clients, "a")
    loop_time[0] += BUSY_SECONDS
    await maker.get(clients, "c")
    assert maker.open == ["a", "c"]
    await maker.get(clients, "b")
    assert maker.made == ["a", "b", "c", "b"]
    assert len(clients) == 2


async def test_none_is_closed_that_may_be_in_use(loop_time: list[float]) -> None:
    """More are open than the bound, until they have been idle for longer than any call."""
    maker, clients = Maker(), OpenClients(2)
    for name in "abcd":
        await maker.get(clients, name)
    assert maker.open == ["a", "b", "c", "d"]
    loop_time[0] += BUSY_SECONDS
    await maker.get(clients, "d")
    assert maker.open == ["c", "d"]


async def test_what_botocore_knows_is_read_once_for_all_accounts(embedded_aws: str) -> None:
    """It is 20 MB for EC2 alone."""
    session = AioSession()
    settings = Settings(member_role_name="trailmend")
    async with Accounts(session, settings) as accounts:
        for account in ("111122223333", "222233334444"):
            await accounts.client("iam", account, "us-east-1")
        assert {id(one.get_component("data_loader")) for one in accounts._sessions.values()} == {id(session.get_component("data_loader"))}
