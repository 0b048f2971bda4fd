"""Who may answer, and what answers come to: pure."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.remediate.world import person, task
from worker.model import Answer, Approval, Decision
from worker.remediate.approvals import Standing, agreeing, barred, standing
from worker.remediate.steps import Step

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
EXECUTOR = "arn:aws:sts::000000000000:assumed-role/trailmend-executor/i-0123"
ALICE, BOB = person("alice"), person("bob")
A_USER = "arn:aws:iam::000000000000:user/staff/carol"
A_ROLE = "arn:aws:sts::000000000000:assumed-role/admin"
FEDERATED = "arn:aws:sts::000000000000:federated-user"
CENTER = "arn:aws:iam::000000000000:role/aws-reserved/sso.amazonaws.com/AWSReservedSSO_OnCall_0123456789abcdef"


def asked(body: dict[str, Any] | None = None, needed: int = 1, decisions: tuple[Decision, ...] = ()) -> Approval:
    told = body or done_by(name="eve")
    return Approval(told, NOW, NOW + 4 * HOUR, needed, (), ("it stops",), "undo", (EXECUTOR,), decisions)


def said(who: str, answer: Answer = Answer.YES, after: timedelta = HOUR) -> Decision:
    return Decision(who, answer, "why", NOW + after)


def done_by(**actor: Any) -> dict[str, Any]:
    body = task("enforce-mfa", "user", "mallory")
    return {
        **body,
        "finding": {**body["finding"], "actor": {"type": "IAMUser", "arn": None, "name": None, "account": "000000000000", **actor}},
    }


@pytest.mark.parametrize(
    ("approval", "who", "names"),
    [
        (asked(), EXECUTOR, "the executor itself"),
        (asked(), EXECUTOR.replace("i-0123", "me"), "the executor itself"),
        (asked(), "arn:aws:iam::000000000000:user/team/Mallory", "who the task is about"),
        (asked(task("deactivate-access-key", "access-key", "AKIA", {"user": "carol"})), A_USER, "who the task is about"),
        (asked(task("revoke-role-sessions", "role", "admin")), f"{A_ROLE}/any", "who the task is about"),
        (asked(task("reattach-role", "instance-profile", "web", {"role": "admin"})), f"{A_ROLE}/i-1", "who the task is about"),
        (asked(done_by(arn=A_USER)), A_USER, "who made the call"),
        (asked(done_by(name="carol")), A_USER, "who made the call"),
        (asked(done_by(type="AssumedRole", arn=f"{A_ROLE}/thief")), f"{A_ROLE}/thief", "who made the call"),
        (asked(done_by(type="AssumedRole", arn=f"{A_ROLE}/thief")), f"{A_ROLE}/another-name", "who made the call"),
        (asked(done_by(type="AssumedRole", arn=ALICE)), ALICE, "who made the call"),
        (asked(done_by(type="FederatedUser", arn=f"{FEDERATED}/one", issuer_arn=A_USER)), A_USER, "who made the call"),
        (asked(done_by(type="AssumedRole", issuer_arn="arn:aws:iam::000000000000:role/ops/Admin")), f"{A_ROLE}/any", "who made the call"),
        (asked(done_by(type="FederatedUser", arn=f"{FEDERATED}/one")), f"{FEDERATED}/two", "come as a user or a role"),
        (asked(task("enforce-mfa", "user", "carol")), f"{FEDERATED}/carol", "come as a user or a role"),
        (asked(), "arn:aws:iam::000000000000:root", "come as a user or a role"),
        (asked(decisions=(said(BOB, Answer.NO),)), ALICE, "rejected already"),
    ],
)
@pytest.mark.parametrize("answer", Answer)
def test_who_may_not_answer(answer: Answer, approval: Approval, who: str, names: str) -> None:
    """Neither yes nor no: whoever is to be held could else keep it from being done."""
    assert names in str(barred(approval, who, answer, NOW + HOUR))


@pytest.mark.parametrize(
    ("approval", "who"),
    [
        (asked(), ALICE),
        (asked(), A_USER),
        (asked(), "arn:aws:iam::111111111111:user/mallory"),
        (asked(done_by(name="carol", account="111111111111")), A_USER),
        (asked(done_by(name="carol", type="AssumedRole")), A_USER),
        (asked(done_by(type="AssumedRole", arn=ALICE)), BOB),
        (asked(done_by(type="AssumedRole", arn=ALICE, issuer_arn=CENTER)), BOB),
        (asked(done_by(type="FederatedUser", issuer_arn="arn:aws:iam::111111111111:user/carol")), A_USER),
        (asked(done_by(type="FederatedUser", issuer_arn="arn:aws:iam::000000000000:user/eve")), A_USER),
        (asked(done_by(issuer_arn="no ARN")), A_USER),
        (asked(task("revoke-role-sessions", "role", "admin", account="111111111111")), f"{A_ROLE}/any"),
        (asked(task("enforce-password-policy", "account", "000000000000", {"symbols": True})), A_USER),
    ],
)
def test_everybody_else_may(approval: Approval, who: str) -> None:
    """Namesakes in another account, and others in Identity Center's same role, are others."""
    assert barred(approval, who, Answer.YES, NOW + HOUR) is None
    assert barred(approval, who, Answer.NO, NOW + HOUR) is None


def test_the_time_limit_is_an_end_for_answers() -> None:
    """To the second."""
    assert barred(asked(), ALICE, Answer.YES, NOW + 4 * HOUR - timedelta(seconds=1)) is None
    assert "its time limit ended at 2026-03-01 16:00:00Z" in str(barred(asked(), ALICE, Answer.YES, NOW + 4 * HOUR))


def test_the_same_person_counts_once() -> None:
    """In two sessions of a role too, whose names they choose themselves; a no is still to be had from them."""
    for first, second, people in ((ALICE, ALICE, 1), (f"{A_ROLE}/one", f"{A_ROLE}/two", 1), (ALICE, BOB, 2), (A_USER, f"{A_ROLE}/one", 2)):
        approval = asked(needed=2, decisions=(said(first), said(second)))
        assert len(agreeing(approval)) == people
        one = replace(approval, decisions=(said(first),))
        assert (barred(one, second, Answer.YES, NOW + HOUR) is None) == (people == 2)
        assert barred(one, second, Answer.NO, NOW + HOUR) is None


def test_what_is_agreed_to_can_still_be_stopped_but_not_agreed_to_again() -> None:
    """Until it is carried out."""
    approval = asked(decisions=(said(ALICE),))
    assert "agreed to already" in str(barred(approval, BOB, Answer.YES, NOW + HOUR))
    assert barred(approval, BOB, Answer.NO, NOW + HOUR) is None


answers = st.lists(
    st.builds(
        said, st.sampled_from([ALICE, BOB, A_USER]), st.sampled_from(Answer), st.integers(0, 6).map(lambda hours: timedelta(hours=hours))
    ),
    max_size=5,
)


@given(answers, st.integers(1, 2), st.integers(0, 10))
def test_nothing_is_approved_but_by_enough_people_in_time(told: list[Decision], needed: int, hours: int) -> None:
    """Whatever is said, when and by whom."""
    decisions = tuple(sorted(told, key=lambda one: one.at))
    stands = standing(asked(needed=needed, decisions=decisions), NOW + hours * HOUR)
    yes = {one.approver for one in decisions if one.answer is Answer.YES and one.at < NOW + 4 * HOUR}
    refused = any(one.answer is Answer.NO for one in decisions)
    if stands is Standing.APPROVED:
        assert len(yes) >= needed
        assert not refused
    if stands is Standing.WAITING:
        assert hours < 4
    assert (stands is Standing.REJECTED) == refused


@pytest.mark.parametrize(
    ("changed", "among"),
    [
        ({}, True),
        ({"says": "in other words"}, True),
        ({"parameters": {"RoleName": "r", "PolicyDocument": "later"}}, True),
        ({"parameters": {"RoleName": "other", "PolicyDocument": "now"}}, False),
        ({"parameters": {"RoleName": "r"}}, True),
        ({"api": "DeleteRolePolicy"}, False),
        ({"region": "eu-west-1"}, False),
        ({"service": "sts"}, False),
        ({"irreversible": True}, False),
    ],
)
def test_a_step_was_shown_where_only_time_has_changed_it(changed: dict[str, Any], among: bool) -> None:
    """Words do not matter, and neither does what the step itself says is a matter of time."""
    step = Step("iam", "PutRolePolicy", {"RoleName": "r", "PolicyDocument": "now"}, "says", timed=frozenset({"PolicyDocument"}))
    assert (
        step.is_among(
            [{"service": "x", "api": "y", "parameters": {}, "region": None, "irreversible": False}, {**step.as_dict(), **changed}]
        )
        is among
    )
