"""An AWS in this process for measuring how facts are asked for: it answers after a while, throttles, hangs or keeps an account closed, and counts.

Answers have the shapes of botocore's own service models: what a call needs to say stands in `ANSWERS`, everything else is made from the model.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name
from botocore.exceptions import ClientError
from botocore.model import Shape

from worker.aws import AccountClosedError

OWN = "000000000000"
LONG_AGO = datetime.now(UTC) - timedelta(days=400)


@dataclass
class Allowance:
    """What an API of an account lets through: so many calls a second after a burst, by the loop's time."""

    a_second: float
    burst: float
    left: float
    at: float

    def takes(self, now: float) -> bool:
        self.left = min(self.burst, self.left + (now - self.at) * self.a_second)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass
class Cloud:
    """`a_second` and `burst` are what each API of each account allows; `hangs` names the services that never answer."""

    latency_seconds: float = 0.1
    a_second: float | None = None
    burst: float = 10
    hangs: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    calls: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    entered: Counter[str] = field(default_factory=Counter)
    allowances: dict[tuple[str, ...], Allowance] = field(default_factory=dict)

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        """As `worker.aws.Accounts.client`."""
        if account in self.closed:
            self.entered[account or ""] += 1
            await asyncio.sleep(self.latency_seconds)
            raise AccountClosedError(f"account {account} cannot be entered: AccessDenied")
        return Desk(self, service, account or OWN, region or "us-east-1")

    async def answer(self, service: str, account: str, region: str, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """One call."""
        self.calls[f"{service}:{operation}"] += 1
        if service in self.hangs:
            await asyncio.Event().wait()
        now = asyncio.get_running_loop().time()
        if self.a_second is not None:
            allowance = self.allowances.setdefault((service, account, region), Allowance(self.a_second, self.burst, self.burst, now))
            if not allowance.takes(now):
                self.throttled += 1
                raise ClientError({"Error": {"Code": "Throttling", "Message": "Rate exceeded"}}, operation)
        await asyncio.sleep(self.latency_seconds)
        special = ANSWERS.get(operation)
        return {**made_up(service, operation), **(special({"account": account, **params}) if special is not None else {})}


@dataclass(frozen=True)
class Desk:
    """A client of the cloud."""

    cloud: Cloud
    service: str
    account: str
    region: str

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        return lambda **params: self.cloud.answer(self.service, self.account, self.region, operation, params)

    def get_paginator(self, operation: str) -> Any:
        return Pages(self, operation)


@dataclass(frozen=True)
class Pages:
    """Every list has one page."""

    desk: Desk
    operation: str

    async def paginate(self, **params: Any) -> AsyncIterator[dict[str, Any]]:
        yield await getattr(self.desk, self.operation)(**params)


ANSWERS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "get_caller_identity": lambda _: {"Account": OWN},
    "list_access_keys": lambda params: {
        "AccessKeyMetadata": [{"AccessKeyId": f"AKIA{params['UserName']}", "Status": "Active", "CreateDate": LONG_AGO}]
    },
    "describe_instances": lambda params: {
        "Reservations": [
            {
                "Instances": [
                    {
                        "InstanceId": "i-1",
                        "State": {"Name": "running"},
                        "IamInstanceProfile": {"Arn": params["Filters"][0]["Values"][0].replace("*", "aws", 1).replace("*", "")},
                    }
                ]
            }
        ]
    },
}


@cache
def made_up(service: str, operation: str) -> dict[str, Any]:
    """An answer by the model: every member there, lists empty, times long ago."""
    model: Any = _model(service)
    name = next(name for name in model.operation_names if xform_name(name) == operation)
    shape = model.operation_model(name).output_shape
    return {} if shape is None else _value(shape, 0)


@cache
def _model(service: str) -> Any:
    session: Any = botocore.session.get_session()
    return session.get_service_model(service)


def _value(shape: Shape, depth: int) -> Any:
    if shape.type_name == "structure":
        members: Mapping[str, Shape] = getattr(shape, "members", {})
        return {name: _value(member, depth + 1) for name, member in members.items()} if depth < 4 else {}
    plain = {
        "list": [],
        "map": {},
        "boolean": False,
        "integer": 0,
        "long": 0,
        "double": 0.0,
        "float": 0.0,
        "timestamp": LONG_AGO,
        "blob": b"",
    }
    return plain.get(shape.type_name, "x")
