"""Small correlation rules and records for tests: principals do A, B and C, and a rule watches each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from worker.detect import library
from worker.detect.rulebook import Rulebook
from worker.model import Origin, Record

START = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def plain(name: str, **more: Any) -> dict[str, Any]:
    """A rule that matches the event of its name."""
    searches = {"selection": {"eventSource": "iam.amazonaws.com", "eventName": name}, "condition": "selection"}
    return {"title": f"{name} done", "name": name.lower(), "logsource": {"product": "aws"}, "detection": searches, **more}


def watching(kind: str, *rules: str, title: str = "Together", timespan: str = "10s", **more: Any) -> dict[str, Any]:
    """A correlation of the rules, or of those that its condition names; keys of its section with a hyphen are given with an underscore."""
    section = {
        "type": kind,
        **({"rules": list(rules)} if rules else {}),
        "timespan": timespan,
        **{key.replace("_", "-"): value for key, value in more.items()},
    }
    return {"title": title, "name": title.lower(), "correlation": section}


def book(*documents: Mapping[str, Any]) -> Rulebook:
    """The rulebook of these documents, after the plain rules of A, B and C."""
    every: Sequence[Mapping[str, Any]] = [*(plain(name) for name in "ABC"), *documents]
    return library.build([(f"{number}.yml", json.dumps(one)) for number, one in enumerate(every)])


def record(name: str, second: float, who: str = "mallory", number: int = 0, **more: Any) -> Record:
    """An event `second` seconds after the start. Its number tells it from others that are alike."""
    event = {
        "eventID": f"{name}-{second}-{who}-{number}",
        "eventSource": "iam.amazonaws.com",
        "eventName": name,
        "eventTime": (START + timedelta(seconds=second)).isoformat().replace("+00:00", "Z"),
        "userIdentity": {"type": "IAMUser", "arn": who},
        "requestParameters": {"name": f"n{number}", "size": number},
        **more,
    }
    return Record(event, Origin(path="log.json"))
