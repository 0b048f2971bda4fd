"""What a demo's executor came to is held against AWS: whatever is not as told is named."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from worker.local.mended import Mended, unmended
from worker.local.story import FLEET, FLEET_PATH, FLEET_TAGS, Cast, Instance
from worker.model import JournalEntry
from worker.remediate.history import History

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
CAST = Cast("u", "AKIANEW", "r", "p", (Instance("i-1", "us-east-1", "web-1"), Instance("i-2", "eu-west-1", "web-2")), "d", "b", "bp", "nbp")
PROFILE = {
    "InstanceProfileId": "AIPANEW",
    "Path": FLEET_PATH,
    "Roles": [{"RoleName": FLEET}],
    "Tags": [{"Key": key, "Value": value} for key, value in FLEET_TAGS.items()],
}


def history(action: str, *outcomes: str) -> History:
    return History(action, tuple(JournalEntry(action, NOW, outcome, {"task": {"action": action}}) for outcome in outcomes))


GOOD = Mended(
    tasks=[
        history("deactivate-access-key", "started", "applied"),
        history("enforce-mfa", "shadowed"),
        history("restore-instance-profile", "waiting", "started", "applied"),
    ],
    profile=PROFILE,
    fleet={"i-1": "AIPANEW", "i-2": "AIPANEW"},
    key="Inactive",
    policies=[],
    journal="6 lines",
    shown="",
    statuses={"the executor": 0},
)


def test_nothing_is_missing_where_all_came_out_as_told() -> None:
    """A restored fleet, an inactive key, an untouched user."""
    assert unmended(GOOD, CAST) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"profile": None}, "was not made again"),
        ({"profile": {**PROFILE, "Roles": []}}, "has not its role, path and tags"),
        ({"profile": {**PROFILE, "Tags": []}}, "has not its role, path and tags"),
        ({"profile": {**PROFILE, "Path": "/"}}, "has not its role, path and tags"),
        ({"fleet": {"i-1": "AIPANEW", "i-2": "AIPAOLD"}}, "web-2 (i-2) does not use"),
        ({"fleet": {"i-2": "AIPANEW"}}, "web-1 (i-1) does not use"),
        ({"key": "Active"}, "is Active, and not inactive"),
        ({"key": None}, "is gone, and not inactive"),
        ({"policies": ["TrailmendEnforceMfa"]}, "was touched"),
        ({"tasks": GOOD.tasks[1:]}, "deactivate-access-key: nothing, and not started, applied"),
        ({"tasks": [*GOOD.tasks[:2], history("restore-instance-profile", "started", "applied")]}, "and not waiting, started, applied"),
        ({"statuses": {"tasks verify-journal": 1}}, "tasks verify-journal ended with status 1"),
    ],
)
def test_whatever_is_not_as_told_is_named(changed: dict[str, Any], words: str) -> None:
    """One thing at a time."""
    (told,) = unmended(replace(GOOD, **changed), CAST)
    assert words in told
