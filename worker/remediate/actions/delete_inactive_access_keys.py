"""`delete-inactive-access-keys`: those keys of a user that have been inactive for N days, deleted for good.

IAM does not tell since when a key is inactive. What is known is said in the plan, and it is one of two things: the journal tells when
Trailmend made the key inactive, and that is at least N days ago; or nobody here did, and then all that is known is that the key is inactive now,
was made at least N days ago and not used since (with the margin `keys.LAG`). Where the journal knows, the journal decides.

A deleted key cannot come back, so every step is irreversible; an active key is never among them.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_DeleteAccessKey.html
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from worker.remediate.keys import DAYS, keys_of, owner_arn
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted


@dataclass(frozen=True, slots=True)
class DeleteInactiveAccessKeys:
    """The target is the user; `params.days` is N."""

    name: ClassVar[str] = "delete-inactive-access-keys"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = "nothing can undo it: a deleted key cannot come back, and its user needs a new one"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
        destroys=("iam:DeleteAccessKey",),
    )
    params: ClassVar[Mapping[str, Any]] = DAYS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """A user without such keys is as wanted."""
        user, days = task.target.name, task.params["days"]
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        keys = await keys_of(iam, user, used=True)
        known = await _deactivated(clients, {key.id for key in keys})
        steps: list[Step] = []
        effects: list[str] = []
        for key in keys:
            since = known.get(key.id)
            rested = since is None or clients.now - since >= timedelta(days=days)
            if key.status != "Inactive" or not rested or not key.idle_for(days, clients.now):
                continue
            basis = "inactive now, since when nobody can tell" if since is None else f"made inactive by Trailmend on {since:%Y-%m-%d}"
            says = f"delete access key {key.id} of user {user} for good ({basis}; {key.use})"
            steps.append(Step("iam", "DeleteAccessKey", {"UserName": user, "AccessKeyId": key.id}, says, irreversible=True))
            effects.append(
                f"nothing that works now stops, but access key {key.id} of user {user} can never be made active again: {key.use}"
            )
        told = {one: moment.isoformat() for one, moment in known.items()}
        state = {"user": owner, "keys": {key.id: {**key.as_dict(), "deactivated_at": told.get(key.id)} for key in keys}}
        return Plan(tuple(steps), state, (owner,), tuple(effects))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:  # noqa: ARG002  # whatever live state says
        """Always refused."""
        gone = ", ".join(key for key in done.before["keys"] if key not in done.after["keys"])
        return Refusal("irreversible", f"access key {gone} of user {task.target.name} was deleted: no call brings a deleted key back")


async def _deactivated(clients: Clients, keys: Collection[str]) -> Mapping[str, datetime]:
    """When Trailmend last made each of the keys inactive, as the journal tells; a change that never came to its end counts as well."""
    since: dict[str, datetime] = {}
    async for entry, _, _ in clients.journal():
        if entry.outcome not in ("started", "applied", "undo-started", "undone"):
            continue
        for step in entry.body["plan"] or ():
            key = step["parameters"].get("AccessKeyId")
            if step["api"] != "UpdateAccessKey" or key not in keys:
                continue
            if step["parameters"]["Status"] == "Inactive":
                since[key] = entry.at
            else:
                since.pop(key, None)
    return since
