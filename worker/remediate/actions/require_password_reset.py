"""`require-password-reset`: the user must choose a new console password at the next sign-in.

No API tells a password, so its strength cannot be looked at; a new one falls under the account's password policy. Where the user has no
console password none is made: that would open a door instead of closing one.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateLoginProfile.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.steps import Clients, Plan, Refusal, Step, Wanted, found


@dataclass(frozen=True, slots=True)
class RequirePasswordReset:
    """The target is the user; there are no params."""

    name: ClassVar[str] = "require-password-reset"
    target_type: ClassVar[str] = "user"
    params: ClassVar[Mapping[str, Any]] = {"type": "object"}

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Refuses where there is no user or no console password."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await found(iam.get_user(UserName=user))
        if owner is None:
            return Refusal("user-gone", f"there is no user {user}")
        profile = await found(iam.get_login_profile(UserName=user))
        required = None if profile is None else bool(profile["LoginProfile"].get("PasswordResetRequired"))
        state = {"user": owner["User"]["Arn"], "console_password": profile is not None, "password_reset_required": required}
        if profile is None:
            return Refusal("no-console-password", f"user {user} has no console password, and none is made", state)
        steps: tuple[Step, ...] = ()
        if not required:
            parameters = {"UserName": user, "PasswordResetRequired": True}
            steps = (
                Step("iam", "UpdateLoginProfile", parameters, f"require user {user} to choose a new console password at next sign-in"),
            )
        return Plan(steps, state, (owner["User"]["Arn"],))
