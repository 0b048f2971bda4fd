"""`restore-instance-profile`: a deleted profile, made again with its path, tags and role, and given back to the instances that used it.

A profile made again has a new id, and instances keep pointing at the old one and get no credentials. So: create -> add the role -> for each
instance of the task that has no profile or the dead one, associate. A running instance's association is replaced; a stopped one's is
taken off and made anew. An instance that was given another profile meanwhile is left alone. Each step can be told from live state, so a
plan made after a crash holds just what is still to do.
https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceIamInstanceProfileAssociation.html
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from worker.remediate.actions.reattach_role import ROLE_NAME, add_role, profile_state, remove_role, usable_role
from worker.remediate.steps import ActionCalls, Clients, Done, Plan, Refusal, Step, Wanted, found

MAX_FILTER_VALUES = 200
"""https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_Filter.html"""

_LIVING = frozenset({"pending", "running", "stopping", "stopped"})
_REPLACEABLE = frozenset({"pending", "running"})
_HOLDING = frozenset({"associating", "associated"})
# EC2 learns of a new profile, and forgets an old association, some seconds after the call that says so.
_SETTLING = frozenset({"InvalidParameterValue", "IncorrectState", "IncorrectInstanceState"})


@dataclass(frozen=True, slots=True)
class _Instance:
    id: str
    region: str
    state: str
    association: str | None = None
    profile_arn: str | None = None
    profile_id: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "instance_id": self.id,
            "region": self.region,
            "state": self.state,
            "profile_arn": self.profile_arn,
            "profile_id": self.profile_id,
        }


@dataclass(frozen=True, slots=True)
class RestoreInstanceProfile:
    """The target is the profile; params are its path, role, tags and instances, as remembered from before it was deleted."""

    name: ClassVar[str] = "restore-instance-profile"
    target_type: ClassVar[str] = "instance-profile"
    undoing: ClassVar[str] = (
        "undo takes the profile off those instances, takes the role out and deletes it; the profile that was lost cannot be had again"
    )
    calls: ClassVar[ActionCalls] = ActionCalls(
        reads=("iam:GetInstanceProfile", "iam:GetRole", "ec2:DescribeInstances", "ec2:DescribeIamInstanceProfileAssociations"),
        changes=(
            "iam:CreateInstanceProfile",
            "iam:AddRoleToInstanceProfile",
            "iam:RemoveRoleFromInstanceProfile",
            "iam:DeleteInstanceProfile",
            "ec2:AssociateIamInstanceProfile",
            "ec2:DisassociateIamInstanceProfile",
            "ec2:ReplaceIamInstanceProfileAssociation",
        ),
    )
    params: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["path", "role", "tags", "instances"],
        "properties": {
            "path": {"type": "string", "maxLength": 512, "pattern": r"^/([!-~]*/)?(?![\s\S])"},
            "role": {"anyOf": [{"type": "null"}, {"type": "string", "pattern": ROLE_NAME}]},
            "tags": {
                "type": "object",
                "maxProperties": 50,
                "propertyNames": {"minLength": 1, "maxLength": 128},
                "additionalProperties": {"type": "string", "maxLength": 256},
            },
            "instances": {
                "type": "array",
                "maxItems": 1000,
                "items": {
                    "type": "object",
                    "required": ["instance_id", "region"],
                    "properties": {
                        "instance_id": {"type": "string", "pattern": r"^i-[0-9a-f]{8,17}(?![\s\S])"},
                        "region": {"type": "string", "pattern": r"^[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}(?![\s\S])"},
                    },
                },
            },
        },
    }

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """Refuses where the role is unknown, gone or closed to EC2, or the name exists again and this task did not make it."""
        name, role = task.target.name, task.params["role"]
        iam = await clients.get("iam")
        answer = await found(iam.get_instance_profile(InstanceProfileName=name))
        profile = None if answer is None else profile_state(answer["InstanceProfile"])
        state: dict[str, Any] = {"profile": profile}
        if role is None:
            return Refusal("role-unknown", f"nobody remembers which role instance profile {name} held", state)
        usable = await usable_role(iam, role)
        if isinstance(usable, Refusal):
            return Refusal(usable.reason, usable.says, state)
        instances = await _look(clients, task.params["instances"])
        state["instances"] = [one.as_dict() for one in instances]
        steps = [*_make(name, role, task.params, profile)]
        given: list[_Instance] = []
        for one in instances:
            giving = [*_give(one, name, task.target.account, None if profile is None else profile["id"])]
            steps += giving
            given += [one] if giving else []
        if profile is not None and (_differs(profile, task) or (steps and not await _is_begun(task, clients))):
            holds = ", ".join(profile["roles"]) or "no role"
            return Refusal("name-taken", f"instance profile {name} exists again, at path {profile['path']} with {holds}", state)
        touches = (usable,) if profile is None else (profile["arn"], usable)
        return Plan(tuple(steps), state, touches, tuple(_effects(name, role, profile, given)) if steps else ())

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """The profile is taken off the instances that the task gave it to, emptied and deleted.

        An instance that held the dead profile before holds none afterwards, which comes to the same: no credentials. Refuses where the profile
        is not as the task left it, and where others have come to use it, in the regions of the task and our own: EC2 lets a profile in use be deleted.
        """
        name, before, left = task.target.name, done.before["profile"], done.after["profile"]
        iam = await clients.get("iam")
        answer = await found(iam.get_instance_profile(InstanceProfileName=name))
        live = None if answer is None else profile_state(answer["InstanceProfile"])
        instances = await _look(clients, task.params["instances"])
        state: dict[str, Any] = {"profile": live, "instances": [one.as_dict() for one in instances]}
        if live is None:
            gone = before is not None
            return Refusal("changed-since", f"instance profile {name} was deleted since", state) if gone else Plan((), state)
        roles = [left["roles"], [] if before is None else before["roles"]]
        if {**live, "roles": None} != {**left, "roles": None} or live["roles"] not in roles:
            changed = [key for key in live if live[key] != left[key]]
            return Refusal("changed-since", f"instance profile {name} is not as it was left: {', '.join(changed)} changed", state)
        held = {one["instance_id"] for one in done.before["instances"] if one["profile_id"] == live["id"]}
        given = [one for one in instances if one.profile_id == live["id"] and one.id not in held]
        others = await _others(clients, {one["region"] for one in task.params["instances"]}, live["id"], {one.id for one in given})
        if before is None and others:
            return Refusal("changed-since", f"instance profile {name} is used since by {', '.join(others)}", state)
        steps = [_take(one, name) for one in given]
        if live["roles"] != roles[1]:
            steps += [remove_role(name, role) for role in live["roles"]]
        if before is None:
            steps.append(Step("iam", "DeleteInstanceProfile", {"InstanceProfileName": name}, f"delete instance profile {name}"))
        return Plan(tuple(steps), state, (live["arn"],))


def _differs(profile: Mapping[str, Any], task: Wanted) -> bool:
    return profile["roles"] not in ([], [task.params["role"]]) or profile["path"] != task.params["path"]


async def _is_begun(task: Wanted, clients: Clients) -> bool:
    """Whether this very task has begun before: then what stands under the name is its own work, to be finished; else it is somebody else's."""
    async for entry, _, _ in clients.journal():
        if entry.task_id == task.id and entry.outcome == "started":
            return True
    return False


def _effects(name: str, role: str, profile: Mapping[str, Any] | None, given: Sequence[_Instance]) -> Iterable[str]:
    regions = ", ".join(sorted({one.region for one in given}))
    running = sum(one.state in _REPLACEABLE for one in given)
    if running:
        yield f"{running} running instances get the credentials of role {role} again, in {regions}"
    if len(given) > running:
        yield f"{len(given) - running} stopped instances get them when they are started, in {regions}"
    if profile is None:
        yield f"instance profile {name} exists again: whoever may launch instances with it can give them role {role}"
    elif not profile["roles"]:
        yield f"every instance that uses instance profile {name} gets the credentials of role {role} again"


def _make(name: str, role: str, params: Mapping[str, Any], profile: Mapping[str, Any] | None) -> Iterable[Step]:
    if profile is None:
        # Tags under aws: are AWS's own, and nobody else may set them.
        tags = [{"Key": key, "Value": value} for key, value in sorted(params["tags"].items()) if not key.casefold().startswith("aws:")]
        parameters: dict[str, Any] = {"InstanceProfileName": name, "Path": params["path"]}
        if tags:
            parameters["Tags"] = tags
        says = f"create instance profile {name} at path {params['path']} with {len(tags)} tags"
        yield Step("iam", "CreateInstanceProfile", parameters, says)
    if profile is None or not profile["roles"]:
        yield add_role(name, role)


def _give(one: _Instance, name: str, account: str, profile_id: str | None) -> Iterable[Step]:
    reference = {"IamInstanceProfile": {"Name": name}}
    where = f"instance {one.id} in {one.region}"
    if one.association is not None:
        if not _is_named(one.profile_arn, account, name) or (profile_id is not None and one.profile_id == profile_id):
            return
        held = {"AssociationId": one.association}
        if one.state in _REPLACEABLE:
            says = f"point {where} ({one.state}) from the deleted profile to the new one"
            yield Step("ec2", "ReplaceIamInstanceProfileAssociation", {**reference, **held}, says, one.region, _SETTLING)
            return
        yield Step("ec2", "DisassociateIamInstanceProfile", held, f"take the deleted profile off {where} ({one.state})", one.region)
    says = f"give instance profile {name} to {where} ({one.state})"
    yield Step("ec2", "AssociateIamInstanceProfile", {**reference, "InstanceId": one.id}, says, one.region, _SETTLING)


def _take(one: _Instance, name: str) -> Step:
    says = f"take instance profile {name} off instance {one.id} in {one.region} ({one.state})"
    return Step("ec2", "DisassociateIamInstanceProfile", {"AssociationId": one.association}, says, one.region)


async def _others(clients: Clients, regions: Iterable[str], profile_id: str, known: Collection[str]) -> list[str]:
    """The instances, but those known, that use a profile."""
    users: list[str] = []
    for region in (None, *sorted(regions)):
        ec2 = await clients.get("ec2", region)
        async for page in ec2.get_paginator("describe_iam_instance_profile_associations").paginate():
            using = [one for one in page["IamInstanceProfileAssociations"] if one["State"] in _HOLDING]
            users += [one["InstanceId"] for one in using if one["IamInstanceProfile"].get("Id") == profile_id]
    return [one for one in dict.fromkeys(users) if one not in known]


def _is_named(arn: str | None, account: str, name: str) -> bool:
    pieces = (arn or "").split(":", 5)
    return len(pieces) == 6 and pieces[4] == account and pieces[5].startswith("instance-profile/") and pieces[5].split("/")[-1] == name


async def _look(clients: Clients, named: Sequence[Mapping[str, Any]]) -> list[_Instance]:
    wanted = dict.fromkeys((one["region"], one["instance_id"]) for one in named)
    instances: list[_Instance] = []
    for region in dict.fromkeys(region for region, _ in wanted):
        ids = [instance_id for of, instance_id in wanted if of == region]
        ec2 = await clients.get("ec2", region)
        for start in range(0, len(ids), MAX_FILTER_VALUES):
            instances += await _look_at(ec2, region, ids[start : start + MAX_FILTER_VALUES])
    return instances


async def _look_at(ec2: Any, region: str, ids: Sequence[str]) -> list[_Instance]:
    # By filter, not by id: asked by id, one instance that is long gone fails the call for all. Filtered again here, lest a server ignore it.
    only = [{"Name": "instance-id", "Values": list(ids)}]
    states: dict[str, str] = {}
    async for page in ec2.get_paginator("describe_instances").paginate(Filters=only):
        for reservation in page["Reservations"]:
            states.update({one["InstanceId"]: one["State"]["Name"] for one in reservation["Instances"]})
    held: dict[str, Mapping[str, Any]] = {}
    async for page in ec2.get_paginator("describe_iam_instance_profile_associations").paginate(Filters=only):
        held.update({one["InstanceId"]: one for one in page["IamInstanceProfileAssociations"] if one["State"] in _HOLDING})
    found_ones: list[_Instance] = []
    for instance_id in ids:
        state = states.get(instance_id)
        if state not in _LIVING:
            continue
        association = held.get(instance_id)
        if association is None:
            found_ones.append(_Instance(instance_id, region, state))
        else:
            profile = association["IamInstanceProfile"]
            found_ones.append(_Instance(instance_id, region, state, association["AssociationId"], profile.get("Arn"), profile.get("Id")))
    return found_ones
