"""Parts in memory that behave like the real ones: the contract tests hold both to the same promises."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog
from prometheus_client import CollectorRegistry

from worker.http1 import Answer
from worker.lane import Lane
from worker.model import Message, Outgoing
from worker.observe.metrics import Metrics

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def metrics() -> Metrics:
    """Metrics on a registry of their own, with logs that go nowhere."""
    silent = structlog.wrap_logger(None, processors=[_drop])
    return Metrics(CollectorRegistry(), silent)


def _drop(*_: object) -> Mapping[str, object]:
    raise structlog.DropEvent


def sample(of: Metrics, name: str, **labels: str) -> float:
    """A series' value, 0 where it has none yet."""
    return of.registry.get_sample_value(f"trailmend_{name}", labels) or 0.0


class ClosedLane(Lane):
    """A lane on which nothing goes: everybody goes the long way."""

    def __init__(self) -> None:
        """Without a session: it never asks for a credential."""

    async def get(self, path: str, query: str = "", **_: object) -> None:
        return None

    async def post(self, target: str, body: bytes, **_: object) -> Answer | None:
        return None

    def close(self) -> None:
        """There is nothing to close."""


@dataclass
class _Held:
    body: str
    id: str
    sent_at: datetime
    visible_at: float = 0.0
    receives: int = 0
    receipt: str = ""


@dataclass
class MemoryQueue:
    """A queue with SQS's visibility, receipts, receive counts and redrive, by the event loop's clock."""

    name: str = "main"
    visibility_seconds: int = 30
    most_receives: int = 5
    poll_seconds: float = 20.0
    held: dict[str, _Held] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    asked_for: list[int] = field(default_factory=list)
    failing: BaseException | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    async def put(self, body: str) -> None:
        number = next(self._numbers)
        self.held[f"message-{number}"] = _Held(body, f"message-{number}", self.clock())

    async def receive(self, most: int) -> list[Message]:
        self.asked_for.append(most)
        if self.failing is not None:
            raise self.failing
        loop = asyncio.get_running_loop()
        until = loop.time() + self.poll_seconds
        while not (found := self._visible(loop.time())):
            if loop.time() >= until:
                return []
            await asyncio.sleep(0.005)
        return [self._hand_out(held, loop.time()) for held in found[: min(most, 10)]]

    def _visible(self, now: float) -> list[_Held]:
        for held in [held for held in self.held.values() if held.visible_at <= now and held.receives >= self.most_receives]:
            self.dead.append(self.held.pop(held.id).body)
        return [held for held in self.held.values() if held.visible_at <= now]

    def _hand_out(self, held: _Held, now: float) -> Message:
        held.receives += 1
        held.visible_at = now + self.visibility_seconds
        held.receipt = f"{held.id}-{next(self._numbers)}"
        return Message(held.id, held.body, held.receipt, held.sent_at, held.receives)

    async def delete(self, messages: Sequence[Message]) -> frozenset[str]:
        for message in messages:
            held = self.held.get(message.id)
            if held is not None and held.receipt == message.receipt:
                self.deleted.append(self.held.pop(message.id).id)
        return frozenset(message.id for message in messages)

    async def extend(self, messages: Sequence[Message], seconds: int) -> None:
        for message in messages:
            held = self.held.get(message.id)
            if held is not None and held.receipt == message.receipt:
                held.visible_at = asyncio.get_running_loop().time() + seconds

    async def depths(self) -> Mapping[str, Mapping[str, int]]:
        now = asyncio.get_running_loop().time()
        visible = sum(held.visible_at <= now for held in self.held.values())
        return {self.name: {"visible": visible, "in_flight": len(self.held) - visible, "delayed": 0}}


@dataclass
class MemorySink:
    """A sink that keeps what it took; ids in `refusing` are not taken."""

    kind: str = "memory"
    key: str = "memory:"
    taken: list[Outgoing] = field(default_factory=list)
    refusing: set[str] = field(default_factory=set)
    refuse_all: bool = False

    async def put(self, items: Sequence[Outgoing]) -> Mapping[str, str]:
        failed = {item.id: "refused" for item in items if self.refuse_all or item.id in self.refusing}
        self.taken += [item for item in items if item.id not in failed]
        return failed
