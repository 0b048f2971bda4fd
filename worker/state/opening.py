"""From the setting `TRAILMEND_STATE` to an open store.

`sqlite:///PATH` (relative to the working folder), `sqlite:////PATH` (absolute), `sqlite:///:memory:` (gone with the process), or
`dynamodb://TABLE`. A newcomer's third kind of store gets its scheme here, and its line in the contract tests.
"""

from __future__ import annotations

from worker.aws import Accounts
from worker.state.dynamodb import DynamoStore
from worker.state.sqlite import SqliteStore
from worker.state.store import Store, StoreError


async def open_store(url: str, accounts: Accounts | None) -> Store:
    """Open the store that `url` names. SQLite needs no `accounts`; DynamoDB's table is in our own account and region.

    Raises `StoreError` where there is no such kind of store, or it cannot be opened: the text says what, where and what to do.
    """
    scheme, mark, rest = url.partition("://")
    if scheme == "sqlite" and mark and rest.startswith("/") and len(rest) > 1:
        return await SqliteStore.open(rest[1:])
    if scheme == "dynamodb" and mark and rest:
        if accounts is None:
            raise StoreError(f"{url}: a DynamoDB store needs AWS; use sqlite:///PATH where there is none")
        return await DynamoStore.open(await accounts.client("dynamodb"), rest)
    raise StoreError(f"'{url}' names no store: use sqlite:///PATH (relative), sqlite:////PATH (absolute) or dynamodb://TABLE")
