"""What happened, said once: each method is one happening, and from it come both the metric and the log line.

The rest of the worker calls these methods, and those of its parts `approvals`, `calls` and `queues`, and neither counts nor logs of its own. Labels come
from closed sets (rule, suppression, level, action, fact, outcome, reason, condition, stage, sink), never from a record. A newcomer adds a
series in `__init__`, a method, and where on-call should know of it a panel and an alert in `deploy/`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from prometheus_client import CollectorRegistry
from structlog.typing import FilteringBoundLogger

from worker.model import BANDS, EnrichedFinding, Fact, FactStatus, Task, Withheld
from worker.observe.approvals import Approvals
from worker.observe.calls import Calls
from worker.observe.queues import Queues
from worker.observe.series import LAGS, counters, gauges, histograms, hot_counter, hot_histogram

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Fault(Protocol):
    """What is wrong with a rule file, and where; `detect/document.py` has it."""

    @property
    def path(self) -> str: ...
    @property
    def line(self) -> int | None: ...
    @property
    def text(self) -> str: ...


class Metrics:
    """Counts and logs. One instance a process, handed to whoever has something to say."""

    def __init__(self, registry: CollectorRegistry, log: FilteringBoundLogger) -> None:
        self.registry = registry
        self.log = log
        self.approvals = Approvals(registry, log)
        self.calls = Calls(registry, log)
        self.queues = Queues(registry, log)

        counter, gauge, histogram = counters(registry), gauges(registry), histograms(registry)
        gauge("processes", "Worker processes that run.").set(1)
        counter("process_restarts", "Worker processes that ended by themselves and were started again.")
        self._notices = hot_counter(registry, "notices", "Messages by notification shape.", "shape")
        self._skipped = counter("skipped", "Things that are no log and were passed over on purpose.", "reason")
        self._objects = hot_counter(registry, "objects_read", "Objects read to the end.")
        self._object_bytes = hot_counter(registry, "object_bytes", "Bytes fetched from S3.")
        self._inflated_bytes = hot_counter(registry, "inflated_bytes", "Bytes after inflating.")
        self._in_flight = gauge("in_flight_bytes", "Bytes of objects fetched and of their texts that are held just now.", "kind")
        self._records = hot_counter(registry, "records", "Records seen.")
        self._interesting = hot_counter(registry, "records_interesting", "Records that a rule or the profile memory might want.")
        self._faults = counter("faults", "Things that could not be read or done; the message is left.", "stage", "reason")
        self._rule_errors = counter("rule_errors", "Rules that raised on a record; never counted as no match.", "rule")
        self._rules = gauge("rules", "Rules in force.")
        self._correlations = gauge("correlations", "Correlations in force.")
        self._unindexed = gauge("rules_unindexed", "Rules that demand no event source and name, so that every record is built for them.")
        self._rules_loaded = gauge("rules_loaded_timestamp_seconds", "When the rules in force were read.")
        self._reloads = counter("rules_reloads", "Times the rules were read again: ok, or refused for a fault.", "outcome")
        self._rules_refused = gauge(
            "rules_refused", "1 while the rules on disk are refused for a fault and older ones are in force, else 0."
        )
        self._suppressed = counter("findings_suppressed", "Findings not told because a suppression holds.", "rule", "suppression")
        self._untold = counter(
            "findings_untold", "Findings not told because what their rule wants to be known (only_when) is not.", "rule", "condition"
        )
        self._sightings = counter("sightings", "Records kept for a correlation, each time that they are seen.", "rule")
        self._sightings_dropped = counter(
            "sightings_dropped",
            "Records that a correlation could not count: untimed (without an event time), crowded (its window holds more than are kept or "
            "looked at) or late (its span was judged already).",
            "rule",
            "reason",
        )
        self._windows = counter(
            "windows_closed",
            "Spans of correlations that can only be judged when they are over: found, nothing, or abandoned (the rule was changed or "
            "taken away meanwhile).",
            "rule",
            "outcome",
        )
        self._findings = counter("findings", "Findings dispatched, by the level that their facts leave them.", "rule", "level")
        self._incomplete = counter("findings_incomplete", "Findings dispatched without facts that may be had later; an update follows.")
        self._updates = counter("findings_updated", "Updates of such findings: complete, or still not when facts were given up.", "outcome")
        self._impact = counter(
            "findings_impact",
            "Findings dispatched about an instance profile, by how many running instances depend on it; unknown where that is not known.",
            "band",
        )
        self._duplicates = counter("findings_duplicate", "Findings seen before and not dispatched again.")
        self._facts = counter("facts", "Facts by outcome: known, gone or unknown.", "fact", "outcome")
        self._fact_seconds = histogram("fact_seconds", "Time to learn a fact.", SECONDS, "fact")
        self._snapshots = counter(
            "snapshots",
            "Accounts looked at for profile memory: complete, partial (something could not be listed), closed (the account cannot be "
            "entered) or failed.",
            "outcome",
        )
        self._deliveries = counter(
            "deliveries",
            "Findings and tasks for a sink: ok (it took them), posted (it did not, and the outbox did) or failed (neither did; the message is left).",
            "sink",
            "outcome",
        )
        self._retries = counter(
            "outbox_retries", "Tries of what waits in the outbox: ok, failed, or abandoned after a week of them.", "sink", "outcome"
        )
        self._outbox = gauge("outbox_deliveries", "Findings and tasks in the outbox, which a sink has yet to take.", "sink")
        self._outbox_age = gauge("outbox_oldest_age_seconds", "How long the oldest of them has waited; 0 where there is none.", "sink")
        self._tasks = counter("tasks_dispatched", "Tasks put on the task queue.", "action")
        self._withheld = counter("tasks_withheld", "Actions a rule asked for and the facts spoke against.", "action", "reason")
        self._lag = histogram("event_lag_seconds", "From the event's time to its finding being dispatched.", LAGS)
        self._stage_seconds = hot_histogram(registry, "stage_seconds", "Time a message spends in a stage.", SECONDS, "stage")
        self._remediations = counter("remediations", "Tasks by what became of them.", "action", "outcome")
        self._own = counter(
            "records_own",
            "Records that bear our marks: known (the executor wrote their call down; no finding is made of them) or unknown (it did not).",
            "call",
        )
        self._confirmed = counter(
            "remediations_confirmed",
            "Calls of the executor: confirmed (CloudTrail told of it), unconfirmed (not in time) or late (it did after all).",
            "action",
            "outcome",
        )
        self._exports = counter("journal_exports", "Looks of the journal's export at what is new: ok or failed.", "outcome")
        self._exported = counter("journal_exported_lines", "Lines of the journal that were exported.")
        self._unexported = gauge("journal_unexported_lines", "Lines of the journal that a failed export left, counted up to 1000; else 0.")
        self._refused = counter("tasks_refused", "Task messages that were no valid task.", "reason")
        self._quarantined = counter(
            "tasks_quarantined",
            "Such messages by where they went: quarantined (to the dead-letter queue at once) or left (to their redrive, and refused again).",
            "outcome",
        )
        self._halted = gauge("remediation_stopped", "1 while the global stop is on and no task is worked, else 0.")
        self._halt: str | None = None

    # Reading.

    def notice(self, shape: str) -> None:
        self._notices.add(1, shape)

    def skipped(self, reason: str, count: int = 1, **context: Any) -> None:
        self._skipped.labels(reason).inc(count)
        self.log.debug("skipped", reason=reason, count=count, **context)

    def object_fetched(self, compressed_bytes: int) -> None:
        """An object was read to its end."""
        self._objects.add(1)
        self._object_bytes.add(compressed_bytes)

    def records_read(self, inflated_bytes: int, records: int, interesting: int) -> None:
        """A piece of an object, or what a message carries itself."""
        self._inflated_bytes.add(inflated_bytes)
        self._records.add(records)
        if interesting:
            self._interesting.add(interesting)

    def in_flight(self, kind: str, taken: Callable[[], int]) -> None:
        """Whom to ask, at every scrape, how many bytes of a kind (compressed, inflated) are in flight."""
        self._in_flight.labels(kind).set_function(taken)

    def fault(self, stage: str, reason: str, **context: Any) -> None:
        """Something could not be read or done. `context` says what, where and what to do about it."""
        self._faults.labels(stage, reason).inc()
        self.log.error("fault", stage=stage, reason=reason, **context)

    def staged(self, stage: str, seconds: float) -> None:
        self._stage_seconds.observe(seconds, stage)

    # Deciding.

    def rules_loaded(self, count: int, correlations: int, unindexed: int, at: datetime) -> None:
        """At the start."""
        for outcome in ("ok", "refused"):
            self._reloads.labels(outcome)
        self._rules_are(count, correlations, unindexed, at)
        self.log.info("rules_loaded", count=count, correlations=correlations, unindexed=unindexed)

    def rules_reloaded(self, count: int, correlations: int, unindexed: int, at: datetime) -> None:
        """Read again, and in force from now on."""
        self._reloads.labels("ok").inc()
        self._rules_are(count, correlations, unindexed, at)
        self.log.info("rules_reloaded", count=count, correlations=correlations, unindexed=unindexed)

    def _rules_are(self, count: int, correlations: int, unindexed: int, at: datetime) -> None:
        self._rules.set(count)
        self._correlations.set(correlations)
        self._unindexed.set(unindexed)
        self._rules_loaded.set(at.timestamp())
        self._rules_refused.set(0)

    def rules_refused(self, faults: Sequence[Fault]) -> None:
        """Read again, and not put in force."""
        self._reloads.labels("refused").inc()
        self._rules_refused.set(1)
        for fault in faults:
            self.log.error("rule_fault", file=fault.path, line=fault.line, detail=fault.text)
        self.log.error("rules_refused", faults=len(faults), hint="the rules from before stay in force until every fault is mended")

    def sighted(self, rule_id: str, count: int) -> None:
        self._sightings.labels(rule_id).inc(count)

    def sighting_dropped(self, rule_id: str, reason: str, count: int) -> None:
        """`reason` is untimed, crowded or late."""
        self._sightings_dropped.labels(rule_id, reason).inc(count)
        self.log.warning("sighting_dropped", rule=rule_id, reason=reason, count=count)

    def window_closed(self, rule_id: str, outcome: str) -> None:
        """`outcome` is found, nothing or abandoned."""
        self._windows.labels(rule_id, outcome).inc()
        self.log.debug("window_closed", rule=rule_id, outcome=outcome)

    def suppressed(self, rule_id: str, suppression_id: str, reason: str, finding_id: str) -> None:
        self._suppressed.labels(rule_id, suppression_id).inc()
        self.log.info("finding_suppressed", rule=rule_id, suppression=suppression_id, reason=reason, finding_id=finding_id)

    def untold(self, rule_id: str, condition: str, finding_id: str) -> None:
        self._untold.labels(rule_id, condition).inc()
        self.log.info("finding_untold", rule=rule_id, condition=condition, finding_id=finding_id)

    def rule_error(self, rule: str, error: str, **context: Any) -> None:
        self._rule_errors.labels(rule).inc()
        self.log.error("rule_error", rule=rule, error=error, **context)

    # Learning.

    def fact(self, fact: Fact, seconds: float) -> None:
        self._facts.labels(fact.name, fact.status.value).inc()
        self._fact_seconds.labels(fact.name).observe(seconds)
        if fact.reason is not None:
            self.log.warning("fact_incomplete" if fact.status is FactStatus.KNOWN else "fact_unknown", fact=fact.name, reason=fact.reason)

    def snapshot(self, outcome: str, **context: Any) -> None:
        """An account was looked at. `outcome` is complete, partial, closed or failed; `context` says what could not be had and why."""
        self._snapshots.labels(outcome).inc()
        (self.log.info if outcome == "complete" else self.log.warning)("snapshot", outcome=outcome, **context)

    # Telling.

    def finding(self, found: EnrichedFinding, at: datetime) -> None:
        finding = found.finding
        if found.update:
            self._updates.labels("incomplete" if found.pending else "complete").inc()
            self.log.info("finding_updated", finding_id=finding.id, rule=finding.rule.id, pending=found.pending)
            return
        if found.pending:
            self._incomplete.inc()
        changed = (
            {} if found.level is finding.rule.level else {"rule_level": finding.rule.level.value, "circumstances": found.circumstances}
        )
        self._findings.labels(finding.rule.id, found.level.value).inc()
        if "impact" in found.facts:
            band = (found.value("impact") or {}).get("band")
            self._impact.labels(band if band in BANDS else "unknown").inc()
        if finding.record.time is not None:
            self._lag.observe(max(0.0, (at - finding.record.time).total_seconds()))
        self.log.info(
            "finding",
            finding_id=finding.id,
            rule=finding.rule.id,
            severity=found.level.value,
            **changed,
            event_name=finding.record.name,
            actor=finding.actor.arn,
            subject=finding.subject.name,
            **({"pending": found.pending} if found.pending else {}),
        )

    def duplicate(self, finding_id: str) -> None:
        self._duplicates.inc()
        self.log.debug("finding_duplicate", finding_id=finding_id)

    def delivered(self, sink: str, outcome: str, **context: Any) -> None:
        """`sink` is the sink's kind (sqs, webhook, ...); `outcome` is ok, posted or failed."""
        self._deliveries.labels(sink, outcome).inc()
        if outcome == "posted":
            self.log.warning("delivery_posted", sink=sink, **context)
        elif outcome != "ok":
            self.log.error("delivery_failed", sink=sink, **context)

    def retried(self, sink: str, outcome: str, **context: Any) -> None:
        """What waits in the outbox was tried: `outcome` is ok, failed or abandoned."""
        self._retries.labels(sink, outcome).inc()
        tell = {"ok": self.log.info, "failed": self.log.warning}.get(outcome, self.log.error)
        tell("delivery_abandoned" if outcome == "abandoned" else "delivery_retried", sink=sink, outcome=outcome, **context)

    def outbox(self, sink: str, count: int, oldest_seconds: float) -> None:
        """What waits in the outbox for sinks of a kind."""
        self._outbox.labels(sink).set(count)
        self._outbox_age.labels(sink).set(oldest_seconds)

    def task(self, task: Task) -> None:
        self._tasks.labels(task.action).inc()
        self.log.info("task_dispatched", task_id=task.id, action=task.action, target=task.target.name, finding_id=task.finding.finding.id)

    def withheld(self, withheld: Withheld, finding_id: str) -> None:
        self._withheld.labels(withheld.action, withheld.cause).inc()
        self.log.info("task_withheld", action=withheld.action, cause=withheld.cause, reason=withheld.reason, finding_id=finding_id)

    # Mending.

    def remediated(self, action: str, outcome: str, **context: Any) -> None:
        self._remediations.labels(action, outcome).inc()
        self.log.info("remediation", action=action, outcome=outcome, **context)

    def own_record(self, *, known: bool, **context: Any) -> None:
        """A record that says it is of a call of ours."""
        self._own.labels("known" if known else "unknown").inc()
        if known:
            self.log.debug("own_record", **context)
        else:
            self.log.warning(
                "own_record_unknown", hint="it bears our marks, and no call that was written down has its request id", **context
            )

    def remediation_confirmed(self, action: str, outcome: str, **context: Any) -> None:
        """A call was told of by CloudTrail, or was not: `outcome` is confirmed, unconfirmed or late."""
        self._confirmed.labels(action, outcome).inc()
        tell = self.log.error if outcome == "unconfirmed" else self.log.info
        tell("remediation_confirmed" if outcome != "unconfirmed" else "remediation_unconfirmed", action=action, outcome=outcome, **context)

    def journal_exported(self, lines: int) -> None:
        """Everything is exported: so many new lines now, or by another process."""
        self._exports.labels("ok").inc()
        self._exported.inc(lines)
        self._unexported.set(0)
        if lines:
            self.log.info("journal_exported", lines=lines)

    def journal_export_failed(self, left: int | None, detail: str, exc_info: BaseException | None = None) -> None:
        """The journal could not be exported. `left`: what is not known to be; None leaves that as it was."""
        self._exports.labels("failed").inc()
        if left is not None:
            self._unexported.set(left)
        self.log.error("journal_export_failed", left=left, detail=detail, exc_info=exc_info)

    def task_refused(self, reason: str, **context: Any) -> None:
        self._refused.labels(reason).inc()
        self.log.error("task_refused", reason=reason, **context)

    def task_quarantined(self, why_not: str | None, **context: Any) -> None:
        """A refused message is on the dead-letter queue, or not, and why."""
        self._quarantined.labels("quarantined" if why_not is None else "left").inc()
        if why_not is None:
            self.log.info("task_quarantined", **context)
        else:
            self.log.error("task_not_quarantined", detail=why_not, **context)

    def remediation_stopped(self, why: str | None) -> None:
        """Whether the global stop is on, each time that somebody looks; a change is logged."""
        self._halted.set(0 if why is None else 1)
        if why != self._halt:
            self._halt = why
            self.log.warning("remediation_stopped" if why is not None else "remediation_goes_on", detail=why)

    # Life.

    def life(self, event: str, **context: Any) -> None:
        """Started, stopping, stopped: for the log alone."""
        self.log.info(event, **context)
