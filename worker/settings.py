"""Settings: one frozen value from the environment, with every fault reported at once.

In goes a mapping (normally `os.environ`), out comes `Settings` or one `SettingsError` that lists every variable at fault by name.
A newcomer adds a field with its default, a line in `from_environment`, and a row in the README's table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from worker import addresses, variables
from worker.addresses import Address, Place, Routes
from worker.modes import Lock, Mode, Modes, Scope
from worker.variables import HttpAddress

T = TypeVar("T")

PREFIX = "TRAILMEND_"
SQS_MAX_VISIBILITY_SECONDS = 43_200
"""https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html"""

LONGEST_LATENESS_SECONDS = 604_800
"""A week: what CloudTrail delivers later than that is nothing that a window could wait for."""
LONGEST_RETENTION_DAYS = 36_500
"""https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html"""

LONGEST_APPROVAL_SECONDS = 604_800
"""A week: what nobody has looked at by then is no answer to the event any more."""
MOST_BREAKER_LIMIT = 1000
"""Tasks within an hour. Each takes a claim in the state store, and looking for a free one asks for all that are taken."""


class SettingsError(ValueError):
    """One or more settings make no sense. `faults` has a sentence for each, beginning with the variable's name."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


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
    http_address: HttpAddress = HttpAddress("0.0.0.0", 9464)  # noqa: S104, RUF009  # frozen, so one may be shared; a container is scraped from outside
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
    remediation_modes: tuple[tuple[Scope, Mode], ...] = ()
    approval_seconds: int = 14_400
    two_approvers: tuple[Scope, ...] = ()
    breaker_limit: int = 20
    assume_in_own_account: bool = False
    confirm_seconds: float = 3600.0
    journal_export: Place | None = None
    journal_retain_days: int = 365
    journal_lock: Lock = Lock.COMPLIANCE
    task_keys: tuple[bytes, ...] = field(default=(), repr=False)
    exempt_tags: tuple[str, ...] = ()
    stop: bool = False
    stop_file: Path | None = None
    stop_parameter: str | None = None
    log_level: str = "info"

    @property
    def modes(self) -> Modes:
        """The mode of each action in each account."""
        return Modes(self.remediation_mode, self.remediation_modes)

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
            webhook_secrets=read.one("WEBHOOK_SECRET", variables.secrets, default.webhook_secrets),
            rules_dir=read.one("RULES_DIR", variables.folder, default.rules_dir),
            shipped_rules=read.one("SHIPPED_RULES", variables.flag, default.shipped_rules),
            lateness_seconds=read.one("LATENESS_SECONDS", variables.seconds(0, LONGEST_LATENESS_SECONDS), default.lateness_seconds),
            state=read.one("STATE", variables.state, default.state),
            concurrency=read.one("CONCURRENCY", variables.whole(1, 1024), default.concurrency),
            processes=read.one("PROCESSES", variables.processes, default.processes),
            visibility_timeout_seconds=read.one(
                "VISIBILITY_TIMEOUT_SECONDS", variables.whole(2, SQS_MAX_VISIBILITY_SECONDS), default.visibility_timeout_seconds
            ),
            grace_seconds=read.one("GRACE_SECONDS", variables.seconds(0, 3600), default.grace_seconds),
            http_address=read.one("HTTP_ADDRESS", variables.http_address, default.http_address),
            max_object_bytes=read.one("MAX_OBJECT_BYTES", variables.whole(1, 2**40), default.max_object_bytes),
            max_inflated_bytes=read.one("MAX_INFLATED_BYTES", variables.whole(1, 2**40), default.max_inflated_bytes),
            max_record_bytes=read.one("MAX_RECORD_BYTES", variables.whole(1, 2**40), default.max_record_bytes),
            inflight_object_bytes=read.one("INFLIGHT_OBJECT_BYTES", variables.whole(1, 2**40), default.inflight_object_bytes),
            inflight_inflated_bytes=read.one("INFLIGHT_INFLATED_BYTES", variables.whole(1, 2**40), default.inflight_inflated_bytes),
            member_role_name=read.one("MEMBER_ROLE_NAME", variables.role_name, default.member_role_name),
            external_id=read.one("EXTERNAL_ID", str, default.external_id),
            accounts=read.one("ACCOUNTS", variables.accounts, default.accounts),
            regions=read.one("REGIONS", variables.regions, default.regions),
            snapshot_seconds=read.one("SNAPSHOT_SECONDS", variables.period, default.snapshot_seconds),
            enrich_deadline_seconds=read.one("ENRICH_DEADLINE_SECONDS", variables.seconds(0.1, 600), default.enrich_deadline_seconds),
            update_seconds=read.one("UPDATE_SECONDS", variables.seconds(0, 3600), default.update_seconds),
            authorized_principals=read.one("AUTHORIZED_PRINCIPALS", variables.principals, default.authorized_principals),
            change_pattern=read.one("CHANGE_PATTERN", variables.pattern, default.change_pattern),
            remediation_mode=read.one("REMEDIATION_MODE", variables.mode, default.remediation_mode),
            exempt_principals=read.one("EXEMPT_PRINCIPALS", variables.principals, default.exempt_principals),
            allow_irreversible=read.one("ALLOW_IRREVERSIBLE", variables.flag, default.allow_irreversible),
            max_task_age_seconds=read.one("MAX_TASK_AGE_SECONDS", variables.whole(1, 10**9), default.max_task_age_seconds),
            remediation_modes=read.one("REMEDIATION_MODES", variables.modes, default.remediation_modes),
            approval_seconds=read.one("APPROVAL_SECONDS", variables.whole(60, LONGEST_APPROVAL_SECONDS), default.approval_seconds),
            two_approvers=read.one("TWO_APPROVERS", variables.scopes, default.two_approvers),
            breaker_limit=read.one("BREAKER_LIMIT", variables.whole(1, MOST_BREAKER_LIMIT), default.breaker_limit),
            assume_in_own_account=read.one("ASSUME_IN_OWN_ACCOUNT", variables.flag, default.assume_in_own_account),
            confirm_seconds=read.one("CONFIRM_SECONDS", variables.seconds(0, LONGEST_LATENESS_SECONDS), default.confirm_seconds),
            journal_export=read.one("JOURNAL_EXPORT", addresses.place, default.journal_export),
            journal_retain_days=read.one("JOURNAL_RETAIN_DAYS", variables.whole(1, LONGEST_RETENTION_DAYS), default.journal_retain_days),
            journal_lock=read.one("JOURNAL_LOCK", variables.lock, default.journal_lock),
            task_keys=read.one("TASK_KEY", variables.secrets, default.task_keys),
            exempt_tags=read.one("EXEMPT_TAGS", variables.tag_patterns, default.exempt_tags),
            stop=read.one("STOP", variables.flag, default.stop),
            stop_file=read.one("STOP_FILE", Path, default.stop_file),
            stop_parameter=read.one("STOP_PARAMETER", variables.parameter_name, default.stop_parameter),
            log_level=read.one("LOG_LEVEL", variables.log_level, default.log_level),
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
        if settings.assume_in_own_account and not settings.member_role_name:
            read.faults.append(f"{PREFIX}ASSUME_IN_OWN_ACCOUNT: has no use without {PREFIX}MEMBER_ROLE_NAME")
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
