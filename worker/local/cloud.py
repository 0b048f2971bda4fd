"""Clients of the embedded AWS, for any account and region, that can reach nothing else.

In goes the endpoint on loopback; out come aiobotocore clients. They know neither the caller's profile, credentials files and variables
nor its proxies, so that a demo on a developer's machine never touches a real account.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

HOME_ACCOUNT = "000000000000"
HOME_REGION = "us-east-1"

NOTHING_FROM_OUTSIDE = dict.fromkeys(("profile", "config_file", "credentials_file", "ca_bundle", "region"), (None, None, None, None))
"""Session variables of botocore (config name, environment name, default, conversion) with every source taken out."""


class Cloud:
    """The embedded AWS at an endpoint such as `http://127.0.0.1:4566`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self._create: Any = AioSession(session_vars=NOTHING_FROM_OUTSIDE).create_client  # the stubs know each service by a literal

    def client(self, service: str, account: str = HOME_ACCOUNT, region: str = HOME_REGION) -> AbstractAsyncContextManager[Any]:
        """A client as an async context manager. A 12-digit access key id names the account it acts in."""
        client: AbstractAsyncContextManager[Any] = self._create(
            service,
            region_name=region,
            endpoint_url=self.endpoint,
            aws_access_key_id=account,
            aws_secret_access_key="embedded",  # noqa: S106  # the embedded AWS knows no secrets
            config=AioConfig(proxies={}, s3={"addressing_style": "path"}, retries={"mode": "standard", "max_attempts": 3}),
        )
        return client
