"""What is DynamoDB's alone: tables that cannot be used, and answers that say that only a part was done."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from tests.state.stores import make_table
from worker.aws import Accounts
from worker.model import Closing, JournalEntry, Origin, ProfileEvent, Record, Sighting
from worker.settings import Settings
from worker.state.dynamodb import DynamoStore
from worker.state.opening import open_store
from worker.state.store import StoreError
from worker.state.table import AT_ONCE

NOW = datetime(2026, 3, 1, tzinfo=UTC)


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


class Strict:
    """The real client, but it refuses a batch that names an item twice, as DynamoDB does and the embedded one does not."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def batch_write_item(self, RequestItems: Any) -> Any:  # noqa: N803
        (requests,) = RequestItems.values()
        named = [one["DeleteRequest"]["Key"] if "DeleteRequest" in one else one["PutRequest"]["Item"] for one in requests]
        keys = [(item["pk"]["S"], item["sk"]["S"]) for item in named]
        assert len(set(keys)) == len(keys)
        return await self._client.batch_write_item(RequestItems=RequestItems)


async def test_a_batch_names_no_item_twice(embedded_aws: str) -> None:
    """However often the caller does."""
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = DynamoStore(Strict(client), "trailmend")
        await store.settle(["k", "j", "k"], "a", NOW)
        await store.learn([ProfileEvent("111111111111", "web", NOW, "k", "CreateInstanceProfile", {})] * 2)
        await store.unschedule(["k", "j", "k"])
        assert await store.settled(["k", "j", "k"]) == {"k", "j"}


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


class Meanwhile:
    """The real client, but before each delete somebody else does something."""

    def __init__(self, client: Any, something: Callable[[], Awaitable[None]]) -> None:
        self._client = client
        self._something = something

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def delete_item(self, **request: Any) -> Any:
        await self._something()
        return await self._client.delete_item(**request)


async def test_a_sighting_that_is_to_be_kept_longer_is_not_pruned_all_the_same(embedded_aws: str) -> None:
    """Its time was over when the table was looked through; then it was seen again, and stays."""
    seen = Sighting("w", "rule", "item", NOW, Record({"eventID": "1"}, Origin(message="m")))
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = DynamoStore(client, "trailmend")
        await store.sight([seen], NOW - timedelta(minutes=1))
        slow = DynamoStore(Meanwhile(client, lambda: store.sight([seen], NOW)), "trailmend")
        assert (await slow.prune(NOW, NOW, NOW))["sightings"] == 0
        assert await store.sightings("w", NOW, NOW, 2) == [seen]


class Failing:
    """The real client, but from the third put on the table is gone."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.puts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def put_item(self, **request: Any) -> Any:
        self.puts += 1
        return await self._client.put_item(**request if self.puts < 3 else {**request, "TableName": "gone"})


async def test_sightings_that_cannot_be_written_are_a_store_error(embedded_aws: str) -> None:
    """One error, with what to do; and after the first no more puts are begun than were under way."""
    seen = [Sighting("w", "rule", str(n), NOW, Record({"eventID": "1"}, Origin(message="m"))) for n in range(100)]
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        failing = Failing(client)
        with pytest.raises(StoreError, match=r"table trailmend in us-east-1: sight: .*partition key pk and sort key sk"):
            await DynamoStore(failing, "trailmend").sight(seen, NOW)
    assert failing.puts <= 2 + 2 * AT_ONCE


async def test_all_but_journal_and_closings_carry_a_time_to_live(embedded_aws: str) -> None:
    """`expires_at` is in seconds and in the future of the event, lease or time to keep; a line or closing has none."""
    async with Accounts(get_session(), Settings()) as accounts:
        client = await accounts.client("dynamodb")
        await make_table(client)
        store = await open_store("dynamodb://trailmend", accounts)
        await store.claim("running", "a", NOW, timedelta(minutes=1))
        await store.settle(["done"], "a", NOW)
        await store.learn([ProfileEvent("111111111111", "web", NOW, "k", "CreateInstanceProfile", {})])
        await store.append(JournalEntry("t", NOW, "applied", {}))
        await store.sight([Sighting("w", "r", "i", NOW, Record({}, Origin(message="m")))], NOW + timedelta(days=2, microseconds=1))
        await store.schedule([Closing("c", "w", NOW, NOW)])
        items = (await client.scan(TableName="trailmend"))["Items"]
    lives = {item["pk"]["S"].split("#")[0]: item.get("expires_at", {}).get("N") for item in items}
    assert lives["journal"] is None
    assert lives["closing"] is None
    days = {kind: (int(at) - NOW.timestamp()) / 86_400 for kind, at in lives.items() if at is not None}
    assert 90 <= days["claim"] < 91
    assert days["profile"] == 5 * 365
    assert 2 < days["window"] < 2.001
