"""The demo's judgement: it believes nothing but the findings, tasks and queues it sees, and prints them without obeying them."""

import copy
import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from worker.local.block import block, plain
from worker.local.outcome import Outcome, explained, missing, totals
from worker.local.report import show
from worker.local.story import BATCH, FLEET, Cast, Instance, Story, tell

CAST = Cast("AIDA1", "AKIA2", "AROA1", "AIPA1", (Instance("i-1", "us-east-1", "web-1"),), "AROA2", "AROA3", "AIPA2", "AIPA3")


def story() -> Story:
    return tell(1, datetime(2026, 7, 7, 14, 2, 33, tzinfo=UTC), CAST)


def known(value: Any) -> dict[str, Any]:
    return {"value": value, "status": "known"}


def finding(number: int, event_id: str, level: str = "high", **members: Any) -> dict[str, Any]:
    return {
        "id": f"finding-{number}",
        "rule": {"id": "r", "title": f"Title {number}", "level": level},
        "level": level,
        "circumstances": [],
        "event": {"id": event_id, "name": "DeleteInstanceProfile", "time": "2026-07-07T13:00:00Z", "account": "111122223333"},
        "actor": {"type": "IAMUser", "name": "ci-legacy", "arn": f"arn:{number}", "mfa": False},
        "subject": {"type": "instance-profile", "name": FLEET},
        "correlation": None,
        "facts": {},
        "tasks": [],
        "withheld": [],
        **members,
    }


def as_told() -> Outcome:
    """An outcome in which everything is as the story has it."""
    told = story().told
    attack = [finding(number, scene.event_id) for number, scene in enumerate(told.attack)]
    attack[-1]["facts"] = {
        "instances": known({"instances": [{"id": "i-1", "region": "us-east-1", "state": "running"}]}),
        "permissions": known({"administrator": {"is": True, "because": "AdministratorAccess of user ci-legacy allows everything"}}),
        "dependents": known(
            {"dependents": [{"kind": kind, "name": FLEET, "region": "us-east-1"} for kind in ("auto-scaling-group", "launch-template")]}
        ),
        "impact": known({"band": "1-10", "complete": True, "running": 1, "stopped": 2, "launches": 1, "unused": False}),
    }
    told_at = {"since": "2026-07-07T12:50:00Z", "until": "2026-07-07T13:00:00Z"}
    events = [{"id": scene.event_id, "name": "X", "account": None, "actor": None} for scene in (told.attack[0], told.deed)]
    steps = {**told_at, "events": events, "count": 2}
    chain = finding(98, told.deed.event_id, level="critical", correlation=steps)
    honest = finding(99, told.honest_deed.event_id, level="low", withheld=[{"action": "restore-instance-profile", "reason": "it is back"}])
    honest["rule"]["level"] = "high"
    honest["facts"] = {"authorised": known({"authorised": True, "because": "of a list"}), "replaced": known({"replaced": True})}
    honest["circumstances"] = ["authorised", "replaced"]
    restore = {
        "action": "restore-instance-profile",
        "target": {"type": "instance-profile", "name": FLEET, "account": "111122223333"},
        "params": {"role": FLEET},
        "finding": {"event": {"id": told.deed.event_id}},
    }
    deactivate = {"action": "deactivate-access-key", "target": {"type": "access-key", "name": "AKIA2", "account": "111122223333"}}
    return Outcome([*attack, honest, chain], [restore, deactivate], 0, {}, 1.0)


def test_nothing_is_missing_when_all_is_as_told():
    """The judgement is silent on an outcome that has everything."""
    assert missing(as_told(), story()) == []


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda findings, tasks: findings.pop(0), "signs in without MFA"),
        (lambda findings, tasks: findings.append(findings[0]), "told more than once"),
        (lambda findings, tasks: findings[5]["facts"].clear(), "does not name instance web-1"),
        (lambda findings, tasks: findings[5]["facts"].pop("permissions"), "is an administrator"),
        (lambda findings, tasks: findings[5]["facts"]["dependents"]["value"]["dependents"].pop(0), "Auto Scaling group"),
        (lambda findings, tasks: findings[5]["facts"]["dependents"]["value"]["dependents"].pop(1), "launch template"),
        (lambda findings, tasks: findings[5]["facts"]["impact"].update(status="unknown"), "1-10 running instances"),
        (lambda findings, tasks: findings[5]["circumstances"].append("authorised"), "harmless"),
        (lambda findings, tasks: findings[6]["facts"].pop("authorised"), "was authorised"),
        (lambda findings, tasks: findings[6]["facts"]["replaced"].update(status="unknown"), "was put back"),
        (lambda findings, tasks: findings[6]["withheld"].clear(), "not withheld"),
        (lambda findings, tasks: findings.pop(6), f"replaces {BATCH}"),
        (lambda findings, tasks: findings[6].update(level="high"), "call somebody out for an honest deed"),
        (lambda findings, tasks: findings.pop(7), "steps together"),
        (lambda findings, tasks: findings[7].update(level="high"), "steps together"),
        (lambda findings, tasks: tasks.pop(0), f"restores {FLEET}"),
        (lambda findings, tasks: tasks[0]["finding"]["event"].update(id="another"), f"restores {FLEET}"),
        (lambda findings, tasks: tasks[0]["params"].clear(), "held the role"),
        (lambda findings, tasks: tasks.pop(1), "new access key"),
        (lambda findings, tasks: tasks.append({**tasks[0], "target": {"name": BATCH}}), "needs no restoring"),
    ],
)
def test_whatever_is_missing_is_named(spoil, complaint):
    """Each thing the story promises is missed by its name when it is not there."""
    outcome = as_told()
    findings, tasks = copy.deepcopy(list(outcome.findings)), copy.deepcopy(list(outcome.tasks))
    spoil(findings, tasks)
    lost = missing(Outcome(findings, tasks, 0, {}, 1.0), story())
    assert any(complaint in line for line in lost), lost


def test_dead_letters_are_missed():
    """A message on the dead-letter queue spoils the outcome."""
    told = as_told()
    assert missing(Outcome(told.findings, told.tasks, 2, {}, 1.0), story()) == ["2 messages went to the dead-letter queue"]


def test_totals_sum_over_labels():
    """A sample's total is over all its labels."""
    text = '# TYPE a_total counter\na_total{x="1"} 2.0\na_total{x="2"} 3.0\n# TYPE b gauge\nb 7.0\n'
    assert totals(text) == {"a_total": 5.0, "b": 7.0}


@pytest.mark.parametrize(
    ("circumstances", "harmless"),
    [([], False), (["documented"], False), (["authorised"], True), (["documented", "replaced"], True), (["dry-run"], True), (None, False)],
)
def test_what_explains_a_finding_is_among_its_circumstances(circumstances, harmless):
    """Whoever may, what was put back and what was only tried need nobody; a change that is merely named explains nothing."""
    assert explained(finding(1, "e", circumstances=circumstances)) is harmless


def printed(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), width=100)
    show(console, outcome, "http://127.0.0.1:1/metrics")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert isinstance(text, str)
    return text


def test_attack_and_replacement_are_told_apart():
    """The attacker's findings come under what to wake up for, the replacement under what explained itself."""
    text = printed(as_told())
    alarming, harmless = text.split("What explained itself")
    assert alarming.count("Title ") == 7
    assert "What to wake up for (7)" in alarming
    assert "Title 99" in harmless
    assert "it is back" in harmless
    assert max(map(len, text.splitlines())) <= 100


def test_what_its_circumstances_made_small_is_shown_as_explained():
    """A high finding that is low by its circumstances stands under what explained itself, with the level that is left."""
    lowered = finding(1, "a", level="low", rule={"id": "r", "title": "Title 1", "level": "high"}, circumstances=["documented"])
    alarming, harmless = printed(Outcome([lowered], [], 0, {}, 1.0)).split("What explained itself (1)")
    assert "What to wake up for (0)" in alarming
    assert " low " in harmless
    assert "Title 1" in harmless


def test_what_a_correlation_found_is_told_with_it():
    """The events that were found together stand in the finding's block."""
    event = {"name": "DeleteInstanceProfile", "actor": "arn:1", "account": "111122223333"}
    found = {"since": "2026-07-07T13:00:00Z", "until": "2026-07-07T13:03:10Z", "count": 2, "events": [event, event]}
    text = printed(Outcome([finding(1, "a", correlation=found)], [], 0, {}, 1.0))
    assert "2 events in 3 min 10 s: DeleteInstanceProfile x2" in text


def wide(**impact: Any) -> str:
    """The line that tells how far it reaches."""
    value = {"band": "11-100", "complete": True, "running": 12, "pending": 1, "stopped": 3, "launches": 2, "unused": False, **impact}
    lines = printed(Outcome([finding(1, "a", facts={"impact": known(value)})], [], 0, {}, 1.0)).splitlines()
    return next((" ".join(line.split()) for line in lines if line.split()[:1] == ["impact"]), "")


@pytest.mark.parametrize(
    ("impact", "line"),
    [
        ({}, "impact 12 running (band 11-100), 1 pending, 3 stopped, 2 to fail at the next launch"),
        (
            {"complete": False, "pending": 0, "stopped": 0},
            "impact at least 12 running (band 11-100), at least 2 to fail at the next launch",
        ),
        ({"launches": None, "pending": 0, "stopped": 0}, "impact 12 running (band 11-100)"),
        ({"band": "0", "running": 0, "unused": True}, "impact nothing depends on it"),
        ({"band": None}, ""),
    ],
)
def test_how_far_it_reaches_is_told_in_a_line(impact, line):
    """In numbers, the least there can be where not all is known, and not at all where nothing is."""
    assert wide(**impact) == line


def test_what_launches_with_a_profile_is_told_by_its_usual_name():
    """An EKS node group is called one."""
    listed = [{"kind": "eks-node-group", "name": "prod/workers", "region": "eu-west-1"}]
    text = printed(Outcome([finding(1, "a", facts={"dependents": known({"dependents": listed})})], [], 0, {}, 1.0))
    assert "EKS node group prod/workers (eu-west-1)" in text


def test_small_things_are_summed_up_unless_in_bad_company():
    """Informational findings are one line; a failed try stands beside the greater deed of the same actor."""
    same: dict[str, Any] = {"actor": {"arn": "arn:1"}}
    another: dict[str, Any] = {"actor": {"arn": "arn:2"}}
    findings = [
        finding(1, "a", **same),
        finding(2, "b", "low", **same),
        finding(3, "c", "low", **another),
        finding(4, "d", "informational", **same),
    ]
    text = printed(Outcome(findings, [], 0, {}, 1.0))
    assert "What to wake up for (2)" in text
    assert "Worth a record (2)" in text


def test_what_an_actor_can_do_and_who_is_behind_it_is_told_once():
    """Password, devices, keys with their age, its power and the chain of its session, at its first appearance."""
    key = {"id": "AKIA1", "status": "Active", "age_seconds": 90, "made_after_event": True}
    facts = {
        "user": known({"console_password": {"exists": True}, "mfa_devices": [], "access_keys": [key]}),
        "permissions": known({"administrator": {"is": True, "because": "AdministratorAccess of user eve allows everything"}}),
        "session": known({"chain": [{"type": "AssumedRole", "name": "ci", "session": "run"}, {"type": "IAMUser", "name": "eve"}]}),
    }
    facts["identity"] = known({"words": "role deploy, session run"})
    text = " ".join(printed(Outcome([finding(1, "a", facts=facts), finding(1, "a", facts=facts)], [], 0, {}, 1.0)).split())
    assert "role deploy, session run, from ? with ?" in text
    assert "1 active access key (AKIA1: 1 min 30 s old, made after this)" in text
    assert text.count("do everything: AdministratorAccess of user eve allows everything") == 1
    assert text.count("AssumedRole ci (run) < IAMUser eve") == 1


@pytest.mark.parametrize(
    ("permissions", "said"),
    [
        ({"administrator": {"is": False}, "can_escalate": ["iam:PutUserPolicy"]}, "become an administrator by iam:PutUserPolicy"),
        ({"administrator": {"is": False}, "can_escalate": []}, "nothing of an administrator"),
        (
            {"administrator": {"is": None, "because": "P could not be read"}, "can_escalate": []},
            "perhaps do everything: P could not be read",
        ),
    ],
)
def test_the_power_of_an_actor_is_told_in_words(permissions, said):
    """An administrator, one who could become one, none, and one nobody knows about."""
    assert said in printed(Outcome([finding(1, "a", facts={"permissions": known(permissions)})], [], 0, {}, 1.0))


def test_records_cannot_command_the_terminal():
    """What an attacker wrote is printed as text: no escape sequence, no markup, no new line."""
    assert plain("a\x1b[2Jb\nc\u202ed") == "a\ufffd[2Jb\ufffdc\ufffdd"
    evil = finding(1, "e", subject={"type": "user", "name": "[red]\x1b]0;owned\x07[/red]"})
    text = printed(Outcome([evil], [], 0, {}, 1.0))
    assert "\x1b" not in text
    assert "[red]" in text


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"rule": None, "facts": [], "event": None},
        {"facts": {"user": known({"access_keys": [None], "mfa_devices": 3})}},
        {"facts": {"permissions": known({"administrator": True, "can_escalate": 3}), "session": known({"chain": [None, {}]})}},
        {"facts": {"dependents": known({"dependents": [None, {}]}), "impact": known({"band": "1-10"})}},
    ],
)
def test_a_finding_with_anything_missing_is_printed(odd):
    """Whatever a finding lacks, the rest of the report is printed."""
    assert "Figures" in printed(Outcome([odd], [{}], 0, {}, 0.0))


def test_no_row_of_a_block_can_move_the_cursor() -> None:
    """Names of events are somebody else's text too, also those that a correlation counted."""
    event = {"name": "\x1b[2JDelete", "actor": "a", "account": "1"}
    correlation = {"events": [event], "count": 1, "since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}
    written = io.StringIO()
    console = Console(file=written, width=200)
    console.print(block({"correlation": correlation, "level": "high"}, set()))
    told = written.getvalue()
    assert "Delete" in told
    assert "\x1b" not in told
