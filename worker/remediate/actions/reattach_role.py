"""`reattach-role`: a role that was taken out of an instance profile, put back.

The profile kept its id, so instances get credentials again without being touched.
https://docs.aws.amazon.com/IAM/latest/APIReference/API_AddRoleToInstanceProfile.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted, found

ROLE_NAME = r"^[A-Za-z0-9_+=,.@-]{1,64}(?![\s\S])"
"""`(?![\\s\\S])` is the end of the string: `$` would let a line feed through."""

_EC2 = frozenset({"ec2.amazonaws.com", "ec2.amazonaws.com.cn"})
_ASSUME = frozenset({"sts:assumerole", "sts:*", "*"})


@dataclass(frozen=True, slots=True)
class ReattachRole:
    """The target is the instance profile; `params.role` is the role's name."""

    name: ClassVar[str] = "reattach-role"
    target_type: ClassVar[str] = "instance-profile"
    undoing: ClassVar[str] = "undo takes the role out again: instances that use the profile lose its credentials"
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetInstanceProfile", "iam:GetRole"),
        changes=("iam:AddRoleToInstanceProfile", "iam:RemoveRoleFromInstanceProfile"),
    )
    params: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["role"],
        "properties": {"role": {"type": "string", "pattern": ROLE_NAME}},
    }

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Refuses where the profile or the role is gone, EC2 may not assume the role, or the profile holds another."""
        name, role = task.target.name, task.params["role"]
        iam = await clients.get("iam")
        answer = await found(iam.get_instance_profile(InstanceProfileName=name))
        if answer is None:
            return Refusal("profile-gone", f"there is no instance profile {name}: restore it instead")
        profile = answer["InstanceProfile"]
        state = {"profile": profile_state(profile)}
        usable = await usable_role(iam, role)
        if isinstance(usable, Refusal):
            return Refusal(usable.reason, usable.says, state)
        held = [one["RoleName"] for one in profile["Roles"]]
        if held not in ([], [role]):
            return Refusal("other-role", f"instance profile {name} holds role {held[0]} now, not {role}", state)
        if held:
            return Plan((), state, (profile["Arn"], usable))
        effect = f"every instance that uses instance profile {name} gets the credentials of role {role} again"
        return Plan((add_role(name, role),), state, (profile["Arn"], usable), (effect,))

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The role is taken out again."""
        name, role = task.target.name, task.params["role"]
        iam = await clients.get("iam")
        answer = await found(iam.get_instance_profile(InstanceProfileName=name))
        live = None if answer is None else profile_state(answer["InstanceProfile"])
        state = {"profile": live}
        if live is None or live["id"] != done.after["profile"]["id"]:
            return Refusal("changed-since", f"instance profile {name} was {'made anew' if live else 'deleted'} since", state)
        if live["roles"] not in ([], [role]):
            return Refusal("changed-since", f"instance profile {name} holds role {live['roles'][0]} since, not {role}", state)
        return Plan((remove_role(name, role),) if live["roles"] else (), state, (live["arn"],))


def profile_state(profile: Mapping[str, Any]) -> dict[str, Any]:
    """An instance profile as the journal keeps it."""
    return {
        "arn": profile["Arn"],
        "id": profile["InstanceProfileId"],
        "path": profile["Path"],
        "roles": [one["RoleName"] for one in profile["Roles"]],
        "tags": {tag["Key"]: tag["Value"] for tag in profile.get("Tags", [])},
    }


def add_role(profile: str, role: str) -> Step:
    """Put a role into a profile that may have been made a moment ago."""
    parameters = {"InstanceProfileName": profile, "RoleName": role}
    says = f"add role {role} to instance profile {profile}"
    return Step("iam", "AddRoleToInstanceProfile", parameters, says, settling=frozenset({"NoSuchEntity"}))


def remove_role(profile: str, role: str) -> Step:
    """Take a role out of a profile."""
    parameters = {"InstanceProfileName": profile, "RoleName": role}
    return Step("iam", "RemoveRoleFromInstanceProfile", parameters, f"remove role {role} from instance profile {profile}")


async def usable_role(iam: Any, role: str) -> str | Refusal:
    """The ARN of a role that EC2 may assume, or why there is none. Raises what the client raises."""
    answer = await found(iam.get_role(RoleName=role))
    if answer is None:
        return Refusal("role-gone", f"there is no role {role}")
    if not admits_ec2(answer["Role"].get("AssumeRolePolicyDocument")):
        return Refusal("role-closed-to-ec2", f"the trust policy of role {role} does not let EC2 assume it")
    return str(answer["Role"]["Arn"])


def admits_ec2(trust: Any) -> bool:
    """Whether a trust policy lets EC2's service assume the role: an Allow that names the service, and no Deny that does.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
    """
    statements = _many(trust.get("Statement")) if isinstance(trust, Mapping) else ()
    about_ec2 = [one for one in statements if isinstance(one, Mapping) and _names_ec2(one)]
    effects = {one.get("Effect") for one in about_ec2}
    return "Allow" in effects and "Deny" not in effects


def _names_ec2(statement: Mapping[str, Any]) -> bool:
    principal = statement.get("Principal")
    services = principal.get("Service") if isinstance(principal, Mapping) else None
    actions = {one.casefold() for one in _many(statement.get("Action")) if isinstance(one, str)}
    return not _EC2.isdisjoint(one for one in _many(services) if isinstance(one, str)) and not _ASSUME.isdisjoint(actions)


def _many(value: Any) -> Iterable[Any]:
    # Policies may hold one value where others hold a list.
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)
