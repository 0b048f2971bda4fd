"""AWS as the worker sees it: what an error means, and what it costs to look for accounts that cannot be entered."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import Any, cast

import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError, EndpointConnectionError, ParamValidationError

from worker import aws
from worker.aws import AccountClosedError, Accounts, explain
from worker.settings import Settings

pytestmark = pytest.mark.virtual_time

OWN = "000000000000"


class Desk:
    """STS: it knows who we are and lets nobody in, or fails by `trouble`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.trouble: Exception | None = None

    async def get_caller_identity(self) -> Any:
        self.asked.append("who")
        await asyncio.sleep(0.01)
        if self.trouble is not None:
            raise self.trouble
        return {"Account": OWN}

    async def assume_role(self, *, RoleArn: str, **_: Any) -> Any:  # noqa: N803  # the name it has in AWS
        self.asked.append(RoleArn.split(":")[4])
        await asyncio.sleep(0.01)
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, "AssumeRole")


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    there = Desk()

    def opened(*_: Any) -> Any:
        return nullcontext(there)

    monkeypatch.setattr(Accounts, "_open", opened)
    return there


def accounts(role: str | None = "trailmend") -> Accounts:
    return Accounts(AioSession(), Settings(member_role_name=role))


async def refusals(to: Accounts, *ids: str) -> None:
    for told in await asyncio.gather(*(to.client("iam", one) for one in ids), return_exceptions=True):
        assert isinstance(told, AccountClosedError)


async def test_an_account_that_lets_nobody_in_is_tried_once_for_all_who_wait(desk: Desk) -> None:
    """A finding asks some thirty questions of its account at once; those who stood behind the first do not knock again."""
    to = accounts()
    await refusals(to, *["111122223333"] * 30)
    await refusals(to, "111122223333")
    assert desk.asked.count("111122223333") == 1


async def test_a_flood_of_account_ids_is_no_flood_of_calls_to_sts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ids come from records: whoever writes these must not spend what STS allows us, nor our memory. Ours is never kept waiting."""
    monkeypatch.setattr(aws, "ENTER_EVERY_SECONDS", 0.02)
    to, began = accounts(), asyncio.get_running_loop().time()
    flood = asyncio.create_task(refusals(to, *(f"{number:012}" for number in range(1, 26))))
    await asyncio.sleep(0.1)
    await asyncio.wait_for(to.client("iam", OWN), 0.05)
    await flood
    assert asyncio.get_running_loop().time() - began >= 24 * 0.02
    assert len(to._locks) == 0


async def test_without_a_role_to_assume_nobody_is_asked(desk: Desk) -> None:
    """And so nobody waits."""
    await refusals(accounts(role=None), *(f"{number:012}" for number in range(1, 200)))
    assert desk.asked == ["who"]


async def test_while_sts_is_down_one_at_a_time_asks_who_we_are(desk: Desk) -> None:
    """Every question to AWS waits for that: many connections to what does not answer are of no use to any of them."""
    desk.trouble = ConnectionError("no route")
    to = accounts()
    asking = [asyncio.create_task(to.client("iam", OWN)) for _ in range(30)]
    await asyncio.sleep(0.015)
    assert len(desk.asked) <= 2
    desk.trouble = None
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in told) >= 28


@pytest.mark.parametrize(("service", "region", "offered"), [("batch", "us-east-1", True), ("batch", "xx-new-1", False)])
async def test_it_is_known_where_a_service_is_offered(service: str, region: str, offered: bool) -> None:
    """As botocore's own list has it."""
    assert await accounts().offers(service, region) is offered


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(cast("Any", {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}), "GetUser")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("ExpiredToken"), "unreachable"),
        (refusal("ExpiredTokenException"), "unreachable"),
        (refusal("RequestExpired"), "unreachable"),
        (refusal("RequestTimeTooSkewed", 403), "unreachable"),
        (refusal("ServiceFailure", 503), "unreachable"),
        (EndpointConnectionError(endpoint_url="https://iam.amazonaws.com"), "unreachable"),
        (refusal("InvalidInput"), "refused"),
        (ParamValidationError(report="of another type"), "refused"),
    ],
)
def test_credentials_and_a_clock_are_soon_mended_and_a_wrong_question_never(error: Exception, kind: str) -> None:
    """What a finding lacks for a cause that passes is told later; a question that AWS would not take is asked once."""
    assert explain(error).kind == kind
