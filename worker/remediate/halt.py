"""The global stop: one place that says whether anything may be changed just now.

Three ways to stop, any of which is enough: the setting `TRAILMEND_STOP`; a file at `TRAILMEND_STOP_FILE`, as long as it is there; and the value of
the Systems Manager parameter `TRAILMEND_STOP_PARAMETER`, which stops a whole fleet at once. `GOES` are the values that let work go on. Everything
else stops: any other value, no value, no such parameter, no right to read it, no answer. Whoever names a switch wants it to hold when in doubt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError

from worker.aws import AccountClosedError, explain
from worker.settings import Settings

AWS_CALLS = ("ssm:GetParameter",)

GOES = frozenset({"false", "off", "no", "0", "go"})
"""Without regard to case and blanks around."""
ASKED_EVERY = timedelta(seconds=5)
ANSWER_SECONDS = 10.0


class Clients(Protocol):
    """Where a client comes from; `worker.aws.Accounts` is the real one."""

    async def client(self, service: str, account: str | None = None, region: str | None = None) -> Any: ...


class Halt:
    """Whether there is a stop. One a process; the setting and the file are looked at each time, the parameter at most every few seconds."""

    def __init__(self, settings: Settings, clients: Clients, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._clients = clients
        self._clock = clock
        self._asking = asyncio.Lock()
        self._asked_at: datetime | None = None
        self._told: str | None = None

    async def reason(self) -> str | None:
        """Why nothing may be changed; None where there is no stop. Never raises."""
        settings = self._settings
        if settings.stop:
            return "TRAILMEND_STOP is set"
        if settings.stop_file is not None:
            try:
                settings.stop_file.lstat()
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                return f"the file {settings.stop_file} of TRAILMEND_STOP_FILE cannot be looked for: {error.strerror or error}"
            else:
                return f"the file {settings.stop_file} of TRAILMEND_STOP_FILE is there"
        return None if settings.stop_parameter is None else await self._parameter(settings.stop_parameter)

    async def _parameter(self, name: str) -> str | None:
        async with self._asking:
            now = self._clock()
            if self._asked_at is None or abs(now - self._asked_at) >= ASKED_EVERY:
                self._told, self._asked_at = await self._ask(name), now
            return self._told

    async def _ask(self, name: str) -> str | None:
        which = f"the parameter {name} of TRAILMEND_STOP_PARAMETER"
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ssm = await self._clients.client("ssm")
                value = str((await ssm.get_parameter(Name=name))["Parameter"].get("Value", ""))
        except TimeoutError:
            return f"{which} cannot be read: no answer within {ANSWER_SECONDS:g} s"
        except (ClientError, BotoCoreError, AccountClosedError, OSError) as error:
            return f"{which} cannot be read: {explain(error).text}"
        return None if value.strip().casefold() in GOES else f"{which} is '{value[:50]}'; {', '.join(sorted(GOES))} would let work go on"
