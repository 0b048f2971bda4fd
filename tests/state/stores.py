"""The stores that the contract tests ask, and what they need of AWS."""

import urllib.request
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.conftest import PATIENCE_SECONDS
from worker.state.store import Store


@dataclass(frozen=True)
class Opened:
    """A store, and a way to open what a second process would see of it (the same store where it cannot be shared)."""

    store: Store
    again: Callable[[], Awaitable[Store]]


async def make_table(client: Any, sort_key: str = "sk") -> None:
    """The table `trailmend`, by a client of DynamoDB."""
    await client.create_table(
        TableName="trailmend",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": sort_key, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": sort_key, "KeyType": "RANGE"}],
    )


def reset(endpoint: str) -> None:
    """An embedded AWS as it was at its start."""
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/_ministack/reset", method="POST"), timeout=PATIENCE_SECONDS).close()
