"""A little IAM and EC2 that allow or refuse calls, and what CloudTrail and a snapshot would tell of them: histories for profile memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from worker.enrich.roster import Profile, User
from worker.model import Origin, Record

ACCOUNT, REGION = "111122223333", "eu-west-1"
START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES, ROLES, INSTANCES = ("web", "db"), ("r", "s"), ("i-0000000a", "i-0000000b", "i-0000000c")
WAITS = (0, 0, 0, 1, 1, 7, 200, 4000)
MOST_A_SECOND = 5
"""As many events of one profile or instance as are put in their order for certain."""


@dataclass
class Truth:
    """What is so: profiles by name, the profile and association of each instance, and the instances that are gone."""

    profiles: dict[str, Profile] = field(default_factory=dict)
    users: dict[str, User] = field(default_factory=dict)
    launched: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    made: int = 0


class History:
    """Calls made one after another, several in a second; each is a record, refused ones too."""

    def __init__(self, dice: Random) -> None:
        self.truth = Truth()
        self.now = START
        self._dice = dice
        self._together = 0
        self._second: set[tuple[str, str]] = set()
        self.listings: list[tuple[datetime, list[Profile], list[User]]] = []

    def begin(self) -> list[Record]:
        """A first life of each profile: a second whose past is unknown could be read in two ways."""
        records = []
        for deed in ("CreateInstanceProfile", "DeleteInstanceProfile"):
            for name in NAMES:
                error, answer = _IAM[deed](self, name, "")
                records.append(self._record(deed, error, *answer))
            self.now += timedelta(seconds=600)
        return records

    def wait(self) -> None:
        seconds = self._dice.choice(WAITS) if self._together < MOST_A_SECOND else 1
        self._together = 0 if seconds else self._together + 1
        self._second = set() if seconds else self._second
        self.now += timedelta(seconds=seconds)
        if seconds > 1:
            self.listings.append((self.now - timedelta(seconds=1), *self._lists()))

    def listed(self) -> tuple[list[Profile], list[User]]:
        """What IAM and EC2 list now: it may be up to a minute old, but for what they listed longest ago."""
        recent = [(profiles, users) for at, profiles, users in self.listings if self.now - at < timedelta(minutes=1)]
        return self._dice.choice([*recent, self._lists()])

    def _lists(self) -> tuple[list[Profile], list[User]]:
        return list(self.truth.profiles.values()), list(self.truth.users.values())

    def call(self) -> Record:
        """Something that somebody tries."""
        dice = self._dice
        name, role, instance = dice.choice(NAMES), dice.choice(ROLES), dice.choice(INSTANCES)
        deed = dice.choice((*_IAM, *_EC2))
        if deed in _OPEN and self._second & {(name, other) for other in _OPEN[deed]}:
            self.now, self._second, self._together = self.now + timedelta(seconds=1), set(), 0
        self._second.add((name, deed))
        error, answer = _IAM[deed](self, name, role) if deed in _IAM else _EC2[deed](self, name, instance)
        return self._record(deed, error, *answer)

    def _record(self, name: str, error: str | None, parameters: Any = None, response: Any = None) -> Record:
        self.truth.made += 1
        event = {
            "eventName": name,
            "eventSource": "iam.amazonaws.com" if name in _IAM else "ec2.amazonaws.com",
            "eventTime": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "eventID": f"{self.truth.made:05}",
            "recipientAccountId": ACCOUNT,
            "awsRegion": "us-east-1" if name in _IAM else REGION,
            "userIdentity": {"type": "IAMUser", "arn": f"arn:aws:iam::{ACCOUNT}:user/ann"},
            "requestParameters": parameters,
            "responseElements": None if error else response,
        }
        return Record(event if error is None else {**event, "errorCode": error}, Origin(path="x"))

    # IAM.

    def _create(self, name: str, _: str) -> tuple[str | None, tuple[Any, ...]]:
        path, tags = self._dice.choice(("/", "/fleet/")), self._dice.choice(({}, {"team": "ops"}))
        self.truth.made += 1
        one = Profile(name, f"AIPA{self.truth.made}", f"arn:aws:iam::{ACCOUNT}:instance-profile{path}{name}", path, None, self.now, tags)
        error = "EntityAlreadyExists" if name in self.truth.profiles else None
        if error is None:
            self.truth.profiles[name] = one
        asked = {"instanceProfileName": name, "path": path, "tags": [{"key": key, "value": value} for key, value in tags.items()]}
        return error, (asked, {"instanceProfile": {"instanceProfileId": one.id, "arn": one.arn, "path": path}})

    def _delete(self, name: str, _: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        error = "NoSuchEntity" if there is None else "DeleteConflict" if there.role else None
        if error is None:
            del self.truth.profiles[name]
        return error, ({"instanceProfileName": name},)

    def _add(self, name: str, role: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        error = "NoSuchEntity" if there is None else "LimitExceeded" if there.role else None
        return error or self._change(name, role=role), ({"instanceProfileName": name, "roleName": role},)

    def _remove(self, name: str, role: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        error = "NoSuchEntity" if there is None or there.role != role else None
        return error or self._change(name, role=None), ({"instanceProfileName": name, "roleName": role},)

    def _tag(self, name: str, role: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        tags = {**(there.tags or {}), "team": role} if there else {}
        return self._change(name, tags=tags), ({"instanceProfileName": name, "tags": [{"key": "team", "value": role}]},)

    def _untag(self, name: str, _: str) -> tuple[str | None, tuple[Any, ...]]:
        return self._change(name, tags={}), ({"instanceProfileName": name, "tagKeys": ["team"]},)

    def _change(self, name: str, **members: Any) -> str | None:
        there = self.truth.profiles.get(name)
        if there is None:
            return "NoSuchEntity"
        values = {slot: getattr(there, slot) for slot in Profile.__slots__} | members
        self.truth.profiles[name] = Profile(**values)
        return None

    # EC2.

    def _run(self, name: str, instance: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        error = "Client.InvalidParameterValue" if there is None or instance in self.truth.launched else None
        if error is None and there is not None:
            self.truth.launched.add(instance)
            self.truth.users[instance] = User(instance, name, there.id, f"iip-assoc-{instance[2:]}run")
        item = {"instanceId": instance, "iamInstanceProfile": None if there is None else {"arn": there.arn, "id": there.id}}
        return error, ({"iamInstanceProfile": {"name": name}}, {"instancesSet": {"items": [item]}})

    def _associate(self, name: str, instance: str) -> tuple[str | None, tuple[Any, ...]]:
        there = self.truth.profiles.get(name)
        free = instance in self.truth.launched and instance not in self.truth.users and instance not in self.truth.gone
        error = None if there is not None and free else "Client.IncorrectState"
        made = self._associated(name, instance) if error is None else None
        asked = {"AssociateIamInstanceProfileRequest": {"IamInstanceProfile": {"Name": name}, "InstanceId": instance}}
        return error, (asked, made and {"AssociateIamInstanceProfileResponse": made})

    def _replace(self, name: str, instance: str) -> tuple[str | None, tuple[Any, ...]]:
        there, before = self.truth.profiles.get(name), self.truth.users.get(instance)
        error = None if there is not None and before is not None else "Client.InvalidAssociationID.NotFound"
        made = self._associated(name, instance) if error is None else None
        old = before.association if before else "iip-assoc-none"
        asked = {"ReplaceIamInstanceProfileAssociationRequest": {"IamInstanceProfile": {"Name": name}, "AssociationId": old}}
        return error, (asked, made and {"ReplaceIamInstanceProfileAssociationResponse": made})

    def _disassociate(self, _: str, instance: str) -> tuple[str | None, tuple[Any, ...]]:
        before = self.truth.users.pop(instance, None)
        if before is None:
            return "Client.InvalidAssociationID.NotFound", ()
        asked = {"DisassociateIamInstanceProfileRequest": {"AssociationId": before.association}}
        one = {"associationId": before.association, "instanceId": instance}
        return None, (asked, {"DisassociateIamInstanceProfileResponse": {"iamInstanceProfileAssociation": one}})

    def _terminate(self, _: str, instance: str) -> tuple[str | None, tuple[Any, ...]]:
        if instance not in self.truth.launched:
            return "Client.InvalidInstanceID.NotFound", ()
        self.truth.users.pop(instance, None)
        self.truth.gone.add(instance)
        items = {"instancesSet": {"items": [{"instanceId": instance}]}}
        return None, (items, items)

    def _associated(self, name: str, instance: str) -> dict[str, Any]:
        there = self.truth.profiles[name]
        self.truth.made += 1
        self.truth.users[instance] = User(instance, name, there.id, f"iip-assoc-{self.truth.made}")
        named = {"arn": there.arn, "id": there.id}
        return {
            "iamInstanceProfileAssociation": {
                "associationId": f"iip-assoc-{self.truth.made}",
                "instanceId": instance,
                "iamInstanceProfile": named,
            }
        }


_CHANGES = ("TagInstanceProfile", "UntagInstanceProfile", "CreateInstanceProfile", "DeleteInstanceProfile")
_OPEN = {
    "TagInstanceProfile": _CHANGES,
    "UntagInstanceProfile": _CHANGES,
    "CreateInstanceProfile": _CHANGES[:3],
    "DeleteInstanceProfile": _CHANGES[:2],
}
"""Calls whose order within a second nothing tells: two tags, or a tag and the profile that it was put on."""

_IAM = {
    "CreateInstanceProfile": History._create,
    "DeleteInstanceProfile": History._delete,
    "AddRoleToInstanceProfile": History._add,
    "RemoveRoleFromInstanceProfile": History._remove,
    "TagInstanceProfile": History._tag,
    "UntagInstanceProfile": History._untag,
}
_EC2 = {
    "RunInstances": History._run,
    "AssociateIamInstanceProfile": History._associate,
    "ReplaceIamInstanceProfileAssociation": History._replace,
    "DisassociateIamInstanceProfile": History._disassociate,
    "TerminateInstances": History._terminate,
}
