"""What the log teaches about instance profiles, and the facts `profile` (as remembered) and `profile_live` (as it is now).

After a delete nobody but the log and earlier snapshots can tell the role, path and tags, and where EC2 may not be asked, nobody else the
instances. `INTEREST` names the records wanted, `events_of` reads one of them (EC2's are `instance_events.py`'s), `fold` picks the life (`lives.py`)
that a finding is about; all are pure. Values are documented in docs/facts.md. Source of the live fact:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetInstanceProfile.html
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from worker.enrich import instance_events
from worker.enrich.fact import ACCOUNT, IAM_NAME, Call, Case, FactKind, stamp, tags_of
from worker.enrich.lives import ADD_ROLE, CALLS, CREATE, DELETE, REMOVE_ROLE, TAG, UNTAG, Deed, Life, lives
from worker.enrich.recollection import recollect
from worker.enrich.uses import Use
from worker.model import Fact, FactSource, Finding, Interest, ProfileEvent, Record
from worker.settings import Settings

SOURCE = "iam.amazonaws.com"
INTEREST = Interest(pairs=frozenset((SOURCE, kind.lower()) for kind in CALLS)) | instance_events.INTEREST

MOST_TAGS = 50
"""https://docs.aws.amazon.com/IAM/latest/UserGuide/id_tags.html: 50 tags, keys of 128 and values of 256 characters; paths of 512."""

MOST_LISTED = 100
"""Instances told in a fact: those that use the profile, then the latest that did."""

LIVE_SECONDS = 5.0
"""Short: a replacement makes the profile again within seconds."""


def events_of(record: Record) -> tuple[ProfileEvent, ...]:
    """What a record teaches about a profile and the instances that use it. Never raises.

    A failed call teaches nothing, nor does one without a time, an account id or a name that IAM would take.
    """
    if record.source == instance_events.SOURCE:
        return instance_events.events_of(record)
    account, time, name = record.account, record.time, _text(record.get("requestParameters", "instanceProfileName"), 128)
    if record.source != SOURCE or record.name not in CALLS or record.error_code is not None:
        return ()
    if account is None or time is None or name is None or not ACCOUNT.fullmatch(account) or not IAM_NAME.fullmatch(name):
        return ()
    read = _DETAILS[record.name](record)
    if read is None:
        return ()
    detail = {"actor": actor_of(record), "principal": principal_of(record), **read}
    told = {member: value for member, value in detail.items() if value is not None}
    return (ProfileEvent(account, name, time, record.key, record.name, told),)


def actor_of(record: Record) -> str | None:
    """Who made the call: the ARN, or the name of the AWS service that made it."""
    return record.text("userIdentity", "arn") or record.text("userIdentity", "invokedBy") or record.text("userIdentity", "principalId")


def principal_of(record: Record) -> str | None:
    """Who made the call, across sessions: an assumed role by the role's ARN, whichever its session's name."""
    return record.text("userIdentity", "sessionContext", "sessionIssuer", "arn") or actor_of(record)


def _created(record: Record) -> Mapping[str, Any]:
    """The answer has it all; a request without a path means `/` (IAM API, CreateInstanceProfile)."""
    asked, made = ("requestParameters",), ("responseElements", "instanceProfile")
    return {
        "path": _text(record.get(*made, "path"), 512) or _text(record.get(*asked, "path"), 512) or "/",
        "tags": {**_tags(record.get(*asked, "tags")), **_tags(record.get(*made, "tags"))},
        "id": _text(record.get(*made, "instanceProfileId"), 128),
        "arn": _text(record.get(*made, "arn"), 2048),
    }


def _role(record: Record) -> Mapping[str, Any] | None:
    role = _text(record.get("requestParameters", "roleName"), 64)
    return {"role": role} if role is not None and IAM_NAME.fullmatch(role) else None


def _tagged(record: Record) -> Mapping[str, Any]:
    return {"tags": _tags(record.get("requestParameters", "tags"))}


def _untagged(record: Record) -> Mapping[str, Any]:
    keys = record.get("requestParameters", "tagKeys")
    return {"tag_keys": [key for key in keys[:MOST_TAGS] if _text(key, 128)] if isinstance(keys, list) else []}


def _nothing_more(_: Record) -> Mapping[str, Any]:
    return {}


_DETAILS: Mapping[str, Callable[[Record], Mapping[str, Any] | None]] = {
    CREATE: _created,
    DELETE: _nothing_more,
    ADD_ROLE: _role,
    REMOVE_ROLE: _role,
    TAG: _tagged,
    UNTAG: _untagged,
}
"""Each answers None where the record lacks what makes it worth remembering."""


def _text(value: Any, most: int) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= most else None


def _tags(value: Any) -> dict[str, str]:
    """CloudTrail's list of `{"key", "value"}`; entries that IAM would not take are left out."""
    entries = [entry for entry in value[:MOST_TAGS] if isinstance(entry, Mapping)] if isinstance(value, list) else []
    pairs = ((_text(entry.get("key"), 128), entry.get("value")) for entry in entries)
    return {key: tag for key, tag in pairs if key is not None and isinstance(tag, str) and len(tag) <= 256}


@dataclass(frozen=True, slots=True)
class ProfileMemory:
    """The life asked about and the one after it. No life: nothing is remembered. See `fold`."""

    life: Life | None = None
    successor: Life | None = None

    def as_value(self) -> dict[str, Any]:
        """JSON, as the fact `profile` carries it (docs/facts.md). Empty when nothing is remembered."""
        life = self.life
        if life is None:
            return {}
        last = None if life.last_role is None else {"name": life.last_role, **_removal(life.role_removed)}
        return {
            "exists": life.deleted is None and self.successor is None,
            "arn": life.arn,
            "id": life.id,
            "path": life.path,
            "tags": None if life.tags is None else dict(life.tags),
            "complete": life.complete,
            "roles": [] if life.role is None else [life.role],
            "last_role": last,
            "created": _told(life.created),
            "deleted": _told(life.deleted),
            "recreated": self._recreated(),
            "learnt_at": {"path": stamp(life.path_at), "role": stamp(life.role_at), "tags": stamp(life.tags_at)},
        }

    def _recreated(self) -> dict[str, Any] | None:
        after = self.successor
        # One that only a snapshot told of is left for IAM to confirm: who made it is not known.
        if after is None or (created := _told(after.created)) is None or created["principal"] is None:
            return None
        return created | {"exists": after.deleted is None, "roles": [] if after.role is None else [after.role]}


def _told(deed: Deed | None) -> dict[str, Any] | None:
    return None if deed is None else {"at": stamp(deed.at), "by": deed.by, "principal": deed.principal}


def _removal(deed: Deed | None) -> dict[str, Any]:
    return {"removed_at": None, "removed_by": None} if deed is None else {"removed_at": stamp(deed.at), "removed_by": deed.by}


def fold(events: Iterable[ProfileEvent], at: datetime | None) -> ProfileMemory:
    """Put the events of one profile together; their order and repetitions make no difference.

    With `at`, the life that was going on at that time or ended then: for a delete at `at`, the life it ended, and not the one that a
    replacement began in the same second. Without, the last life. All that is known of that life is told, also from after `at`.
    """
    told = list(lives(events))
    if not told:
        return ProfileMemory()
    last = len(told) - 1
    chosen = last if at is None else next((n for n in range(last) if _end(told, n) >= at), last)
    return ProfileMemory(told[chosen], told[chosen + 1] if chosen < last else None)


def _end(told: Sequence[Life], number: int) -> datetime:
    """When a life that has a successor ended; where its delete was never read, when it was last heard of."""
    deleted = told[number].deleted
    return told[number].told_at if deleted is None else deleted.at


def used_in(life: Life, use: Use) -> bool:
    """Whether a use of a profile's name was one of this life of it, as far as ids and times tell."""
    if life.id is not None and use.profile_id is not None:
        return life.id == use.profile_id
    before = life.created is not None and use.until is not None and use.until < life.created.at
    after = life.deleted is not None and use.since is not None and use.since > life.deleted.at
    return not (before or after)


def _tried_in(memory: ProfileMemory, event: ProfileEvent) -> bool:
    """Whether a failed launch was with this life of the profile's name, or after its end and before the next."""
    began = memory.life.created if memory.life is not None else None
    ended = memory.successor.created if memory.successor is not None else None
    return (began is None or event.time >= began.at) and (ended is None or event.time < ended.at)


def _try(event: ProfileEvent) -> dict[str, Any]:
    return {"at": stamp(event.time), "by": event.detail.get("actor"), "error": event.detail.get("error")}


def profile_of(finding: Finding) -> tuple[str, str] | None:
    """The account and name of the instance profile that a finding is about, when IAM would take both."""
    subject, account = finding.subject, finding.record.account
    named = (subject.name if subject.type == "instance-profile" else None) or ""
    name = named.rpartition("/")[2]
    return (account, name) if account is not None and ACCOUNT.fullmatch(account) and IAM_NAME.fullmatch(name) else None


async def _remembered(case: Case) -> Fact:
    named = profile_of(case.finding)
    if named is None:
        return PROFILE.unknown(case.clock(), "the record names no instance profile, or no account")
    record = case.finding.record
    # Its own record may not have been learnt yet; folding it in twice makes no difference.
    recollected = await recollect(case.store, *named, more=events_of(record))
    memory = fold(recollected.events, record.time)
    used = [use for use in recollected.uses if memory.life is None or used_in(memory.life, use)]
    if memory.life is None or (memory.life.empty and memory.successor is None):
        if not used:
            return PROFILE.unknown(case.clock(), "the log read so far tells nothing about this profile from before this event")
        life = memory.life or Life(max(use.told_at for use in used))
    else:
        life = memory.life
    value = {
        "name": named[1],
        "account": named[0],
        **replace(memory, life=life).as_value(),
        "instances": [use.as_value() for use in used[:MOST_LISTED]],
        "failed_launches": [_try(event) for event in recollected.tries if _tried_in(memory, event)],
    }
    more = recollected.cut or len(used) > MOST_LISTED
    reason = f"instances: {len(value['instances'])} are told, and more are remembered" if more else None
    return PROFILE.known(value, life.told_at, reason=reason)


async def _live(case: Case) -> Fact:
    named = profile_of(case.finding)
    if named is None:
        return PROFILE_LIVE.unknown(case.clock(), "the record names no instance profile, or no account")
    account, name = named
    answer = await case.ask(Call(account, "iam", "get_instance_profile", LIVE_SECONDS, {"InstanceProfileName": name}, stand_in_seconds=0))
    if answer.gone:
        return PROFILE_LIVE.gone(answer)
    if answer.fault is not None:
        return PROFILE_LIVE.unknown(answer.at, answer.fault.text)
    profile = answer.value["InstanceProfile"]
    value = {
        "name": name,
        "account": account,
        "arn": profile.get("Arn"),
        "id": profile.get("InstanceProfileId"),
        "path": profile.get("Path"),
        "created": stamp(profile.get("CreateDate")),
        "roles": [role["RoleName"] for role in profile.get("Roles", ())],
        "tags": tags_of(profile.get("Tags")),
    }
    return PROFILE_LIVE.told(value, (answer,))


def about_profile(finding: Finding, _: Settings) -> bool:
    """Whether a finding is about an instance profile, or about an instance in whose association one is named."""
    return finding.subject.type == "instance-profile"


PROFILE = FactKind("profile", FactSource.MEMORY, about_profile, _remembered)
PROFILE_LIVE = FactKind("profile_live", FactSource.LIVE, about_profile, _live, ("iam:GetInstanceProfile",))
