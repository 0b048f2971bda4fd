"""The fact `account`: which account it happened in: its id, its alias, and whether it is the worker's own or a member.

Source: https://docs.aws.amazon.com/IAM/latest/APIReference/API_ListAccountAliases.html (an account has at most one alias).
"""

from __future__ import annotations

import asyncio

from worker.enrich.fact import ACCOUNT, Call, Case, FactKind, missing
from worker.model import Fact, FactSource, Finding
from worker.settings import Settings

LIFETIME_SECONDS = 3600.0


async def _learn(case: Case) -> Fact:
    account = case.finding.record.account
    if account is None or not ACCOUNT.fullmatch(account):
        return ACCOUNT_FACT.unknown(case.clock(), "the record names no account")
    own, aliases = await asyncio.gather(
        case.ask(Call(None, "sts", "get_caller_identity", LIFETIME_SECONDS, standing=True)),
        case.ask(Call(account, "iam", "list_account_aliases", LIFETIME_SECONDS, standing=True)),
    )
    unknown = {part: answer.fault.text for part, answer in (("ours", own), ("alias", aliases)) if answer.fault is not None}
    if len(unknown) == 2:
        return ACCOUNT_FACT.unknown(aliases.at, missing(unknown) or "")
    value = {
        "id": account,
        "alias": next(iter(aliases.value.get("AccountAliases", ())), None),
        "ours": None if own.fault is not None else own.value["Account"] == account,
        "unknown": unknown,
    }
    return ACCOUNT_FACT.told(value, (own, aliases), missing(unknown))


def _applies(finding: Finding, _: Settings) -> bool:
    return finding.record.account is not None


ACCOUNT_FACT = FactKind("account", FactSource.LIVE, _applies, _learn, ("sts:GetCallerIdentity", "iam:ListAccountAliases"))
