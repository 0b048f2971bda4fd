"""From an enriched finding to the tasks that would mend it: pure.

A rule's author names the actions (`remediation:`); this file knows for each what it takes to ask for it, and what speaks against. Every action
named ends as a `Task` or as a `Withheld` with its reason, so that whoever is on call sees both. A newcomer adds a function and its line in
`PLANNERS`, and the executor's action in `remediate/actions/`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from worker.model import EnrichedFinding, FactStatus, Target, Task, Withheld, is_dry_run

ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
LONGEST_NAME = 128
"""Characters of any name in IAM. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html"""
MOST_INSTANCES = 200
"""Instances named in a task, so that it fits a message. The executor looks again anyway."""
LEAST_PASSWORD_POLICY: Mapping[str, Any] = {
    "minimum_length": 14,
    "reuse_prevention": 24,
    "symbols": True,
    "numbers": True,
    "uppercase": True,
    "lowercase": True,
}
"""What an account's password policy is raised to: the CIS AWS Foundations Benchmark's length and reuse, and every kind of character."""
IDLE_DAYS = 45
"""After how many days a key counts as unused: the same benchmark's."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the executor, and what is not and why."""

    tasks: tuple[Task, ...] = ()
    withheld: tuple[Withheld, ...] = ()


def plan(found: EnrichedFinding) -> Plan:
    """The tasks for a finding, in the order in which its rule names them."""
    tasks: list[Task] = []
    withheld: list[Withheld] = []
    for action in dict.fromkeys(found.finding.rule.remediation):
        answer = _plan_one(action, found)
        if isinstance(answer, Task):
            tasks.append(answer)
        else:
            withheld.append(answer)
    return Plan(tuple(tasks), tuple(withheld))


def _plan_one(action: str, found: EnrichedFinding) -> Task | Withheld:
    planner = PLANNERS.get(action)
    if planner is None:
        return Withheld(action, "unknown-action", f"there is no action of this name; there are {', '.join(PLANNERS)}")
    error_code = found.finding.record.error_code
    if is_dry_run(error_code):
        return Withheld(action, "dry-run", "it was a dry run: nothing was changed")
    if error_code is not None:
        return Withheld(action, "denied", f"the call failed with {error_code}, so nothing changed")
    authorised = found.value("authorised")
    if isinstance(authorised, Mapping) and authorised.get("authorised") is True:
        return Withheld(action, "authorised", f"the caller is authorised: {authorised.get('because')}")
    answer = planner(found)
    if isinstance(answer, tuple):
        target, params = answer
        if ACCOUNT.fullmatch(target.account) is None or len(target.name) > LONGEST_NAME:
            return Withheld(action, "unknown-target", "the record's account or name is none that AWS gives")
        return Task(action, target, params, found)
    cause, reason = answer.cause, answer.reason
    return Withheld(action, cause, reason)


@dataclass(frozen=True, slots=True)
class _Against:
    cause: str
    reason: str


_Answer = tuple[Target, Mapping[str, Any]] | _Against


def _restore_instance_profile(found: EnrichedFinding) -> _Answer:
    finding = found.finding
    target = _profile(found, "DeleteInstanceProfile")
    if isinstance(target, _Against):
        return target
    replaced = found.value("replaced")
    # A profile made again without its role is no replacement: whoever covers tracks could make an empty one.
    if isinstance(replaced, Mapping) and replaced.get("replaced") is True and replaced.get("same_role") is not False:
        return _Against("replaced", f"it was made again by {replaced.get('by') or 'somebody'}")
    remembered = found.value("profile")
    known: Mapping[str, Any] = remembered if isinstance(remembered, Mapping) else {}
    users = [{"instance_id": one.get("id"), "region": one.get("region"), "state": one.get("state")} for one in _users(found, known)]
    params = {
        "path": known.get("path") or "/",
        "role": _role(known),
        "tags": known.get("tags") or {},
        "instances": users[:MOST_INSTANCES],
        "deleted_at": None if finding.record.time is None else finding.record.time.isoformat(),
    }
    return target, params


def _users(found: EnrichedFinding, remembered: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The instances that lost it, as EC2 tells; where that is not known, those that are remembered to use it. The executor looks at each."""
    live = found.value("instances")
    listed = (live if isinstance(live, Mapping) else remembered).get("instances")
    every = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list | tuple) else []
    return every if isinstance(live, Mapping) else [one for one in every if one.get("until") is None and one.get("region") is not None]


def _role(remembered: Mapping[str, Any]) -> str | None:
    """The role a remembered profile held: still, or at last."""
    last = remembered.get("last_role")
    held = remembered.get("roles") or ([last.get("name")] if isinstance(last, Mapping) else [])
    return str(held[0]) if held and held[0] is not None else None


def _reattach_role(found: EnrichedFinding) -> _Answer:
    target = _profile(found, "RemoveRoleFromInstanceProfile")
    if isinstance(target, _Against):
        return target
    role = found.finding.record.text("requestParameters", "roleName")
    if role is None:
        return _Against("unknown-target", "the record does not name the role")
    live = found.facts.get("profile_live")
    if live is not None and live.status is FactStatus.GONE:
        return _Against("not-applicable", "the profile itself is gone: restoring it brings the role back")
    roles = live.value.get("roles") if live is not None and isinstance(live.value, Mapping) else None
    if isinstance(roles, list | tuple) and roles:
        return _Against("replaced", f"the profile holds a role again: {', '.join(map(str, roles))}")
    return target, {"role": role}


def _profile(found: EnrichedFinding, event_name: str) -> Target | _Against:
    record, subject = found.finding.record, found.finding.subject
    if record.name != event_name or subject.type != "instance-profile":
        return _Against("not-applicable", f"only a {event_name} can be mended this way, not a {record.name}")
    if subject.name is None or subject.account is None:
        return _Against("unknown-target", "the record names no profile or no account")
    return Target("instance-profile", subject.name, subject.account, subject.arn)


def _deactivate_access_key(found: EnrichedFinding) -> _Answer:
    subject = found.finding.subject
    if subject.type != "access-key":
        return _Against("not-applicable", f"the finding is about a {subject.type}, not an access key")
    if subject.name is None or subject.account is None or subject.owner is None:
        return _Against("unknown-target", "the record does not tell the key, its user or its account")
    return Target("access-key", subject.name, subject.account, subject.arn), {"user": subject.owner}


def _for_user(found: EnrichedFinding) -> _Answer:
    subject = found.finding.subject
    if subject.type != "user":
        return _Against("not-applicable", f"the finding is about a {subject.type}, not an IAM user")
    if subject.name is None or subject.account is None:
        return _Against("unknown-target", "the record names no user or no account")
    return Target("user", subject.name, subject.account, subject.arn), {}


def _enforce_password_policy(found: EnrichedFinding) -> _Answer:
    subject, name = found.finding.subject, found.finding.record.name
    if subject.type != "account" or name not in ("DeleteAccountPasswordPolicy", "UpdateAccountPasswordPolicy"):
        return _Against("not-applicable", f"only a change of the account's password policy can be mended this way, not a {name}")
    if subject.account is None:
        return _Against("unknown-target", "the record names no account")
    return Target("account", subject.account, subject.account), LEAST_PASSWORD_POLICY


def _idle_keys(found: EnrichedFinding) -> _Answer:
    answer = _for_user(found)
    return answer if isinstance(answer, _Against) else (answer[0], {"days": IDLE_DAYS})


def _quarantine_user(found: EnrichedFinding) -> _Answer:
    """Whoever made the call is held, not what it was made on."""
    actor = found.finding.actor
    if actor.type != "IAMUser":
        return _Against("not-applicable", f"the caller is a {actor.type}, not an IAM user")
    if actor.name is None or actor.account is None:
        return _Against("unknown-target", "the record names no user or no account of the caller")
    return Target("user", actor.name, actor.account, actor.arn), {}


def _revoke_role_sessions(found: EnrichedFinding) -> _Answer:
    """Of the role by which the call was made, for the one session of it cannot be ended alone."""
    actor = found.finding.actor
    if actor.type != "AssumedRole":
        return _Against("not-applicable", f"the caller is a {actor.type}, not a session of a role")
    if actor.name is None or actor.account is None:
        return _Against("unknown-target", "the record names no role or no account of the caller")
    return Target("role", actor.name, actor.account, actor.issuer_arn), {}


PLANNERS: Mapping[str, Callable[[EnrichedFinding], _Answer]] = {
    "restore-instance-profile": _restore_instance_profile,
    "reattach-role": _reattach_role,
    "require-password-reset": _for_user,
    "enforce-password-policy": _enforce_password_policy,
    "enforce-mfa": _for_user,
    "deactivate-access-key": _deactivate_access_key,
    "deactivate-unused-access-keys": _idle_keys,
    "delete-inactive-access-keys": _idle_keys,
    "quarantine-user": _quarantine_user,
    "revoke-role-sessions": _revoke_role_sessions,
}
