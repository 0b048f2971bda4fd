"""The sinks, and which of them is behind an address: standard output and a file here, the others each in a file of their own.

A sink (`outbox.py` has what it promises) never raises for what the outside does: what was not taken comes back with its reason, and the outbox keeps it. An
item that a sink acknowledged is not put there again, because deliveries are settled in the state store by the sink's `key`. A newcomer
adds a class, its line in `open_sink`, and its form of address in `worker/addresses.py`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiohttp

from worker.addresses import Address
from worker.aws import Accounts, queue_region
from worker.dispatch.aws_targets import EventBridgeSink, SnsSink, StepFunctionsSink
from worker.dispatch.outbox import Sink
from worker.dispatch.sqs import SqsSink
from worker.dispatch.webhook import WebhookSink
from worker.lane import Lane
from worker.model import Outgoing


class Stream(Protocol):
    """What standard output is here: a file of bytes will do."""

    def write(self, data: bytes, /) -> int: ...
    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outside:
    """What sinks are opened with. What must be closed after them is put on `stack`."""

    accounts: Accounts
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    stdout: Stream
    stack: AsyncExitStack
    webhook_secrets: tuple[bytes, ...] = field(default=(), repr=False)


TARGETS = {"sns": SnsSink, "events": EventBridgeSink, "states": StepFunctionsSink}
"""By the service in the ARN."""


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


async def open_sink(address: Address, outside: Outside) -> Sink:
    """The sink behind an address (already checked by `Settings`)."""
    if address.people:
        from worker.dispatch.people import PeopleSink  # noqa: PLC0415  # apprise costs start-up, and few deployments name people

        return PeopleSink(address.name, address.url)
    parts = urlsplit(address.url)
    if parts.scheme == "stdout":
        return StdoutSink(outside.stdout)
    if parts.scheme == "file":
        return FileSink(Path(unquote(parts.netloc + parts.path)))
    if parts.scheme == "arn":
        _, _, service, region, *_ = address.url.split(":")
        return TARGETS[service](
            await outside.accounts.client(service if service != "states" else "stepfunctions", region=region), address.url
        )
    if parts.scheme.startswith("webhook+"):
        session = await outside.stack.enter_async_context(aiohttp.ClientSession(trust_env=True, cookie_jar=aiohttp.DummyCookieJar()))
        return WebhookSink(session, address.url.removeprefix("webhook+"), outside.webhook_secrets, outside.clock)
    client = await outside.accounts.client("sqs", region=queue_region(address.url))
    lane = Lane(outside.accounts.session, client.meta.endpoint_url, "sqs", client.meta.region_name, outside.environment, outside.clock)
    outside.stack.callback(lane.close)
    return SqsSink(client, lane, address.url)
