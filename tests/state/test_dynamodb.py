"""What is DynamoDB's alone: tables that cannot be used, and answers that say that only a part was done."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from worker.aws import Accounts
from worker.model import JournalEntry, ProfileEvent
from worker.settings import Settings
from worker.state.dynamodb import DynamoStore
from worker.state.opening import open_store
from worker.state.store import StoreError

NOW = datetime(2026, 3, 1, tzinfo=UTC)


async def make_table(client: Any, sort_key: str = "sk") -> None:
    await client.create_table(
        TableName="trailmend",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": sort_key, "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": sort_key, "KeyType": "RANGE"}],
    )


async def test_a_table_that_is_missing_is_told_when_the_store_is_opened(embedded_aws: str) -> None:
    """The error names the table, the region and how it is to be made."""
    async with Accounts(get_session(), Settings()) as accounts:
        with pytest.raises(StoreError, match=r"table trailmend in us-east-1: .*partition key pk and sort key sk"):
            await open_store("dynamodb://trailmend", accounts)


async def test_a_table_with_other_keys_is_told_when_the_store_is_opened(embedded_aws: str) -> None:
    """A table of somebody else's make is refused before anything is written to it."""
    async with Accounts(get_session(), Settings()) as accounts:
        await make_table(await accounts.client("dynamodb"), "sort")
        with pytest.raises(StoreError, match="its partition key is pk"):
            await open_store("dynamodb://trailmend", accounts)


async def test_an_endpoint_that_is_down_is_a_store_error(embedded_aws: str) -> None:
    """No connection is told as such, with what to look at."""
    config = AioConfig(retries={"total_max_attempts": 1})
    async with get_session().create_client("dynamodb", endpoint_url="http://127.0.0.1:9", config=config) as client:
        with pytest.raises(StoreError, match="see that AWS can be reached"):
            await DynamoStore.open(client, "trailmend")


class Sparing:
    """The real client, but of every batch it does only the first item and hands the rest back, as DynamoDB may under load."""

    def __init__(self, client: Any, *, never: bool = False) -> None:
        self._client = client
        self._never = never

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def batch_write_item(self, RequestItems: Any) -> Any:  # noqa: N803
        ((table, items),) = RequestItems.items()
        if self._never:
            return {"UnprocessedItems": RequestItems}
        await self._client.batch_write_item(RequestItems={table: items[:1]})
        return {"UnprocessedItems": {table: items[1:]} if items[1:] else {}}

    async def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803
        ((table, wanted),) = RequestItems.items()
        first, rest = wanted["Keys"][:1], wanted["Keys"][1:]
        answer = await self._client.batch_get_item(RequestItems={table: {**wanted, "Keys": first}})
        return {"Responses": answer["Responses"], "UnprocessedKeys": {table: {**wanted, "Keys": rest}} if rest else {}}


async def test_what_dynamodb_left_undone_is_asked_again_until_it_is_done(embedded_aws: str) -> None:
    """With one item done a call, all events are learnt, all keys settled and found; pauses grow and are bounded."""
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = DynamoStore(Sparing(client), "trailmend", sleep)
        events = [ProfileEvent("111111111111", "web", NOW, f"{n:02}", "CreateInstanceProfile", {}) for n in range(12)]
        await store.learn(events)
        assert await store.recall("111111111111", "web") == events
        keys = [str(n) for n in range(12)]
        await store.settle(keys, "a", NOW)
        assert await store.settled([*keys, "x"]) == set(keys)
    assert pauses[:3] == [0.05, 0.1, 0.2]
    assert max(pauses) == 2.0


async def test_a_table_that_never_does_its_batches_is_a_store_error(embedded_aws: str) -> None:
    """The tries are bounded."""

    async def sleep(seconds: float) -> None:
        pass

    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        with pytest.raises(StoreError, match="not done after 60 tries"):
            await DynamoStore(Sparing(client, never=True), "trailmend", sleep).settle(["k"], "a", NOW)


class Deaf:
    """The real client, but every put is sent twice, as botocore does when the first answer is lost on the way."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def put_item(self, **request: Any) -> Any:
        await self._client.put_item(**request)
        return await self._client.put_item(**request)


async def test_an_append_whose_answer_was_lost_is_not_appended_twice(embedded_aws: str) -> None:
    """The repeated request meets the line it wrote itself, and knows it."""
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = DynamoStore(Deaf(client), "trailmend")
        mark = await store.append(JournalEntry("t", NOW, "applied", {}))
        assert [line[1] async for line in store.journal()] == [mark]


async def test_claims_and_events_carry_a_time_to_live_and_the_journal_none(embedded_aws: str) -> None:
    """`expires_at` is in seconds and in the future of the event or lease; no journal line has one."""
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = await open_store("dynamodb://trailmend", accounts)
        await store.claim("running", "a", NOW, timedelta(minutes=1))
        await store.settle(["done"], "a", NOW)
        await store.learn([ProfileEvent("111111111111", "web", NOW, "k", "CreateInstanceProfile", {})])
        await store.append(JournalEntry("t", NOW, "applied", {}))
        items = (await client.scan(TableName="trailmend"))["Items"]
    lives = {item["pk"]["S"].split("#")[0]: item.get("expires_at", {}).get("N") for item in items}
    assert lives["journal"] is None
    days = {kind: (int(at) - NOW.timestamp()) / 86_400 for kind, at in lives.items() if at is not None}
    assert 90 <= days["claim"] < 91
    assert days["profile"] == 5 * 365
