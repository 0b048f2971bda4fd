"""`deactivate-access-key`: this access key of this user, made inactive. It is not deleted, so that the change can be taken back.

https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.steps import Clients, Plan, Refusal, Step, Wanted, found


@dataclass(frozen=True, slots=True)
class DeactivateAccessKey:
    """The target is the key; `params.user` is the user it belongs to."""

    name: ClassVar[str] = "deactivate-access-key"
    target_type: ClassVar[str] = "access-key"
    params: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["user"],
        "properties": {"user": {"type": "string", "pattern": r"^[A-Za-z0-9_+=,.@-]{1,64}(?![\s\S])"}},
    }

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Only an active key of that very user is touched."""
        user, key = task.params["user"], task.target.name
        iam = await clients.get("iam")
        owner = await found(iam.get_user(UserName=user))
        if owner is None:
            return Refusal("user-gone", f"there is no user {user}, so it has no access keys")
        keys = (await iam.list_access_keys(UserName=user))["AccessKeyMetadata"]
        status = next((one["Status"] for one in keys if one["AccessKeyId"] == key), None)
        state = {"user": owner["User"]["Arn"], "access_key": key, "status": status}
        if status is None:
            return Refusal("key-gone", f"user {user} has no access key {key}: it was deleted, or is another's", state)
        steps: tuple[Step, ...] = ()
        if status != "Inactive":
            parameters = {"UserName": user, "AccessKeyId": key, "Status": "Inactive"}
            steps = (Step("iam", "UpdateAccessKey", parameters, f"make access key {key} of user {user} inactive"),)
        return Plan(steps, state, (owner["User"]["Arn"],))
