"""What an action says it would do, as data: a plan of steps, each one AWS call that a person can read before it is made.

Out of live state an action makes a `Plan` or a `Refusal`. A plan with no steps means that all is as wanted, and so planning once more
after the steps were taken is also how a change is verified, and how one that a crash cut short is taken up where it stopped. An undo is a plan
too, made out of live state and of what the journal tells of the task; it has no steps left once the state before is back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from botocore import xform_name
from botocore.exceptions import ClientError

from worker.aws import Accounts, explain, telling
from worker.model import JournalEntry, Target


@dataclass(frozen=True, slots=True)
class Step:
    """One AWS call. `api` is spelt as AWS spells it, `says` is for people.

    `settling` holds the error codes that an earlier step of the plan, not yet seen everywhere, would cause: the call is then tried again
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency). What an `irreversible` step takes away no call can bring back.
    The parameters that are `timed` differ from one plan to the next for no reason but that time has gone by.
    """

    service: str
    api: str
    parameters: Mapping[str, Any]
    says: str
    region: str | None = None
    settling: frozenset[str] = frozenset()
    irreversible: bool = False
    timed: frozenset[str] = frozenset()

    def as_dict(self) -> dict[str, Any]:
        """The step as the journal keeps it."""
        return {
            "service": self.service,
            "api": self.api,
            "parameters": dict(self.parameters),
            "region": self.region,
            "says": self.says,
            "irreversible": self.irreversible,
        }

    def is_among(self, shown: Iterable[Mapping[str, Any]]) -> bool:
        """Whether one of the steps that somebody was shown, as the journal keeps them, is the same call but for what only time changes."""
        return any(self._heart(self.as_dict()) == self._heart(one) for one in shown)

    def _heart(self, step: Mapping[str, Any]) -> tuple[Any, ...]:
        lasting = {name: value for name, value in step["parameters"].items() if name not in self.timed}
        return step["service"], step["api"], step["region"], lasting, step["irreversible"]


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to take, in order; the live state they start from; and the ARNs whose rights or credentials they change.

    `effects` are sentences that say what stops or starts to work, and for whom: the blast radius, for who is to agree. Empty where nothing is done.
    """

    steps: tuple[Step, ...]
    state: Mapping[str, Any] = field(default_factory=dict)
    touches: tuple[str, ...] = ()
    effects: tuple[str, ...] = ()

    @property
    def irreversible(self) -> bool:
        """Whether something in it could not be undone."""
        return any(step.irreversible for step in self.steps)


@dataclass(frozen=True, slots=True)
class Done:
    """What the journal tells of a task that was done: the state that its first call found and the one that its last call left."""

    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Live state speaks against acting. `reason` is a short name, `says` a sentence for people, `state` what was seen."""

    reason: str
    says: str
    state: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clients:
    """What an action may ask: AWS in the account of the target, the journal, and what time it is."""

    accounts: Accounts
    account: str
    journal: Callable[[], AsyncIterator[tuple[JournalEntry, str, str]]]
    now: datetime

    async def get(self, service: str, region: str | None = None) -> Any:
        """A client; without a region, in our own, from which IAM answers for all. Raises `AccountClosedError`."""
        return await self.accounts.client(service, self.account, region)


class Wanted(Protocol):
    """What an action needs of a task: which it is, on what, and with what."""

    @property
    def id(self) -> str: ...
    @property
    def target(self) -> Target: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def created_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class ActionCalls:
    """What an action and its undo call of AWS, in the spelling of `worker/authorization.py`: what they read, what they change, and which
    of their calls no other could undo.
    """

    reads: tuple[str, ...]
    changes: tuple[str, ...] = ()
    destroys: tuple[str, ...] = ()


NO_PARAMS: Mapping[str, Any] = {"type": "object", "additionalProperties": False}
"""The schema of the params of an action that has none."""


class Action(Protocol):
    """One way to mend. `params` is the JSON Schema of the task's params, `target_type` the type of its target, `undoing` says how it is undone."""

    @property
    def name(self) -> str: ...
    @property
    def target_type(self) -> str: ...
    @property
    def params(self) -> Mapping[str, Any]: ...
    @property
    def undoing(self) -> str: ...
    @property
    def calls(self) -> ActionCalls: ...

    async def plan(self, task: Wanted, clients: Clients) -> Plan | Refusal:
        """What is to be done, read from live state; changes nothing. Raises what the clients raise."""

    async def undo(self, task: Wanted, done: Done, clients: Clients) -> Plan | Refusal:
        """What is to be done for the state before to be back, read from live state; changes nothing. Raises what the clients raise.

        Refuses where what the task left was changed since, and says what.
        """


async def take(step: Step, clients: Clients, agent: str, tries: list[str | None]) -> Mapping[str, Any]:
    """Make the call of a step, with `agent` at the end of its user agent; answers what the client does. Raises what the client raises.

    However it ends, `tries` then has the request id of each try of it, None for one that was not answered and may have been carried out all the same.
    """
    client = await clients.get(step.service, step.region)
    with telling(agent) as heard:
        try:
            answer: Mapping[str, Any] = await getattr(client, xform_name(step.api))(**step.parameters)
        finally:
            tries += heard
    return answer


async def found(call: Awaitable[Any]) -> Any:
    """The answer of a reading call, or None where AWS says that there is no such thing. Other errors are raised."""
    try:
        return await call
    except ClientError as error:
        if explain(error).kind == "gone":
            return None
        raise
