"""A suppression holds for exactly what it says, by the events' own times; what is not said clearly is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.detect.reading import read as read_rules
from tests.occurrences import ACCOUNT, DELETED, STORM, deletion, finding, together
from worker.detect import document, library, suppression
from worker.detect.suppression import Suppression
from worker.model import Finding, Origin, Record

GOOD: dict[str, Any] = {"id": "old-fleet", "principal": "*:user/mallory", "until": "2026-11-30", "reason": "CHG1"}


def read(*told: Any) -> tuple[list[Suppression], list[str]]:
    """The suppressions of a document, and its faults."""
    (doc,), wrong = document.read("s.yml", json.dumps({"suppressions": list(told)}))
    assert not wrong
    found = list(suppression.read(doc))
    suppression.distinct(found)
    return found, [str(fault) for fault in doc.faults]


def one(**more: Any) -> Suppression:
    """The good one, with other members; None takes one away."""
    (found,), faults = read({key: value for key, value in (GOOD | more).items() if value is not None})
    assert not faults
    return found


def session(arn: str, issuer: str | None = None, kind: str = "AssumedRole") -> dict[str, Any]:
    return {"type": kind, "arn": arn, "sessionContext": {"sessionIssuer": {"arn": issuer} if issuer else {}}}


@pytest.mark.parametrize(
    ("members", "holds"),
    [
        ({}, True),
        ({"principal": "arn:aws:iam::*:user/MALLORY"}, True),
        ({"principal": "mallory"}, True),
        ({"principal": "mall"}, False),
        ({"principal": "arn:aws:iam::*:user/alice"}, False),
        ({"principal": "*[m]allory"}, False),
        ({"account": ACCOUNT}, True),
        ({"account": int(ACCOUNT)}, True),
        ({"account": "1111*"}, True),
        ({"account": "444455556666"}, False),
        ({"name": "P?"}, True),
        ({"name": "p"}, False),
        ({"principal": None, "name": "p*"}, True),
        ({"principal": None, "name": "q*"}, False),
    ],
)
def test_all_that_is_given_must_fit(members: dict[str, Any], holds: bool) -> None:
    """Principal (ARN or name), account and name of what was acted on, as globs without regard to case."""
    assert one(**members).holds(finding(deletion(1))) is holds


@pytest.mark.parametrize(
    ("identity", "principal", "holds"),
    [
        (
            session(f"arn:aws:sts::{ACCOUNT}:assumed-role/build/run-7", f"arn:aws:iam::{ACCOUNT}:role/ci/build"),
            "arn:aws:iam::*:role/*build",
            True,
        ),
        (session(f"arn:aws:sts::{ACCOUNT}:assumed-role/build/run-7"), "arn:aws:sts::*:assumed-role/build/*", True),
        (session(f"arn:aws:sts::{ACCOUNT}:assumed-role/build/run-7"), "build", True),
        (session(f"arn:aws:sts::{ACCOUNT}:assumed-role/evil/build"), "build", False),
        (
            session(f"arn:aws:sts::{ACCOUNT}:assumed-role/evil/x", f"arn:aws:iam::{ACCOUNT}:role/a:role/build"),
            "arn:aws:iam::*:role/build",
            False,
        ),
        (session(f"arn:aws:sts::{ACCOUNT}:federated-user/build", kind="FederatedUser"), "build", False),
        ({"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com"}, "autoscaling.amazonaws.com", True),
        ({}, "*a*", False),
    ],
)
def test_a_principal_is_its_arn_its_role_or_its_name_and_nothing_it_chose_itself(
    identity: dict[str, Any], principal: str, holds: bool
) -> None:
    """A session's or a path's wording does not pass for the role that a suppression means."""
    assert one(principal=principal).holds(finding(deletion(1, userIdentity=identity))) is holds


@pytest.mark.parametrize(
    ("span", "time", "holds"),
    [
        ({"until": "2026-11-23"}, "2026-11-23T23:59:59Z", True),
        ({"until": "2026-11-23"}, "2026-11-24T00:00:00Z", False),
        ({"until": "2026-11-23"}, "2026-11-24T00:30:00+01:00", True),
        ({"until": "2026-11-23T12:00Z"}, "2026-11-23T11:59:59Z", True),
        ({"until": "2026-11-23T12:00:00+02:00"}, "2026-11-23T10:00:00Z", False),
        ({"until": "2026-11-23 12:00"}, "2026-11-23T12:00:00Z", False),
        ({"since": "2026-11-23", "until": "2026-11-23"}, "2026-11-23T00:00:00Z", True),
        ({"since": "2026-11-23", "until": "2026-11-23"}, "2026-11-22T23:59:59Z", False),
        ({"until": "2026-11-23"}, "2025-11-23T00:00:00Z", True),
        ({"until": "2026-11-23"}, "2025-11-22T23:59:59Z", False),
        ({"until": "2026-11-23"}, "yesterday", False),
    ],
)
def test_it_holds_by_the_time_of_the_event(span: dict[str, str], time: str, holds: bool) -> None:
    """To the end of its last day in UTC, from its first or 366 days before the end; an event without a time is never suppressed."""
    assert one(**span).holds(finding(deletion(1, eventTime=time))) is holds


def test_for_a_correlation_every_event_must_fit() -> None:
    """What one principal did cannot hide behind what another may: neither as the last event nor as an earlier one."""
    mine, yours = [deletion(number) for number in range(3)], deletion(3, who="alice")
    assert one().holds(together(mine))
    assert not one().holds(together([*mine, yours]))
    assert not one().holds(together([yours, *(deletion(number) for number in range(4, 6))]))
    early = deletion(9, second=-86_400)
    assert not one(since="2026-11-23").holds(together([early, *mine]))


def test_the_first_that_holds_is_told() -> None:
    """Suppressions stand in order, and one that does not hold stops none behind it."""
    gone, holds, also = one(id="gone", until="2026-11-01"), one(id="holds"), one(id="also")
    assert suppression.first([gone, holds, also], finding(deletion(1))) is holds
    assert suppression.first([gone], finding(deletion(1))) is None


def test_it_is_for_the_rules_that_it_names() -> None:
    """By id, name or title, once they are followed; without rules it is for every one."""
    named = suppression.resolve(one(rules=["Many deleted"]), {"Many deleted": STORM.id})
    other = suppression.resolve(one(rules=["Another"]), {"Another": DELETED})
    assert named.holds(finding(deletion(1)))
    assert not other.holds(finding(deletion(1)))
    assert suppression.resolve(one(), {}).rules is None


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"id": None}, "needs an id"),
        ({"id": "Old Fleet"}, "needs an id"),
        ({"id": "x" * 65}, "needs an id"),
        ({"id": "old-fleet\n"}, "needs an id"),
        ({"id": 7}, "needs an id"),
        ({"reason": None}, "needs its reason"),
        ({"reason": " "}, "needs its reason"),
        ({"principal": ""}, "principal must be text"),
        ({"principal": 12}, "principal must be text"),
        ({"principal": "x" * 2000}, "1024 characters"),
        ({"name": 2026}, "name must be text"),
        ({"account": 12345}, "twelve digits"),
        ({"account": "1111-2222-3333"}, "twelve digits"),
        ({"account": "111122223333*4"}, "twelve digits"),
        ({"account": True}, "account must be text"),
        ({"rules": []}, "rules must be a list"),
        ({"rules": [7]}, "rules must be a list"),
        ({"rules": {"a": 1}}, "rules must be a list"),
        ({"principal": None}, "suppression of everything"),
        ({"principal": "*"}, "suppression of everything"),
        ({"principal": "*", "account": "????????????"}, "suppression of everything"),
        ({"until": None}, "needs the last day"),
        ({"until": 20261231}, "needs the last day"),
        ({"until": "20261231"}, "needs the last day"),
        ({"until": "2026-12"}, "needs the last day"),
        ({"until": "2026-W01-1"}, "needs the last day"),
        ({"until": "2026-02-30"}, "needs the last day"),
        ({"until": "9999-12-31"}, "needs the last day"),
        ({"until": "0001-06-01"}, "needs the last day"),
        ({"until": "tomorrow"}, "needs the last day"),
        ({"since": ""}, "since must be"),
        ({"since": "2026-12-01"}, "ends before it begins"),
        ({"since": "2025-11-29"}, "366 days at most"),
        ({"ends": "2026-12-31"}, "has no 'ends'"),
        ({"7": 7}, "has no '7'"),
    ],
)
def test_what_is_not_said_clearly_is_refused_with_its_line(members: dict[str, Any], fault: str) -> None:
    """A slip of the pen neither hides findings nor is passed over."""
    found, faults = read({key: value for key, value in (GOOD | members).items() if value is not None})
    assert found == []
    assert len(faults) == 1
    assert fault in faults[0]
    assert faults[0].startswith("s.yml:1: ")


@pytest.mark.parametrize("key", ["rules", "principal", "account", "name", "since"])
def test_a_member_that_was_emptied_is_not_taken_for_any(key: str) -> None:
    """`rules:` with nothing behind it does not become every rule."""
    assert read(GOOD | {key: None})[0] == []


def test_a_box_of_366_days_is_the_longest() -> None:
    """From the first day to the last, both included, as far as a leap year goes."""
    assert one(since="2025-11-30", until="2026-11-30").since == datetime(2025, 11, 30, tzinfo=UTC)


def test_the_reason_is_one_line() -> None:
    """It goes into the log."""
    assert one(reason="CHG1,\n  the old fleet").reason == "CHG1, the old fleet"


def test_two_with_one_id_are_refused() -> None:
    """Their counts could not be told apart; the second says where the first is."""
    assert read(GOOD, GOOD)[1] == ["s.yml:1: its id old-fleet is also that of s.yml:1"]


@pytest.mark.parametrize("told", [None, {}, "old-fleet", [GOOD], [[]], [None]])
def test_other_shapes_are_refused(told: Any) -> None:
    """Suppressions are a list of mappings."""
    _, faults = read_rules("s.yml", json.dumps({"suppressions": told if isinstance(told, list) and told != [GOOD] else {"x": told}}))
    assert len(faults) == 1


def test_they_stand_in_a_document_of_their_own() -> None:
    """Members beside the list would mean nothing."""
    _, faults = read_rules("s.yml", json.dumps({"suppressions": [GOOD], "description": "x"}))
    assert ["document of their own" in str(fault) for fault in faults] == [True]


@pytest.mark.parametrize(
    ("account", "text"), [("011122223333", "put it in quotes"), ("'011122223333'", None), ("012345678901", None), ("111122223333", None)]
)
def test_an_account_number_keeps_its_leading_zero(account: str, text: str | None) -> None:
    """Unquoted, YAML takes some of them for octal numbers: those are refused, and none is read as another account."""
    _, faults = read_rules("s.yml", f"suppressions:\n  - {{id: a, account: {account}, until: 2026-12-31, reason: x}}\n")
    assert [text in fault.text for fault in faults if text] == ([] if text is None else [True])
    assert bool(faults) is (text is not None)
    if text is None:
        (found,) = library.build(
            [("s.yml", f"suppressions:\n  - {{id: a, account: {account}, until: 2026-12-31, reason: x}}\n")]
        ).suppressions
        assert str(found.account) == account.strip("'")


def test_a_rule_that_nobody_knows_is_refused() -> None:
    """A suppression by a title that was changed since is told, not passed over."""
    _, faults = read_rules("s.yml", json.dumps({"suppressions": [GOOD | {"rules": ["No such rule"]}]}))
    assert ["'No such rule' leads to no rule" in str(fault) for fault in faults] == [True]


def test_a_suppressed_finding_is_no_hit_for_correlations() -> None:
    """It is not told, stands among the suppressed with its reason, and the correlation that watches its rule does not see it."""
    rule = {
        "title": "Deleted",
        "logsource": {"product": "aws"},
        "detection": {"s": {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile"}, "condition": "s"},
    }
    storm = {
        "title": "Storm",
        "correlation": {"type": "event_count", "rules": ["Deleted"], "timespan": "5m", "condition": {"gte": 2}, "generate": True},
    }
    book = library.build([(f"{number}.yml", json.dumps(doc)) for number, doc in enumerate([rule, storm, {"suppressions": [GOOD]}])])
    held, told = book.match(deletion(1)), book.match(deletion(2, who="alice"))
    assert (held.findings, held.hits) == ((), ())
    assert [(found.rule.title, by.id, by.reason) for found, by in held.suppressed] == [("Deleted", "old-fleet", "CHG1")]
    assert len(told.findings) == len(told.hits) == 1


TEXT = st.text(st.characters(max_codepoint=0xFF, exclude_categories=["C"]), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT | st.sampled_from(["2026-12-31", "a", "*"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(suppression.KEYS) | TEXT, inner, max_size=8),
    max_leaves=12,
)
WILD = Finding(STORM, Record({}, Origin(path="x")), finding(deletion(1)).actor, finding(deletion(1)).subject)


@given(st.lists(st.dictionaries(st.sampled_from(suppression.KEYS), JSON, max_size=8).map(lambda wild: GOOD | wild) | JSON, max_size=3))
def test_any_shape_is_read_or_refused(told: list[Any]) -> None:
    """Nothing that YAML can hold makes the reader raise; what it does not take is a fault, and what it takes can be asked."""
    found, faults = read(*told)
    assert len(found) == len(told) or faults
    assert all(suppression.holds(WILD) is False for suppression in found)
