"""Whether the finding of a task supports its target, and what is remembered its params: pure.

Whoever can write to the task queue writes the whole message, its finding too. So a task may name only what its finding is about, as
`dispatch/plan.py` would have named it: a forger has to forge a finding that tells of the deed for which that very target is mended. In go a task's
action, target, params and finding, out comes in words what is missing, or None. A newcomer's action adds its line in `SUPPORT`; without it, none of
its tasks is supported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from worker.model import ProfileEvent, Target

Told = Mapping[str, Any]
"""A finding as a task carries it: its event, actor and subject."""


def missing(action: str, target: Target, params: Told, finding: Told) -> str | None:
    """What the finding lacks to support the target."""
    error = finding["event"]["error_code"]
    if error is not None:
        return f"finding.event.error_code: the call failed with {str(error)[:100]}, so there is nothing to mend"
    lacks = SUPPORT.get(action, _nothing)(target, params, finding)
    return (
        None if lacks is None else f"{lacks}; {action} of {target.type} {target.name} in {target.account} is not what this finding asks for"
    )


def remembered(action: str, target: Target, params: Told, memory: Iterable[ProfileEvent]) -> str | None:
    """What the memory of an instance profile says against the role that a task would put into it.

    A memory that is empty says nothing. One that tells anything of the profile, the deed at hand for one, tells each role that it held since the log
    is read; and where none is remembered, none was asked for.
    """
    role = params.get("role")
    if action not in HOLDING or role is None:
        return None
    events = tuple(memory)
    held = {str(event.detail["role"]) for event in events if event.detail.get("role") is not None}
    if not events or role.casefold() in {one.casefold() for one in held}:
        return None
    told = ", ".join(sorted(held)) or "none"
    return f"params.role: instance profile {target.name} is not remembered to have held {role}; remembered: {told}"


def _is(told: Told, target: Target, role: str) -> str | None:
    """Whether the actor or subject of a finding is the target. Both are named by their record, so they are the same to the letter."""
    if (told["name"], told.get("account")) == (target.name, target.account):
        return None
    return f"finding.{role}: is {told['type']} {str(told['name'])[:128]} in account {str(told.get('account'))[:12]}"


def _subject(kind: str, *events: str) -> Callable[[Target, Told, Told], str | None]:
    """The deed was done to the target; with `events`, by one of these calls."""

    def lacks(target: Target, _: Told, finding: Told) -> str | None:
        subject, name = finding["subject"], finding["event"]["name"]
        if events and name not in events:
            return f"finding.event.name: is {name[:100]}, not {' or '.join(events)}"
        if subject["type"] != kind:
            return f"finding.subject.type: is {subject['type'][:50]}, not {kind}"
        return _is(subject, target, "subject")

    return lacks


def _actor(kind: str) -> Callable[[Target, Told, Told], str | None]:
    """The deed was done by the target."""

    def lacks(target: Target, _: Told, finding: Told) -> str | None:
        actor = finding["actor"]
        return _is(actor, target, "actor") if actor["type"] == kind else f"finding.actor.type: is {actor['type'][:50]}, not {kind}"

    return lacks


def _key(target: Target, params: Told, finding: Told) -> str | None:
    owner = finding["subject"].get("owner")
    if owner is None or owner != params["user"]:
        return f"finding.subject.owner: is {str(owner)[:64]}, not {params['user']}"
    return _subject("access-key")(target, params, finding)


def _password_policy(target: Target, params: Told, finding: Told) -> str | None:
    # An account is named by its id, and a subject that is one may have no name of its own.
    subject = {**finding["subject"], "name": finding["subject"].get("account")}
    weakened = _subject("account", "DeleteAccountPasswordPolicy", "UpdateAccountPasswordPolicy")
    return weakened(target, params, {**finding, "subject": subject})


def _nothing(_: Target, __: Told, ___: Told) -> str | None:
    return "no finding supports this action"


SUPPORT: Mapping[str, Callable[[Target, Told, Told], str | None]] = {
    "require-password-reset": _subject("user"),
    "enforce-password-policy": _password_policy,
    "enforce-mfa": _subject("user"),
    "deactivate-access-key": _key,
    "deactivate-unused-access-keys": _subject("user"),
    "delete-inactive-access-keys": _subject("user"),
    "quarantine-user": _actor("IAMUser"),
    "revoke-role-sessions": _actor("AssumedRole"),
    "restore-instance-profile": _subject("instance-profile", "DeleteInstanceProfile"),
    "reattach-role": _subject("instance-profile", "RemoveRoleFromInstanceProfile"),
}

HOLDING = frozenset({"restore-instance-profile", "reattach-role"})
"""The actions that put a role into a profile."""
