"""`trailmend mfa enroll`: a user's virtual MFA device, from a QR code on the terminal to two codes that are typed.

It needs a person at a terminal: the codes come from a seed that is made on the way, so nobody could give them beforehand. The seed is printed, as QR code
and text, and kept nowhere.
"""

from __future__ import annotations

import io
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TextIO

import segno
from rich.console import Console
from rich.text import Text

from worker.aws import Accounts, session
from worker.enrolment import Device, Enrolment, WrongCodesError, enrolment_of
from worker.model import stable_id
from worker.printing import plain
from worker.remediate.attempt import FAILURES, Means, reason
from worker.remediate.guards import Limits
from worker.remediate.steps import Refusal
from worker.settings import Settings
from worker.state.opening import open_store
from worker.state.store import StoreError
from worker.terminal import AskedWronglyError, NotDoneError, ask

MOST_TRIES = 5
_CODE = re.compile("[0-9]{6}", re.ASCII)
_DEVICE = re.compile(r"[A-Za-z0-9_+=,.@-]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Enrolling:
    """Where an enrolment is worked: the settings, the environment and the two ends of a terminal."""

    settings: Settings
    environment: Mapping[str, str]
    clock: Callable[[], datetime]
    people: Console
    stdin: TextIO

    async def enroll(self, user: str, account: str | None, device: str | None, *, another: bool) -> None:
        """Walk through it. Raises `AskedWronglyError` before anything is made, `NotDoneError` where the user has no device in the end, `StoreError`."""
        if not self.stdin.isatty():
            raise AskedWronglyError("there is no terminal: the codes are typed once the QR code was shown, and cannot be given beforehand")
        for value in (user, device or user):
            if _DEVICE.fullmatch(value) is None:
                raise AskedWronglyError(f"'{value}' has letters that no name in IAM has, or too many")
        async with self._means() as means:
            try:
                await self._walk(means, user, account, device or user, another=another)
            except FAILURES as error:
                raise NotDoneError(f"not enrolled: {reason(error)}") from error

    async def _walk(self, means: Means, user: str, account: str | None, name: str, *, another: bool) -> None:
        approver, own = (await means.identity(None)).arn, await means.identity(account)
        run = stable_id("enrolment", means.owner, self.clock().isoformat())
        task = enrolment_of(user, account or own.account, name, run, approver, means, another=another)
        enrolment = Enrolment(means, Limits.of(self.settings), task, own, approver)
        why = "nobody gave codes that AWS takes"
        try:
            device = await enrolment.begin()
            if isinstance(device, Refusal):
                why = f"{device.reason}: {device.says}"
            else:
                self._show(device)
                if await self._enabled(enrolment, device):
                    return
        except FAILURES as error:
            why = reason(error)
        except BaseException as error:  # Ctrl-C among them
            await self._abandoned(enrolment, str(error) if isinstance(error, StoreError) else "interrupted")
            raise
        await self._abandoned(enrolment, why)
        raise NotDoneError(f"not enrolled: {why}")

    async def _enabled(self, enrolment: Enrolment, device: Device) -> bool:
        for left in reversed(range(MOST_TRIES)):
            first = ask("First code: ", self.stdin, self.people)
            well_formed = _CODE.fullmatch(first) is not None
            second = ask("The code after it: ", self.stdin, self.people) if well_formed else first
            if not first or not second:
                return False
            if not (well_formed and _CODE.fullmatch(second)):
                wrong = "a code has six digits"
            elif first == second:
                wrong = "those are the same code: wait until the authenticator shows the next one"
            else:
                try:
                    state = await enrolment.enable(device, first, second)
                except WrongCodesError:
                    wrong = "AWS does not take these codes: they must be two that follow each other, typed soon after they were shown"
                else:
                    self._enrolled(device, held_by=state["held_by"])
                    return True
            self._say(f"{wrong}. {f'{left} more tries.' if left else 'That was the last try.'}")
        return False

    def _show(self, device: Device) -> None:
        code = io.StringIO()
        segno.make(device.uri, micro=False).terminal(code, compact=True)
        self._say("Scan this with an authenticator app. Whoever sees it can make the user's codes: clear the screen afterwards.\n")
        for line in code.getvalue().splitlines():
            # Blocks are the light parts, whatever the colours of the terminal.
            self.people.print(Text(line, style="bright_white on black"), soft_wrap=True)
        self._say(f"\nOr type in the secret: {device.seed}")
        self._say("Then type two codes that follow each other; the app shows a new one every 30 seconds. An empty line gives up.\n")

    def _enrolled(self, device: Device, held_by: str | None) -> None:
        self._say(f"enrolled: user {device.user} has the MFA device {device.serial}")
        if held_by is not None:
            self._say(
                f"The inline policy {held_by} denies everything until MFA is present: signing in with this device lifts it in effect."
            )

    async def _abandoned(self, enrolment: Enrolment, why: str) -> None:
        if enrolment.serial is not None:
            self._say(await enrolment.abandon(why) or f"the device {enrolment.serial} was deleted again")

    def _say(self, text: str) -> None:
        for line in text.split("\n"):
            self.people.print(plain(line) if line else "", soft_wrap=True)

    @asynccontextmanager
    async def _means(self) -> AsyncIterator[Means]:
        async with Accounts(session(self.environment), self.settings, mending=True) as accounts:
            store = await open_store(self.settings.state, accounts)
            try:
                owner = f"{socket.gethostname()}:{os.getpid()}"
                yield Means.of(self.settings, store, accounts, self.clock, owner)
            finally:
                await store.close()
