"""Findings, tasks and what waits for people as JSON: pure. The schemas in `schemas/` say the same, and a test holds them together.

Times are RFC 3339 in UTC. Everything from a record is data and may hold anything: what is long is cut, so that a message stays one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import resources
from typing import Any

import orjson

from worker.dispatch.plan import Plan
from worker.model import Approval, EnrichedFinding, Fact, Finding, Occurrence, Sighting, Task

TASK_SCHEMA = "trailmend.task/1"
FINDING_SCHEMA = "trailmend.finding/1"
APPROVAL_SCHEMA = "trailmend.approval/1"
MOST_CHARACTERS = 2048
"""Of one text of a record; ARNs and names are shorter."""
MOST_EVENTS = 50
MOST_EVENT_CHARACTERS = 512
MOST_EVENTS_BYTES = 64 * 1024
"""What is told of the events of a correlation: the last ones, and as many as fit. Their number is told whole."""
MOST_STEPS = 50
"""Of a plan that waits. A fleet's may have thousands, and `trailmend tasks show` has them all."""


def schema(name: str) -> dict[str, Any]:
    """A shipped JSON Schema (draft 2020-12): `finding`, `task` or `approval`."""
    text = resources.files("worker.dispatch").joinpath("schemas", f"{name}.schema.json").read_bytes()
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


def finding_as_dict(found: EnrichedFinding, plan: Plan) -> dict[str, Any]:
    """A finding with its facts, and what is and is not asked of the executor.

    `rule.level` is what the rule says, `level` what the `circumstances` leave of it. Where it is not `complete`, an `update` of the same id
    follows, unless it was told by the last receive of its message that is waited for. `correlation` is null where one record made the finding.
    """
    finding = found.finding
    return {
        "schema": FINDING_SCHEMA,
        **_core(finding),
        "level": found.level.value,
        "circumstances": list(found.circumstances),
        "update": found.update,
        "complete": not found.pending,
        "object": finding.record.origin.as_dict(),
        "correlation": None if finding.occurrence is None else _correlation(finding.occurrence),
        "facts": {name: _fact(fact, finding.record.time) for name, fact in sorted(found.facts.items())},
        "tasks": [{"id": task.id, "action": task.action, "target": asdict(task.target)} for task in plan.tasks],
        "withheld": _clipped([asdict(one) for one in plan.withheld]),
    }


def task_as_dict(task: Task, created_at: datetime) -> dict[str, Any]:
    """A task with as much of its finding as an approver and the journal need."""
    return {
        "schema": TASK_SCHEMA,
        "id": task.id,
        "action": task.action,
        "target": asdict(task.target),
        "params": dict(task.params),
        "finding": _core(task.finding.finding),
        "created_at": created_at.isoformat(),
    }


def approval_as_dict(approval: Approval) -> dict[str, Any]:
    """A task that waits, as whoever is to agree needs it: what, for which finding, whom it hits, how it is undone, and what to type."""
    task = approval.task
    told: dict[str, Any] = _clipped(
        {
            "plan": [{"says": step["says"], "irreversible": step["irreversible"]} for step in approval.steps[:MOST_STEPS]],
            "effects": list(approval.effects),
            "undoing": approval.undoing,
        }
    )
    return {
        "schema": APPROVAL_SCHEMA,
        "id": approval.id,
        "action": task["action"],
        "target": task["target"],
        "level": task["finding"]["rule"]["level"],
        "finding": task["finding"],
        **told,
        "steps": len(approval.steps),
        "asked_at": _stamp(approval.asked_at),
        "expires_at": _stamp(approval.expires_at),
        "needed": approval.needed,
        "commands": {name: f"trailmend tasks {name} {approval.id}" for name in ("show", "approve", "reject")},
    }


def _core(finding: Finding) -> dict[str, Any]:
    record, rule = finding.record, finding.rule
    told: dict[str, Any] = _clipped(
        {
            "id": finding.id,
            "rule": {
                "id": rule.id,
                "title": rule.title,
                "level": rule.level.value,
                "tags": list(rule.tags),
                "runbook": rule.runbook,
            },
            "event": {
                "id": record.text("eventID"),
                "name": record.name,
                "source": record.source,
                "time": None if record.time is None else _stamp(record.time),
                "region": record.region,
                "account": record.account,
                "error_code": record.error_code,
                "request_id": record.text("requestID"),
            },
            "actor": asdict(finding.actor),
            "subject": asdict(finding.subject),
        }
    )
    return told


def _correlation(occurrence: Occurrence) -> dict[str, Any]:
    items: dict[str, list[Sighting]] = {}
    for one in occurrence.sightings:
        # The event that completed it stands last, whichever rule saw it first.
        items[one.item] = [*items.pop(one.item, ()), one]
    events: list[dict[str, Any]] = []
    left = MOST_EVENTS_BYTES
    for seen in list(items.values())[: -MOST_EVENTS - 1 : -1]:
        event = _event(seen)
        left -= len(orjson.dumps(event, default=str))
        if events and left < 0:
            break
        events.append(event)
    return {
        "group": _clipped(dict(occurrence.group)),
        "since": _stamp(occurrence.sightings[0].time),
        "until": _stamp(occurrence.sightings[-1].time),
        "count": len(items),
        "events": events[::-1],
    }


def _event(seen: list[Sighting]) -> dict[str, Any]:
    """One event that a correlation counted, and the rules or correlations that saw it."""
    last = seen[-1]
    record = last.record
    told: dict[str, Any] = _clipped(
        {
            "rules": list(dict.fromkeys(one.rule for one in seen)),
            "id": record.text("eventID"),
            "name": record.name,
            "source": record.source,
            "time": _stamp(last.time),
            "account": record.account,
            "error_code": record.error_code,
            "actor": record.text("userIdentity", "arn") or record.text("userIdentity", "invokedBy"),
        },
        MOST_EVENT_CHARACTERS,
    )
    return {**told, "object": record.origin.as_dict()}


def _stamp(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def _clipped(value: Any, most: int = MOST_CHARACTERS) -> Any:
    """The same with no text longer than `most`: a user agent of 200 KB must not keep a finding off its queue."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}… ({len(value)} characters)"
    if isinstance(value, Mapping):
        return {_clipped(name, most): _clipped(one, most) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clipped(one, most) for one in value]
    return value


def _fact(fact: Fact, event_time: datetime | None) -> Mapping[str, Any]:
    skew = None if event_time is None else (fact.observed_at - event_time).total_seconds()
    return {
        "value": _clipped(fact.value),
        "status": fact.status.value,
        "observed_at": fact.observed_at.isoformat(),
        "source": fact.source.value,
        "skew_seconds": skew,
        "reason": _clipped(fact.reason),
        "pending": fact.pending,
    }
