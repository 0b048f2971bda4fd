"""The facts that judge: `authorised`, `documented` and `replaced`. Each says what it judged by.

They judge from the event, the settings and other facts, and ask AWS nothing themselves. What the caller writes is never taken for more
than the caller's word: a user agent is shown and authorises nobody, and `documented` says that a change is named, not that it was approved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

import re2

from worker.enrich.fact import Case, FactKind
from worker.enrich.lives import DELETE
from worker.enrich.profile import about_profile, principal_of
from worker.enrich.role import SERVICE_LINKED
from worker.model import Actor, Fact, FactSource, FactStatus, Finding
from worker.settings import Settings

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
MOST_SEARCHED = 2048
"""Characters of one text that are searched for a change; names, tags and identities are shorter."""


async def _authorised(case: Case) -> Fact:
    finding = case.finding
    source, authorised, because = judge_authority(finding.actor, case.settings)
    value = {"authorised": authorised, "because": because, "iac_agent": iac_agent(finding.actor.user_agent)}
    return AUTHORISED.known(value, finding.record.time or case.clock(), source=source)


def judge_authority(actor: Actor, settings: Settings) -> tuple[FactSource, bool, str]:
    """Whether this caller may do such things: learnt from what, the verdict, and why in words."""
    if actor.type == "AWSService":
        return FactSource.EVENT, True, "an AWS service made the call on its own behalf"
    if actor.issuer_arn is not None and SERVICE_LINKED in actor.issuer_arn:
        return FactSource.EVENT, True, f"{actor.issuer_arn} is a service-linked role, which only its AWS service can assume"
    names = [arn for arn in (actor.issuer_arn, actor.arn) if arn is not None]
    for pattern in settings.authorized_principals:
        for name in names:
            if fnmatchcase(name, pattern):
                return FactSource.SETTINGS, True, f"{name} matches {pattern} of TRAILMEND_AUTHORIZED_PRINCIPALS"
    if not settings.authorized_principals:
        return FactSource.SETTINGS, False, "TRAILMEND_AUTHORIZED_PRINCIPALS names nobody"
    if not names:
        return FactSource.SETTINGS, False, "the event names no principal"
    return FactSource.SETTINGS, False, f"{names[0]} matches no pattern of TRAILMEND_AUTHORIZED_PRINCIPALS"


def iac_agent(user_agent: str | None) -> str | None:
    """The infrastructure-as-code tool that a user agent claims to be."""
    told = (user_agent or "").lower()
    return next((name for mark, name in IAC_AGENTS if mark in told), None)


async def _documented(case: Case) -> Fact:
    at = case.finding.record.time or case.clock()
    pattern = re2.compile(case.settings.change_pattern or "")
    for where, text in _texts(case.finding):
        if (change := _change(pattern, text)) is not None:
            return DOCUMENTED.known({"documented": True, "change": change, "where": where}, at)
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
    if about_profile(case.finding, case.settings) and not tagged:
        return DOCUMENTED.unknown(at, "no change is named in the event, and the profile's tags are not known")
    return DOCUMENTED.known({"documented": False, "change": None, "where": None}, at)


def _texts(finding: Finding) -> Iterator[tuple[str, str | None]]:
    """Where an event may name a change, with the text there."""
    yield "session name", finding.actor.session
    yield "source identity", finding.actor.source_identity
    tags = finding.record.get("requestParameters", "tags")
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
    without its role is no replacement to the instances that used it, and nor is one that was deleted again.
    """
    memory = remembered.value if remembered.status is FactStatus.KNOWN else {}
    now = live.value if live.status is FactStatus.KNOWN else {}
    last_role = (memory.get("last_role") or {}).get("name")
    if (again := memory.get("recreated")) is not None:
        made_at = datetime.fromisoformat(again["at"])
        seen_gone = live.status is FactStatus.GONE and (live.observed_at - made_at).total_seconds() > CONSISTENT_SECONDS
        value = {
            "replaced": again["exists"] and not seen_gone,
            "by": again["by"],
            "after_seconds": (made_at - at).total_seconds(),
            "same_principal": principal is not None and principal == again["principal"],
            **_roles(now.get("roles", again["roles"]), last_role),
        }
        return REPLACED.known(value, max(made_at, live.observed_at) if seen_gone else made_at, source=FactSource.MEMORY)
    unseen = {"by": None, "same_principal": None}
    if live.status is FactStatus.GONE:
        return REPLACED.known({"replaced": False, "after_seconds": None, **unseen, **_roles(None, last_role)}, live.observed_at)
    if live.status is FactStatus.UNKNOWN:
        return REPLACED.unknown(live.observed_at, live.reason or "what there is now is not known")
    made_at = datetime.fromisoformat(now["created"])
    if made_at < at:
        return REPLACED.unknown(live.observed_at, f"IAM still answers with the profile made at {now['created']}, before the delete")
    after_seconds = (made_at - at).total_seconds()
    return REPLACED.known({"replaced": True, "after_seconds": after_seconds, **unseen, **_roles(now["roles"], last_role)}, live.observed_at)


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
