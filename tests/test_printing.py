"""Findings for people: the level that counts, why it is not the rule's, and what was found together, in few words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tests.fakes import NOON
from tests.occurrences import deletion, finding, together
from worker.dispatch import wire
from worker.dispatch.plan import plan
from worker.model import EnrichedFinding, Fact, FactSource, FactStatus, Finding, Level, Rule
from worker.printing import duration, print_findings, remarks
from worker.printing import together as in_words

CALM = Rule("r", "A calm rule", Level.HIGH, level_when={"authorised": Level.LOW, "replaced": Level.LOW})


def told(of: Finding, **facts: Any) -> dict[str, Any]:
    known = {name: Fact(name, FactStatus.KNOWN, value, NOON, FactSource.EVENT) for name, value in facts.items()}
    found = EnrichedFinding(of, known)
    return wire.finding_as_dict(found, plan(found))


def correlated(*records: Any) -> str:
    return in_words(told(together(records))["correlation"])


def test_the_table_shows_and_counts_the_level_that_is_left():
    """Three deletions by one rule, one by somebody who may and one that was a dry run, are not three high findings."""
    stream = io.StringIO()
    findings = [
        told(finding(deletion(1), CALM)),
        told(finding(deletion(2), CALM), authorised={"authorised": True, "because": "of a list"}),
        told(finding(deletion(3, errorCode="Client.DryRunOperation"), CALM)),
    ]
    print_findings(findings, "table", stream, NOON)
    text = stream.getvalue()
    assert "3 findings: 1 high, 1 low, 1 informational" in text
    assert [line.split()[2] for line in text.splitlines() if line.startswith("2026-")] == ["high", "low", "info"]


def test_a_lowered_level_says_why():
    """The rule's own level and every circumstance come first."""
    back = {"replaced": True, "same_role": True, "same_principal": True, "after_seconds": 2.0}
    said = remarks(told(finding(deletion(1), CALM), replaced=back, authorised={"authorised": True, "because": "of a list"}))
    assert said == ["high by its rule, but authorised and replaced", "made again 2 s later", "authorised: of a list"]
    assert remarks(told(finding(deletion(1), CALM))) == []


def test_a_raised_level_says_why():
    """What raised it, and not the circumstances that the rule has no level for; where it is lowered, not what would have raised it."""
    rule = Rule("r", "A loud rule", Level.HIGH, level_when={"wide": Level.CRITICAL, "authorised": Level.LOW})
    wide = {"impact": {"wide": True}}
    assert remarks(told(finding(deletion(1), rule), **wide))[0] == "high by its rule, but wide"
    lowered = remarks(told(finding(deletion(1), rule), **wide, authorised={"authorised": True, "because": "of a list"}))
    assert lowered[0] == "high by its rule, but authorised"


def test_a_dry_run_is_not_called_a_failure():
    """It says that nothing was changed, and nothing of a call that failed."""
    said = remarks(told(finding(deletion(1, errorCode="Client.DryRunOperation"), CALM)))
    assert said == ["high by its rule, but dry-run", "dry run: nothing was changed"]
    assert remarks(told(finding(deletion(1, errorCode="AccessDenied"), CALM))) == ["failed: AccessDenied"]


@pytest.mark.parametrize(
    ("permissions", "said"),
    [
        ({"administrator": {"is": True}, "can_escalate": ["iam:PutUserPolicy"]}, ["the caller can do everything"]),
        (
            {"administrator": {"is": False}, "can_escalate": [f"iam:{n}" for n in range(7)]},
            ["the caller can become an administrator by iam:0, iam:1, iam:2, iam:3, iam:4 and 2 more"],
        ),
        ({"administrator": {"is": None}, "can_escalate": []}, []),
    ],
)
def test_who_may_do_everything_is_remarked(permissions, said):
    """An administrator, or who could become one; nothing is said of others, nor of whom nothing is known."""
    assert remarks(told(finding(deletion(1)), permissions=permissions)) == said


def test_who_is_behind_a_session_is_remarked():
    """The chain in one line, the nearest first, without what a terminal would obey."""
    chain = [{"type": "AssumedRole", "name": "ci", "session": "run"}, {"type": "IAMUser", "name": "e\x1bve", "arn": None}]
    assert remarks(told(finding(deletion(1)), session={"chain": chain})) == ["behind it AssumedRole ci (run) < IAMUser e\ufffdve"]
    assert remarks(told(finding(deletion(1)), session={"chain": []})) == []


@pytest.mark.parametrize(
    ("how", "said"),
    [({"same_role": False}, "made again without its role"), ({"same_principal": False}, "made again by another principal")],
)
def test_a_profile_that_did_not_come_back_as_it_was_says_so(how, said):
    """What does not lower the level is told with its flaw."""
    assert remarks(told(finding(deletion(1)), replaced={"replaced": True, "same_role": True, **how})) == [said]


def test_what_was_found_together_is_told_in_a_line():
    """How many events within what time, which, and by how many in how many accounts where that is more than one."""
    assert correlated(deletion(1), deletion(2, second=191)) == "2 events in 3 min 10 s: DeleteInstanceProfile x2"
    assert correlated(deletion(1)) == "1 event in 0 s: DeleteInstanceProfile"
    mixed = (deletion(1), deletion(2, eventName="DeleteRole", who="alice"), deletion(3, account="444455556666"))
    assert correlated(*mixed) == "3 events in 2 s: DeleteInstanceProfile x2, DeleteRole, by 3 principals, in 2 accounts"


def test_of_many_events_it_says_which_it_tells_of():
    """The names are those of the last fifty, the count is that of all; of many names the most frequent are told."""
    assert correlated(*(deletion(number) for number in range(60))) == "60 events in 59 s, the last 50: DeleteInstanceProfile x50"
    many = correlated(*(deletion(number, eventName=f"Do{number}") for number in range(7)))
    assert many == "7 events in 6 s: Do0, Do1, Do2, Do3, Do4 and 2 more"


def test_a_correlation_stands_in_the_table():
    """Its line is among the remarks, and no control character of a record's gets out."""
    stream = io.StringIO()
    print_findings([told(together([deletion(1), deletion(2, eventName="Do\x1b[2J")]))], "table", stream, NOON)
    assert "2 events in 1 s" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.6, "1 min"),
        (190, "3 min 10 s"),
        (3600, "1 h"),
        (3601, "1 h"),
        (90_061, "1 d 1 h"),
        (86_400 * 366, "366 d"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds, text):
    """What comes after a unit that is nothing is left out too."""
    assert duration(seconds) == text
