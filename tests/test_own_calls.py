"""Our own calls on the embedded AWS: by which role they are made, and what stands in their user agent."""

import asyncio
from typing import Any

import pytest
from aiobotocore.session import get_session

from worker.aws import Accounts, telling
from worker.settings import Settings

OWN = "000000000000"
ROLE = Settings(member_role_name="TrailmendMember", assume_in_own_account=True)


@pytest.mark.parametrize(
    ("settings", "mending", "assumed"),
    [(ROLE, True, True), (ROLE, False, False), (Settings(member_role_name="TrailmendMember"), True, False), (Settings(), True, False)],
)
async def test_our_own_account_is_entered_by_the_role_where_that_is_asked_for(
    settings: Settings, mending: bool, assumed: bool, embedded_aws: str
) -> None:
    """By whoever mends, and only where the account is named: queue, state and STS are ours as we came."""
    async with Accounts(get_session(), settings, mending=mending) as to:
        iam = await to.client("iam")
        await iam.create_role(RoleName="TrailmendMember", AssumeRolePolicyDocument="{}")
        told = [str((await (await to.client("sts", account)).get_caller_identity())["Arn"]) for account in (OWN, None)]
    assert (told[0] == f"arn:aws:sts::{OWN}:assumed-role/TrailmendMember/trailmend", "assumed-role" in told[1]) == (assumed, False)


async def test_what_is_told_stands_at_the_end_of_the_user_agent_of_the_calls_within(embedded_aws: str) -> None:
    """On every try, and of no other call, though they run at the same time."""
    sent: list[tuple[str, str]] = []

    def saw(request: Any, event_name: str, **_: Any) -> None:
        sent.append((event_name.rpartition(".")[2], request.headers["User-Agent"].decode()))

    session = get_session()
    session.register("before-send", saw)
    async with Accounts(session, Settings()) as to:
        iam = await to.client("iam")

        async def one(agent: str) -> None:
            with telling(agent):
                await asyncio.sleep(0)
                await iam.list_users()

        await asyncio.gather(one("a/1"), one("b/2"), iam.list_roles())
    ends = sorted((name, agent.split(" trailmend")[1]) for name, agent in sent if name.startswith("List"))
    assert ends == [("ListRoles", ""), ("ListUsers", " a/1"), ("ListUsers", " b/2")]
