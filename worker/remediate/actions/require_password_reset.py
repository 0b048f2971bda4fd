"""`require-password-reset`: the user must choose a new console password at the next sign-in.

No API tells a password, so its strength cannot be looked at; a new one falls under the account's password policy. Where the user has no
console password none is made: that would open a door instead of closing one.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateLoginProfile.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.keys import owner_arn
from worker.remediate.steps import NO_PARAMS, ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted, found


@dataclass(frozen=True, slots=True)
class RequirePasswordReset:
    """The target is the user; there are no params."""

    name: ClassVar[str] = "require-password-reset"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = "undo lifts the mark, as long as no new password was chosen; an old password does not come back"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:GetLoginProfile"),
        changes=("iam:UpdateLoginProfile",),
    )
    params: ClassVar[Mapping[str, Any]] = NO_PARAMS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Refuses where there is no user or no console password."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        state = await _look(iam, user, owner)
        if not state["console_password"]:
            return Refusal("no-console-password", f"user {user} has no console password, and none is made", state)
        says = f"require user {user} to choose a new console password at next sign-in"
        if state["password_reset_required"]:
            return Plan((), state, (owner,))
        effect = f"user {user} cannot sign in to the console without choosing a new password; sessions that run and access keys go on"
        return Plan((_mark(user, says, required=True),), state, (owner,), (effect,))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The mark is taken off where it still is. A user who has chosen a new password since keeps it, and has no mark any more."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        state = await _look(iam, user, owner)
        lift = state["password_reset_required"] and not done.before["password_reset_required"]
        if not state["console_password"] or (lift and state["password_created_at"] != done.after.get("password_created_at")):
            happened = "made anew" if state["console_password"] else "deleted"
            return Refusal("changed-since", f"the console password of user {user} was {happened} since", state)
        says = f"no longer require user {user} to choose a new console password"
        return Plan((_mark(user, says, required=False),) if lift else (), state, (owner,))


def _mark(user: str, says: str, *, required: bool) -> Step:
    return Step("iam", "UpdateLoginProfile", {"UserName": user, "PasswordResetRequired": required}, says)


async def _look(iam: Any, user: str, owner: str) -> dict[str, Any]:
    answer = await found(iam.get_login_profile(UserName=user))
    profile = {} if answer is None else answer["LoginProfile"]
    return {
        "user": owner,
        "console_password": answer is not None,
        "password_created_at": None if answer is None else profile["CreateDate"].isoformat(),
        "password_reset_required": None if answer is None else bool(profile.get("PasswordResetRequired")),
    }
