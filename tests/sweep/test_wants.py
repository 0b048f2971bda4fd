"""What is wanted of a user, from its state alone."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from worker.dispatch.plan import IDLE_DAYS
from worker.remediate.keys import DAYS, Key
from worker.sweep import swept
from worker.sweep.swept import INACTIVE_KEYS, MFA, PASSWORD_RESET, SWEPT, UNUSED_KEYS
from worker.sweep.wants import Choice, Passwords, UserState, of_user

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RAISED = NOW - timedelta(days=10)
STRONG, WEAK = Passwords(weak=False), Passwords(weak=True)


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def wanted(passwords: Passwords | None = STRONG, *, only: tuple[str, ...] = SWEPT, mfa_for_keys: bool = False, **state: Any) -> list[str]:
    plain: dict[str, Any] = {"password_at": None, "reset_required": False, "mfa_devices": 1, "keys": ()}
    user = UserState(account="1" * 12, name="eve", arn="arn", **{**plain, **state})
    choice = Choice(frozenset(only), 45, mfa_for_keys)
    return [want.action for want in of_user(user, passwords, choice, NOW)]


@pytest.mark.parametrize(
    ("state", "passwords", "expected"),
    [
        ({"password_at": ago(1)}, WEAK, True),
        ({"password_at": ago(1), "reset_required": True}, WEAK, False),
        ({"password_at": None}, WEAK, False),
        ({"password_at": ago(500)}, STRONG, False),  # nothing tells when the policy was made strong
        ({"password_at": ago(500)}, None, False),
        ({"password_at": ago(500)}, Passwords(weak=False, weak_until=RAISED), True),
        ({"password_at": ago(9)}, Passwords(weak=False, weak_until=RAISED), False),
        ({"password_at": ago(500)}, Passwords(weak=False, weak_until=RAISED, renewed=frozenset({"eve"})), False),
    ],
)
def test_a_password_from_under_a_weak_policy_is_to_be_renewed(
    state: dict[str, Any], passwords: Passwords | None, *, expected: bool
) -> None:
    """While the policy is weak, and afterwards where the journal tells until when it was, once."""
    assert (PASSWORD_RESET in wanted(passwords, **state)) == expected


@pytest.mark.parametrize(
    ("state", "for_keys", "expected"),
    [
        ({"password_at": ago(1), "mfa_devices": 0}, False, True),
        ({"password_at": ago(1), "mfa_devices": 1}, True, False),
        ({"mfa_devices": 0, "keys": (Key("A", "Active", ago(1)),)}, False, False),
        ({"mfa_devices": 0, "keys": (Key("A", "Active", ago(1)),)}, True, True),
        ({"mfa_devices": 0, "keys": (Key("A", "Inactive", ago(1)),)}, True, False),
    ],
)
def test_who_can_sign_in_is_held_without_mfa_and_programs_only_when_asked_for(
    state: dict[str, Any], *, for_keys: bool, expected: bool
) -> None:
    """Whoever has only access keys is a program as a rule."""
    assert (MFA in wanted(mfa_for_keys=for_keys, **state)) == expected


@pytest.mark.parametrize(
    ("status", "made", "used", "expected"),
    [
        ("Active", 45, None, [UNUSED_KEYS]),
        ("Active", 44.9, None, []),
        ("Active", 99, 45.9, []),
        ("Active", 99, 46, [UNUSED_KEYS]),
        ("Inactive", 99, 46, [INACTIVE_KEYS]),
        ("Inactive", 44.9, None, []),
    ],
)
def test_idle_keys_by_what_state_they_are_in(status: str, made: float, used: float | None, expected: list[str]) -> None:
    """Made 45 days ago, not used since with a day's margin."""
    key = Key("A", status, ago(made), None if used is None else ago(used))
    assert wanted(keys=(key,)) == expected


def test_only_what_is_asked_for_is_wanted() -> None:
    """All at once, and one of them."""
    state: dict[str, Any] = {"password_at": ago(9), "mfa_devices": 0, "keys": (Key("A", "Active", ago(99)), Key("B", "Inactive", ago(99)))}
    assert wanted(WEAK, **state) == list(SWEPT[1:])
    assert wanted(WEAK, only=(MFA,), **state) == [MFA]


def test_days_are_those_of_findings_and_of_the_actions() -> None:
    """What the command line says without asking either."""
    assert swept.IDLE_DAYS == IDLE_DAYS
    assert DAYS["properties"]["days"]["maximum"] == swept.LONGEST_DAYS
