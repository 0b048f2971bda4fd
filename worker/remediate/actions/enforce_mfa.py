"""`enforce-mfa`: until MFA is present the user may do nothing but set it up.

Nobody but the holder of the device can enable MFA (`EnableMFADevice` wants two of its codes), so the user is held by an inline policy that
denies the rest. It grants nothing: rights to enrol a device must come from elsewhere, lest a thief with the user's keys be given them.
`BoolIfExists` reaches long-term access keys too, whose calls carry no `aws:MultiFactorAuthPresent` at all.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_examples_aws_my-sec-creds-self-manage-mfa-only.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.inline import InlinePolicy
from worker.remediate.keys import keys_of, owner_arn, stops
from worker.remediate.steps import NO_PARAMS, ActionCalls, Clients, Done, Plan, Refusal, Wanted, found

POLICY_NAME = "TrailmendEnforceMfa"

# All inline policies of a user together have 2,048 characters: this one is 500.
POLICY: Mapping[str, Any] = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "DenyAllButMfaSetUp",
            "Effect": "Deny",
            "NotAction": [
                "iam:ChangePassword",
                "iam:CreateVirtualMFADevice",
                "iam:EnableMFADevice",
                "iam:GetAccountPasswordPolicy",
                "iam:GetMFADevice",
                "iam:GetUser",
                "iam:ListMFADevices",
                "iam:ListVirtualMFADevices",
                "iam:ResyncMFADevice",
                "sts:GetSessionToken",
            ],
            "Resource": "*",
            "Condition": {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
        }
    ],
}


@dataclass(frozen=True, slots=True)
class EnforceMfa:
    """The target is the user; there are no params."""

    name: ClassVar[str] = "enforce-mfa"
    target_type: ClassVar[str] = "user"
    undoing: ClassVar[str] = "undo deletes the policy, or writes back what stood under its name; a device that was enrolled meanwhile stays"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetUser", "iam:GetUserPolicy", "iam:GetLoginProfile", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed"),
        changes=("iam:PutUserPolicy", "iam:DeleteUserPolicy"),
    )
    params: ClassVar[Mapping[str, Any]] = NO_PARAMS

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """A policy of our name that says anything else is set right."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        place = InlinePolicy("User", user, POLICY_NAME)
        document = await place.read(iam)
        says = f"deny user {user} everything but setting up MFA until MFA is present, for its access keys too"
        state = {"user": owner, "policy_name": POLICY_NAME, "policy": document}
        if document == POLICY:
            return Plan((), state, (owner,))
        return Plan((place.put(POLICY, says),), state, (owner,), await _effects(iam, user))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The policy is deleted, or what stood under its name is written back."""
        user = task.target.name
        iam = await clients.get("iam")
        owner = await owner_arn(iam, user)
        if isinstance(owner, Refusal):
            return owner
        place = InlinePolicy("User", user, POLICY_NAME)
        document = await place.read(iam)
        state = {"user": owner, "policy_name": POLICY_NAME, "policy": document}
        step = place.taken_back(document, done.after["policy"], done.before["policy"])
        if isinstance(step, Refusal):
            return Refusal(step.reason, step.says, state)
        return Plan(() if step is None else (step,), state, (owner,))


async def _effects(iam: Any, user: str) -> tuple[str, ...]:
    console = await found(iam.get_login_profile(UserName=user))
    told = [] if console is None else [f"user {user} can do nothing in the console but set up MFA, until signed in with it"]
    told += [stops(user, key) for key in await keys_of(iam, user, used=True) if key.status == "Active"]
    return tuple(told) or (f"user {user} has neither a console password nor an active access key: nothing stops that works now",)
