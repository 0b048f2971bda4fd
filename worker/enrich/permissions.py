"""The facts `permissions` and `subject_permissions`: what a user or role holds, and whether it is an administrator or could become one.

`permissions` is of whoever made the call, an IAM user or the role behind a session; `subject_permissions` is of the user it was done to.
What is asked stands in `grants.py`, what is judged, and what is not, in `worker/policy.py`. A service-linked role is not looked into: AWS writes
its policies and AWS alone can use it.
"""

from __future__ import annotations

from worker.enrich.fact import Case, FactKind, missing
from worker.enrich.grants import ROLE_CALLS, USER_CALLS, Grants, Principal, grants_of
from worker.enrich.role import SERVICE_LINKED, acting_role
from worker.enrich.user import acting_user, by_a_user, to_a_user, user_in_question
from worker.model import Fact, FactSource, Finding
from worker.policy import judge
from worker.settings import Settings


async def _learn(kind: FactKind, case: Case, principal: Principal | None) -> Fact:
    if principal is None:
        return kind.unknown(case.clock(), "the record names no user or role, or no account")
    grants = await grants_of(case, principal)
    if grants.gone is not None:
        return kind.gone(grants.gone)
    if grants.groups is None and grants.attached is None and grants.inline is None:
        return kind.unknown(grants.answers[0].at, missing(grants.unknown) or "nothing that it holds is known")
    return kind.told(_value(principal, grants), grants.answers, missing(grants.unknown))


def _value(principal: Principal, grants: Grants) -> dict[str, object]:
    judged = judge(grants.policies, grants.boundary, grants.own)
    return {
        "type": principal.kind,
        "name": principal.name,
        "account": principal.account,
        "arn": grants.arn,
        "groups": grants.groups,
        "attached_policies": grants.attached,
        "inline_policies": grants.inline,
        "permissions_boundary": grants.boundary_arn,
        "administrator": {"is": judged.administrator, "because": judged.because, "exceptions": list(judged.exceptions)},
        "can_escalate": list(judged.can_escalate),
        "evidence": grants.evidence,
        "unknown": dict(grants.unknown),
    }


def _actor(finding: Finding) -> Principal | None:
    if (user := acting_user(finding)) is not None:
        return Principal("user", *user)
    role = acting_role(finding)
    return None if role is None else Principal("role", *role)


def _subject(finding: Finding) -> Principal | None:
    user = user_in_question(finding)
    return None if user is None else Principal("user", *user)


def _by_user_or_role(finding: Finding, settings: Settings) -> bool:
    actor = finding.actor
    return by_a_user(finding, settings) or (actor.type == "AssumedRole" and not SERVICE_LINKED.fits(actor.issuer_arn))


async def _learn_actor(case: Case) -> Fact:
    return await _learn(PERMISSIONS, case, _actor(case.finding))


async def _learn_subject(case: Case) -> Fact:
    return await _learn(SUBJECT_PERMISSIONS, case, _subject(case.finding))


PERMISSIONS = FactKind("permissions", FactSource.LIVE, _by_user_or_role, _learn_actor, (*USER_CALLS, *ROLE_CALLS))
SUBJECT_PERMISSIONS = FactKind("subject_permissions", FactSource.LIVE, to_a_user, _learn_subject, USER_CALLS)
