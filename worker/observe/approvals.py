"""What happens to tasks that wait for people, said once: each method is one happening of `remediate/executor.py` or `remediate/waiting.py`.

Labels come from closed sets: outcomes, and the names of actions.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from worker.observe.series import counters, gauges


class Approvals:
    """Counts and logs. One a process, a part of its `Metrics`."""

    def __init__(self, registry: CollectorRegistry, log: FilteringBoundLogger) -> None:
        self._log = log
        counter, gauge = counters(registry), gauges(registry)
        self._waiting = gauge("approvals_waiting", "Tasks that wait for people to agree to them.")
        self._expiring = gauge("approvals_expiring", "Those of them that have less than a quarter of their time limit left.")
        self._approvals = counter(
            "approvals",
            "Tasks that waited for people: asked, asked-again (live state has changed), approved, rejected, expired.",
            "outcome",
        )
        self._trips = counter(
            "breaker_trips", "Tasks that people were asked about because the breaker of their action had tripped.", "action"
        )

    def waiting(self, count: int, expiring: int) -> None:
        """What waits just now."""
        self._waiting.set(count)
        self._expiring.set(expiring)

    def asked(self, outcome: str, **context: Any) -> None:
        """`outcome` is waiting or asked-again."""
        self._approvals.labels("asked" if outcome == "waiting" else outcome).inc()
        self._log.info("approval_asked", outcome=outcome, **context)

    def ended(self, outcome: str, **context: Any) -> None:
        """`outcome` is approved, rejected or expired."""
        self._approvals.labels(outcome).inc()
        self._log.info("approval_ended", outcome=outcome, **context)

    def breaker_tripped(self, action: str, **context: Any) -> None:
        """A task found no slot free."""
        self._trips.labels(action).inc()
        self._log.error("breaker_tripped", action=action, **context)
