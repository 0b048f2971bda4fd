"""boto3's clients in the place of aiobotocore's: what moto and botocore's stubs stand behind, asked as the worker asks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any


class Borrowed:
    """`Accounts` of which every client is one of boto3's, made by `make(service, region)`; `asked` has each call's operation and region."""

    def __init__(self, make: Callable[[str, str | None], Any]) -> None:
        self._make = make
        self.asked: list[tuple[str, str | None]] = []

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        return _Desk(self, self._make(service, region), region)


class _Desk:
    def __init__(self, accounts: Borrowed, client: Any, region: str | None) -> None:
        self.accounts, self.client, self.region = accounts, client, region

    def __getattr__(self, operation: str) -> Any:
        async def call(**params: Any) -> Any:
            self.accounts.asked.append((operation, self.region))
            return getattr(self.client, operation)(**params)

        return call

    def get_paginator(self, operation: str) -> Any:
        desk = self

        class Pages:
            async def paginate(self, **params: Any) -> AsyncIterator[Any]:
                desk.accounts.asked.append((operation, desk.region))
                for page in desk.client.get_paginator(operation).paginate(**params):
                    yield page

        return Pages()
