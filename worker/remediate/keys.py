"""The access keys of a user: whose they are, what state they are in, and the call that changes it.

A user has at most two, so one page holds them.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html#reference_iam-quotas-entities
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from worker.remediate.steps import Refusal, Step, found

USER_NAME = r"^[A-Za-z0-9_+=,.@-]{1,64}(?![\s\S])"
"""`(?![\\s\\S])` is the end of the string: `$` would let a line feed through."""

DAYS: Mapping[str, Any] = {
    "type": "object",
    "required": ["days"],
    "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 3650}},
}
"""The schema of params that hold a number of days and nothing else."""

LAG = timedelta(days=1)
"""IAM tells of a use some hours late. A use is held to be this much later than it says, so that a key is never thought idle too early."""


@dataclass(frozen=True, slots=True)
class Key:
    """An access key. `used_at` is when IAM last saw it used, None where it never did, or was not asked; `used_for` the service and region."""

    id: str
    status: str
    created_at: datetime
    used_at: datetime | None = None
    used_for: str | None = None

    def idle_for(self, days: int, now: datetime) -> bool:
        """Whether it was made at least so many days ago, and not used since."""
        rest = timedelta(days=days)
        return now - self.created_at >= rest and (self.used_at is None or now - self.used_at >= rest + LAG)

    @property
    def use(self) -> str:
        """Its use, in words."""
        return f"made {self.created_at:%Y-%m-%d}, " + ("never used" if self.used_at is None else f"last used {self.used_at:%Y-%m-%d}")

    def as_dict(self) -> dict[str, Any]:
        """The key as the journal keeps it."""
        used = None if self.used_at is None else self.used_at.isoformat()
        return {"status": self.status, "created_at": self.created_at.isoformat(), "used_at": used}


async def owner_arn(iam: Any, user: str) -> str | Refusal:
    """The ARN of a user, or that there is none. Raises what the client raises."""
    answer = await found(iam.get_user(UserName=user))
    return Refusal("user-gone", f"there is no user {user}") if answer is None else str(answer["User"]["Arn"])


async def keys_of(iam: Any, user: str, *, used: bool = False) -> tuple[Key, ...]:
    """The keys of a user who is there; with `used`, when each was last used. Raises what the client raises."""
    listed = (await iam.list_access_keys(UserName=user))["AccessKeyMetadata"]
    keys = []
    for one in listed:
        # A key that was deleted since the list was made is left out.
        last = await found(iam.get_access_key_last_used(AccessKeyId=one["AccessKeyId"])) if used else {"AccessKeyLastUsed": {}}
        if last is not None:
            use = last["AccessKeyLastUsed"]
            where = f"{use.get('ServiceName')} in {use.get('Region')}" if use.get("LastUsedDate") else None
            keys.append(Key(one["AccessKeyId"], one["Status"], one["CreateDate"], use.get("LastUsedDate"), where))
    return tuple(keys)


def stops(user: str, key: Key) -> str:
    """What a key's end means, and for whom."""
    last = f"{key.use} ({key.used_for})" if key.used_for else key.use
    return f"whatever signs with access key {key.id} of user {user} is refused from then on: {last}"


def deactivation(user: str, key: str, because: str = "") -> Step:
    """Make a key inactive."""
    says = f"make access key {key} of user {user} inactive"
    return Step("iam", "UpdateAccessKey", {"UserName": user, "AccessKeyId": key, "Status": "Inactive"}, says + because)


def reactivations(
    user: str, keys: tuple[Key, ...], were: Mapping[str, str | None], are: Mapping[str, str | None]
) -> tuple[Step, ...] | Refusal:
    """What makes those keys active again that a task found active and left inactive, by their ids."""
    live = {key.id: key.status for key in keys}
    turned = [key for key, status in were.items() if status == "Active" and are.get(key) == "Inactive"]
    gone = [key for key in turned if key not in live]
    if gone:
        return Refusal("changed-since", f"access key {', '.join(gone)} of user {user} was deleted since, and cannot come back")
    parameters = ({"UserName": user, "AccessKeyId": key, "Status": "Active"} for key in turned if live[key] != "Active")
    return tuple(
        Step("iam", "UpdateAccessKey", one, f"make access key {one['AccessKeyId']} of user {user} active again") for one in parameters
    )
