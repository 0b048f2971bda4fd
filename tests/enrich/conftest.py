"""Parts of the enrichment tests: findings made by hand, a store that remembers in a list, and an investigator at a fixed time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import structlog
from aiobotocore.session import AioSession
from prometheus_client import CollectorRegistry

from tests.conftest import PATIENCE_SECONDS
from worker.aws import Accounts
from worker.enrich.investigator import Investigator
from worker.model import Actor, Finding, Level, Origin, ProfileEvent, Record, Rule, Subject
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

OWN, MEMBER = "000000000000", "111122223333"
RULE = Rule("rule", "A rule", Level.HIGH)


class RememberingStore:
    """The part of the store that the facts use, with the store's promises: by time, then key, or the last key first."""

    def __init__(self) -> None:
        self.events: list[ProfileEvent] = []
        self.recalls = 0

    async def recall(self, account: str, profile: str) -> Sequence[ProfileEvent]:
        self.recalls += "/" not in profile
        found = {event.key: event for event in self.events if (event.account, event.profile) == (account, profile)}
        return sorted(found.values(), key=lambda event: (event.time, event.key))

    async def latest(self, account: str, profile: str, limit: int) -> Sequence[ProfileEvent]:
        return sorted(await self.recall(account, profile), key=lambda event: event.key, reverse=True)[:limit]


@pytest.fixture
def store() -> RememberingStore:
    return RememberingStore()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry(), structlog.wrap_logger(structlog.ReturnLogger()))


@pytest.fixture
def clock() -> Callable[[], datetime]:
    """The true time: what the embedded AWS dates its things by."""
    return lambda: datetime.now(UTC)


@pytest.fixture
def make_finding() -> Callable[..., Finding]:
    """A finding from an event's name, actor and subject; more members of the event by keyword."""

    def make(name: str = "DeleteInstanceProfile", *, actor: Actor | None = None, subject: Subject | None = None, **event: Any) -> Finding:
        whole = {
            "eventName": name,
            "eventSource": "iam.amazonaws.com",
            "eventTime": "2026-01-02T03:04:05Z",
            "eventID": f"id-{name}",
            "recipientAccountId": OWN,
            **event,
        }
        return Finding(RULE, Record(whole, Origin(path="x")), actor or Actor("Unknown"), subject or Subject("unknown"))

    return make


@pytest.fixture
async def investigate(
    embedded_aws: str, store: RememberingStore, metrics: Metrics, clock: Callable[[], datetime]
) -> AsyncIterator[Callable[..., Any]]:
    """Investigate a finding in the embedded AWS; settings by keyword. Answers the facts by name."""
    accounts: list[Accounts] = []

    async def run(finding: Finding, **settings: Any) -> Any:
        whole = Settings(
            **{"member_role_name": "trailmend", "regions": ("us-east-1",), "enrich_deadline_seconds": PATIENCE_SECONDS, **settings}
        )
        accounts.append(Accounts(AioSession(), whole))
        return (await Investigator(accounts[-1], cast("Store", store), whole, metrics, clock).investigate(finding)).facts

    yield run
    for each in accounts:
        async with each:
            pass
