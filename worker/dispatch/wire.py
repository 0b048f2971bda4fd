"""Findings and tasks as JSON: pure. The schemas in `schemas/` say the same, and a test holds them together.

Times are RFC 3339 in UTC. Everything from a record is data and may hold anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from importlib import resources
from typing import Any

import orjson

from worker.dispatch.plan import Plan
from worker.model import EnrichedFinding, Fact, Finding, Task

TASK_SCHEMA = "trailmend.task/1"
FINDING_SCHEMA = "trailmend.finding/1"
MOST_CHARACTERS = 2048
"""Of one text of a record; ARNs and names are shorter."""


def schema(name: str) -> dict[str, Any]:
    """A shipped JSON Schema (draft 2020-12): `finding` or `task`."""
    text = resources.files("worker.dispatch").joinpath("schemas", f"{name}.schema.json").read_bytes()
    loaded: dict[str, Any] = orjson.loads(text)
    return loaded


def finding_as_dict(found: EnrichedFinding, plan: Plan) -> dict[str, Any]:
    """A finding with its facts, and what is and is not asked of the executor."""
    finding = found.finding
    return {
        "schema": FINDING_SCHEMA,
        **_core(finding),
        "object": finding.record.origin.as_dict(),
        "facts": {name: _fact(fact) for name, fact in sorted(found.facts.items())},
        "tasks": [{"id": task.id, "action": task.action, "target": asdict(task.target)} for task in plan.tasks],
        "withheld": [asdict(one) for one in plan.withheld],
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
                "time": None if record.time is None else record.time.isoformat().replace("+00:00", "Z"),
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


def _clipped(value: Any) -> Any:
    """The same with no text longer than `MOST_CHARACTERS`: a user agent of 200 KB must not keep a finding off its queue."""
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}… ({len(value)} characters)"
    if isinstance(value, Mapping):
        return {name: _clipped(one) for name, one in value.items()}
    return value


def _fact(fact: Fact) -> Mapping[str, Any]:
    return {
        "value": fact.value,
        "status": fact.status.value,
        "observed_at": fact.observed_at.isoformat(),
        "source": fact.source.value,
        "reason": fact.reason,
    }
