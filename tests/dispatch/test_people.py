"""People read what happened in a few lines, and nothing that a record says can call everybody or break the lines."""

from __future__ import annotations

import json
import logging
from typing import Any

import orjson
import pytest

from tests.conftest import free_port
from tests.dispatch.receiver import receiving
from worker.addresses import Address
from worker.dispatch import brief
from worker.dispatch.people import PeopleSink
from worker.model import Outgoing

FINDING: dict[str, Any] = {
    "id": "f-1",
    "rule": {"title": "Instance profile deleted", "runbook": "docs/runbooks.md#instance-profile-deleted"},
    "level": "critical",
    "circumstances": ["wide"],
    "update": 0,
    "complete": False,
    "event": {"name": "DeleteInstanceProfile", "time": "2026-11-23T12:00:00Z", "account": "111122223333", "error_code": None},
    "actor": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/mallory", "source_ip": "198.51.100.7", "mfa": False},
    "subject": {"type": "instance-profile", "name": "web", "account": "111122223333"},
    "correlation": None,
    "facts": {"impact": {"value": {"band": "11-100", "running": 12}}, "identity": {"value": {"words": "IAM user mallory"}}},
    "tasks": [{"action": "restore-instance-profile"}],
    "withheld": [{"action": "reattach-role", "reason": "the profile itself is gone"}],
}


def item(finding: dict[str, Any] = FINDING) -> Outgoing:
    return Outgoing("f-1", "g", orjson.dumps(finding))


def test_a_finding_says_how_bad_who_what_with_what_impact_and_what_next():
    """In the order in which whoever is woken asks."""
    assert brief.title(FINDING) == "CRITICAL Instance profile deleted: web in 111122223333"
    assert brief.text(FINDING).splitlines() == [
        "Who: IAM user mallory",
        "From: 198.51.100.7, without MFA",
        "What: DeleteInstanceProfile on instance-profile web at 2026-11-23T12:00:00Z",
        "Impact: 12 running instances depend on it",
        "Circumstances: wide",
        (
            "Next: restore-instance-profile was asked of the executor; reattach-role was withheld, the profile itself is gone; "
            "facts are still being asked for, an update follows"
        ),
        "Runbook: docs/runbooks.md#instance-profile-deleted",
        "Finding: f-1",
    ]


def test_an_update_and_a_correlation_say_so():
    """Whoever has read the first knows that this is no second event."""
    told = {**FINDING, "update": 1, "correlation": {"count": 7}, "facts": {}}
    assert brief.title(told).startswith("Update: CRITICAL")
    assert "Together: 7 events" in brief.text(told)
    assert "Who: IAMUser arn:aws:iam::111122223333:user/mallory" in brief.text(told)


@pytest.mark.parametrize("word", ["@channel", "@Here", "@everyone", "<!channel>", "a\nRunbook: http://evil", "\u202eevil", "x" * 5000])
def test_what_a_record_says_stays_words(word):
    """A session's name calls nobody, begins no line and hides nothing."""
    told = {**FINDING, "subject": {"type": "role", "name": word}, "facts": {}, "actor": {"type": word, "arn": word}}
    text = f"{brief.title(told)}\n{brief.text(told)}"
    assert not [call for call in ("@channel", "@here", "@everyone", "<", ">", "\u202e") if call in text.lower()]
    assert len([line for line in text.splitlines() if line.startswith("Runbook")]) == 1
    assert len(text) < 2000


def test_a_finding_of_nothing_at_all_can_be_told():
    """Whatever is missing is left out."""
    assert brief.title({})
    assert brief.text({}).startswith("What: ")


async def test_people_are_told_through_apprise():
    """The title, the text and how bad it is, to whatever stands behind the URL."""
    async with receiving() as receiver:
        assert await PeopleSink("oncall", receiver.url.replace("http://", "json://")).put([item()]) == {}
    ((_, body),) = receiver.taken
    told = json.loads(body)
    assert (told["title"], told["message"], told["type"]) == (brief.title(FINDING), brief.text(FINDING), "failure")


async def test_a_service_that_is_down_takes_nothing_and_no_credential_is_told(caplog, capfd):
    """Neither in the reason nor in the key nor in any log."""
    sink = PeopleSink("oncall", f"json://user:t0ken@127.0.0.1:{free_port()}/t0ken")
    with caplog.at_level(logging.DEBUG):
        failed = await sink.put([item()])
    assert failed.keys() == {"f-1"}
    told = [failed["f-1"], sink.key, repr(Address("oncall", "json://t0ken", people=True)), *capfd.readouterr()]
    told += [record.getMessage() for record in caplog.records if record.name.startswith("apprise")]
    assert not [text for text in told if "t0ken" in text]
    assert sink.key == "people:oncall"
