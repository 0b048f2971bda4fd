"""Which instance used which instance profile, and from when until when, put together from what the log and snapshots told. Pure.

`events_of` reads a record, `uses` folds the events of one instance, in any order and as often as they were delivered, into its uses.

An end names an instance and no profile (TerminateInstances, DisassociateIamInstanceProfile), so what is told of an instance is remembered
under the instance; under each profile stands only which instances to look at (`pointer`). Names with a slash, which IAM does not take, keep
these apart from the profiles themselves. Where an association's answer was withheld only the association is known, and it is remembered under
that: an instance that was told to have it then loses it.

Shapes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html, API_AssociateIamInstanceProfile.html,
API_ReplaceIamInstanceProfileAssociation.html and API_DisassociateIamInstanceProfile.html; CloudTrail writes the last three in an object
of the name of the request and of the response.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

from worker.enrich.fact import ACCOUNT, IAM_NAME, stamp
from worker.enrich.sequence import MISSING, SEEN, as_allowed, distinct, overtaken
from worker.model import Interest, ProfileEvent, Record, stable_id

SOURCE = "ec2.amazonaws.com"
RUN, TERMINATE = "RunInstances", "TerminateInstances"
ASSOCIATE, REPLACE, DISASSOCIATE = "AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation", "DisassociateIamInstanceProfile"
CALLS = (RUN, DISASSOCIATE, ASSOCIATE, REPLACE, TERMINATE)
RANK = {kind: rank for rank, kind in enumerate((*CALLS, SEEN, MISSING))}
INTEREST = Interest(pairs=frozenset((SOURCE, kind.lower()) for kind in CALLS))

MOST_INSTANCES = 1000
"""Of one record: TerminateInstances takes no more, and a record of RunInstances has room for fewer."""

_INSTANCE = re.compile(r"i-[0-9A-Za-z]{1,32}", re.ASCII)
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


def pointer(account: str, profile: str, instance: str, time: datetime, kind: str) -> ProfileEvent:
    """Remembers under a profile that an instance began to use it, or was seen to. The order of keys is that of time."""
    at = time.astimezone(UTC).isoformat(timespec="microseconds")
    return ProfileEvent(account, users_of(profile), time, f"{at} {instance}", kind, {"instance": instance})


def events_of(record: Record) -> tuple[ProfileEvent, ...]:
    """What a record of EC2 teaches about instances, with the pointers to them. Never raises.

    A failed call teaches nothing, nor does one without a time or an account id, an instance without a profile, or a name that AWS would not take.
    """
    account, time = record.account, record.time
    if record.source != SOURCE or record.name not in CALLS or record.error_code is not None:
        return ()
    if account is None or time is None or not ACCOUNT.fullmatch(account):
        return ()
    told: list[ProfileEvent] = []
    for one in _READERS[record.name](record):
        where = of_association(one["association"]) if "instance" not in one else of_instance(one["instance"])
        region = _text(record.region, _REGION)
        detail = {**one, **({} if region is None else {"region": region})}
        told.append(ProfileEvent(account, where, time, stable_id(record.key, where), record.name, detail))
        if "profile" in one and "instance" in one:
            told.append(pointer(account, one["profile"], one["instance"], time, record.name))
    return tuple(told)


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


@dataclass(frozen=True, slots=True)
class Use:
    """A stretch of time in which an instance used a profile. `until` is None while it does, as far as was told.

    `since` is None where a snapshot found it; an end that only a snapshot noticed is dated by the snapshot. `how` is the call or `Snapshot` that
    told of it first, `told_at` when it was last told that the instance uses it. `profile_id` tells profiles of the same name apart.
    """

    instance: str
    profile: str
    told_at: datetime
    how: str
    region: str | None = None
    profile_id: str | None = None
    association: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def as_value(self) -> dict[str, Any]:
        """JSON, as the fact `profile` carries it (docs/facts.md)."""
        return {
            "id": self.instance,
            "region": self.region,
            "since": stamp(self.since),
            "until": stamp(self.until),
            "learnt_at": stamp(self.told_at),
            "how": self.how,
        }


def uses(events: Iterable[ProfileEvent]) -> list[Use]:
    """The uses that the events of an instance (and of its associations) tell of, oldest first."""
    told = distinct(events, RANK)
    trusted = [event for event in told if event.kind in CALLS or not overtaken(event, told)]
    state, past = _State(), list[Use]()
    for _, together in groupby(trusted, key=lambda event: event.time):
        for event in as_allowed(state, tuple(together), _allowed, _then):
            after = _then(state, event)
            if state.use is not None and after.use is not state.use and not _confirms(state.use, event):
                past.append(replace(state.use, until=event.time))
            state = after
    return past if state.use is None else [*past, state.use]


@dataclass(frozen=True, slots=True)
class _State:
    """What decides whether EC2 lets a call succeed. `known` is whether it is known that nothing is in use where `use` is None."""

    use: Use | None = None
    known: bool = False
    run: bool = False
    dead: bool = False
    over: frozenset[str] = field(default_factory=frozenset)


def _allowed(state: _State, event: ProfileEvent) -> bool:
    """Whether EC2 would let this succeed; what is not known is no obstacle."""
    if event.kind == RUN:
        return not state.run and state.use is None and not state.known
    if state.dead:
        return event.kind in (TERMINATE, MISSING)
    match event.kind:
        case "AssociateIamInstanceProfile":
            return state.use is None and event.detail.get("association") not in state.over
        case "ReplaceIamInstanceProfileAssociation":
            return _has(state, event.detail.get("replaces"))
        case "DisassociateIamInstanceProfile":
            return _has(state, event.detail.get("association"))
        case _:
            return True


def _has(state: _State, association: str | None) -> bool:
    if state.use is None:
        return not state.known
    return None in (association, state.use.association) or state.use.association == association


def _then(state: _State, event: ProfileEvent) -> _State:
    detail, use = event.detail, state.use
    association = detail.get("association")
    over = state.over if use is None or use.association is None else state.over | {use.association}
    if state.dead or event.kind == TERMINATE:
        return replace(state, use=None, known=True, run=True, dead=True)
    if event.kind == MISSING:
        return _State(None, known=True, run=True, over=over)
    if event.kind == DISASSOCIATE:
        ended = frozenset[str]() if association is None else frozenset({association})
        if not _has(state, association):
            return replace(state, over=state.over | ended)
        return _State(None, known=True, run=True, over=over | ended)
    if "instance" not in detail:
        # A replacement of which only the old association is known. An instance that had it has another now, and which is not told.
        return _State(None, known=False, run=True, over=over) if use is not None and _has(state, detail.get("replaces")) else state
    if use is not None and _confirms(use, event):
        found = replace(
            use,
            told_at=event.time,
            region=use.region or detail.get("region"),
            profile_id=use.profile_id or detail.get("profile_id"),
            association=association or use.association,
        )
        return replace(state, use=found)
    since = None if event.kind == SEEN else event.time
    begun = Use(
        detail["instance"],
        detail["profile"],
        event.time,
        event.kind,
        detail.get("region"),
        detail.get("profile_id"),
        association,
        since,
    )
    return _State(begun, known=True, run=True, over=over - {association})


def _confirms(use: Use, event: ProfileEvent) -> bool:
    """Whether a snapshot shows a use that was known."""
    ids = {use.profile_id, event.detail.get("profile_id")} - {None}
    return event.kind == SEEN and use.profile == event.detail["profile"] and len(ids) <= 1


# Forgetting.

FORGOTTEN_AFTER = timedelta(days=30)
"""What is over so long is forgotten. Longer than SQS and a dead-letter queue together keep a message that would tell of it again (28 days)."""
UNCONFIRMED_AFTER = timedelta(days=400)
"""What was told so long ago and never since is forgotten too: an instance may end without a record, as a Spot Instance does."""


def spent(events: Sequence[ProfileEvent], now: datetime) -> list[ProfileEvent]:
    """Those events of an instance or association that no longer matter, with their pointers.

    All from before the use that was going on when `FORGOTTEN_AFTER` began, and all that nothing has confirmed for `UNCONFIRMED_AFTER`.
    """
    old = [event for event in events if event.time < now - FORGOTTEN_AFTER]
    instance = next((event.detail["instance"] for event in events if "instance" in event.detail), None)
    begun: datetime | None = None
    if instance is not None and old:
        last = uses(old)[-1:]
        going_on = next((use for use in last if use.until is None), None)
        begun = None if going_on is None else going_on.since or min((e.time for e in old if _tells(e, going_on)), default=None)
        gone = old if begun is None else [event for event in old if event.time < begun]
    else:
        gone = []
    gone = [event for event in events if event in gone or event.time < now - UNCONFIRMED_AFTER]
    pointers = [
        pointer(event.account, event.detail["profile"], event.detail["instance"], event.time, event.kind)
        for event in gone
        if "profile" in event.detail and "instance" in event.detail
    ]
    return [*gone, *pointers]


def _tells(event: ProfileEvent, use: Use) -> bool:
    return event.detail.get("profile") == use.profile and event.time <= use.told_at
