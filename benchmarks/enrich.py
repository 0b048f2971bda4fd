"""What learning facts costs and how it holds up: calls to AWS for 10,000 findings by 50 actors in 20 accounts, and findings a second beside a cloud that answers
after 100 ms, that throttles, that hangs, or that keeps one account closed: `make bench` prints it.

`questions` is what the facts ask, which is how many calls an investigator would make that neither keeps nor shares answers. `others` are the findings of
all accounts but the first, which is the closed one.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import perf_counter
from typing import cast

import structlog
from prometheus_client import CollectorRegistry

from benchmarks.cloud import Cloud
from benchmarks.results import record
from worker.aws import Accounts
from worker.detect import subject
from worker.enrich.investigator import Investigator
from worker.model import Finding, Level, Origin, Record, Rule
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.sqlite import SqliteStore

ACCOUNTS = [f"{number:012}" for number in range(111_111_111_111, 111_111_111_131)]
ACTORS = 50
PROFILES = 200
"""Actors, the users that they act on and profiles are spread evenly over the accounts."""
AT_ONCE = 256
"""As many as `trailmend run` has in hand by default: 32 messages, 8 findings each."""
DEADLINE_SECONDS = 10.0
NAMES = ("DeleteInstanceProfile", "RemoveRoleFromInstanceProfile", "CreateAccessKey", "DeleteUserPolicy")
RULE = Rule("bench", "A rule", Level.HIGH)


@dataclass(frozen=True)
class Run:
    """How many findings were investigated in which time, how long each took by account, how many lack facts, what was asked, and the cloud after it."""

    findings: int
    seconds: float
    waits: Sequence[tuple[str | None, float]]
    pending: int
    questions: float
    cloud: Cloud

    @property
    def calls(self) -> int:
        return sum(self.cloud.calls.values())

    def wait(self, share: float, *, without: str | None = None) -> float:
        """The longest wait of this share of the findings, those of one account left out."""
        waits = sorted(seconds for account, seconds in self.waits if account != without)
        return waits[min(len(waits) - 1, int(share * len(waits)))]


def main() -> int:
    """Run each cloud, print the table and write the results."""
    rows = []
    asyncio.run(investigated(Cloud(latency_seconds=0), AT_ONCE))  # reads the service models, which takes seconds
    columns = ("findings", "findings_a_second", "questions", "calls", "throttled", "pending", "p50", "p99", "others_p50", "others_p99")
    print(f"{'cloud':>20} " + " ".join(f"{column.replace('findings_', ''):>10}" for column in columns))
    for name, cloud, count in (
        ("answers in 100 ms", Cloud(), 10_000),
        ("one account closed", Cloud(closed=frozenset(ACCOUNTS[:1])), 10_000),
        ("allows 5 a second", Cloud(a_second=5.0), 10_000),
        ("IAM hangs", Cloud(hangs=frozenset({"iam"})), 5_000),
    ):
        run = asyncio.run(investigated(cloud, count))
        row = {
            "cloud": name,
            "findings": run.findings,
            "findings_a_second": round(run.findings / run.seconds),
            "questions": round(run.questions),
            "calls": run.calls,
            "throttled": cloud.throttled,
            "pending": run.pending,
            "p50": round(run.wait(0.5), 3),
            "p99": round(run.wait(0.99), 3),
            "others_p50": round(run.wait(0.5, without=ACCOUNTS[0]), 3),
            "others_p99": round(run.wait(0.99, without=ACCOUNTS[0]), 3),
            "by_call": dict(cloud.calls.most_common()),
        }
        print(f"{name:>20} " + " ".join(f"{row[column]!s:>10}" for column in columns), flush=True)
        rows.append(row)
    record("enrich", rows)
    return 0


async def investigated(cloud: Cloud, count: int) -> Run:
    """Investigate so many findings, as many at once as a worker does."""
    settings = Settings(member_role_name="member", regions=("us-east-1", "eu-west-1"), enrich_deadline_seconds=DEADLINE_SECONDS)
    metrics = Metrics(CollectorRegistry(), structlog.wrap_logger(None, processors=[_dropped]))
    store = await SqliteStore.open(":memory:")
    investigator = Investigator(cast("Accounts", cloud), store, settings, metrics, lambda: datetime.now(UTC))
    waits: list[tuple[str | None, float]] = []
    pending = 0
    findings = iter(_findings(count))

    async def hand() -> None:
        nonlocal pending
        for finding in findings:
            began = perf_counter()
            found = await investigator.investigate(finding)
            waits.append((finding.record.account, perf_counter() - began))
            pending += bool(found.pending)

    began = perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(hand())
    seconds = perf_counter() - began
    await store.close()
    sources = ("live", "cache", "stale", "none")
    asked = (metrics.registry.get_sample_value("trailmend_aws_answers_total", {"source": source}) for source in sources)
    return Run(count, seconds, waits, pending, sum(one or 0.0 for one in asked), cloud)


def _dropped(*_: object) -> Mapping[str, object]:
    raise structlog.DropEvent


def _findings(count: int) -> list[Finding]:
    """A backlog of ten minutes, drawn alike every time."""
    chance = random.Random(5)  # noqa: S311  # draws events, guards nothing
    since = datetime.now(UTC) - timedelta(minutes=11)
    found = []
    for number in range(count):
        actor, other = chance.randrange(ACTORS), chance.randrange(ACTORS)
        account = ACCOUNTS[actor % len(ACCOUNTS)]
        name = chance.choice(NAMES)
        event = {
            "eventID": f"event-{number}",
            "eventName": name,
            "eventSource": "iam.amazonaws.com",
            "eventTime": (since + timedelta(seconds=chance.uniform(0, 600))).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "awsRegion": "us-east-1",
            "recipientAccountId": account,
            "sourceIPAddress": "198.51.100.7",
            "userIdentity": {
                "type": "IAMUser",
                "userName": f"user-{actor}",
                "arn": f"arn:aws:iam::{account}:user/user-{actor}",
                "accountId": account,
                "accessKeyId": f"AKIAuser-{actor}",
            },
            "requestParameters": {
                "userName": f"user-{other - other % len(ACCOUNTS) + actor % len(ACCOUNTS)}",
                "instanceProfileName": f"profile-{chance.randrange(PROFILES // len(ACCOUNTS))}",
                "roleName": "web",
                "policyName": "inline",
            },
        }
        whole = Record(event, Origin(path="bench"))
        found.append(Finding(RULE, whole, subject.actor_of(whole), subject.subject_of(whole)))
    return found


if __name__ == "__main__":
    sys.exit(main())
