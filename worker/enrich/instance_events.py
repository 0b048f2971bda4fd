"""What EC2's records teach about the instances of an instance profile, and what it is remembered under. Pure.

An end names an instance and no profile (TerminateInstances, DisassociateIamInstanceProfile), so what is told of an instance is remembered
under the instance; under each profile stands only which instances to look at (`pointer`). Names with a slash, which IAM does not take, keep
these apart from the profiles themselves. Where an association's answer was withheld only the association is known, and it is remembered under
that: an instance that was told to have it then loses it. A launch with a profile that fails is remembered as such: after a delete it tells who needs
the profile.

Shapes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html, API_AssociateIamInstanceProfile.html,
API_ReplaceIamInstanceProfileAssociation.html and API_DisassociateIamInstanceProfile.html; CloudTrail writes the last three in an object
of the name of the request and of the response.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from worker.enrich.fact import ACCOUNT, IAM_NAME
from worker.model import Interest, ProfileEvent, Record, is_dry_run, stable_id

SOURCE = "ec2.amazonaws.com"
RUN, TERMINATE = "RunInstances", "TerminateInstances"
ASSOCIATE, REPLACE, DISASSOCIATE = "AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"
CALLS = (RUN, DISASSOCIATE, ASSOCIATE, REPLACE, TERMINATE)
INTEREST = Interest(pairs=frozenset((SOURCE, kind.lower()) for kind in CALLS))

MOST_INSTANCES = 1000
"""Of one record: TerminateInstances takes no more, and a record of RunInstances has room for fewer."""
MOST_CHARACTERS = 128
"""Of an error code that is remembered."""

_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}", re.ASCII)
_ASSOCIATION = re.compile(r"iip-assoc-[0-9A-Za-z]{1,32}", re.ASCII)
_REGION = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_ID = re.compile(r"[0-9A-Za-z]{1,128}", re.ASCII)


def of_instance(instance: str) -> str:
    """What the events of an instance are remembered under."""
    return f"instance/{instance}"


def of_association(association: str) -> str:
    """What the events of an association are remembered under whose instance was not told."""
    return f"association/{association}"


def users_of(profile: str) -> str:
    """What the instances of a profile are remembered under."""
    return f"uses/{profile}"


def tries_of(profile: str) -> str:
    """What failed launches with a profile are remembered under."""
    return f"tries/{profile}"


def pointer(account: str, profile: str, instance: str, time: datetime, kind: str) -> ProfileEvent:
    """Remembers under a profile that an instance began to use it, or was seen to. The order of keys is that of time."""
    return ProfileEvent(account, users_of(profile), time, _by_time(time, instance), kind, {"instance": instance})


def events_of(record: Record) -> tuple[ProfileEvent, ...]:
    """What a record of EC2 teaches about instances, with the pointers to them. Never raises.

    Of failed calls only a launch teaches, that it was tried. Nothing do a call without a time or an account id, an instance without a profile, or a
    name that AWS would not take.
    """
    account, time = record.account, record.time
    if record.source != SOURCE or record.name not in CALLS:
        return ()
    if account is None or time is None or not ACCOUNT.fullmatch(account):
        return ()
    if record.error_code is not None:
        return _tried(record, account, time)
    told: list[ProfileEvent] = []
    for one in _READERS[record.name](record):
        where = of_association(one["association"]) if "instance" not in one else of_instance(one["instance"])
        region = _text(record.region, _REGION)
        detail = {**one, **({} if region is None else {"region": region})}
        told.append(ProfileEvent(account, where, time, stable_id(record.key, where), record.name, detail))
        if "profile" in one and "instance" in one:
            told.append(pointer(account, one["profile"], one["instance"], time, record.name))
    return tuple(told)


def _tried(record: Record, account: str, time: datetime) -> tuple[ProfileEvent, ...]:
    asked = _profile(record.get("requestParameters", "iamInstanceProfile"), account) if record.name == RUN else {}
    if not asked or is_dry_run(record.error_code):
        return ()
    told = {"error": (record.error_code or "")[:MOST_CHARACTERS], "actor": record.text("userIdentity", "arn")}
    detail = {name: value for name, value in told.items() if value is not None}
    return (ProfileEvent(account, tries_of(asked["profile"]), time, _by_time(time, record.key), RUN, detail),)


def _by_time(time: datetime, key: str) -> str:
    return f"{time.astimezone(UTC).isoformat(timespec='microseconds')} {key}"


def profile_named(arn: Any, account: str | None) -> str | None:
    """The name of an account's instance profile in its ARN, whatever the path."""
    _, _, service, _, owner, resource = [*(arn if isinstance(arn, str) else "").split(":", 5), *[""] * 6][:6]
    kind, _, path = resource.partition("/")
    name = path.rpartition("/")[2]
    return name if (service, owner, kind) == ("iam", account, "instance-profile") and IAM_NAME.fullmatch(name) else None


def _run(record: Record) -> Iterator[dict[str, Any]]:
    asked = _profile(record.get("requestParameters", "iamInstanceProfile"), record.account)
    for item in _items(record.get("responseElements", "instancesSet", "items")):
        answered = _profile(item.get("iamInstanceProfile"), record.account)
        if (instance := _text(item.get("instanceId"), _INSTANCE)) is not None and (profile := {**asked, **answered}):
            yield {"instance": instance, **profile}


def _terminated(record: Record) -> Iterator[dict[str, Any]]:
    for item in _items(record.get("responseElements", "instancesSet", "items") or record.get("requestParameters", "instancesSet", "items")):
        if (instance := _text(item.get("instanceId"), _INSTANCE)) is not None:
            yield {"instance": instance}


def _associated(record: Record) -> Iterator[dict[str, Any]]:
    """One association. It has the id that the answer tells; `replaces` is the one that was asked to make room."""
    asked = record.get("requestParameters", f"{record.name}Request")
    made = record.get("responseElements", f"{record.name}Response", "iamInstanceProfileAssociation")
    asked, made = (part if isinstance(part, Mapping) else {} for part in (asked, made))
    old, new = _text(asked.get("AssociationId"), _ASSOCIATION), _text(made.get("associationId"), _ASSOCIATION)
    instance = _text(made.get("instanceId"), _INSTANCE) or _text(asked.get("InstanceId"), _INSTANCE)
    told: dict[str, Any] = {} if instance is None else {"instance": instance}
    told |= {} if (association := new or old) is None else {"association": association}
    if record.name != DISASSOCIATE:
        profile = {
            **_profile(asked.get("IamInstanceProfile"), record.account),
            **_profile(made.get("iamInstanceProfile"), record.account),
        }
        if not profile:
            return
        told |= profile
        told |= {"replaces": old} if old is not None else {}
    if instance is not None or (association is not None and old is not None):
        yield told if instance is not None else {**told, "association": old}


_READERS = {RUN: _run, TERMINATE: _terminated, ASSOCIATE: _associated, REPLACE: _associated, DISASSOCIATE: _associated}


def _profile(named: Any, account: str | None) -> dict[str, str]:
    """A profile as EC2 names it in a request (`Name` or `Arn`) or an answer (`arn` and `id`), either in small letters or not."""
    members = {str(key).lower(): value for key, value in named.items()} if isinstance(named, Mapping) else {}
    name = _text(members.get("name"), IAM_NAME) or profile_named(members.get("arn"), account)
    if name is None:
        return {}
    unique = _text(members.get("id"), _ID)
    return {"profile": name} | ({} if unique is None else {"profile_id": unique})


def _items(value: Any) -> Iterator[Mapping[str, Any]]:
    yield from (item for item in value[:MOST_INSTANCES] if isinstance(item, Mapping)) if isinstance(value, list) else ()


def _text(value: Any, pattern: re.Pattern[str]) -> str | None:
    return value if isinstance(value, str) and pattern.fullmatch(value) else None
