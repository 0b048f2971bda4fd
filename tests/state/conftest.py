"""Every store we ship, opened: SQLite in memory and in a file, and DynamoDB."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiobotocore.session import get_session

from tests.state.stores import Opened, make_table
from worker.aws import Accounts
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import Store


@pytest.fixture(params=["memory", "file", "dynamodb"])
async def opened(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    """One of the stores, empty."""
    if request.param == "memory":
        store = await open_store("sqlite:///:memory:", None)

        async def same() -> Store:
            return store

        yield Opened(store, same)
        await store.close()
        return
    others: list[Store] = []
    if request.param == "file":
        url, session = f"sqlite:///{tmp_path}/made/on/the/way/state.db", None
    else:
        request.getfixturevalue("embedded_aws")
        url, session = "dynamodb://trailmend", get_session()
    accounts = Accounts(session, Settings()) if session else None
    if accounts is not None:
        await make_table(await accounts.client("dynamodb"))

    async def another() -> Store:
        others.append(await open_store(url, accounts))
        return others[-1]

    yield Opened(await another(), another)
    for store in others:
        await store.close()
    if accounts is not None:
        await accounts.__aexit__()


@pytest.fixture
def store(opened: Opened) -> Store:
    """The same, for who needs one process."""
    return opened.store
