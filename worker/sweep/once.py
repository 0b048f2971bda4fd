"""The account of a user who is being looked at: each question is asked once, and every action plans from the same answers.

Four actions ask IAM much the same of a user, and what it allows is scarce. Only for a look: whoever acts asks anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from worker.aws import Accounts

_OTHERWISE = frozenset({"get_paginator", "get_waiter", "exceptions", "meta"})
"""What of a client is no call. What is asked through it is asked each time."""


class Once:
    """Stands for `Accounts` where only IAM in one account is asked, and nothing is changed."""

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._answers: dict[tuple[str, str], Mapping[str, Any] | Exception] = {}

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        """As of `Accounts`."""
        return _Asked(await self._accounts.client(service, account, region), self._answers)


class _Asked:
    def __init__(self, client: Any, answers: dict[tuple[str, str], Mapping[str, Any] | Exception]) -> None:
        self._client = client
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        if name in _OTHERWISE:
            return getattr(self._client, name)

        async def call(**parameters: Any) -> Mapping[str, Any]:
            key = name, repr(sorted(parameters.items()))
            if key not in self._answers:
                try:
                    self._answers[key] = await getattr(self._client, name)(**parameters)
                except Exception as error:  # noqa: BLE001  # no such thing is an answer too
                    self._answers[key] = error
            answer = self._answers[key]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call
