"""What became of our own calls to AWS, said once: each method is one happening of `enrich/lookups.py`.

Labels come from closed sets: the services that facts ask, outcomes, and where an answer came from. An account is named in the log alone.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from structlog.typing import FilteringBoundLogger

SECONDS = (0.001, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10)


class Calls:
    """Counts and logs. One a process, a part of its `Metrics`."""

    def __init__(self, registry: CollectorRegistry, log: FilteringBoundLogger) -> None:
        self._log = log
        self._made = Counter(
            "trailmend_aws_calls",
            "Calls to AWS made for facts: ok, gone, denied, throttled, unreachable or refused.",
            ("service", "outcome"),
            registry=registry,
        )
        self._turns = Histogram(
            "trailmend_aws_turn_seconds", "Time a call waited for its account's budget of calls.", buckets=SECONDS, registry=registry
        )
        self._answers = Counter(
            "trailmend_aws_answers",
            "Questions of facts by their answer: live, from the cache, stale because nothing newer was to be had, or none.",
            ("source",),
            registry=registry,
        )
        self._closed = Gauge(
            "trailmend_accounts_closed", "Accounts that could not be entered when last tried; their facts are unknown.", registry=registry
        )

    def made(self, service: str, outcome: str) -> None:
        self._made.labels(service, outcome).inc()

    def awaited(self, seconds: float) -> None:
        """How long a call waited for its turn."""
        self._turns.observe(seconds)

    def answered(self, source: str) -> None:
        self._answers.labels(source).inc()

    def account_closed(self, account: str, text: str) -> None:
        """An account could not be entered; `text` says why and what to do."""
        self._log.error("account_closed", account=account, detail=text)

    def count_closed(self, count: Callable[[], int]) -> None:
        """Whom to ask, at every scrape, how many accounts cannot be entered."""
        self._closed.set_function(count)
