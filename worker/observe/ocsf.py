"""A finding in the Open Cybersecurity Schema Framework: Detection Finding, class 2004, schema version 1.3.0.

https://schema.ocsf.io/1.3.0/classes/detection_finding. Pure: a finding's JSON (`dispatch/wire.py`) goes in, an OCSF event comes out. What OCSF has no
attribute for is kept under `unmapped`.

The severity is the finding's own level, which may be lower than its rule's. What a correlation found has a `count`, a `start_time` and an
`end_time`; its events are `related_events` by their CloudTrail event ids, which are also the uids of these events in Security Lake, and
`evidences`. A related event has no time and no name in 1.3, so both are under `unmapped` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

SEVERITY = {
    "informational": (1, "Informational"),
    "low": (2, "Low"),
    "medium": (3, "Medium"),
    "high": (4, "High"),
    "critical": (5, "Critical"),
}
CLASS_UID = 2004
CREATE = 1


def as_ocsf(finding: Mapping[str, Any], version: str, now: datetime) -> dict[str, Any]:
    """The OCSF event for a finding. Times are milliseconds since 1970; an event without a time gets `now`."""
    event, rule, actor, subject = finding["event"], finding["rule"], finding["actor"], finding["subject"]
    severity_id, severity = SEVERITY[finding["level"]]
    correlation: Mapping[str, Any] = finding["correlation"] or {}
    events = correlation.get("events", ())
    time = int(now.timestamp() * 1000) if event["time"] is None else _milliseconds(event["time"])
    user = _known({"type": actor["type"], "name": actor["name"], "uid": actor["arn"], "account": _known({"uid": actor["account"]})})
    evidence = _known(
        {
            "actor": _known({"user": user, "session": _known({"uid": actor["session"], "is_mfa": actor["mfa"]})}),
            "api": _known(
                {
                    "operation": event["name"],
                    "service": {"name": event["source"]},
                    "request": _known({"uid": event.get("request_id")}),
                    "response": _known({"error": event["error_code"]}),
                }
            ),
            "src_endpoint": _known({"ip": actor["source_ip"]}),
            "http_request": _known({"user_agent": actor["user_agent"]}),
        }
    )
    return _known(
        {
            "activity_id": CREATE,
            "activity_name": "Create",
            "category_uid": 2,
            "category_name": "Findings",
            "class_uid": CLASS_UID,
            "class_name": "Detection Finding",
            "type_uid": CLASS_UID * 100 + CREATE,
            "type_name": "Detection Finding: Create",
            "severity_id": severity_id,
            "severity": severity,
            "status_id": 1,
            "status": "New",
            "time": time,
            **_span(correlation),
            "message": rule["title"],
            "metadata": {
                "version": "1.3.0",
                "profiles": ["cloud"],
                "product": {"name": "Trailmend", "vendor_name": "Trailmend", "version": version},
                "original_time": event["time"] or "",
            },
            "cloud": _known({"provider": "AWS", "region": event["region"], "account": _known({"uid": event["account"]})}),
            "finding_info": _known(
                {
                    "uid": finding["id"],
                    "title": rule["title"],
                    "created_time": time,
                    "analytic": {"type_id": 1, "type": "Rule", "uid": rule["id"], "name": rule["title"]},
                    "attacks": [
                        {"technique": {"uid": tag.removeprefix("attack.").upper()}} for tag in rule["tags"] if tag.startswith("attack.t")
                    ],
                    "data_sources": ["AWS CloudTrail"],
                    "related_events": [{"uid": one["id"]} for one in events if one["id"]],
                }
            ),
            "evidences": [one for one in (evidence, *map(_evidence, events[:-1])) if one],
            "resources": [
                _known(
                    {"type": subject["type"], "name": subject["name"], "uid": subject["arn"], "owner": _known({"name": subject["owner"]})}
                )
            ],
            "unmapped": {
                "object": finding["object"],
                "facts": finding["facts"],
                "tasks": finding["tasks"],
                "event_id": event["id"],
                "rule_level": rule["level"],
                "circumstances": finding["circumstances"],
                **({"correlation": correlation} if correlation else {}),
            },
        }
    )


def _span(correlation: Mapping[str, Any]) -> dict[str, Any]:
    """How many events a correlation found, from when to when."""
    if not correlation:
        return {}
    since, until = _milliseconds(correlation["since"]), _milliseconds(correlation["until"])
    return {"count": correlation["count"], "start_time": since, "end_time": until}


def _evidence(event: Mapping[str, Any]) -> dict[str, Any]:
    """One of the events that a correlation found, beside the last."""
    response = _known({"error": event["error_code"]})
    return _known(
        {
            "actor": _known({"user": _known({"uid": event["actor"]})}),
            "api": _known({"operation": event["name"], "service": _known({"name": event["source"]}), "response": response}),
        }
    )


def _milliseconds(stamp: str) -> int:
    return int(datetime.fromisoformat(stamp).timestamp() * 1000)


def _known(members: dict[str, Any]) -> dict[str, Any]:
    """Without what is not known."""
    return {name: value for name, value in members.items() if value not in (None, {}, [], "")}
