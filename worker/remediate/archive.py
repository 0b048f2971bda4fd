"""The edge to the bucket that the journal is exported to: objects are written once, locked, and read in their first version.

An object of a bucket with Object Lock cannot be changed, but another version can be put over it or a delete marker set; what is read here is the first
version, which is the one that was locked, and that there are others is told. Whatever S3 refuses comes out as `ArchiveError`.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html, https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from worker.addresses import Place
from worker.aws import Accounts, explain
from worker.modes import Lock
from worker.remediate import exported

AWS_CALLS = ("s3:ListObjectVersions", "s3:GetObject", "s3:PutObject")
_STANDS = frozenset({"PreconditionFailed", "ConditionalRequestConflict"})
_ADVICE = {
    "NoSuchBucket": "make it, with Object Lock, or set TRAILMEND_JOURNAL_EXPORT to another",
    "InvalidRequest": "its bucket needs Object Lock: make it with that, or set TRAILMEND_JOURNAL_LOCK=none",
}
_ADVICE_BY_KIND = {
    "denied": "allow s3:PutObject, s3:PutObjectRetention, s3:GetObject, s3:GetObjectVersion and s3:ListBucketVersions there",
    "unreachable": "see that S3 can be reached from here",
}


class ArchiveError(Exception):
    """The bucket could not be asked. The text says what was asked of which, and what to do."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An object of the export: the number of its first line, and its first version. `versions` are all of its versions and delete markers."""

    first: int
    key: str
    version: str
    versions: int


class Archive:
    """A place in a bucket of our own account. Every method may raise `ArchiveError`."""

    def __init__(self, accounts: Accounts, place: Place, lock: Lock) -> None:
        self._accounts = accounts
        self._lock = lock
        self.place = place

    async def kept(self) -> Sequence[Kept]:
        """The objects of which a version is there, in the order of lines."""
        prefix = self.place.prefix
        versions: dict[str, list[Any]] = {}
        markers: list[str] = []
        with self._told(f"list {self.place}"):
            s3 = await self._accounts.client("s3")
            async for page in s3.get_paginator("list_object_versions").paginate(Bucket=self.place.bucket, Prefix=prefix):
                for one in page.get("Versions", []):
                    versions.setdefault(one["Key"], []).append(one)
                markers += [one["Key"] for one in page.get("DeleteMarkers", [])]
        found: list[Kept] = []
        for key in sorted(versions):
            first = exported.first_of(key.removeprefix(prefix))
            if first is not None:
                # Latest first: https://docs.aws.amazon.com/AmazonS3/latest/userguide/list-obj-version-enabled-bucket.html
                oldest = versions[key][-1]
                found.append(Kept(first, key, oldest["VersionId"], len(versions[key]) + markers.count(key)))
        return found

    async def read(self, one: Kept) -> bytes:
        """The bytes of an object as it was first written."""
        with self._told(f"read s3://{self.place.bucket}/{one.key}"):
            s3 = await self._accounts.client("s3")
            answer = await s3.get_object(Bucket=self.place.bucket, Key=one.key, VersionId=one.version)
            async with answer["Body"] as stream:
                return bytes(await stream.read())

    async def write(self, first: int, body: bytes, until: datetime) -> bool:
        """Write an object, to be kept until a time at least. False where one of its name stands already, which is left as it is."""
        key = f"{self.place.prefix}{exported.name(first)}"
        locked: dict[str, Any] = {"ObjectLockMode": self._lock.value.upper(), "ObjectLockRetainUntilDate": until}
        with self._told(f"write s3://{self.place.bucket}/{key}"):
            s3 = await self._accounts.client("s3")
            try:
                await s3.put_object(
                    Bucket=self.place.bucket,
                    Key=key,
                    Body=body,
                    ContentType="application/jsonl",
                    ChecksumAlgorithm="SHA256",
                    IfNoneMatch="*",
                    **({} if self._lock is Lock.NONE else locked),
                )
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") not in _STANDS:
                    raise
                return False
        return True

    @contextmanager
    def _told(self, asked: str) -> Iterator[None]:
        # The one place where S3's errors become ours. A body that is cut short comes as aiohttp tells it.
        try:
            yield
        except (ClientError, BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
            fault = explain(error)
            advice = _ADVICE.get(fault.code) or _ADVICE_BY_KIND.get(fault.kind, "it will be tried again")
            raise ArchiveError(f"{asked}: {fault.text}; {advice}") from error
