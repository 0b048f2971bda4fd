"""The facts that judge: `authorised`, `documented` and `replaced`. Each says what it judged by.

They judge from the event, the settings and other facts, and ask AWS nothing themselves. What the caller writes is never taken for more
than the caller's word: a user agent is shown and authorises nobody, and `documented` says that a change is named, not that it was approved.
What a correlation found is authorised or documented only where every one of its events is: one honest call among them excuses nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import re2

from worker.enrich.fact import Case, FactKind
from worker.enrich.lives import DELETE
from worker.enrich.profile import about_profile, principal_of
from worker.enrich.role import SERVICE_LINKED
from worker.glob import Glob
from worker.model import Actor, Fact, FactSource, FactStatus, Finding, Record
from worker.settings import Settings

SERVICE = ".amazonaws.com"
IAC_AGENTS = (
    ("opentofu", "OpenTofu"),
    ("terraform", "Terraform"),
    ("pulumi", "Pulumi"),
    ("aws-cdk", "CDK"),
    ("cloudformation", "CloudFormation"),
)
"""Parts of a user agent by which tools that build from code make themselves known; the first that fits counts."""
CONSISTENT_SECONDS = 60.0
"""IAM may deny a new profile's existence for a while (IAM User Guide, eventual consistency); after this long it is gone indeed."""
REPLACED_WITHIN_SECONDS = 900.0
"""The grace of `replaced`. Tools delete and make again within one run, with what depends on it between; what comes later is another deed."""
MOST_SEARCHED = 2048
"""Characters of one text that are searched for a change; names, tags and identities are shorter."""


async def _authorised(case: Case) -> Fact:
    finding = case.finding
    judged = [judge_authority(actor, case.settings, record.text("userIdentity", "invokedBy")) for actor, record in _deeds(finding)]
    source, authorised, because = next((one for one in judged if not one[1]), judged[0])
    value = {"authorised": authorised, "because": because, "iac_agent": iac_agent(finding.actor.user_agent)}
    return AUTHORISED.known(value, finding.record.time or case.clock(), source=source)


def judge_authority(actor: Actor, settings: Settings, invoked_by: str | None = None) -> tuple[FactSource, bool, str]:
    """Whether this caller may do such things: learnt from what, the verdict, and why in words.

    An AWS service that acts by itself may: as AWSService, through its service-linked role, or in an event that names the service and no
    identity at all. One that passes on somebody's call (`invoked_by`, as CloudFormation does) acts for whoever is named.
    """
    if actor.type == "AWSService":
        return FactSource.EVENT, True, f"{invoked_by or 'an AWS service'} made the call on its own behalf"
    if SERVICE_LINKED.fits(actor.issuer_arn):
        return FactSource.EVENT, True, f"{actor.issuer_arn} is a service-linked role, which only its AWS service can assume"
    names = [arn for arn in (actor.issuer_arn, actor.arn) if arn is not None]
    nobody = actor.type == "Unknown" and not names and actor.name is None and actor.access_key_id is None
    if nobody and invoked_by is not None and invoked_by.endswith(SERVICE):
        return FactSource.EVENT, True, f"{invoked_by} made the event on its own behalf"
    for pattern in settings.authorized_principals:
        glob = Glob(pattern, cased=True)
        for name in names:
            if glob.fits(name):
                return FactSource.SETTINGS, True, f"{name} matches {pattern} of TRAILMEND_AUTHORIZED_PRINCIPALS"
    if not settings.authorized_principals:
        return FactSource.SETTINGS, False, "TRAILMEND_AUTHORIZED_PRINCIPALS names nobody"
    if not names:
        return FactSource.SETTINGS, False, "the event names no principal"
    return FactSource.SETTINGS, False, f"{names[0]} matches no pattern of TRAILMEND_AUTHORIZED_PRINCIPALS"


def _deeds(finding: Finding) -> list[tuple[Actor, Record]]:
    """Each event that a finding is made of, with who did it: its own first, then the others that a correlation found with it."""
    others = () if finding.occurrence is None else finding.occurrence.sightings
    records = {one.record.key: one.record for one in others if one.record.key != finding.record.key}
    return [(finding.actor, finding.record), *((_caller(record), record) for record in records.values())]


def _caller(record: Record) -> Actor:
    """As much of who made a call as is judged here."""
    kind, arn = record.text("userIdentity", "type") or "Unknown", record.text("userIdentity", "arn")
    return Actor(
        kind,
        arn,
        record.text("userIdentity", "userName"),
        session=(arn or "").rpartition("/")[2] if kind == "AssumedRole" else None,
        issuer_arn=record.text("userIdentity", "sessionContext", "sessionIssuer", "arn"),
        source_identity=record.text("userIdentity", "sessionContext", "sourceIdentity"),
        access_key_id=record.text("userIdentity", "accessKeyId"),
    )


def iac_agent(user_agent: str | None) -> str | None:
    """The infrastructure-as-code tool that a user agent claims to be."""
    told = (user_agent or "").lower()
    return next((name for mark, name in IAC_AGENTS if mark in told), None)


async def _documented(case: Case) -> Fact:
    finding, at = case.finding, case.finding.record.time or case.clock()
    pattern = re2.compile(case.settings.change_pattern or "")
    named = [_named(pattern, actor, record) for actor, record in _deeds(finding)]
    if named[0] is not None and all(named):
        return DOCUMENTED.known({"documented": True, "change": named[0][0], "where": named[0][1]}, at)
    undocumented = DOCUMENTED.known({"documented": False, "change": None, "where": None}, at)
    if finding.occurrence is not None:  # the tags of the last profile say nothing of the others
        return undocumented
    remembered, live = await case.fact("profile"), await case.fact("profile_live")
    tagged = [
        fact for fact in (remembered, live) if fact is not None and fact.status is FactStatus.KNOWN and fact.value["tags"] is not None
    ]
    for fact in tagged:
        where = "tag of the profile as remembered" if fact is remembered else "tag of the profile as it is now"
        for key, text in fact.value["tags"].items():
            if (change := _change(pattern, text)) is not None:
                value = {"documented": True, "change": change, "where": f"{where}: {key}"}
                return DOCUMENTED.known(value, fact.observed_at, source=fact.source)
    if about_profile(finding, case.settings) and not tagged:
        return DOCUMENTED.unknown(at, "no change is named in the event, and the profile's tags are not known")
    return undocumented


def _named(pattern: Any, actor: Actor, record: Record) -> tuple[str, str] | None:
    """The change that an event names, and where."""
    return next(((change, where) for where, text in _texts(actor, record) if (change := _change(pattern, text)) is not None), None)


def _texts(actor: Actor, record: Record) -> Iterator[tuple[str, str | None]]:
    """Where an event may name a change, with the text there."""
    yield "session name", actor.session
    yield "source identity", actor.source_identity
    tags = record.get("requestParameters", "tags")
    for tag in tags if isinstance(tags, list) else ():
        if isinstance(tag, Mapping) and isinstance(tag.get("value"), str):
            yield f"request tag: {str(tag.get('key'))[:128]}", tag["value"]


def _change(pattern: Any, text: str | None) -> str | None:
    found = pattern.search(text[:MOST_SEARCHED]) if text else None
    return found.group(0) if found is not None and found.group(0) else None


async def _replaced(case: Case) -> Fact:
    record, at = case.finding.record, case.finding.record.time
    remembered, live = await case.fact("profile"), await case.fact("profile_live")
    if at is None or remembered is None or live is None:
        return REPLACED.unknown(case.clock(), "the record tells no time")
    return judge_replacement(at, principal_of(record), remembered, live)


def judge_replacement(at: datetime, principal: str | None, remembered: Fact, live: Fact) -> Fact:
    """Whether a profile of the name deleted at `at` by `principal` was made after that and is still there, by the log and by IAM.

    `roles` are those of the new profile and `same_role` whether the deleted one's last role is among them: a profile made again
    without its role is no replacement to the instances that used it, and nor is one that was deleted again. `in_grace` tells whether it came
    as soon as tools make it; later it stands there all the same, and explains nothing.
    """
    memory = remembered.value if remembered.status is FactStatus.KNOWN else {}
    now = live.value if live.status is FactStatus.KNOWN else {}
    last_role = (memory.get("last_role") or {}).get("name")
    if (again := memory.get("recreated")) is not None:
        made_at = datetime.fromisoformat(again["at"])
        # Nor can it be made after we looked: records come later than what they tell of, and times in them may be forged.
        seen_gone = live.status is FactStatus.GONE and abs((live.observed_at - made_at).total_seconds()) > CONSISTENT_SECONDS
        value = {
            "replaced": again["exists"] and not seen_gone,
            "by": again["by"],
            **_after(made_at, at),
            "same_principal": principal is not None and principal == again["principal"],
            **_roles(now.get("roles", again["roles"]), last_role),
        }
        return REPLACED.known(value, live.observed_at if seen_gone else made_at, source=FactSource.MEMORY)
    unseen = {"by": None, "same_principal": None}
    if live.status is FactStatus.GONE:
        return REPLACED.known({"replaced": False, **_after(None, at), **unseen, **_roles(None, last_role)}, live.observed_at)
    if live.status is FactStatus.UNKNOWN:
        return REPLACED.unknown(live.observed_at, live.reason or "what there is now is not known")
    made_at = datetime.fromisoformat(now["created"])
    if made_at < at:
        return REPLACED.unknown(live.observed_at, f"IAM still answers with the profile made at {now['created']}, before the delete")
    value = {"replaced": True, **_after(made_at, at), **unseen, **_roles(now["roles"], last_role)}
    return REPLACED.known(value, live.observed_at)


def _after(made_at: datetime | None, at: datetime) -> dict[str, Any]:
    after_seconds = None if made_at is None else (made_at - at).total_seconds()
    return {"after_seconds": after_seconds, "in_grace": None if after_seconds is None else after_seconds <= REPLACED_WITHIN_SECONDS}


def _roles(roles: list[str] | None, last_role: str | None) -> dict[str, Any]:
    return {"roles": roles, "same_role": None if roles is None or last_role is None else last_role in roles}


def _always(_finding: Finding, _settings: Settings) -> bool:
    return True


def _pattern_is_set(_: Finding, settings: Settings) -> bool:
    return settings.change_pattern is not None


def _is_delete(finding: Finding, _: Settings) -> bool:
    deleted = finding.record.name == DELETE and finding.record.error_code is None
    return deleted and finding.subject.type == "instance-profile"


AUTHORISED = FactKind("authorised", FactSource.SETTINGS, _always, _authorised)
DOCUMENTED = FactKind("documented", FactSource.EVENT, _pattern_is_set, _documented)
REPLACED = FactKind("replaced", FactSource.LIVE, _is_delete, _replaced)
