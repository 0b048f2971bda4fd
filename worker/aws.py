"""AWS, seen from the worker: one client a service, account and region, and one place where AWS's errors become ours.

In go settings and the standard AWS environment (`AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>`, the default credential
chain with refresh); out come aiobotocore clients. A member account is entered by assuming `MEMBER_ROLE_NAME` in it, and our own too where that is
asked for. Our own calls say so in CloudTrail by their role session name and source identity, `trailmend`, and by what `telling` adds.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from worker.clients import OpenClients
from worker.model import MARK
from worker.settings import Settings

SESSION_NAME = MARK
AWS_CALLS = ("sts:GetCallerIdentity", "sts:AssumeRole")
_AGENT: ContextVar[str | None] = ContextVar("agent", default=None)
_TRIES: ContextVar[list[str | None] | None] = ContextVar("tries", default=None)

THROTTLED = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "TooManyRequestsException",
        "RequestThrottled",
        "ProvisionedThroughputExceededException",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "SlowDown",
    }
)
DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "Client.UnauthorizedOperation", "AuthFailure"})
_QUEUE_HOST = re.compile(r"(?:queue\.|sqs(?:-fips)?\.)([a-z0-9-]+)\.(?:amazonaws|api\.aws)")
SERVER_FAULT = 500
"""HTTP statuses from here on say that the server failed, not what was asked of it."""
GONE = frozenset({"NoSuchEntity", "NoSuchEntityException"})
EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "RequestTimeTooSkewed"})
"""Credentials that nobody has renewed yet, or a clock that is off: neither lasts, so they count as an AWS that cannot be reached."""

ENTER_EVERY_SECONDS = 0.05
"""How fast accounts are entered. Their ids come from records, and what STS allows is shared with everybody in our account."""
REFUSED_SECONDS = 10.0
"""For so long an account that could not be entered is not tried again."""


class AccountClosedError(Exception):
    """A member account cannot be entered. The text says which and what to set or grant."""


@dataclass(frozen=True, slots=True)
class AwsFault:
    """An AWS error in our terms: `kind` is gone, denied, throttled, unreachable or refused; `text` is for people."""

    kind: str
    code: str
    text: str


def explain(error: BaseException) -> AwsFault:
    """Say what an exception raised by a client means. Anything unknown is `refused` with the error's own text."""
    if isinstance(error, ClientError):
        told = error.response.get("Error", {})
        code = str(told.get("Code", "Unknown"))
        text = f"{error.operation_name}: {code}: {told.get('Message', '')}"
        for kind, codes in (("gone", GONE), ("denied", DENIED), ("throttled", THROTTLED), ("unreachable", EXPIRED)):
            if code in codes:
                return AwsFault(kind, code, text)
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= SERVER_FAULT:
            return AwsFault("unreachable", code, text)
        return AwsFault("refused", code, text)
    if isinstance(error, AccountClosedError):
        return AwsFault("denied", "AccountClosed", str(error))
    if isinstance(error, (BotoCoreError, OSError, TimeoutError)) and not isinstance(error, ParamValidationError):
        return AwsFault("unreachable", type(error).__name__, f"{type(error).__name__}: {error}")
    return AwsFault("refused", type(error).__name__, f"{type(error).__name__}: {error}")


@contextmanager
def telling(agent: str) -> Iterator[list[str | None]]:
    """Within it, every call made here ends its user agent with this word, which CloudTrail then tells (of the first KB).

    Answers the request ids of its tries, as they come: None for one that AWS did not answer, or without an id.
    """
    tries: list[str | None] = []
    token, heard = _AGENT.set(agent), _TRIES.set(tries)
    try:
        yield tries
    finally:
        _TRIES.reset(heard)
        _AGENT.reset(token)


def _tell(request: Any, **_: Any) -> None:
    if (agent := _AGENT.get()) is not None:
        told = request.headers.get("User-Agent", MARK)
        del request.headers["User-Agent"]  # setting a header here adds another of its name
        request.headers["User-Agent"] = f"{told} {agent}"


def _hear(parsed_response: Mapping[str, Any] | None, **_: Any) -> None:
    if (tries := _TRIES.get()) is not None:
        tries.append(request_id(parsed_response or {}))


def request_id(answer: Mapping[str, Any]) -> str | None:
    """The request id in a client's answer, or in that of a `ClientError`."""
    told = answer.get("ResponseMetadata", {}).get("RequestId")
    return str(told) if told else None


def session(environment: Mapping[str, str]) -> AioSession:
    """An AWS session that also honours `AWS_REGION`, which botocore by itself does not read."""
    made = AioSession()
    region = environment.get("AWS_REGION")
    if region:
        made.set_config_variable("region", region)
    return made


def queue_region(url: str) -> str | None:
    """The region in an SQS queue's URL, or None where the URL does not tell (an endpoint of one's own)."""
    found = _QUEUE_HOST.match(urlsplit(url).hostname or "")
    return found[1] if found else None


class Accounts:
    """Clients for every account in reach. Use as an async context manager; clients are made once and closed with it.

    A client tries a call up to `tries` times; whoever keeps a budget of calls takes 1 and tries again itself. Beyond `most_clients` those not used for
    a while are closed: whoever sets it keeps no client but asks for it before each call. `mending`: its clients are for the executor's calls, so
    our own account, where it is named, is entered as `ASSUME_IN_OWN_ACCOUNT` says.
    """

    def __init__(
        self, session: AioSession, settings: Settings, *, tries: int = 5, most_clients: int | None = None, mending: bool = False
    ) -> None:
        self._session = session
        self._settings = settings
        self._tries = tries
        self._assumes_at_home = mending and settings.assume_in_own_account
        self._stack = AsyncExitStack()
        self._clients = OpenClients(most_clients)
        self._sessions: dict[str, AioSession] = {}
        self._own_account: str | None = None
        self._refused: dict[str, tuple[float, str]] = {}
        # Weak, because account ids come from records: a lock lives as long as somebody waits for it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._naming, self._entrance = asyncio.Lock(), asyncio.Lock()
        self._entered_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.close()
        await self._stack.aclose()

    @property
    def session(self) -> AioSession:
        """The worker's own session, for whoever needs its credentials."""
        return self._session

    @property
    def region(self) -> str:
        """The worker's own region; us-east-1, where IAM's events are, when nothing says another."""
        return self._session.get_config_variable("region") or "us-east-1"

    def own(self, close: Callable[[], None]) -> None:
        """Have something closed with the clients."""
        self._stack.callback(close)

    async def own_account(self) -> str:
        """The worker's own account id (asked once). Raises what the STS client raises."""
        if self._own_account is None:
            async with self._naming:
                if self._own_account is None:
                    sts = await self.client("sts")
                    self._own_account = str((await sts.get_caller_identity())["Account"])
        return self._own_account

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any:
        """A client for a service in an account (None: our own, by the default credential chain) and region (None: our own).

        Raises `AccountClosedError` when the account has to be entered and cannot be.
        """
        if account is not None and not self._assumes_at_home and account == await self.own_account():
            account = None
        key = (service, account, region)
        # One lock an account: an account that is slow to enter holds up no other.
        async with self._locks.setdefault(account or "", asyncio.Lock()):
            return await self._clients.get(key, lambda: self._made(service, account, region))

    async def offers(self, service: str, region: str) -> bool:
        """Whether botocore knows that a service is there in a region. One that is newer than botocore it does not know."""
        listed: list[str] = await self._session.get_available_regions(service, self._session.get_partition_for_region(self.region))
        return region in listed

    async def _made(self, service: str, account: str | None, region: str | None) -> AbstractAsyncContextManager[Any]:
        return self._open(self._session if account is None else await self._member(account), service, region)

    def _open(self, session: AioSession, service: str, region: str | None) -> AbstractAsyncContextManager[Any]:
        # Long polls last 20 s, so reads may take longer; adaptive retries back off per client, which is per account and service.
        config = AioConfig(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": self._tries},
            max_pool_connections=64,
            user_agent_extra="trailmend",
        )
        # Once it is signed, which the user agent has no part in, and after botocore has written that anew: handlers of a longer name come first.
        session.register("request-created", _tell, unique_id="trailmend")
        session.register("response-received", _hear, unique_id="trailmend-hears")
        create: Any = session.create_client  # the stubs know each service by a literal
        client: AbstractAsyncContextManager[Any] = create(service, region_name=region or self.region, config=config)
        return client

    async def _member(self, account: str) -> AioSession:
        if account in self._sessions:
            return self._sessions[account]
        role = self._settings.member_role_name
        if role is None:
            raise AccountClosedError(f"account {account} is not ours: set TRAILMEND_MEMBER_ROLE_NAME to a role that we may assume there")
        until, why = self._refused.get(account, (0.0, ""))
        if why and _now() < until:
            raise AccountClosedError(why)
        sts = await self.client("sts")
        arn = f"arn:{self._session.get_partition_for_region(self.region)}:iam::{account}:role/{role}"
        request: dict[str, str] = {"RoleArn": arn, "RoleSessionName": SESSION_NAME, "SourceIdentity": SESSION_NAME}
        if self._settings.external_id is not None:
            request["ExternalId"] = self._settings.external_id

        async def fetch() -> dict[str, str]:
            answer = (await sts.assume_role(**request))["Credentials"]
            return {
                "access_key": answer["AccessKeyId"],
                "secret_key": answer["SecretAccessKey"],
                "token": answer["SessionToken"],
                "expiry_time": answer["Expiration"].isoformat(),
            }

        await self._turn()
        try:
            metadata = await fetch()
        except ClientError as error:
            if explain(error).kind != "denied":
                raise
            why = f"account {account} cannot be entered: {explain(error).text} (assuming {arn})"
            self._refused = {one: told for one, told in self._refused.items() if _now() < told[0]}
            self._refused[account] = _now() + REFUSED_SECONDS, why
            raise AccountClosedError(why) from error
        session = AioSession()
        # What botocore knows of a service, 20 MB for EC2, is read once and not for every account.
        session.register_component("data_loader", self._session.get_component("data_loader"))
        # The one way to hand a session credentials that refresh themselves.
        setattr(session, "_credentials", AioRefreshableCredentials.create_from_metadata(metadata, fetch, "assume-role"))  # noqa: B010
        self._sessions[account] = session
        return session

    async def _turn(self) -> None:
        """Wait until another account may be entered. Whoever gives up waiting leaves the turn to the next."""
        async with self._entrance:
            await asyncio.sleep(self._entered_at + ENTER_EVERY_SECONDS - _now())
            self._entered_at = _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
