"""An account full of users in every state, sweeps of it, and what may be read of it without the sweep's own code."""

import asyncio
import itertools
import json
import random
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.sweep.aged import stamp
from worker.aws import Accounts
from worker.modes import Mode
from worker.remediate.attempt import Means
from worker.remediate.guards import Limits
from worker.remediate.sentry import Sentry
from worker.settings import Settings
from worker.state.sqlite import SqliteStore
from worker.sweep.sweep import Row, Survey, Sweep
from worker.sweep.swept import SWEPT
from worker.sweep.wants import Choice

ACCOUNT = "000000000000"
OPERATOR = f"arn:aws:iam::{ACCOUNT}:root"
Use = tuple[str, float, float | None]
"""A key's status, its age and the time since its last use, in days."""
AGES = (0.1, 3, 20, 44.9, 45.1, 45.9, 46.1, 60, 200, 900)
"""In days; those near 45 and 46 lie on both sides of the documented rules."""


def user(
    name: str,
    now: datetime,
    *,
    path: str = "/",
    password: float | None = None,
    marked: bool = False,
    mfa: bool = False,
    keys: Mapping[str, Use] | None = None,
) -> dict[str, Any]:
    """A user. `password` is its age in days; each key is (status, age, days since its last use or None)."""

    def ago(days: float | None) -> str | None:
        return None if days is None else stamp(now - timedelta(days=days))

    listed = [{"id": f"AKIA{key}", "status": s, "at": ago(age), "used_at": ago(used)} for key, (s, age, used) in (keys or {}).items()]
    return {"name": name, "path": path, "at": ago(1000), "password_at": ago(password), "marked": marked, "mfa": mfa, "keys": listed}


def crowd(count: int, now: datetime, chance: random.Random) -> list[dict[str, Any]]:
    """Users in every state there is, every twentieth of them break-glass."""
    users = []
    for number in range(count):
        keys: dict[str, Use] = {}
        for which in range(chance.choice((0, 1, 2, 2))):
            age = chance.choice(AGES)
            used = chance.choice([None, *(one for one in AGES if one <= age)])
            keys[f"{number:08}{which:08}"] = (chance.choice(("Active", "Inactive")), age, used)
        made = user(
            f"user-{number:04}",
            now,
            path=chance.choice(("/", "/", "/team/")) if number % 20 else "/break-glass/",
            password=chance.choice((None, None, 1, 500)),
            marked=chance.random() < 0.1,
            mfa=chance.random() < 0.3,
            keys=keys,
        )
        users.append(made)
    return users


@dataclass
class Estate:
    """An account, a store and a clock that stands; each sweep of it is a new process."""

    accounts: Accounts
    store: SqliteStore
    url: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    settings: Settings = field(default_factory=Settings)
    undoing_settings: Settings = field(default_factory=lambda: Settings(remediation_mode=Mode.AUTO))
    slept: list[float] = field(default_factory=list)
    _owners: Any = field(default_factory=itertools.count)

    def means(self) -> Means:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return Means.of(self.settings, self.store, self.accounts, lambda: self.now, f"process-{next(self._owners)}", sleep)

    def sweep(self, *only: str, days: int = 45, mfa_for_keys: bool = False, **changed: Any) -> Sweep:
        """What is to be swept, by default all. Keyword arguments are settings that differ."""
        means, limits = self.means(), Limits.of(replace(self.settings, **changed))
        return Sweep(means, limits, Choice(frozenset(only or SWEPT), days, mfa_for_keys), f"run-{means.owner}", OPERATOR, Sentry(limits))

    def pass_lease(self) -> None:
        self.now += timedelta(minutes=6)

    def undoing(self) -> Means:
        return replace(self.means(), modes=self.undoing_settings.modes)

    async def swept(self, sweep: Sweep, stop: asyncio.Event | None = None) -> tuple[Survey, list[Row]]:
        """Plan and do."""
        survey = await sweep.survey([ACCOUNT])
        return survey, await sweep.carry_out(survey, stop or asyncio.Event())

    async def seed(self, users: Sequence[dict[str, Any]], account: str = "test") -> None:
        await self._post(account, Action="Seed", Users=json.dumps(users))

    async def trouble(self, **what: Any) -> list[str]:
        """What goes wrong from now on; the calls since the last time are answered."""
        calls: list[str] = json.loads(await self._post(Action="Trouble", Trouble=json.dumps(what)))
        return calls

    async def outcomes(self) -> list[str]:
        return [line[0].outcome async for line in self.store.journal()]

    async def report(self) -> str:
        """The credential report, made anew."""
        iam = await self.accounts.client("iam")
        await iam.generate_credential_report()
        content: bytes = (await iam.get_credential_report())["Content"]
        return content.decode()

    async def strong(self) -> None:
        """The password policy asks for the minimum already."""
        iam = await self.accounts.client("iam")
        every = ("RequireSymbols", "RequireNumbers", "RequireUppercaseCharacters", "RequireLowercaseCharacters")
        await iam.update_account_password_policy(MinimumPasswordLength=14, PasswordReusePrevention=24, **dict.fromkeys(every, True))

    async def policies(self) -> dict[str, dict[str, Any]]:
        """Each user's inline policies, as GetAccountAuthorizationDetails tells them."""
        iam = await self.accounts.client("iam")
        found: dict[str, dict[str, Any]] = {}
        async for page in iam.get_paginator("get_account_authorization_details").paginate(Filter=["User"]):
            for one in page["UserDetailList"]:
                found[one["UserName"]] = {policy["PolicyName"]: policy["PolicyDocument"] for policy in one.get("UserPolicyList", [])}
        return found

    async def marked(self) -> list[str]:
        """The users who must choose a new password, as the embedded AWS itself has it."""
        names: list[str] = json.loads(await self._post(Action="Marked"))
        return names

    async def statuses(self, name: str) -> dict[str, str]:
        """The access keys of a user."""
        iam = await self.accounts.client("iam")
        return {key["AccessKeyId"]: key["Status"] for key in (await iam.list_access_keys(UserName=name))["AccessKeyMetadata"]}

    async def _post(self, access_key: str = "test", /, **form: str) -> str:
        credential = f"AWS4-HMAC-SHA256 Credential={access_key}/20260101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=0"
        body = urllib.parse.urlencode(form).encode()
        request = urllib.request.Request(self.url, data=body, headers={"Authorization": credential})

        def send() -> str:
            with urllib.request.urlopen(request, timeout=30) as answer:
                told: bytes = answer.read()
                return told.decode()

        return await asyncio.to_thread(send)
