"""Where findings and tasks go: SQS (standard and FIFO), standard output, a file. Each edge takes messages and tells which it could not take.

A sink never raises for what the outside does: a failed item comes back with its reason, is counted by the caller and tried again when its SQS message
comes back. An item that a sink acknowledged is not put there again, because deliveries are settled in the state store by the
sink's `key`. A newcomer adds a class here and its line in `open_sink`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import Accounts, explain, queue_region
from worker.model import Outgoing

SQS_BATCH_ENTRIES = 10
SQS_BATCH_BYTES = 256 * 1024
"""The smaller of the limits that SQS has had for a whole batch; https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html"""


REFUSED_BY_SQS = {0xFFFE: "\\ufffe", 0xFFFF: "\\uffff"}
"""The characters of JSON text that SQS takes in no message, as JSON's escapes for them; https://www.w3.org/TR/REC-xml/#charsets"""


class Sink(Protocol):
    """`kind` labels the metric; `key` tells this sink from every other, across restarts."""

    kind: str
    key: str

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        """Take the items; answers the ids of those that were not taken, each with why."""


class Stream(Protocol):
    """What standard output is here: a file of bytes will do."""

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


class SqsSink:
    """An SQS queue; one whose name ends in .fifo gets a deduplication id and a group."""

    kind = "sqs"

    def __init__(self, client: Any, url: str) -> None:
        self.key = url
        self._client = client
        self._fifo = url.endswith(".fifo")

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        failed: dict[str, str] = {}
        for batch in _batches(items):
            entries = [self._entry(number, item) for number, item in enumerate(batch)]
            try:
                answer = await self._client.send_message_batch(QueueUrl=self.key, Entries=entries)
            except (ClientError, BotoCoreError, OSError, TimeoutError) as error:
                failed.update(dict.fromkeys((item.id for item in batch), explain(error).text))
                continue
            for one in answer.get("Failed", []):
                failed[batch[int(one["Id"])].id] = f"{one.get('Code')}: {one.get('Message', '')}"
        return failed

    def _entry(self, number: int, item: Outgoing) -> dict[str, str]:
        entry = {"Id": str(number), "MessageBody": item.body.decode().translate(REFUSED_BY_SQS)}
        if self._fifo:
            entry |= {"MessageGroupId": item.group, "MessageDeduplicationId": item.id}
        return entry


class FileSink:
    """JSON lines at the end of a file, on disk before they count as taken; several processes may share it.

    A line that a killed process left half is ended, so that it spoils no other; what it told was not settled and is told again.
    """

    kind = "file"

    def __init__(self, path: Path) -> None:
        self.key = f"file:{path.absolute()}"
        self._path = path

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        try:
            await asyncio.to_thread(self._append, b"".join(item.body + b"\n" for item in items))
        except OSError as error:
            return dict.fromkeys((item.id for item in items), f"{self._path}: {error}")
        return {}

    def _append(self, lines: bytes) -> None:
        with self._path.open("ab+", buffering=0) as stream:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX)  # until it is closed
            before = stream.seek(0, os.SEEK_END)
            if before and os.pread(stream.fileno(), 1, before - 1) != b"\n":
                lines = b"\n" + lines
            try:
                left = memoryview(lines)
                while left:
                    left = left[stream.write(left) or 0 :]
                os.fsync(stream.fileno())
            except OSError:
                # Half a line on a full disk would spoil the next one too.
                os.ftruncate(stream.fileno(), before)
                raise


class StdoutSink:
    """JSON lines on standard output."""

    kind = "stdout"
    key = "stdout:"

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        try:
            self._stream.write(b"".join(item.body + b"\n" for item in items))
            self._stream.flush()
        except (OSError, ValueError) as error:
            return dict.fromkeys((item.id for item in items), f"standard output: {error}")
        return {}


async def open_sink(url: str, accounts: Accounts, stdout: Stream) -> Sink:
    """The sink behind a URL of `FINDING_SINKS` or `TASK_QUEUE_URL` (already checked by `Settings`)."""
    parts = urlsplit(url)
    if parts.scheme == "stdout":
        return StdoutSink(stdout)
    if parts.scheme == "file":
        return FileSink(Path(unquote(parts.netloc + parts.path)))
    return SqsSink(await accounts.client("sqs", region=queue_region(url)), url)


def _batches(items: Sequence[Outgoing]) -> Iterator[list[Outgoing]]:
    batch: list[Outgoing] = []
    size = 0
    for item in items:
        if batch and (len(batch) == SQS_BATCH_ENTRIES or size + len(item.body) > SQS_BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item.body)
    if batch:
        yield batch
