"""The account that remediation is tried on."""

from collections.abc import AsyncIterator

import pytest
from aiobotocore.session import AioSession, get_session

from tests.remediate.world import World
from worker.aws import Accounts
from worker.settings import Settings
from worker.state.sqlite import SqliteStore


@pytest.fixture(scope="session")
def session() -> AioSession:
    """One session for all tests: each would otherwise read the service models of IAM and EC2 anew, which takes longer than the test."""
    return get_session()


@pytest.fixture
async def world(embedded_aws: str, session: AioSession) -> AsyncIterator[World]:
    """An empty account, a store in memory, mode auto."""
    store = await SqliteStore.open(":memory:")
    async with Accounts(session, Settings()) as accounts:
        yield World(accounts, store)
    await store.close()
