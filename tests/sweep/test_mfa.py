"""`trailmend mfa enroll` against an AWS that checks codes: enrolled, or nothing is left behind; and nobody ever hears the seed but the terminal."""

import asyncio
import inspect
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.parsers import ResponseParserError
from rich.console import Console

from tests.sweep.aged import STEP_SECONDS, code_at
from tests.sweep.estate import ACCOUNT, Estate, user
from worker import cli
from worker.enrolment import Device
from worker.mfa import MOST_TRIES, Enrolling
from worker.modes import Mode, Scope
from worker.remediate.actions.enforce_mfa import POLICY, POLICY_NAME
from worker.remediate.history import histories
from worker.remediate.steps import take
from worker.settings import Settings
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError
from worker.terminal import AskedWronglyError, NotDoneError

SERIAL = f"arn:aws:iam::{ACCOUNT}:mfa/alice"
GIVES_UP = [""]
RIGHT = ["first", "second"]


class Phone(io.StringIO):
    """Somebody with an authenticator who reads the terminal: `first` and `second` are its codes, anything else is typed as it stands."""

    def __init__(self, screen: io.StringIO, typed: list[Any]) -> None:
        super().__init__()
        self._screen = screen
        self._typed = iter(typed)
        self._step = 0

    def isatty(self) -> bool:
        return True

    def readline(self, *_: Any) -> str:  # type: ignore[override]
        word = next(self._typed)
        if isinstance(word, BaseException):
            raise word
        if callable(word):
            word = word()
        if word == "first":
            self._step = int(time.time()) // STEP_SECONDS
        if word in RIGHT:
            return code_at(self.seed, self._step + RIGHT.index(word)) + "\n"
        return f"{word}\n"

    @property
    def seed(self) -> str:
        return str(re.findall("the secret: ([A-Z2-7]+)\n", self._screen.getvalue())[-1])


class Desk:
    """The command with a state file, and what it said."""

    def __init__(self, estate: Estate, state: str) -> None:
        self.estate, self.state = estate, state
        self.screen = io.StringIO()
        self.phone: Phone | None = None

    async def enroll(
        self, typed: list[Any], name: str = "alice", device: str | None = None, *, another: bool = False, **changed: Any
    ) -> str:
        self.phone = Phone(self.screen, typed)
        settings = replace(Settings(state=self.state), **changed)
        enrolling = Enrolling(settings, os.environ, lambda: self.estate.now, Console(file=self.screen, width=200), self.phone)
        try:
            await enrolling.enroll(name, None, device, another=another)
        except NotDoneError as error:
            return str(error)
        return "enrolled"

    async def outcomes(self) -> list[str]:
        store = await SqliteStore.open(self.state.removeprefix("sqlite:///"))
        found = [entry async for entry, _, _ in store.journal()]
        await store.close()
        assert self.phone is not None
        told = self.screen.getvalue()
        if "the secret: " in told:
            assert self.phone.seed not in json.dumps([entry.body for entry in found], default=str)
        return [entry.outcome for entry in found]

    async def devices(self, name: str = "alice") -> list[str]:
        iam = await self.estate.accounts.client("iam")
        return [one["SerialNumber"] for one in (await iam.list_mfa_devices(UserName=name))["MFADevices"]]

    async def unassigned(self) -> list[str]:
        iam = await self.estate.accounts.client("iam")
        return [one["SerialNumber"] for one in (await iam.list_virtual_mfa_devices(AssignmentStatus="Unassigned"))["VirtualMFADevices"]]


@pytest.fixture
async def desk(estate: Estate, tmp_path: Any) -> Desk:
    await estate.seed([user("alice", estate.now, password=1), user("bob", estate.now, password=1, mfa=True)])
    iam = await estate.accounts.client("iam")
    await estate.seed([user("cid", estate.now, password=1)])
    await estate.seed([user("old", estate.now, mfa=True)])
    await iam.deactivate_mfa_device(UserName="old", SerialNumber=f"arn:aws:iam::{ACCOUNT}:mfa/old")
    now = int(time.time()) // STEP_SECONDS
    codes = {f"AuthenticationCode{n + 1}": code_at("A" * 32, now + n) for n in (0, 1)}
    await iam.enable_mfa_device(UserName="cid", SerialNumber=f"arn:aws:iam::{ACCOUNT}:mfa/old", **codes)
    await estate.trouble()
    return Desk(estate, f"sqlite:///{tmp_path}/state.db")


async def test_two_codes_enrol_the_device_and_only_the_screen_has_the_seed(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    """Read back from AWS, with both request ids in the journal; an undo says why there is none."""
    caplog.set_level(logging.DEBUG, "worker")
    assert await desk.enroll(RIGHT) == "enrolled"
    assert await desk.devices() == [SERIAL]
    assert await desk.outcomes() == ["started", "enrolled"]
    assert "▀" in desk.screen.getvalue()
    store = await SqliteStore.open(desk.state.removeprefix("sqlite:///"))
    (history,) = await histories(store.journal(), "")
    await store.close()
    assert len(history.lines[-1].body["request_ids"]) == 2
    assert history.lines[-1].body["after"]["mfa_devices"] == [SERIAL]
    assert history.done() == "an MFA device is not taken from its user here: DeactivateMFADevice and DeleteVirtualMFADevice do it"
    assert desk.phone is not None
    assert desk.phone.seed not in caplog.text


def test_the_uri_is_what_authenticators_read_and_a_device_does_not_print_its_seed() -> None:
    """As AWS's console has it."""
    device = Device(SERIAL, "al+ice", ACCOUNT, "SEED")
    assert device.uri == "otpauth://totp/Amazon%20Web%20Services:al%2Bice@000000000000?secret=SEED&issuer=Amazon%20Web%20Services"
    assert "SEED" not in repr(device)


async def test_wrong_codes_may_be_typed_again(desk: Desk) -> None:
    """Codes that AWS does not take, that are none, or twice the same one."""
    assert await desk.enroll(["000000", "111111", "12", "x", "123456", "123456", *RIGHT]) == "enrolled"
    told = desk.screen.getvalue()
    assert "AWS does not take these codes" in told
    assert "a code has six digits" in told
    assert "those are the same code" in told
    assert await desk.outcomes() == ["started", "enrolled"]


@pytest.mark.parametrize("typed", [GIVES_UP, ["123456", ""], ["000000", "111111"] * MOST_TRIES])
async def test_who_gives_up_leaves_nothing_behind(typed: list[str], desk: Desk) -> None:
    """The device is deleted again, and the same command works afterwards."""
    assert (await desk.enroll(typed)).startswith("not enrolled")
    assert (await desk.devices(), await desk.unassigned()) == ([], [])
    assert f"the device {SERIAL} was deleted again" in desk.screen.getvalue()
    assert await desk.outcomes() == ["started", "abandoned"]
    desk.screen.truncate(0)
    assert await desk.enroll(RIGHT) == "enrolled"


async def test_ctrl_c_leaves_nothing_behind(desk: Desk) -> None:
    """Also in the middle of a code."""
    with pytest.raises(KeyboardInterrupt):
        await desk.enroll(["123456", KeyboardInterrupt()])
    assert (await desk.devices(), await desk.unassigned()) == ([], [])
    assert await desk.outcomes() == ["started", "abandoned"]


async def test_a_device_that_cannot_be_deleted_is_named_with_the_way_to(desk: Desk) -> None:
    """And the next enrolment says why it cannot make one of this name."""
    await desk.estate.trouble(denied=[["DeleteVirtualMFADevice", None]])
    await desk.enroll(GIVES_UP)
    assert f"aws iam delete-virtual-mfa-device --serial-number {SERIAL}" in desk.screen.getvalue()
    assert await desk.unassigned() == [SERIAL]
    await desk.estate.trouble()
    assert "left by an earlier enrolment" in await desk.enroll(RIGHT)
    assert await desk.enroll(RIGHT, device="phone") == "enrolled"


def after_making(monkeypatch: pytest.MonkeyPatch, happens: Callable[[Any], Any]) -> None:
    """What happens once AWS has made a device, to its answer."""

    async def taken(step: Any, clients: Any, agent: str, tries: Any) -> Any:
        __tracebackhide__ = True  # what is called through it is an attempt's call (tests/recorder.py)
        answer = await take(step, clients, agent, tries)
        if step.api != "CreateVirtualMFADevice":
            return answer
        happened = happens(answer)
        return await happened if inspect.isawaitable(happened) else happened

    monkeypatch.setattr("worker.remediate.attempt.take", taken)


def raising(error: BaseException) -> Any:
    raise error


async def test_a_store_that_fails_once_the_device_is_made_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes on to whoever ran it."""
    whole = SqliteStore.expect

    async def full(*_: Any, **__: Any) -> None:
        monkeypatch.setattr(SqliteStore, "expect", whole)
        raise StoreError("the disk is full")

    monkeypatch.setattr(SqliteStore, "expect", full)
    with pytest.raises(StoreError, match="full"):
        await desk.enroll([])
    assert (await desk.devices(), await desk.unassigned()) == ([], [])
    assert f"the device {SERIAL} was deleted again" in desk.screen.getvalue()
    assert await desk.outcomes() == ["started", "abandoned"]


async def test_ctrl_c_while_the_device_is_made_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """As asyncio cancels."""
    after_making(monkeypatch, lambda _: raising(asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await desk.enroll([])
    assert (await desk.devices(), await desk.unassigned()) == ([], [])
    assert await desk.outcomes() == ["started", "abandoned"]


async def test_an_answer_that_nobody_can_read_is_not_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the seed, which no text and no traceback shows; and the device is deleted again."""
    seeds: list[str] = []

    def unreadable(answer: Any) -> Any:
        seeds.append(answer["VirtualMFADevice"]["Base32StringSeed"].decode())
        raise ResponseParserError(f"Unable to parse response, invalid XML received. Further retries may succeed:\n{seeds[0]}")

    after_making(monkeypatch, unreadable)
    told: list[str] = []
    enroll = Enrolling.enroll

    async def watched(*args: Any, **more: Any) -> None:
        try:
            await enroll(*args, **more)
        except NotDoneError as error:
            told.extend(traceback.format_exception(error))
            raise

    monkeypatch.setattr(Enrolling, "enroll", watched)
    assert await desk.enroll([]) == "not enrolled: AWS's answer, with the device in it, could not be read"
    assert seeds[0] not in "".join(told)
    assert await desk.unassigned() == []
    assert await desk.outcomes() == ["started", "abandoned"]


async def test_whose_device_it_is_may_be_in_doubt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer was lost, and the next try hears that there is one: nothing is deleted, and the way to is told."""

    async def again(_: Any) -> Any:
        return await (await desk.estate.accounts.client("iam")).create_virtual_mfa_device(VirtualMFADeviceName="alice")

    after_making(monkeypatch, again)
    told = await desk.enroll([])
    assert "or by this one" in told
    assert f"aws iam delete-virtual-mfa-device --serial-number {SERIAL}" in told
    assert await desk.outcomes() == ["started", "failed"]


async def test_a_store_that_is_away_keeps_nobody_from_being_told_what_is_left(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes while codes are typed: the device cannot be deleted, for no claim of it holds."""

    def away() -> str:
        async def raises(*_: Any, **__: Any) -> None:
            raise StoreError("no connection")

        for name in ("claim", "append"):
            monkeypatch.setattr(SqliteStore, name, raises)
        return ""

    assert (await desk.enroll([away])).startswith("not enrolled")
    told = desk.screen.getvalue()
    assert f"aws iam delete-virtual-mfa-device --serial-number {SERIAL}" in told
    assert "the journal could not be told of it: no connection" in told
    assert await desk.unassigned() == [SERIAL]


async def test_an_account_whose_mode_is_off_is_left_alone(desk: Desk) -> None:
    """Whatever the mode is elsewhere; and one whose mode is on has enrolments although it is off elsewhere."""
    here = Scope(account=ACCOUNT)
    told = await desk.enroll([], remediation_modes=((here, Mode.OFF),), remediation_mode=Mode.AUTO)
    assert told == f"not enrolled: off: the mode of mfa-enroll in {ACCOUNT} is off"
    assert await desk.enroll([], remediation_mode=Mode.OFF) == told
    assert not [one for one in await desk.estate.trouble() if one.startswith("Create")]
    assert await desk.enroll(RIGHT, remediation_modes=((here, Mode.SHADOW),), remediation_mode=Mode.OFF) == "enrolled"


async def test_what_aws_refuses_leaves_nothing_behind(desk: Desk) -> None:
    """AccessDenied is no wrong code."""
    await desk.estate.trouble(denied=[["EnableMFADevice", "alice"]])
    assert "AccessDenied" in await desk.enroll(RIGHT)
    assert (await desk.devices(), await desk.unassigned()) == ([], [])
    assert await desk.outcomes() == ["started", "abandoned"]


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("bob", {}, "has-mfa: user bob has this MFA device already"),
        ("cid", {}, "has-mfa: user cid has an MFA device already: arn:aws:iam::000000000000:mfa/old"),
        ("nobody", {}, "user-gone"),
        ("root", {}, "root is only ever paged"),
        ("alice", {"exempt_principals": ("arn:aws:iam::*:user/alice",)}, "exempt"),
    ],
)
async def test_what_is_refused_makes_no_device(name: str, settings: dict[str, Any], says: str, desk: Desk) -> None:
    """A device already, no such user, and the guards of every action."""
    assert says in await desk.enroll([], name, **settings)
    assert not [one for one in await desk.estate.trouble() if one.startswith("Create")]


async def test_another_device_may_be_asked_for(desk: Desk) -> None:
    """Beside the one that is there, under a name of its own."""
    assert await desk.enroll(RIGHT, "bob", "phone", another=True) == "enrolled"
    assert len(await desk.devices("bob")) == 2


async def test_a_user_who_is_held_hears_that_mfa_lifts_it(desk: Desk) -> None:
    """The policy of enforce-mfa stays, and lets in whoever has MFA."""
    iam = await desk.estate.accounts.client("iam")
    await iam.put_user_policy(UserName="alice", PolicyName=POLICY_NAME, PolicyDocument=json.dumps(POLICY))
    await desk.enroll(RIGHT)
    assert "signing in with this device lifts it" in desk.screen.getvalue()


async def test_a_terminal_and_a_name_are_needed_before_anything_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2, and AWS hears nothing."""
    with pytest.raises(AskedWronglyError, match="has letters"):
        await desk.enroll([], device="a b")
    monkeypatch.setattr(sys, "stdin", io.StringIO("123456\n"))
    assert await asyncio.to_thread(cli.main, ["mfa", "enroll", "alice"]) == 2
    assert await desk.estate.trouble() == []


async def test_ctrl_c_at_the_real_prompt_leaves_nothing_behind(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real process at a terminal, waiting for a code: status 1, and the device deleted again."""
    monkeypatch.setenv("TRAILMEND_STATE", desk.state)
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "worker", "mfa", "enroll", "alice"]
    process = await asyncio.create_subprocess_exec(*command, env=dict(os.environ), stdin=theirs, stdout=subprocess.PIPE)
    assert process.stdout is not None
    await process.stdout.readuntil(b"First code: ")
    assert await desk.unassigned() == [SERIAL]
    process.send_signal(signal.SIGINT)
    told, _ = await process.communicate()
    os.close(ours)
    os.close(theirs)
    assert (process.returncode, await desk.unassigned()) == (1, [])
    assert b"was deleted again" in told
