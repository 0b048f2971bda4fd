"""S3, the edge that fetches: a notice goes in, the object's bytes come out, or an `ObjectError` that says why not and whether to try again.

Objects come by the fast lane (`lane.py`) wherever all goes well. Where it does not, they come again through obstore, which retries and says what is wrong.
Its paths are stricter than S3's keys, though: an empty segment (a trail whose prefix ends in `/` makes one), a leading slash or `..` are
refused or, worse, silently mended into another key. Such objects come through aiobotocore, by their exact key.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import obstore
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from worker.aws import Accounts, explain
from worker.budget import Budget
from worker.lane import Lane
from worker.model import LogObject, Notice

FETCH_CALLS = ("s3:GetObject",)
AWS_CALLS = (*FETCH_CALLS, "s3:ListObjectsV2")

BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}", re.ASCII)
"""Also the old buckets' names of us-east-1. It becomes a part of a path, and a message must not choose another's.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
"""
ATTEMPTS = 3
GET_SECONDS = 120.0
MOST_STORES = 256
CREDENTIAL_CHECK = timedelta(minutes=5)
"""How long obstore may use a credential before it asks again; botocore behind it refreshes in time."""


@dataclass(frozen=True)
class ObjectError(Exception):
    """An object that could not be fetched; `passing` tells whether it may go better in a while.

    `reason` is object-missing, object-forbidden, object-too-large, object-unreachable or list-failed.
    """

    reason: str
    detail: str
    passing: bool

    def __str__(self) -> str:
        return self.detail


class Objects:
    """Fetches objects. `environment` is read for `AWS_ENDPOINT_URL_S3` and `AWS_ENDPOINT_URL`, as every AWS client does."""

    def __init__(
        self, accounts: Accounts, environment: Mapping[str, str], max_object_bytes: int, budget: Budget, clock: Callable[[], datetime]
    ) -> None:
        self._accounts = accounts
        self._endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL")
        self._bound = max_object_bytes
        self._budget = budget
        self._clock = clock
        self._environment = environment
        self._lanes: dict[str, Lane] = {}
        self._stores: dict[tuple[str, str], S3Store] = {}
        self._regions: frozenset[str] | None = None

    def fetch(self, notice: Notice) -> Fetching:
        """The object that a notice names, in the version that it names, held within the budget while the context lasts. Raises `ObjectError`."""
        return Fetching(self, notice, self._budget)

    async def body(self, notice: Notice, held: Fetching) -> bytes:
        """The bytes of an object, held where `held` says. Raises `ObjectError`."""
        if not BUCKET.fullmatch(notice.bucket) or ".." in notice.bucket:
            raise ObjectError("object-missing", f"{notice.bucket[:64]!r} is no bucket's name", passing=False)
        if notice.size is not None and notice.size > self._bound:
            raise self._too_large(notice, notice.size)
        try:
            lane = await self._lane(notice)
            admit = partial(self._admit, notice, held)
            query = f"versionId={quote(notice.version, safe='')}" if notice.version else ""
            path = f"/{notice.bucket}/{quote(notice.key, safe='/~')}"
            answer = await lane.get(path, query, seconds=GET_SECONDS, most_bytes=self._bound, admit=admit)
            if answer is not None:
                return answer.body
            held.let_go()
            return await (self._plainly(notice, held) if _is_plain(notice.key) else self._exactly(notice, held))
        except FileNotFoundError as error:
            raise ObjectError("object-missing", f"{_place(notice)} is not there: {_first_line(error)}", passing=False) from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            told = f"{_place(notice)} may not be read: grant s3:GetObject and, if encrypted, kms:Decrypt ({_first_line(error)})"
            raise ObjectError("object-forbidden", told, passing=True) from error
        except (BaseError, BotoCoreError, OSError, TimeoutError) as error:
            raise ObjectError("object-unreachable", f"{_place(notice)}: {_first_line(error)}", passing=True) from error

    async def listed(self, bucket: str, prefix: str) -> AsyncIterator[Notice]:
        """Every object of a bucket whose key begins with `prefix`, by key. Raises `ObjectError`."""
        s3 = await self._accounts.client("s3")
        place = Notice(bucket, prefix)
        try:
            async for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for one in page.get("Contents", []):
                    yield Notice(bucket, one["Key"], size=one["Size"])
        except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
            raise ObjectError("list-failed", f"{_place(place)}* cannot be listed: {explain(error).text}", passing=True) from error

    async def _plainly(self, notice: Notice, held: Fetching) -> bytes:
        options: Any = {"version": notice.version} if notice.version else {}
        result = await obstore.get_async(await self._store(notice), notice.key, options=options)
        await self._admit(notice, held, result.meta["size"])
        return bytes(await result.bytes_async())

    async def _exactly(self, notice: Notice, held: Fetching) -> bytes:
        s3 = await self._accounts.client("s3", region=await self._region(notice))
        version = {"VersionId": notice.version} if notice.version else {}
        try:
            answer = await s3.get_object(Bucket=notice.bucket, Key=notice.key, **version)
        except ClientError as error:
            fault = explain(error)
            if fault.code in ("NoSuchKey", "NoSuchBucket", "NoSuchVersion", "404"):
                raise FileNotFoundError(fault.text) from error
            if fault.kind == "denied":
                raise PermissionDeniedError(fault.text) from error
            raise OSError(fault.text) from error
        async with answer["Body"] as stream:
            await self._admit(notice, held, answer["ContentLength"])
            return bytes(await stream.read())

    async def _admit(self, notice: Notice, held: Fetching, size: int) -> None:
        """Before the first byte of an object is taken, by the size that S3 tells: refused above the bound, or room for it is waited for."""
        if size > self._bound:
            raise self._too_large(notice, size)
        await held.hold(size)

    async def _region(self, notice: Notice) -> str | None:
        """The notice's region where AWS has such a one: what a message says must not choose the host that our signature goes to."""
        if self._regions is None:
            session = self._accounts.session
            partitions = session.get_available_partitions()
            self._regions = frozenset([region for one in partitions for region in await session.get_available_regions("s3", one)])
        return notice.region if notice.region in self._regions else None

    async def _lane(self, notice: Notice) -> Lane:
        region = (await self._region(notice)) or self._accounts.region
        lane = self._lanes.get(region)
        if lane is None:
            session = self._accounts.session
            endpoint = self._endpoint or f"https://{s3_host(session, region)}"
            lane = self._lanes[region] = Lane(session, endpoint, "s3", region, self._environment, self._clock)
            self._accounts.own(lane.close)
        return lane

    async def _store(self, notice: Notice) -> S3Store:
        region = (await self._region(notice)) or self._accounts.region
        key = (notice.bucket, region)
        store = self._stores.get(key)
        if store is None:
            if len(self._stores) >= MOST_STORES:
                self._stores.clear()
            endpoint = self._endpoint or f"https://{s3_host(self._accounts.session, region)}"
            store = self._stores[key] = S3Store(
                notice.bucket,
                # Path style: bucket names with dots have no certificate, and endpoints on loopback no names at all.
                config={"endpoint": endpoint, "region": region, "virtual_hosted_style_request": False},
                client_options={"allow_http": endpoint.startswith("http:"), "connect_timeout": "5s", "timeout": "120s"},
                retry_config={"max_retries": ATTEMPTS - 1, "retry_timeout": timedelta(seconds=60)},
                credential_provider=self._credential,
            )
        return store

    async def _credential(self) -> Any:  # obstore.store.S3Credential, which exists for type checkers alone
        found = await self._accounts.session.get_credentials()
        if found is None:
            raise PermissionError(
                "no AWS credentials were found: give the worker a role, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            )
        frozen = await found.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key or "",
            "secret_access_key": frozen.secret_key or "",
            "token": frozen.token,
            "expires_at": self._clock() + CREDENTIAL_CHECK,
        }

    def _too_large(self, notice: Notice, size: int) -> ObjectError:
        told = f"{_place(notice)} has {size} bytes, more than the {self._bound} allowed (TRAILMEND_MAX_OBJECT_BYTES)"
        return ObjectError("object-too-large", told, passing=False)


class Fetching:
    """A context in which an object is there. What of the budget it holds is given back at its end."""

    def __init__(self, objects: Objects, notice: Notice, budget: Budget) -> None:
        self._objects, self._notice, self._budget = objects, notice, budget
        self._held = 0

    async def __aenter__(self) -> LogObject:
        try:
            return LogObject(self._notice, await self._objects.body(self._notice, self))
        except BaseException:
            self.let_go()
            raise

    async def __aexit__(self, *_: object) -> None:
        self.let_go()

    async def hold(self, size: int) -> None:
        """Wait for room for `size` bytes. Only with nothing held: who holds some and waits for more could wait for ever."""
        await self._budget.take(size)
        self._held = size

    def let_go(self) -> None:
        self._budget.give(self._held)
        self._held = 0


def s3_host(session: AioSession, region: str) -> str:
    """S3's host name in a region, in whichever partition it is."""
    resolved = session.get_component("endpoint_resolver").construct_endpoint("s3", region)
    return str(resolved["hostname"]) if resolved else f"s3.{region}.amazonaws.com"


def _is_plain(key: str) -> bool:
    """Whether obstore's path for this key is this key."""
    return key.isprintable() and all(part not in ("", ".", "..") for part in key.split("/"))


def _place(notice: Notice) -> str:
    version = f" (version {notice.version})" if notice.version else ""
    return f"s3://{notice.bucket}/{notice.key}{version}"


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:300]
