"""Who may answer a task that waits for people, and what their answers come to. Pure: values in, values out.

What is known of a person is the ARN that GetCallerIdentity answers. A session's name is chosen by whoever assumes the role, so all sessions of a
role count as one person; but Identity Center names its sessions after the user, and there each user is one. A session of GetFederationToken has a
name that its user chose, and no word of the user: whoever comes so may not answer.
https://docs.aws.amazon.com/singlesignon/latest/userguide/referencingpermissionsets.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from worker.model import Answer, Approval, Decision
from worker.remediate.guards import Identity, identity, kind_and_name

IDENTITY_CENTER = "awsreservedsso_"
"""How the names of its roles begin, in small letters."""


class Standing(StrEnum):
    """What has become of a task that waits."""

    WAITING = "waiting"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"


def standing(approval: Approval, now: datetime) -> Standing:
    """What the answers come to. One no ends it; what was agreed to in time is carried out within as long again, or expires."""
    if any(one.answer is Answer.NO for one in approval.decisions):
        return Standing.REJECTED
    agreed = agreeing(approval)
    if len(agreed) < approval.needed:
        return Standing.EXPIRED if now >= approval.expires_at else Standing.WAITING
    enough_at = agreed[approval.needed - 1].at
    return Standing.EXPIRED if now >= enough_at + (approval.expires_at - approval.asked_at) else Standing.APPROVED


def agreeing(approval: Approval) -> list[Decision]:
    """The first yes of each person that came in time."""
    first: dict[str, Decision] = {}
    for one in approval.decisions:
        if one.answer is Answer.YES and one.at < approval.expires_at:
            first.setdefault(person(one.approver), one)
    return list(first.values())


def barred(approval: Approval, approver: str, answer: Answer, now: datetime) -> str | None:
    """Why somebody may not answer so, in words; None where they may."""
    stands = standing(approval, now)
    if stands is Standing.EXPIRED:
        return f"its time limit ended at {approval.expires_at:%Y-%m-%d %H:%M:%SZ}"
    if stands is Standing.REJECTED:
        return "it was rejected already"
    who = identity(approver)
    if person(approver) in {person(one) for one in approval.executors}:
        return f"{approver} is the executor itself, which may not answer its own question"
    if who.kind not in ("user", "role"):
        return f"{approver} does not tell which person it is: come as a user or a role"
    if _is_actor(who, approval.task["finding"].get("actor")):
        return f"{approver} is who made the call that the task answers, and may not decide about it"
    if _is_target(who, approval.task):
        return f"{approver} is who the task is about, and may not decide about it"
    if answer is Answer.NO:
        return None
    if stands is Standing.APPROVED:
        return "it was agreed to already, and is being carried out"
    if person(approver) in {person(one.approver) for one in agreeing(approval)}:
        return f"{approver} has agreed to it already: another person has to"
    return None


def person(arn: str) -> str:
    """What tells one person from another in the ARN of GetCallerIdentity."""
    who = identity(arn)
    if who.kind != "role" or who.name.casefold().startswith(IDENTITY_CENTER):
        return arn.casefold()
    return f"{who.account}:role:{who.name.casefold()}"


def people(decisions: tuple[Decision, ...]) -> tuple[Mapping[str, str], ...]:
    """Decisions as the journal keeps them."""
    return tuple({"arn": one.approver, "answer": one.answer.value, "why": one.why, "at": one.at.isoformat()} for one in decisions)


def _is_actor(who: Identity, actor: Any) -> bool:
    if not isinstance(actor, Mapping):
        return False
    arn, name, account = actor.get("arn"), actor.get("name"), actor.get("account")
    if isinstance(arn, str) and person(arn) == person(who.arn):
        return True
    if _is_issuer(who, actor.get("issuer_arn")):
        return True
    return who.kind == "user" and actor.get("type") == "IAMUser" and account == who.account and _same(name, who.name)


def _is_issuer(who: Identity, issuer: Any) -> bool:
    """Whether a session was made by them: of a federated user the user, of a role the role, but where each session is a person of its own."""
    if not isinstance(issuer, str) or who.name.casefold().startswith(IDENTITY_CENTER):
        return False
    kind, name = kind_and_name(issuer)
    return kind == who.kind and issuer.split(":")[4] == who.account and _same(name, who.name)


def _is_target(who: Identity, task: Mapping[str, Any]) -> bool:
    target, params = task["target"], task["params"]
    if target["account"] != who.account:
        return False
    kind = "user" if target["type"] in ("user", "access-key") else "role"
    # Of a key the user it belongs to, and of an instance profile the role that is to come back.
    names = [target["name"] if target["type"] in ("user", "role") else None, params.get(kind)]
    return who.kind == kind and any(_same(one, who.name) for one in names)


def _same(one: Any, name: str) -> bool:
    return isinstance(one, str) and one.casefold() == name.casefold()
