"""Settings: one frozen value from the environment, with every fault reported at once.

In goes a mapping (normally `os.environ`), out comes `Settings` or one `SettingsError` that lists every variable at fault by name.
A newcomer adds a field with its default, a line in `from_environment`, and a row in the README's table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from worker import addresses
from worker.addresses import Address, Routes

T = TypeVar("T")

PREFIX = "TRAILMEND_"
SQS_MAX_VISIBILITY_SECONDS = 43_200
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html"""

LONGEST_LATENESS_SECONDS = 604_800
"""A week: what CloudTrail delivers later than that is nothing that a window could wait for."""
SHORTEST_PERIOD_SECONDS, LONGEST_PERIOD_SECONDS = 60.0, 604_800.0
"""Of snapshots: an account is not asked for all that it has more often than each minute."""
MAX_PORT = 65_535


class SettingsError(ValueError):
    """One or more settings make no sense. `faults` has a sentence for each, beginning with the variable's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class Mode(StrEnum):
    """What the executor does with a task: nothing, say what it would do, or do it."""

    OFF = "off"
    SHADOW = "shadow"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where to listen; port 0 takes a free one."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything an operator can set. Sizes are in bytes, times in seconds. See the README's table for what each is for."""

    queue_url: str | None = None
    task_queue_url: str | None = None
    task_sinks: tuple[Address, ...] = ()
    finding_sinks: tuple[Address, ...] = (Address("stdout", "stdout:"),)
    notify: tuple[Address, ...] = ()
    routes: Routes = field(default_factory=Routes)
    webhook_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    rules_dir: Path | None = None
    shipped_rules: bool = True
    lateness_seconds: float = 3600.0
    state: str = "sqlite:///trailmend.db"
    concurrency: int = 32
    processes: int | None = None
    visibility_timeout_seconds: int = 120
    grace_seconds: float = 25.0
    http_address: HttpAddress = HttpAddress("0.0.0.0", 9464)  # noqa: S104  # a container is scraped from outside
    max_object_bytes: int = 64 * 2**20
    max_inflated_bytes: int = 512 * 2**20
    max_record_bytes: int = 2**20
    inflight_object_bytes: int = 128 * 2**20
    inflight_inflated_bytes: int = 512 * 2**20
    member_role_name: str | None = None
    external_id: str | None = None
    accounts: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    snapshot_seconds: float = 3600.0
    enrich_deadline_seconds: float = 10.0
    update_seconds: float = 60.0
    authorized_principals: tuple[str, ...] = ()
    change_pattern: str | None = None
    remediation_mode: Mode = Mode.SHADOW
    exempt_principals: tuple[str, ...] = ()
    allow_irreversible: bool = False
    max_task_age_seconds: int = 3600
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Read every `TRAILMEND_*` variable. An empty value counts as not set. Raises `SettingsError` naming all faults."""
        read = _Reader(environment)
        default = cls()
        settings = cls(
            queue_url=read.one("QUEUE_URL", addresses.queue_url, default.queue_url),
            task_queue_url=read.one("TASK_QUEUE_URL", addresses.queue_url, default.task_queue_url),
            task_sinks=read.one("TASK_SINKS", addresses.sinks, default.task_sinks),
            finding_sinks=read.one("FINDING_SINKS", addresses.sinks, default.finding_sinks),
            notify=read.one("NOTIFY", addresses.people, default.notify),
            routes=read.one("ROUTES", addresses.routes, default.routes),
            webhook_secrets=read.one("WEBHOOK_SECRET", _secrets, default.webhook_secrets),
            rules_dir=read.one("RULES_DIR", _folder, default.rules_dir),
            shipped_rules=read.one("SHIPPED_RULES", _flag, default.shipped_rules),
            lateness_seconds=read.one("LATENESS_SECONDS", _seconds(0, LONGEST_LATENESS_SECONDS), default.lateness_seconds),
            state=read.one("STATE", _state, default.state),
            concurrency=read.one("CONCURRENCY", _whole(1, 1024), default.concurrency),
            processes=read.one("PROCESSES", _processes, default.processes),
            visibility_timeout_seconds=read.one(
                "VISIBILITY_TIMEOUT_SECONDS", _whole(2, SQS_MAX_VISIBILITY_SECONDS), default.visibility_timeout_seconds
            ),
            grace_seconds=read.one("GRACE_SECONDS", _seconds(0, 3600), default.grace_seconds),
            http_address=read.one("HTTP_ADDRESS", _address, default.http_address),
            max_object_bytes=read.one("MAX_OBJECT_BYTES", _whole(1, 2**40), default.max_object_bytes),
            max_inflated_bytes=read.one("MAX_INFLATED_BYTES", _whole(1, 2**40), default.max_inflated_bytes),
            max_record_bytes=read.one("MAX_RECORD_BYTES", _whole(1, 2**40), default.max_record_bytes),
            inflight_object_bytes=read.one("INFLIGHT_OBJECT_BYTES", _whole(1, 2**40), default.inflight_object_bytes),
            inflight_inflated_bytes=read.one("INFLIGHT_INFLATED_BYTES", _whole(1, 2**40), default.inflight_inflated_bytes),
            member_role_name=read.one("MEMBER_ROLE_NAME", _role_name, default.member_role_name),
            external_id=read.one("EXTERNAL_ID", str, default.external_id),
            accounts=read.one("ACCOUNTS", _accounts, default.accounts),
            regions=read.one("REGIONS", _regions, default.regions),
            snapshot_seconds=read.one("SNAPSHOT_SECONDS", _period, default.snapshot_seconds),
            enrich_deadline_seconds=read.one("ENRICH_DEADLINE_SECONDS", _seconds(0.1, 600), default.enrich_deadline_seconds),
            update_seconds=read.one("UPDATE_SECONDS", _seconds(0, 3600), default.update_seconds),
            authorized_principals=read.one("AUTHORIZED_PRINCIPALS", _list, default.authorized_principals),
            change_pattern=read.one("CHANGE_PATTERN", _pattern, default.change_pattern),
            remediation_mode=read.one("REMEDIATION_MODE", _choice(Mode), default.remediation_mode),
            exempt_principals=read.one("EXEMPT_PRINCIPALS", _list, default.exempt_principals),
            allow_irreversible=read.one("ALLOW_IRREVERSIBLE", _flag, default.allow_irreversible),
            max_task_age_seconds=read.one("MAX_TASK_AGE_SECONDS", _whole(1, 10**9), default.max_task_age_seconds),
            log_level=read.one("LOG_LEVEL", _log_level, default.log_level),
        )
        if settings.max_inflated_bytes < settings.max_record_bytes:
            read.faults.append(
                f"{PREFIX}MAX_RECORD_BYTES: {settings.max_record_bytes} is more than {PREFIX}MAX_INFLATED_BYTES "
                f"({settings.max_inflated_bytes}), so it could never be reached"
            )
        for most, in_flight in (("OBJECT", settings.inflight_object_bytes), ("INFLATED", settings.inflight_inflated_bytes)):
            one: int = getattr(settings, f"max_{most.lower()}_bytes")
            if in_flight < one:
                read.faults.append(
                    f"{PREFIX}INFLIGHT_{most}_BYTES: {in_flight} is less than {PREFIX}MAX_{most}_BYTES ({one}), so one object would not fit"
                )
        if settings.external_id and not settings.member_role_name:
            read.faults.append(f"{PREFIX}EXTERNAL_ID: has no use without {PREFIX}MEMBER_ROLE_NAME")
        if settings.accounts and not settings.member_role_name:
            read.faults.append(f"{PREFIX}ACCOUNTS: has no use without {PREFIX}MEMBER_ROLE_NAME")
        read.faults += _faults_of_sinks(settings)
        if read.faults:
            raise SettingsError(read.faults)
        return settings


class _Reader:
    """Reads variables one by one and gathers their faults."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.faults: list[str] = []

    def one(self, name: str, parse: Callable[[str], T], default: T) -> T:
        text = self.environment.get(PREFIX + name, "").strip()
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as fault:
            self.faults.append(f"{PREFIX}{name}: {fault}")
            return default


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,15}", text):
            raise ValueError(f"'{text}' is not a whole number")
        number = int(text)
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return parse


def _processes(text: str) -> int | None:
    return None if text.lower() == "auto" else _whole(1, 128)(text)


def _seconds(low: float, high: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            raise ValueError(f"'{text}' is not a number of seconds") from None
        if not low <= number <= high:
            raise ValueError(f"{text} is not between {low:g} and {high:g} seconds")
        return number

    return parse


def _flag(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(f"'{text}' is neither true nor false")
    return words[text.lower()]


def _choice(kind: type[Mode]) -> Callable[[str], Mode]:
    def parse(text: str) -> Mode:
        try:
            return kind(text.lower())
        except ValueError:
            raise ValueError(f"'{text}' is none of {', '.join(kind)}") from None

    return parse


def _secrets(text: str) -> tuple[bytes, ...]:
    return tuple(addresses.secret(part) for part in text.split())


def _faults_of_sinks(settings: Settings) -> list[str]:
    """What sinks, people, routes and secrets say against each other."""
    named = (*settings.finding_sinks, *settings.notify)
    faults = [f"{PREFIX}ROUTES: names {name}, and no sink is called so" for name in addresses.unknown(settings.routes, named)]
    shared = {one.name for one in settings.finding_sinks} & {one.name for one in settings.notify}
    faults += [f"{PREFIX}NOTIFY: {name} is also the name of a sink" for name in sorted(shared)]
    if any(one.is_webhook for one in (*settings.finding_sinks, *settings.task_sinks)) and not settings.webhook_secrets:
        faults.append(f"{PREFIX}WEBHOOK_SECRET: must be set, to sign what goes to a webhook")
    if settings.task_queue_url is not None and settings.task_queue_url in {one.url for one in settings.task_sinks}:
        faults.append(f"{PREFIX}TASK_SINKS: names {PREFIX}TASK_QUEUE_URL again")
    return faults


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise ValueError(f"'{text}' is not a folder that can be read")
    return path


def _state(text: str) -> str:
    scheme, mark, rest = text.partition("://")
    if mark and scheme == "sqlite" and len(rest) > 1 and rest.startswith("/"):
        return text
    if mark and scheme == "dynamodb" and re.fullmatch(r"[A-Za-z0-9_.-]{3,255}", rest):
        return text
    raise ValueError(f"'{text}' is neither sqlite:///PATH (relative) or sqlite:////PATH (absolute) nor dynamodb://TABLE")


def _address(text: str) -> HttpAddress:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError(f"'{text}' is not HOST:PORT, such as 0.0.0.0:9464")
    return HttpAddress(host.strip("[]"), int(port))


def _role_name(text: str) -> str:
    if not re.fullmatch(r"[\w+=,.@/-]{1,128}", text, re.ASCII) or text.startswith("arn:"):
        raise ValueError(f"'{text}' is not the name of a role (a name, not an ARN: the account is put in for each member)")
    return text


def _accounts(text: str) -> tuple[str, ...]:
    accounts = _list(text)
    for account in accounts:
        if not re.fullmatch(r"[0-9]{12}", account, re.ASCII):
            raise ValueError(f"'{account}' is not the id of an AWS account, which has 12 digits")
    return accounts


def _period(text: str) -> float:
    seconds = _seconds(0, LONGEST_PERIOD_SECONDS)(text)
    if 0 < seconds < SHORTEST_PERIOD_SECONDS:
        raise ValueError(f"{text} is neither 0 (never) nor {SHORTEST_PERIOD_SECONDS:g} seconds or more")
    return seconds


def _regions(text: str) -> tuple[str, ...]:
    regions = _list(text)
    for region in regions:
        if not re.fullmatch(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}", region):
            raise ValueError(f"'{region}' is not the name of an AWS region, such as eu-west-1")
    return regions


def _pattern(text: str) -> str:
    import re2  # noqa: PLC0415  # costs 15 ms of start-up and few deployments set a pattern

    try:
        re2.compile(text)
    except re2.error as fault:
        raise ValueError(f"'{text}' is not a regular expression that RE2 accepts: {fault}") from None
    return text


def _log_level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text.lower() not in levels:
        raise ValueError(f"'{text}' is none of {', '.join(levels)}")
    return text.lower()
