"""The fact `role`: the role behind an assumed-role session: whether it still exists, who may assume it, and what it is for.

An assumed role has no password, MFA device or keys of its own, so this is what on-call gets in place of `user`. The role is the session's
issuer. Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_GetRole.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from worker.enrich.fact import ACCOUNT, IAM_NAME, Call, Case, FactKind, stamp, tags_of
from worker.glob import Glob
from worker.model import Fact, FactSource, Finding
from worker.settings import Settings

LIFETIME_SECONDS = 60.0
SERVICE_LINKED = Glob("arn:*:iam::*:role/aws-service-role/*", cased=True)
"""Only AWS services can make and assume roles under this path. As a pattern, because a path elsewhere may hold these words too.
https://docs.aws.amazon.com/IAM/latest/UserGuide/using-service-linked-roles.html
"""


def acting_role(finding: Finding) -> tuple[str, str] | None:
    """The account and name of the role behind the session that made the call, if it was one and may be asked about."""
    actor = finding.actor
    name = (actor.issuer_arn or "").rpartition("/")[2] or actor.name or ""
    if actor.type != "AssumedRole" or actor.account is None or not ACCOUNT.fullmatch(actor.account) or not IAM_NAME.fullmatch(name):
        return None
    return actor.account, name


async def _learn(case: Case) -> Fact:
    named = acting_role(case.finding)
    if named is None:
        return ROLE.unknown(case.clock(), "the session's issuer names no role, or no account")
    account, name = named
    answer = await case.ask(Call(account, "iam", "get_role", LIFETIME_SECONDS, {"RoleName": name}))
    if answer.gone:
        return ROLE.gone(answer)
    if answer.fault is not None:
        return ROLE.unknown(answer.at, answer.fault.text)
    role = answer.value["Role"]
    last = role.get("RoleLastUsed", {})
    value = {
        "name": name,
        "account": account,
        "arn": role.get("Arn"),
        "path": role.get("Path"),
        "created": stamp(role.get("CreateDate")),
        "trust": [_trusted(statement) for statement in _listed(_member(role.get("AssumeRolePolicyDocument"), "Statement"))],
        "service_linked": SERVICE_LINKED.fits(role.get("Arn")),
        "permissions_boundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
        "tags": tags_of(role.get("Tags")),
        "last_used": stamp(last.get("LastUsedDate")),
        "last_used_region": last.get("Region"),
    }
    return ROLE.told(value, (answer,))


def _trusted(statement: Any) -> dict[str, Any]:
    """One statement of a trust policy: `who` as `Service:ec2.amazonaws.com`, `AWS:arn:...`, `Federated:...` or `*`."""
    principal = _member(statement, "Principal")
    if isinstance(principal, Mapping):
        who = [f"{kind}:{name}" for kind, names in principal.items() for name in _listed(names)]
    else:
        who = [str(name) for name in _listed(principal)]
    return {
        "effect": _member(statement, "Effect"),
        "who": sorted(who),
        "actions": [str(action) for action in _listed(_member(statement, "Action"))],
        "conditional": bool(_member(statement, "Condition")),
    }


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


def _listed(value: Any) -> Iterable[Any]:
    """Policies write a single entry without its list."""
    if value is None:
        return ()
    return value if isinstance(value, list) else (value,)


def _applies(finding: Finding, _: Settings) -> bool:
    return finding.actor.type == "AssumedRole"


ROLE = FactKind("role", FactSource.LIVE, _applies, _learn, ("iam:GetRole",))
