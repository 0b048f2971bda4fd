"""AWS accounts in which IAM is asked at a pace: edge.

A sweep asks thousands of questions, and what IAM allows an account is shared with everybody in it. So each try of each call, pages and retries too, waits for its
turn in a budget, one an account, which throttling answers slow down (`enrich/call_budget.py`). botocore itself tries again what was throttled.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiobotocore.session import AioSession

from worker.aws import THROTTLED, Accounts
from worker.enrich.call_budget import RATES, CallBudget, Rate
from worker.settings import Settings

TRIES = 5
"""Of a call. While everybody waits for a pause to end, the first ones to go on may meet the same answer again; more would outlast the lease of a claim."""
_CALLED_AT = "trailmend_called_at"


class PacedAccounts(Accounts):
    """`Accounts` whose IAM clients keep to a rate."""

    def __init__(self, session: AioSession, settings: Settings, rate: Rate = RATES["iam"]) -> None:
        super().__init__(session, settings, tries=TRIES)
        self._rate = rate
        self._paces: dict[str, _Pace] = {}

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        """As of `Accounts`."""
        client = await super().client(service, account, region)
        if service == "iam":
            name = account or await self.own_account()
            pace = self._paces.setdefault(name, _Pace(CallBudget(self._rate, _now())))
            # A client that was handed out before is told apart by the id, and gets nothing twice. Signatures age, so the wait comes before signing.
            client.meta.events.register_first("request-created.iam", pace.wait, unique_id=f"trailmend-wait-{name}")
            client.meta.events.register("response-received.iam", pace.learn, unique_id=f"trailmend-learn-{name}")
        return client


class _Pace:
    """A budget, asked by botocore's events: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/events.html"""

    def __init__(self, budget: CallBudget) -> None:
        self._budget = budget

    async def wait(self, request: Any, **_: Any) -> None:
        while (wait := self._budget.take(_now())) > 0:  # noqa: ASYNC110  # the time is known, and no event would tell more
            await asyncio.sleep(wait)
        request.context[_CALLED_AT] = _now()

    def learn(self, context: dict[str, Any], parsed_response: dict[str, Any] | None, **_: Any) -> None:
        code = (parsed_response or {}).get("Error", {}).get("Code")
        if code in THROTTLED:
            self._budget.throttled(context[_CALLED_AT], _now())


def _now() -> float:
    return asyncio.get_running_loop().time()
