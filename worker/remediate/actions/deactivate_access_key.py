"""`deactivate-access-key`: this access key of this user, made inactive. It is not deleted, so that the change can be taken back.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.keys import USER_NAME, deactivation, keys_of, owner_arn, reactivations, stops
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Wanted


@dataclass(frozen=True, slots=True)
class DeactivateAccessKey:
    """The target is the key; `params.user` is the user it belongs to."""

    name: ClassVar[str] = "deactivate-access-key"
    target_type: ClassVar[str] = "access-key"
    undoing: ClassVar[str] = "undo makes the key active again, unless it was deleted meanwhile"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
        changes=("iam:UpdateAccessKey",),
    )
    params: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["user"],
        "properties": {"user": {"type": "string", "pattern": USER_NAME}},
    }

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Only an active key of that very user is touched."""
        user, key = task.params["user"], task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        held = next((one for one in await keys_of(iam, user, used=True) if one.id == key), None)
        state = {"user": owner, "access_key": key, "status": None if held is None else held.status}
        if held is None:
            return Refusal("key-gone", f"user {user} has no access key {key}: it was deleted, or is another's", state)
        if held.status == "Inactive":
            return Plan((), state, (owner,))
        return Plan((deactivation(user, key),), state, (owner,), (stops(user, held),))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The key is made active again, where it was."""
        user, key = task.params["user"], task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        keys = await keys_of(iam, user)
        status = next((one.status for one in keys if one.id == key), None)
        state = {"user": owner, "access_key": key, "status": status}
        steps = reactivations(user, keys, {key: done.before["status"]}, {key: done.after["status"]})
        return Refusal(steps.reason, steps.says, state) if isinstance(steps, Refusal) else Plan(steps, state, (owner,))
