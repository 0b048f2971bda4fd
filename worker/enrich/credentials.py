"""The fact `credential_report`: what the account's credential report says of a user, or of root, on whom there is no other word.

It is of whoever made the call, an IAM user or root; else of the user or root it was done to. One report serves all findings of an account.
AWS makes one when asked and keeps it for four hours, so `observed_at` is when it was made, which may be before the event; a report in the
making is waited for briefly. Source: https://docs.aws.amazon.com/IAM/latest/APIReference/ (GetCredentialReport, GenerateCredentialReport).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from worker.enrich.credential_report import ROOT, rows_of
from worker.enrich.fact import ACCOUNT, Answer, Call, Case, FactKind, stamp
from worker.enrich.user import acting_user, user_in_question
from worker.model import Fact, FactSource, Finding
from worker.settings import Settings

LIFETIME_SECONDS = 600.0
LOOK_AGAIN_SECONDS = 0.5
AWAITED_SECONDS = 3.0
"""How long a report in the making is waited for; never longer than a third of the deadline."""
MISSING = frozenset({"ReportNotPresent", "ReportExpired", "ReportInProgress"})


async def _learn(case: Case) -> Fact:
    asked_about = _whose(case.finding)
    if asked_about is None:
        return CREDENTIAL_REPORT.unknown(case.clock(), "the record names no user, or no account")
    whose, account, name = asked_about
    report = await _report(case, account)
    if report.fault is not None:
        making = report.fault.code in MISSING
        reason = f"no credential report{' yet: AWS is making one' if making else ''} ({report.fault.text})"
        return replace(CREDENTIAL_REPORT.unknown(report.at, reason), pending=making)
    at: datetime = report.value["made_at"] or report.at
    row = report.value["rows"].get(name)
    value = {"of": whose, "user": name, "account": account, "listed": row is not None, **(row or {})}
    reasons = [] if row is not None else [f"not in the report of {stamp(at)}: made after it, or gone before it"]
    reasons += [] if report.stale is None else [report.stale]
    return CREDENTIAL_REPORT.known(value, at, reason="; ".join(reasons) or None)


async def _report(case: Case, account: str) -> Answer:
    """The report that there is, or that AWS makes while we wait."""
    loop = asyncio.get_running_loop()
    until = loop.time() + min(AWAITED_SECONDS, case.settings.enrich_deadline_seconds / 3)
    # Standing: no event changes a report that has been made, and its own date tells how old it is.
    get = Call(account, "iam", "get_credential_report", LIFETIME_SECONDS, standing=True, read=_read, fault_seconds=LOOK_AGAIN_SECONDS)
    make = Call(account, "iam", "generate_credential_report", LOOK_AGAIN_SECONDS, standing=True)
    while True:
        report = await case.ask(get)
        if report.fault is None or report.fault.code not in MISSING or loop.time() >= until:
            return report
        made = await case.ask(make)
        if made.fault is not None:
            return made
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _read(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"made_at": answer.get("GeneratedTime"), "rows": rows_of(answer["Content"])}


def _whose(finding: Finding) -> tuple[str, str, str] | None:
    """Actor or subject, with its account and its name in the report."""
    actor, subject = finding.actor, finding.subject
    for whose, account, name in (
        ("actor", *(acting_user(finding) or (actor.account, ROOT if actor.type == "Root" else None))),
        ("subject", *(user_in_question(finding) or (finding.record.account, ROOT if subject.type == "root" else None))),
    ):
        if name is not None and account is not None and ACCOUNT.fullmatch(account):
            return whose, account, name
    return None


def _applies(finding: Finding, _: Settings) -> bool:
    return finding.actor.type in ("IAMUser", "Root") or finding.subject.type in ("user", "access-key", "root")


CREDENTIAL_REPORT = FactKind(
    "credential_report", FactSource.REPORT, _applies, _learn, ("iam:GetCredentialReport", "iam:GenerateCredentialReport")
)
