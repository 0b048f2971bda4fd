"""What became of messages, said once: each method is one happening of `service.py` or `ingest/queue.py`.

Labels come from closed sets: the names of our queues, the states that SQS tells of their messages, and the reasons for which one is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from worker.observe.series import LAGS, counters, gauges, hot_histogram


class Queues:
    """Counts and logs. One a process, a part of its `Metrics`."""

    def __init__(self, registry: CollectorRegistry, log: FilteringBoundLogger) -> None:
        self._log = log
        counter, gauge = counters(registry), gauges(registry)
        self._received = counter("messages_received", "Messages received from a queue.", "queue")
        self._deleted = counter("messages_deleted", "Messages deleted from a queue after all their work was done.", "queue")
        self._left = counter("messages_left", "Messages not deleted, so that the queue delivers them again or redrives them.", "reason")
        self._returned = counter("messages_returned", "Messages given back unworked while stopping.", "queue")
        self._receive_errors = counter("receive_errors", "Receives from a queue that failed.", "queue")
        self._delete_errors = counter("delete_errors", "Deletes that failed; the message comes again and is recognised.", "queue")
        self._hold_errors = counter("hold_errors", "Visibility extensions that failed.", "queue")
        self._in_hand = gauge("messages_in_hand", "Messages received and not yet deleted or left.", "queue")
        self._queue = gauge("queue_messages", "Messages in a queue as SQS estimates them.", "queue", "state")
        self._last_receive = gauge("last_receive_timestamp_seconds", "When a receive last succeeded.", "queue")
        self._last_progress = gauge("last_progress_timestamp_seconds", "When a message was last finished, or the queue was empty.", "queue")
        self._message_age = hot_histogram(
            registry, "message_age_seconds", "Time a message waited in the queue, at its first receive.", LAGS, "queue"
        )

    def received(self, queue: str, count: int, at: datetime) -> None:
        self._last_receive.labels(queue).set(at.timestamp())
        if count:
            self._received.labels(queue).inc(count)
        else:
            self._last_progress.labels(queue).set(at.timestamp())

    def waited(self, queue: str, seconds: float) -> None:
        self._message_age.observe(max(0.0, seconds), queue)

    def receive_failed(self, queue: str, error: str) -> None:
        self._receive_errors.labels(queue).inc()
        self._log.error("receive_failed", queue=queue, error=error)

    def in_hand(self, queue: str, taken: Callable[[], int]) -> None:
        """Whom to ask, at every scrape, how many messages of a queue are in hand."""
        self._in_hand.labels(queue).set_function(taken)

    def progressed(self, queue: str, at: datetime) -> None:
        """Some messages are done for good."""
        self._last_progress.labels(queue).set(at.timestamp())

    def deleted(self, queue: str, count: int) -> None:
        self._deleted.labels(queue).inc(count)

    def delete_failed(self, queue: str, message_id: str, error: str) -> None:
        self._delete_errors.labels(queue).inc()
        self._log.warning("delete_failed", queue=queue, message_id=message_id, error=error)

    def hold_failed(self, queue: str, message_id: str, error: str) -> None:
        self._hold_errors.labels(queue).inc()
        self._log.warning("hold_failed", queue=queue, message_id=message_id, error=error)

    def left(self, reason: str, **context: Any) -> None:
        """A message stays on the queue: to be tried again, and at last to be redriven."""
        self._left.labels(reason).inc()
        self._log.warning("message_left", reason=reason, **context)

    def returned(self, queue: str, count: int) -> None:
        self._returned.labels(queue).inc(count)
        self._log.info("messages_returned", queue=queue, count=count)

    def depth(self, queue: str, states: Mapping[str, int]) -> None:
        for state, count in states.items():
            self._queue.labels(queue, state).set(count)
