"""Whether a task may be worked at all, decided from the task, the settings and who we are. Pure: no call is made here.

Asked twice: `judge` before anything is read from AWS, and with the plan from live state `judge_touched` about the ARNs that it would change,
because a task's own ARN and path are only what its writer claims, and `judge_loss` where it could not be undone. The strictest answer wins; a newcomer adds a guard where its verdict ranks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from worker.model import Target
from worker.modes import Mode
from worker.settings import Settings

CLOCK_SKEW = timedelta(minutes=5)
"""A task from further ahead than this is as little to be trusted as one that is too old."""

ROOT_NAMES = frozenset({"root", "<root_account>"})
"""The second is the credential report's name for it. An IAM user may be called root too; it is treated the same."""


class Stance(StrEnum):
    """What the guards allow: act, ask people first, only tell what would be done, leave an exempt principal alone, or refuse."""

    ACT = "act"
    ASK = "ask"
    TELL = "tell"
    EXEMPT = "exempt"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A stance with its reason (a short name) and a sentence for people."""

    stance: Stance
    reason: str
    says: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The settings that guards heed. `mode` is the one that holds for the task; `of` has that of most tasks, `under` another one."""

    mode: Mode
    exempt: Sequence[str]
    max_age: timedelta
    irreversible: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """Those that the settings set."""
        age = timedelta(seconds=settings.max_task_age_seconds)
        return cls(settings.remediation_mode, settings.exempt_principals, age, settings.allow_irreversible)

    def under(self, mode: Mode) -> Limits:
        """The same in another mode."""
        return replace(self, mode=mode)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are in an account: `kind` is user, role or other, `name` without a path; `arn` is what GetCallerIdentity answers.

    `base` is the kind and name of who we were before we assumed a role in the same account.
    """

    arn: str
    account: str
    kind: str
    name: str
    base: tuple[str, str] | None = None

    def covers(self, account: str, kind: str, name: str) -> bool:
        """Whether a user or role is one that we act with."""
        ours = [(self.kind, self.name), *([] if self.base is None else [self.base])]
        return account == self.account and (kind, name.casefold()) in [(one, known.casefold()) for one, known in ours]


def identity(arn: str) -> Identity:
    """Read the ARN of GetCallerIdentity.

    An assumed role's has the role's name without its path: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
    """
    account, kind, parts = _split(arn)
    if kind == "assumed-role" and parts:
        return Identity(arn, account, "role", parts[0])
    if kind == "user" and parts:
        return Identity(arn, account, "user", parts[-1])
    return Identity(arn, account, "other", parts[-1] if parts else kind)


def judge(
    target: Target,
    params: Mapping[str, Any],
    finding: Mapping[str, Any],
    created_at: datetime,
    now: datetime,
    own: Identity,
    limits: Limits,
) -> Judgement:
    """What may be done about a task, as far as the task itself tells."""
    principal = params.get("user") if target.type == "access-key" else target.name
    principal = principal if isinstance(principal, str) else target.name
    subject = finding.get("subject")
    subject_type = subject.get("type") if isinstance(subject, Mapping) else None
    if principal.casefold() in ROOT_NAMES or (target.arn or "").endswith(":root") or subject_type == "root":
        return Judgement(Stance.REFUSE, "root", "root is only ever paged, never acted on")
    if target.arn is not None and not _agrees(target):
        return Judgement(
            Stance.REFUSE, "arn-mismatch", f"the ARN {target.arn} is not that of {target.type} {target.name} in {target.account}"
        )
    role = target.name if target.type == "role" else params.get("role")
    kind = "user" if target.type in ("user", "access-key") else "role"
    name = principal if kind == "user" else role
    if isinstance(name, str) and own.covers(target.account, kind, name):
        return Judgement(Stance.REFUSE, "own-identity", f"{name} is the identity that this worker acts with")
    named = [one for one in (target.arn, target.name, principal, role) if isinstance(one, str)]
    spared = _exempt(named, limits.exempt)
    if spared is not None:
        return spared
    if limits.mode not in (Mode.AUTO, Mode.APPROVE):
        return Judgement(Stance.TELL, "shadow-mode", "the mode is shadow: nothing is changed")
    age = now - created_at
    if age > limits.max_age:
        return Judgement(Stance.TELL, "too-old", f"the task is {age} old, more than {limits.max_age}")
    if -age > CLOCK_SKEW:
        return Judgement(Stance.TELL, "from-the-future", f"the task was made {-age} ahead of now")
    if limits.mode is Mode.APPROVE:
        return Judgement(Stance.ASK, "approve-mode", "the mode is approve: people are asked first")
    return Judgement(Stance.ACT, "", "")


def judge_touched(touches: Iterable[str], own: Identity, limits: Limits) -> Judgement | None:
    """What live ARNs say against acting, or None. Names are taken from them too, so that a pattern may be a plain name."""
    for arn in touches:
        account, kind, parts = _split(arn)
        name = parts[-1] if parts else ""
        if own.covers(account, kind, name):
            return Judgement(Stance.REFUSE, "own-identity", f"{arn} is the identity that this worker acts with")
        spared = _exempt([arn, name], limits.exempt)
        if spared is not None:
            return spared
    return None


def judge_loss(limits: Limits) -> Judgement | None:
    """What speaks against a plan with a step that no call could undo, or None."""
    if limits.irreversible:
        return None
    return Judgement(Stance.TELL, "irreversible", "it could not be undone, and TRAILMEND_ALLOW_IRREVERSIBLE is not set")


def _exempt(named: Iterable[str], patterns: Sequence[str]) -> Judgement | None:
    # IAM tells no two names apart by case alone, and sparing one too many is the safe side.
    for one in named:
        for pattern in patterns:
            if fnmatchcase(one.casefold(), pattern.casefold()):
                return Judgement(Stance.EXEMPT, "exempt", f"{one} matches {pattern} of TRAILMEND_EXEMPT_PRINCIPALS")
    return None


def _agrees(target: Target) -> bool:
    account, kind, parts = _split(target.arn or "")
    if account != target.account or not parts:
        return False
    # CloudTrail names no ARN for an access key; where one is given it is the user's.
    return kind == "user" if target.type == "access-key" else kind == target.type and parts[-1] == target.name


def _split(arn: str) -> tuple[str, str, list[str]]:
    pieces = arn.split(":", 5)
    if len(pieces) != 6 or pieces[0] != "arn":
        return "", "", []
    kind, *parts = pieces[5].split("/")
    return pieces[4], kind, parts
