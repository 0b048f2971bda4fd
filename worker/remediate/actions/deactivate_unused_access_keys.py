"""`deactivate-unused-access-keys`: those active keys of a user that nobody has used for N days, made inactive.

Unused is: never used and made at least N days ago, or last used at least N days and a margin ago, because IAM tells of a use some hours
late (`keys.LAG`). A key used for the very first time within those hours still looks unused: undo makes it active again.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetAccessKeyLastUsed.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.keys import DAYS, Key, deactivation, keys_of, owner_arn, reactivations, stops
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Wanted


@dataclass(frozen=True, slots=True)
class DeactivateUnusedAccessKeys:
    """The target is the user; `params.days` is N."""

    name: ClassVar[str] = "deactivate-unused-access-keys"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = "undo makes those keys active again, unless one was deleted meanwhile"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
        changes=("iam:UpdateAccessKey",),
    )
    params: ClassVar[Mapping[str, Any]] = DAYS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """A key in use is left alone, and a user without unused keys is as wanted."""
        user, days = task.target.name, task.params["days"]
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        keys = await keys_of(iam, user, used=True)
        unused = [key for key in keys if key.status == "Active" and key.idle_for(days, clients.now)]
        steps = tuple(deactivation(user, key.id, f" ({key.use})") for key in unused)
        return Plan(steps, _state(owner, keys), (owner,), tuple(stops(user, key) for key in unused))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The keys that were active before are active again."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        keys = await keys_of(iam, user, used=True)
        were, are = ({key: told["status"] for key, told in state["keys"].items()} for state in (done.before, done.after))
        steps = reactivations(user, keys, were, are)
        state = _state(owner, keys)
        return Refusal(steps.reason, steps.says, state) if isinstance(steps, Refusal) else Plan(steps, state, (owner,))


def _state(owner: str, keys: tuple[Key, ...]) -> dict[str, Any]:
    return {"user": owner, "keys": {key.id: key.as_dict() for key in keys}}
