"""`revoke-role-sessions`: whatever credentials of a role were issued before now are denied everything.

No call ends a session. As the console does it, an inline policy on the role denies all to credentials whose `aws:TokenIssueTime` is older
than now; whoever may still assume the role gets new ones that work. A later revocation moves the time forward, and none moves it back.
https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, ClassVar

from worker.remediate.inline import InlinePolicy
from worker.remediate.steps import NO_PARAMS, ActionCalls, Clients, Done, Plan, Refusal, Wanted, found

POLICY_NAME = "TrailmendRevokeOlderSessions"
"""The console's is AWSRevokeOlderSessions: a revocation made there is left as it is."""

AWS_OWN = ("/aws-service-role/", "/aws-reserved/")
"""Paths of roles that AWS alone may change: service-linked ones and those of Identity Center."""


@dataclass(frozen=True, slots=True)
class RevokeRoleSessions:
    """The target is the role; there are no params. What is held is every session that was issued before the plan was made."""

    name: ClassVar[str] = "revoke-role-sessions"
    target_type: ClassVar[str] = "role"
    undoing: ClassVar[str] = "undo deletes the policy, or writes back the earlier revocation: sessions that are still running work again"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetRole", "iam:GetRolePolicy"),
        changes=("iam:PutRolePolicy", "iam:DeleteRolePolicy"),
    )
    params: ClassVar[Mapping[str, Any]] = NO_PARAMS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Sessions that were revoked since the task was made are as wanted. Refuses where the role is gone, or AWS's own."""
        role = task.target.name
        iam = await clients.get("iam")
        arn = await _role_arn(iam, role)
        if isinstance(arn, Refusal):
            return arn
        place = InlinePolicy("Role", role, POLICY_NAME)
        document = await place.read(iam)
        state = {"role": arn, "policy_name": POLICY_NAME, "policy": document}
        since = _revoked_before(document)
        if since is not None and _stamp(since) >= _stamp(task.created_at):
            return Plan((), state, (arn,))
        # Whoever asked may have a clock ahead of ours.
        moment = max(clients.now, task.created_at)
        says = f"deny everything to the sessions of role {role} that were issued before {_stamp(moment)}"
        step = replace(place.put(policy(moment), says), timed=frozenset({"PolicyDocument"}))
        effects = (
            f"every session of role {role} issued until the moment it is done is denied everything, honest ones too",
            f"whoever may still assume role {role} gets a new session that works; instances get theirs some hours later, or when restarted",
        )
        return Plan((step,), state, (arn,), effects)

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The policy is deleted, or the earlier revocation written back: the sessions that are still running work again."""
        role = task.target.name
        iam = await clients.get("iam")
        arn = await _role_arn(iam, role)
        if isinstance(arn, Refusal):
            return arn
        place = InlinePolicy("Role", role, POLICY_NAME)
        document = await place.read(iam)
        state = {"role": arn, "policy_name": POLICY_NAME, "policy": document}
        step = place.taken_back(document, done.after["policy"], done.before["policy"])
        if isinstance(step, Refusal):
            return Refusal(step.reason, step.says, state)
        return Plan(() if step is None else (step,), state, (arn,))


def policy(moment: datetime) -> Mapping[str, Any]:
    """The policy that denies everything to sessions issued before a moment."""
    condition = {"DateLessThan": {"aws:TokenIssueTime": _stamp(moment)}}
    return {
        "Version": "2012-10-17",
        "Statement": [{"Sid": "DenyOlderSessions", "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}],
    }


def _revoked_before(document: Mapping[str, Any] | None) -> datetime | None:
    """The moment of a policy of ours; None for any other document."""
    try:
        text = (document or {})["Statement"][0]["Condition"]["DateLessThan"]["aws:TokenIssueTime"]
        moment = datetime.fromisoformat(text)
        return moment if document == policy(moment) else None
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _stamp(moment: datetime) -> str:
    # IAM stamps sessions in whole seconds: with the fraction, one of this very second is older than now too. Text of one length is in order.
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


async def _role_arn(iam: Any, role: str) -> str | Refusal:
    answer = await found(iam.get_role(RoleName=role))
    if answer is None:
        return Refusal("role-gone", f"there is no role {role}")
    path, arn = answer["Role"]["Path"], str(answer["Role"]["Arn"])
    if path.startswith(AWS_OWN):
        return Refusal("aws-own-role", f"role {role} at {path} is AWS's own, and its policies cannot be changed", {"role": arn})
    return arn
