"""Whether the policies that a principal holds make it an administrator, or let it become one: pure.

In go identity-based policies with their documents, the permissions boundary and the ARNs of what is the principal's own; out comes a
`Judgement`, never an exception. An administrator is allowed every action on every resource, by one statement, without a condition. What is
judged is what stands in these documents, and nothing that is decided elsewhere: service and resource control policies, session policies,
resource-based policies, whether a condition holds, what it may become by passing a role to a service or by assuming another. Source:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html and reference_policies_elements.html beside it.

`docs/facts.md` has the verdicts as a table. A newcomer adds an action by which power is gained with a line in `ESCALATING`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from worker.glob import Glob

ESCALATING = {
    "iam:AddUserToGroup": "",
    "iam:AttachGroupPolicy": "group",
    "iam:AttachRolePolicy": "role",
    "iam:AttachUserPolicy": "user",
    "iam:CreateAccessKey": "",
    "iam:CreateLoginProfile": "",
    "iam:CreatePolicyVersion": "policy",
    "iam:PutGroupPolicy": "group",
    "iam:PutRolePolicy": "role",
    "iam:PutUserPolicy": "user",
    "iam:SetDefaultPolicyVersion": "policy",
    "iam:UpdateAssumeRolePolicy": "",
    "iam:UpdateLoginProfile": "",
}
"""Actions by which a principal gives itself power, or takes that of another, and what of its own each may be done to with that effect."""

LIFTING = {
    "iam:DeleteRolePermissionsBoundary": "role",
    "iam:DeleteUserPermissionsBoundary": "user",
    "iam:PutRolePermissionsBoundary": "role",
    "iam:PutUserPermissionsBoundary": "user",
}
"""The same for whoever is held down by a boundary."""

EVERY_ACTION = re.compile(r"\*+(:\*+)?")
EVERY_RESOURCE = re.compile(r"\*+")
OWN_NAME = "${aws:username}"


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that a principal holds: its name for people, and its document, decoded or as JSON text; None where it is not to be had."""

    name: str
    document: Any


ADMINISTRATOR_ACCESS = {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
"""What AdministratorAccess says, which everybody knows."""


@dataclass(frozen=True, slots=True)
class Own:
    """What is the principal's own: its name if it is a user, and ARNs by kind: user, role, group (it is in), policy (it holds)."""

    user_name: str | None = None
    arns: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether it is an administrator (None: it depends on a condition, or on a policy that could not be read), and why in words.

    `exceptions` names the policies that deny something besides, `can_escalate` the actions that it may use to gain power: allowed without a
    condition on everything or on what is its own, and not denied without one.
    """

    administrator: bool | None
    because: str
    exceptions: tuple[str, ...] = ()
    can_escalate: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Statement:
    policy: str
    allows: bool
    actions: tuple[str, ...]
    but_actions: bool
    resources: tuple[str, ...]
    but_resources: bool
    conditional: bool

    @property
    def of_everything(self) -> bool:
        every_action = not self.but_actions and any(EVERY_ACTION.fullmatch(one) for one in self.actions)
        return every_action and self.on_everything

    @property
    def on_everything(self) -> bool:
        return not self.but_resources and any(EVERY_RESOURCE.fullmatch(one) for one in self.resources)

    @property
    def of_nearly_everything(self) -> bool:
        """Everything, or everything but what a NotAction or NotResource names."""
        actions = self.but_actions or any(EVERY_ACTION.fullmatch(one) for one in self.actions)
        return actions and (self.but_resources or self.on_everything)

    def reaches(self, action: str, resource: str | None, user_name: str | None) -> bool:
        """Whether it speaks of an action on a resource, or, for None, on all resources."""
        if any(_fits(pattern, action, cased=False) for pattern in self.actions) is self.but_actions:
            return False
        if resource is None:
            return self.on_everything
        own = (pattern.replace(OWN_NAME, user_name or OWN_NAME) for pattern in self.resources)
        return any(_fits(pattern, resource, cased=True) for pattern in own) is not self.but_resources


def judge(policies: Sequence[Policy], boundary: Policy | None = None, own: Own | None = None) -> Judgement:
    """Judge the policies of a principal, within its permissions boundary if it has one."""
    statements, _ = _read(policies)
    limits, _ = _read([] if boundary is None else [boundary])
    judged = rank(policies, boundary)
    if _shut(statements + limits):
        return judged
    return replace(judged, can_escalate=_escalating(statements, None if boundary is None else limits, own or Own()))


def rank(policies: Sequence[Policy], boundary: Policy | None = None) -> Judgement:
    """Like `judge`, but for what it could become: for whoever asks about a whole account."""
    statements, unread = _read(policies)
    limits, limit_unread = _read([] if boundary is None else [boundary])
    exceptions = tuple(dict.fromkeys(one.policy for one in statements + limits if not one.allows))
    shut = _shut(statements + limits)
    if shut:
        but = "" if shut[0].of_everything else "all but some of "
        return Judgement(administrator=False, because=f"{shut[0].policy} denies {but}everything", exceptions=exceptions)
    administrator, because = _verdict([one for one in statements if one.allows], unread)
    if administrator is not False and boundary is not None:
        within, how = _verdict([one for one in limits if one.allows], limit_unread)
        if within is not True:
            limited = "limited by" if within is False else "within"
            administrator = within
            because = f"{because}, but {limited} a permissions boundary: {how}"
    return Judgement(administrator, because, exceptions)


def _shut(statements: Sequence[_Statement]) -> Sequence[_Statement]:
    """What denies all or nearly all whatever the circumstances."""
    return [one for one in statements if not one.allows and not one.conditional and one.of_nearly_everything]


def _verdict(allowing: Sequence[_Statement], unread: Sequence[str]) -> tuple[bool | None, str]:
    """What the statements that allow come to, whatever denies or limits them."""
    missing = f"; {', '.join(unread)} could not be read" if unread else ""
    for one in allowing:
        if one.of_everything and not one.conditional:
            return True, f"{one.policy} allows everything{missing}"
    for one in allowing:
        if one.of_everything:
            return None, f"{one.policy} allows everything under a condition{missing}"
    if unread:
        return None, f"nothing that could be read allows everything{missing}"
    for one in allowing:
        if one.of_nearly_everything:
            return False, f"{one.policy} allows all but some of everything{' under a condition' if one.conditional else ''}"
    return False, f"no policy of {len({one.policy for one in allowing})} allows everything" if allowing else "no policy allows anything"


def _escalating(statements: Sequence[_Statement], limits: Sequence[_Statement] | None, own: Own) -> tuple[str, ...]:
    actions = ESCALATING if limits is None else {**ESCALATING, **LIFTING}

    def may(among: Sequence[_Statement], action: str, resource: str | None) -> bool:
        certain = [one for one in among if not one.conditional and one.reaches(action, resource, own.user_name)]
        return bool(certain) and all(one.allows for one in certain)

    def can(action: str, kind: str) -> bool:
        targets = (None, *own.arns.get(kind, ()))
        return any(may(statements, action, target) and (limits is None or may(limits, action, target)) for target in targets)

    return tuple(sorted(action for action, kind in actions.items() if can(action, kind)))


def _read(policies: Sequence[Policy]) -> tuple[list[_Statement], list[str]]:
    """The statements of the documents, and the names of policies whose document is missing or is none."""
    statements: list[_Statement] = []
    unread: list[str] = []
    for policy in policies:
        read = _statements(policy)
        if read is None:
            unread.append(policy.name)
        else:
            statements += read
    return statements, unread


def _statements(policy: Policy) -> list[_Statement] | None:
    document = policy.document
    if isinstance(document, str):
        try:
            document = json.loads(document if document.lstrip().startswith("{") else unquote(document))
        except (ValueError, RecursionError):
            return None
    statements = document.get("Statement") if isinstance(document, Mapping) else None
    read = [_statement(policy.name, one) for one in (statements if isinstance(statements, list) else [statements])]
    return None if None in read else [one for one in read if one is not None]


def _statement(policy: str, told: Any) -> _Statement | None:
    """One statement; None where it is not as IAM takes them, for then nothing can be said of it."""
    if not isinstance(told, Mapping) or told.get("Effect") not in ("Allow", "Deny"):
        return None
    parts = [_texts(told.get(name)) for name in ("Action", "NotAction", "Resource", "NotResource")]
    if [bool(part) for part in parts[:2]].count(True) != 1 or [bool(part) for part in parts[2:]].count(True) != 1:
        return None
    actions, but_actions, resources, but_resources = parts
    return _Statement(
        policy,
        told["Effect"] == "Allow",
        actions or but_actions,
        bool(but_actions),
        resources or but_resources,
        bool(but_resources),
        bool(told.get("Condition")),
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Policies write a single entry without its list."""
    listed = value if isinstance(value, list) else [value]
    return tuple(one for one in listed if isinstance(one, str) and one)


def _fits(pattern: str, name: str, *, cased: bool) -> bool:
    try:
        return Glob(pattern, cased=cased).fits(name)
    except ValueError:  # longer than any name it could stand for
        return False
