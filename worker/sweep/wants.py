"""What a sweep wants of a user and an account, decided from their states: pure.

In goes a `UserState`, what is known of the passwords of its account, and what was asked for; out come `Want`s, each an action of `remediate/actions/` with
its target, its params and the reason in words. The action itself then plans from live state, and may find less to do. A newcomer adds a name to
`swept.py`, and here a line and a function for it.

Which passwords are weak nobody can see (docs/remediation.md). Those that were set while the account's policy was weaker than the minimum cannot be
held strong, and that is what is asked here: where the policy is weaker now, and where the journal tells until when it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from worker.dispatch.plan import LEAST_PASSWORD_POLICY
from worker.model import Target
from worker.remediate.keys import Key
from worker.sweep.swept import INACTIVE_KEYS, MFA, PASSWORD_POLICY, PASSWORD_RESET, UNUSED_KEYS


@dataclass(frozen=True, slots=True)
class UserState:
    """A user as AWS tells it now. `password_at` is when the console password was made, None where there is none."""

    account: str
    name: str
    arn: str
    password_at: datetime | None
    reset_required: bool
    mfa_devices: int
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Passwords:
    """What is known of the passwords of an account.

    `weak` is whether its policy asks for less than the minimum now. Where it does not, `weak_until` is the last time that Trailmend found it so, None
    where the journal does not tell; `renewed` are the users of whom Trailmend has required a new password since then.
    """

    weak: bool
    weak_until: datetime | None = None
    renewed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for: which actions, after how many days a key is idle, and whether users are held who have access keys but no password."""

    actions: frozenset[str]
    days: int
    mfa_for_keys: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """One action that is wanted, and why."""

    action: str
    target: Target
    params: Mapping[str, Any]
    because: str


def of_account(account: str) -> Want:
    """The password policy, of which the action itself knows whether it is weaker than the minimum."""
    return Want(
        PASSWORD_POLICY, Target("account", account, account), LEAST_PASSWORD_POLICY, "its password policy asks for less than the minimum"
    )


def of_user(user: UserState, passwords: Passwords | None, choice: Choice, now: datetime) -> Iterator[Want]:
    """The actions, in the order of `SWEPT`. Without `passwords`, nobody knows the policy and no password is judged."""
    target = Target("user", user.name, user.account, user.arn)
    days = {"days": choice.days}
    for action, because in (
        (PASSWORD_RESET, None if passwords is None else _weak_password(user, passwords)),
        (MFA, _without_mfa(user, choice)),
        (UNUSED_KEYS, _idle(user, "Active", choice.days, now)),
        (INACTIVE_KEYS, _idle(user, "Inactive", choice.days, now)),
    ):
        if because is not None and action in choice.actions:
            yield Want(action, target, days if action in (UNUSED_KEYS, INACTIVE_KEYS) else {}, because)


def _weak_password(user: UserState, passwords: Passwords) -> str | None:
    if user.password_at is None or user.reset_required:
        return None
    if passwords.weak:
        return "its console password was set under a password policy that asks for less than the minimum"
    until = passwords.weak_until
    if until is None or user.password_at > until or user.name in passwords.renewed:
        return None
    return f"its console password may be from before {until:%Y-%m-%d}, when the password policy asked for less than the minimum"


def _without_mfa(user: UserState, choice: Choice) -> str | None:
    if user.mfa_devices:
        return None
    if user.password_at is not None:
        return "it has a console password and no MFA device"
    if choice.mfa_for_keys and any(key.status == "Active" for key in user.keys):
        return "it has an active access key and no MFA device"
    return None


def _idle(user: UserState, status: str, days: int, now: datetime) -> str | None:
    idle = [key for key in user.keys if key.status == status and key.idle_for(days, now)]
    if not idle:
        return None
    return "; ".join(f"access key {key.id} is {status.lower()} and was not used for {days} days" for key in idle)
