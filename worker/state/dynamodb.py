"""The store of a fleet: one DynamoDB table that every worker shares.

Keeps the promises of `store.py` with conditional writes and consistent reads. The table has partition key `pk` and sort key `sk`, both
strings, and TTL on `expires_at`:

| what          | pk                            | sk                 | other attributes                                               |
|---------------|-------------------------------|--------------------|----------------------------------------------------------------|
| claim         | `claim#` and the key          | `claim`            | owner, lease_until, settled_at (microseconds), expires_at      |
| profile event | `profile#` and an id          | the event's key    | account, profile, time, kind, detail, expires_at               |
| journal line  | `journal`                     | number, 12 digits  | task_id, outcome, hash, previous, line (zlib)                  |

A profile's name comes from whoever called AWS, so a fixed-length id of it stands in the key. A journal line is compressed because a fleet's
plan can pass DynamoDB's 400 KB an item. The journal has no `expires_at`: nothing ever takes a line out.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import explain
from worker.model import JournalEntry, ProfileEvent, stable_id
from worker.state import canonical
from worker.state.store import Claim, StoreError

CLAIMS_KEPT = timedelta(days=90)
"""Longer than SQS (14 days) and then a dead-letter queue (14 more) can hold a message that would ask again."""
EVENTS_KEPT = timedelta(days=5 * 365)
"""A profile may live for years before somebody deletes it, and its first event may be all that tells its path and tags."""
BATCH_WRITE = 25
BATCH_GET = 100
"""https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html"""
TRIES = 60
_LOST = "ConditionalCheckFailedException"
_JOURNAL = "journal"

# TTL's clock, the only attribute in seconds: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
_SECOND = 1_000_000

_CLAIM = "SET #owner = :owner, lease_until = :until, expires_at = :expires"
_FREE = "attribute_not_exists(pk) OR (attribute_not_exists(settled_at) AND (lease_until <= :now OR #owner = :owner))"

_ADVICE = {
    "ResourceNotFoundException": "make it (partition key pk and sort key sk, both strings, TTL on expires_at), or set TRAILMEND_STATE",
    "ValidationException": "see that its partition key is pk and its sort key sk, both strings",
}
_ADVICE_BY_KIND = {
    "denied": "allow dynamodb:PutItem, UpdateItem, DeleteItem, BatchGetItem, BatchWriteItem, Query and Scan on it",
    "unreachable": "see that AWS can be reached from here, in the region of the table",
}

Item = dict[str, Any]


class DynamoStore:
    """A `Store` in one DynamoDB table. Make it with `open`. The client is its owner's to close."""

    def __init__(self, client: Any, table: str, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._client = client
        self._table = table
        self._sleep = sleep

    @classmethod
    async def open(cls, client: Any, table: str) -> Self:
        """Look into the table, so that one that is missing or of another make is told at start. Raises `StoreError`."""
        store = cls(client, table)
        await store.settled(["opening"])
        return store

    async def claim(self, key: str, owner: str, now: datetime, lease: timedelta) -> Claim:
        until = now + lease
        values = {
            ":owner": {"S": owner},
            ":now": _number(canonical.micros(now)),
            ":until": _number(canonical.micros(until)),
            ":expires": _number(canonical.micros(until + CLAIMS_KEPT) // _SECOND),
        }
        with self._told("claim"):
            try:
                await self._client.update_item(
                    TableName=self._table,
                    Key=_claim_key(key),
                    UpdateExpression=_CLAIM,
                    ConditionExpression=_FREE,
                    ExpressionAttributeNames={"#owner": "owner"},
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except ClientError as error:
                if _code(error) != _LOST:
                    raise
                held: Any = error.response.get("Item") or {}
                return Claim.SETTLED if "settled_at" in held else Claim.BUSY
        return Claim.WON

    async def settle(self, keys: Sequence[str], owner: str, now: datetime) -> None:
        # Unconditional: the work has been done, whoever's lease runs.
        done = {
            "owner": {"S": owner},
            "settled_at": _number(canonical.micros(now)),
            "expires_at": _number(canonical.micros(now + CLAIMS_KEPT) // _SECOND),
        }
        with self._told("settle"):
            await self._write([{"PutRequest": {"Item": {**_claim_key(key), **done}}} for key in dict.fromkeys(keys)])

    async def release(self, key: str, owner: str) -> None:
        with self._told("release"):
            try:
                await self._client.delete_item(
                    TableName=self._table,
                    Key=_claim_key(key),
                    ConditionExpression="#owner = :owner AND attribute_not_exists(settled_at)",
                    ExpressionAttributeNames={"#owner": "owner"},
                    ExpressionAttributeValues={":owner": {"S": owner}},
                )
            except ClientError as error:
                if _code(error) != _LOST:
                    raise

    async def settled(self, keys: Sequence[str]) -> frozenset[str]:
        wanted = {_claim_key(key)["pk"]["S"]: key for key in keys}
        found: set[str] = set()
        with self._told("settled"):
            for batch in _batches([_claim_key(key) for key in dict.fromkeys(keys)], BATCH_GET):
                waiting: Any = {self._table: {"Keys": batch, "ConsistentRead": True, "ProjectionExpression": "pk, settled_at"}}
                for attempt in range(TRIES):
                    answer = await self._client.batch_get_item(RequestItems=waiting)
                    items = answer["Responses"].get(self._table, [])
                    found.update(wanted[item["pk"]["S"]] for item in items if "settled_at" in item)
                    waiting = answer.get("UnprocessedKeys")
                    if not waiting:
                        break
                    await self._sleep(_pause(attempt))
                else:
                    raise self._worn_out("settled")
        return frozenset(found)

    async def learn(self, events: Sequence[ProfileEvent]) -> None:
        # One batch may not name an item twice.
        items = {(event.account, event.profile, event.key): _event_item(event) for event in events}
        with self._told("learn"):
            await self._write([{"PutRequest": {"Item": item}} for item in items.values()])

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        found = [_event(item) async for item in self._query("recall", _profile_key(account, profile))]
        return sorted(found, key=lambda event: (event.time, event.key))

    async def append(self, entry: JournalEntry) -> str:
        line = canonical.line(entry)
        with self._told("append"):
            # No pause between tries: whoever loses a number lost it to a line that was written, so some writer always gets on.
            for _ in range(TRIES):
                number, previous = await self._last()
                mark = canonical.link(previous, line)
                if await self._put_line(number + 1, entry, line, previous, mark):
                    return mark
        raise self._worn_out("append")

    async def journal(self) -> AsyncIterator[tuple[JournalEntry, str, str]]:
        async for item in self._query("journal", _JOURNAL):
            line = zlib.decompress(item["line"]["B"]).decode("ascii")
            yield canonical.entry(line), item["hash"]["S"], item["previous"]["S"]

    async def prune(self, claims_before: datetime, events_before: datetime) -> Mapping[str, int]:
        gone = {"claims": 0, "profile_events": 0}
        with self._told("prune"):
            pages = self._client.get_paginator("scan").paginate(
                TableName=self._table,
                FilterExpression="settled_at < :claims OR (begins_with(pk, :profiles) AND #time < :events)",
                ExpressionAttributeNames={"#time": "time"},
                ExpressionAttributeValues={
                    ":claims": _number(canonical.micros(claims_before)),
                    ":events": _number(canonical.micros(events_before)),
                    ":profiles": {"S": "profile#"},
                },
                ProjectionExpression="pk, sk",
                ConsistentRead=True,
            )
            async for page in pages:
                await self._write([{"DeleteRequest": {"Key": {"pk": item["pk"], "sk": item["sk"]}}} for item in page["Items"]])
                for item in page["Items"]:
                    gone["profile_events" if item["pk"]["S"].startswith("profile#") else "claims"] += 1
        return gone

    async def close(self) -> None:
        """Nothing is held: the client is closed by whoever made it."""

    async def _last(self) -> tuple[int, str]:
        answer = await self._client.query(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": _JOURNAL}},
            ExpressionAttributeNames={"#hash": "hash"},
            ProjectionExpression="sk, #hash",
            ScanIndexForward=False,
            Limit=1,
            ConsistentRead=True,
        )
        if not answer["Items"]:
            return 0, ""
        return int(answer["Items"][0]["sk"]["S"]), answer["Items"][0]["hash"]["S"]

    async def _put_line(self, number: int, entry: JournalEntry, line: str, previous: str, mark: str) -> bool:
        key = {"pk": {"S": _JOURNAL}, "sk": {"S": f"{number:012d}"}}
        told = {"task_id": {"S": entry.task_id}, "outcome": {"S": entry.outcome}, "hash": {"S": mark}, "previous": {"S": previous}}
        try:
            await self._client.put_item(
                TableName=self._table,
                Item={**key, **told, "line": {"B": zlib.compress(line.encode("ascii"))}},
                ConditionExpression="attribute_not_exists(pk)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        except ClientError as error:
            if _code(error) != _LOST:
                raise
            # The client repeats a request whose answer was lost on the way; the line that is in our way may then be our own.
            there: Any = error.response.get("Item") or {}
            return bool(there.get("hash", {}).get("S") == mark)
        return True

    async def _query(self, asked: str, partition: str) -> AsyncIterator[Item]:
        pages = self._client.get_paginator("query").paginate(
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": {"S": partition}},
            ConsistentRead=True,
        )
        with self._told(asked):
            async for page in pages:
                for item in page["Items"]:
                    yield item

    async def _write(self, requests: Sequence[Item]) -> None:
        for batch in _batches(requests, BATCH_WRITE):
            waiting: Any = {self._table: batch}
            for attempt in range(TRIES):
                waiting = (await self._client.batch_write_item(RequestItems=waiting)).get("UnprocessedItems")
                if not waiting:
                    break
                await self._sleep(_pause(attempt))
            else:
                raise self._worn_out("write")

    def _worn_out(self, asked: str) -> StoreError:
        return StoreError(f"DynamoDB table {self._table}: {asked}: not done after {TRIES} tries; raise its capacity")

    @contextmanager
    def _told(self, asked: str) -> Iterator[None]:
        # The one place where DynamoDB's errors become ours.
        try:
            yield
        except (ClientError, BotoCoreError, OSError) as error:
            fault = explain(error)
            advice = _ADVICE.get(fault.code) or _ADVICE_BY_KIND.get(fault.kind, "it will be tried again")
            region = self._client.meta.region_name
            raise StoreError(f"DynamoDB table {self._table} in {region}: {asked}: {fault.text}; {advice}") from error


def _number(value: int) -> Item:
    return {"N": str(value)}


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))


def _claim_key(key: str) -> Item:
    return {"pk": {"S": f"claim#{key}"}, "sk": {"S": "claim"}}


def _profile_key(account: str, profile: str) -> str:
    return f"profile#{stable_id('profile', account, profile)}"


def _event_item(event: ProfileEvent) -> Item:
    at = canonical.micros(event.time)
    return {
        "pk": {"S": _profile_key(event.account, event.profile)},
        "sk": {"S": event.key},
        "account": {"S": event.account},
        "profile": {"S": event.profile},
        "time": _number(at),
        "kind": {"S": event.kind},
        "detail": {"S": canonical.dump(event.detail)},
        "expires_at": _number(at // _SECOND + int(EVENTS_KEPT.total_seconds())),
    }


def _event(item: Item) -> ProfileEvent:
    time = canonical.moment(int(item["time"]["N"]))
    return ProfileEvent(
        item["account"]["S"], item["profile"]["S"], time, item["sk"]["S"], item["kind"]["S"], canonical.load(item["detail"]["S"])
    )


def _batches(things: Sequence[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(things), size):
        yield list(things[start : start + size])


def _pause(attempt: int) -> float:
    return min(0.05 * 2.0**attempt, 2.0)
