"""Ways to a boto3 client of the embedded AWS, and an AWS of canned answers that botocore itself has checked against its model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import boto3
from botocore.exceptions import ClientError
from botocore.stub import Stubber

OWN, MEMBER = "000000000000", "111122223333"


def client(service: str, account: str = OWN, region: str = "us-east-1") -> Any:
    """A client that acts in an account of the embedded AWS."""
    return boto3.client(service, region_name=region, aws_access_key_id=account, aws_secret_access_key="x")  # type: ignore[call-overload]


class Canned:
    """An AWS of one account, in place of `worker.aws.Accounts`, that answers an operation by a function of its parameters.

    Whatever it answers has been through botocore's Stubber, which refuses a parameter or member that AWS does not have. A function raises
    `refused(code)` for an error. `asked` counts the operations.
    """

    def __init__(self, service: str, **answers: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
        self.client_of_service = client(service)
        self.answers = answers
        self.asked: Counter[str] = Counter()
        self.places: list[tuple[str, str | None, str | None]] = []

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Canned:
        self.places.append((service, account, region))
        return self

    def __getattr__(self, operation: str) -> Any:
        async def call(**params: Any) -> Any:
            return self._answer(operation, params)

        return call

    def get_paginator(self, operation: str) -> Any:
        canned = self

        class Pages:
            async def paginate(self, **params: Any) -> Any:
                yield canned._answer(operation, params)

        return Pages()

    def _answer(self, operation: str, params: Mapping[str, Any]) -> Any:
        self.asked[operation] += 1
        if operation not in self.answers:
            raise refused("AccessDenied")
        with Stubber(self.client_of_service) as stubber:
            stubber.add_response(operation, dict(self.answers[operation](params)), dict(params))
            return getattr(self.client_of_service, operation)(**params)


def refused(code: str, operation: str = "Operation") -> ClientError:
    """AWS's refusal with an error code."""
    return ClientError({"Error": {"Code": code, "Message": "no"}}, operation)
