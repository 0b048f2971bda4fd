"""What the executor does with tasks by itself, for each action in each account. Pure.

In goes the name of an action and the id of an account, out comes the mode that holds for both. What a person asks for by hand and agrees to
(an undo, an approval) is done in every mode but `off`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

ANY = "*"


class Mode(StrEnum):
    """What the executor does with a task: nothing, say what it would do, do it once people have agreed, or do it. The most cautious first."""

    OFF = "off"
    SHADOW = "shadow"
    APPROVE = "approve"
    AUTO = "auto"

    @property
    def rank(self) -> int:
        """Its place among the modes, 0 the most cautious."""
        return list(Mode).index(self)


@dataclass(frozen=True, slots=True)
class Scope:
    """An action in an account; `*` stands for all of either."""

    action: str = ANY
    account: str = ANY

    def covers(self, action: str, account: str) -> bool:
        """Whether an action in an account is within it."""
        return self.action in (ANY, action) and self.account in (ANY, account)

    @property
    def narrowness(self) -> int:
        """How many of the two it names."""
        return (self.action != ANY) + (self.account != ANY)


@dataclass(frozen=True, slots=True)
class Modes:
    """The mode of what no override covers, and the overrides."""

    default: Mode = Mode.SHADOW
    overrides: tuple[tuple[Scope, Mode], ...] = ()

    def of(self, action: str, account: str) -> Mode:
        """The mode of the narrowest override that covers the action in the account; of equally narrow ones the most cautious."""
        covering = [(scope.narrowness, -mode.rank, mode) for scope, mode in self.overrides if scope.covers(action, account)]
        return max(covering)[2] if covering else self.default

    def anywhere(self, action: str) -> frozenset[Mode]:
        """The modes that hold for the action in one account or another: those that overrides name, and all the rest."""
        # No account is called `*`: what covers it covers those that nobody names.
        return frozenset(self.of(action, account) for account in {ANY, *(scope.account for scope, _ in self.overrides)})


def strangers(scopes: Iterable[Scope], known: Iterable[str]) -> list[str]:
    """The actions that scopes name and nobody knows, each once, in order."""
    names = {ANY, *known}
    return list(dict.fromkeys(scope.action for scope in scopes if scope.action not in names))


class Lock(StrEnum):
    """How S3 keeps what is exported: from everybody, from everybody without a permission of its own, or as the bucket does by itself.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
    """

    COMPLIANCE = "compliance"
    GOVERNANCE = "governance"
    NONE = "none"
