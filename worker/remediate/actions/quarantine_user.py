"""`quarantine-user`: a user who can do nothing any more, until somebody has looked.

An inline policy denies everything, which holds a console session and the credentials of GetSessionToken as well, for those have no more rights
than the user; it does not hold a role that the user has assumed (`revoke-role-sessions` does). Then the active keys are made inactive, so
that the user stays out if the policy is taken away. Nothing is deleted.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.inline import InlinePolicy
from worker.remediate.keys import Key, deactivation, keys_of, owner_arn, reactivations, stops
from worker.remediate.steps import NO_PARAMS, ActionCalls, Clients, Done, Plan, Refusal, Wanted

POLICY_NAME = "TrailmendQuarantine"
POLICY: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "DenyAll", "Effect": "Deny", "Action": "*", "Resource": "*"}],
}


@dataclass(frozen=True, slots=True)
class QuarantineUser:
    """The target is the user; there are no params."""

    name: ClassVar[str] = "quarantine-user"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = (
        "undo makes those keys active again that were, then deletes the policy or writes back what stood under its name"
    )
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:GetUserPolicy", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
        changes=("iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:UpdateAccessKey"),
    )
    params: ClassVar[Mapping[str, Any]] = NO_PARAMS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """The policy first: it holds at once what the keys' end would leave running."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        place = InlinePolicy("User", user, POLICY_NAME)
        document, keys = await place.read(iam), await keys_of(iam, user, used=True)
        deny = () if document == POLICY else (place.put(POLICY, f"deny user {user} everything"),)
        active = [key for key in keys if key.status != "Inactive"]
        steps = (*deny, *(deactivation(user, key.id) for key in active))
        held = f"user {user} is denied everything, in console sessions that run as well; a role that the user has assumed goes on"
        effects = (*((held,) if deny else ()), *(stops(user, key) for key in active))
        return Plan(steps, _state(owner, document, keys), (owner,), effects)

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The keys that were active before are active again, and then the policy goes: until the last call the user is held."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        place = InlinePolicy("User", user, POLICY_NAME)
        document, keys = await place.read(iam), await keys_of(iam, user)
        state = _state(owner, document, keys)
        activate = reactivations(user, keys, done.before["keys"], done.after["keys"])
        release = place.taken_back(document, done.after["policy"], done.before["policy"])
        if isinstance(activate, Refusal):
            return Refusal(activate.reason, activate.says, state)
        if isinstance(release, Refusal):
            return Refusal(release.reason, release.says, state)
        steps = (*activate, *(() if release is None else (release,)))
        return Plan(steps, state, (owner,))


def _state(owner: str, document: Mapping[str, Any] | None, keys: tuple[Key, ...]) -> dict[str, Any]:
    return {"user": owner, "policy_name": POLICY_NAME, "policy": document, "keys": {key.id: key.status for key in keys}}
