"""A DynamoDB table: asked page by page, written to the end of each batch, and its errors told as `StoreError`.

The edge under `dynamodb.py`: items go in and come out as the API has them, and what they mean stands in `items.py`. The table has partition key
`pk` and sort key `sk`, both strings, and TTL on `expires_at`. All reads are consistent: what a write has answered, every later read sees.
Methods take first what was asked of the store, for the error's text.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.state.store import StoreError

Item = dict[str, Any]

AWS_CALLS = (
    "dynamodb:BatchGetItem",
    "dynamodb:BatchWriteItem",
    "dynamodb:DeleteItem",
    "dynamodb:PutItem",
    "dynamodb:Query",
    "dynamodb:Scan",
    "dynamodb:TransactWriteItems",
    "dynamodb:UpdateItem",
)

BATCH_WRITE = 25
BATCH_GET = 100
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"""
TRIES = 60
AT_ONCE = 10
"""Conditional writes under way for one caller: no batch of DynamoDB's takes conditions, and 64 connections serve all callers."""
_LOST = "ConditionalCheckFailedException"
_PASSING = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})
"""Why a transaction is cancelled that may be done a moment later."""

_ADVICE = {
    "ResourceNotFoundException": "make it (partition key pk and sort key sk, both strings, TTL on expires_at), or set TRAILMEND_STATE",
    "ValidationException": "see that its partition key is pk and its sort key sk, both strings",
}
_ADVICE_BY_KIND = {
    "denied": "allow dynamodb:PutItem, UpdateItem, DeleteItem, BatchGetItem, BatchWriteItem, Query and Scan on it",
    "unreachable": "see that AWS can be reached from here, in the region of the table",
}


class Table:
    """One table. Every method may raise `StoreError`. The client is its owner's to close; `sleep` takes seconds."""

    def __init__(self, client: Any, name: str, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._client = client
        self._name = name
        self._sleep = sleep

    async def attempt(self, asked: str, call: str, **request: Any) -> Item | None:
        """A write with a condition: None where it was done, else the item that stood against it (empty where there is none)."""
        with self._told(asked):
            try:
                await getattr(self._client, call)(TableName=self._name, ReturnValuesOnConditionCheckFailure="ALL_OLD", **request)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != _LOST:
                    raise
                held: Any = error.response.get("Item") or {}
                return dict(held)
        return None

    async def attempt_each(self, asked: str, call: str, requests: Iterable[Item]) -> int:
        """Writes with conditions, some at once and in no order; answers how many were done. After a failure none is begun."""
        waiting = iter(requests)
        failed: list[StoreError] = []
        done = 0

        async def some() -> None:
            nonlocal done
            for request in waiting:
                if failed:
                    return
                try:
                    held = await self.attempt(asked, call, **request)
                    done += held is None
                except StoreError as error:
                    failed.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
        if failed:
            raise failed[0]
        return done

    async def transact(self, asked: str, writes: Sequence[Item]) -> bool:
        """Writes of which all are done, or none because a condition does not hold; answers which. No two may name one item.

        https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
        """
        told = [{kind: {"TableName": self._name, **write} for kind, write in one.items()} for one in writes]
        with self._told(asked):
            for attempt in range(TRIES):
                try:
                    await self._client.transact_write_items(TransactItems=told)
                except ClientError as error:
                    if error.response.get("Error", {}).get("Code") != "TransactionCanceledException":
                        raise
                    reasons: Any = error.response.get("CancellationReasons") or ()
                    codes = {str(reason.get("Code")) for reason in reasons}
                    if "ConditionalCheckFailed" in codes:
                        return False
                    if not codes & _PASSING:
                        raise
                    await self._sleep(_pause(attempt))
                else:
                    return True
        raise self.worn_out(asked)

    async def write(self, asked: str, requests: Sequence[Item]) -> None:
        """Unconditional puts and deletes, as BatchWriteItem has them. No two may name one item."""
        with self._told(asked):
            for batch in _batches(requests, BATCH_WRITE):
                waiting: Any = {self._name: batch}
                for attempt in range(TRIES):
                    waiting = (await self._client.batch_write_item(RequestItems=waiting)).get("UnprocessedItems")
                    if not waiting:
                        break
                    await self._sleep(_pause(attempt))
                else:
                    raise self.worn_out(asked)

    async def get(self, asked: str, keys: Sequence[Item], projection: str | None = None) -> list[Item]:
        """Those of the items that are there, in no order: whole, or what is projected of them. No key may be named twice."""
        found: list[Item] = []
        with self._told(asked):
            for batch in _batches(keys, BATCH_GET):
                some = {} if projection is None else {"ProjectionExpression": projection}
                waiting: Any = {self._name: {"Keys": batch, "ConsistentRead": True, **some}}
                for attempt in range(TRIES):
                    answer = await self._client.batch_get_item(RequestItems=waiting)
                    found += answer["Responses"].get(self._name, [])
                    waiting = answer.get("UnprocessedKeys")
                    if not waiting:
                        break
                    await self._sleep(_pause(attempt))
                else:
                    raise self.worn_out(asked)
        return found

    async def query(self, asked: str, condition: str, values: Item, most: int | None = None, **request: Any) -> AsyncIterator[Item]:
        """The items of a partition that fulfil a key condition, by sort key: all, or the first `most` (at least one)."""
        pages = self._client.get_paginator("query").paginate(
            TableName=self._name,
            KeyConditionExpression=condition,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
            PaginationConfig={} if most is None else {"MaxItems": most, "PageSize": most},
            **request,
        )
        with self._told(asked):
            async for page in pages:
                for item in page["Items"]:
                    yield item

    async def scan(self, asked: str, **request: Any) -> AsyncIterator[list[Item]]:
        """The items of the whole table that fulfil a filter, page by page."""
        pages = self._client.get_paginator("scan").paginate(TableName=self._name, ConsistentRead=True, **request)
        with self._told(asked):
            async for page in pages:
                yield page["Items"]

    def worn_out(self, asked: str) -> StoreError:
        """The error for what was not done however often it was tried."""
        return StoreError(f"DynamoDB table {self._name}: {asked}: not done after {TRIES} tries; raise its capacity")

    @contextmanager
    def _told(self, asked: str) -> Iterator[None]:
        # The one place where DynamoDB's errors become ours.
        try:
            yield
        except (ClientError, BotoCoreError, OSError) as error:
            fault = explain(error)
            advice = _ADVICE.get(fault.code) or _ADVICE_BY_KIND.get(fault.kind, "it will be tried again")
            region = self._client.meta.region_name
            raise StoreError(f"DynamoDB table {self._name} in {region}: {asked}: {fault.text}; {advice}") from error


def _batches(things: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(things), size):
        yield list(things[start : start + size])


def _pause(attempt: int) -> float:
    return min(0.05 * 2.0**attempt, 2.0)
