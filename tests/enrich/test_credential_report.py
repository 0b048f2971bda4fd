"""The credential report: as AWS writes it, with what may be missing, and from the first request to the row of one user."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.enrich.aws import OWN, Canned, client, refused
from worker.aws import Accounts
from worker.enrich.credential_report import MOST_ROWS, ROOT, rows_of
from worker.enrich.investigator import Investigator
from worker.model import Actor, Fact, FactSource, FactStatus, Finding, Subject
from worker.observe.metrics import Metrics
from worker.settings import Settings
from worker.state.store import Store

COLUMNS = (
    "user,arn,user_creation_time,password_enabled,password_last_used,password_last_changed,password_next_rotation,mfa_active,"
    "access_key_1_active,access_key_1_last_rotated,"
    "access_key_1_last_used_date,access_key_1_last_used_region,access_key_1_last_used_service,"
    "access_key_2_active,access_key_2_last_rotated,"
    "access_key_2_last_used_date,access_key_2_last_used_region,access_key_2_last_used_service,"
    "cert_1_active,cert_1_last_rotated,cert_2_active,cert_2_last_rotated"
)
REPORT = "\n".join(
    [
        COLUMNS,
        (
            f"{ROOT},arn:aws:iam::{OWN}:root,2019-01-01T00:00:00+00:00,"
            "not_supported,2026-01-01T10:00:00+00:00,not_supported,not_supported,false,"
            "true,2019-02-03T00:00:00+00:00,N/A,N/A,N/A,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
        ),
        (
            f"eve,arn:aws:iam::{OWN}:user/eve,2023-05-06T07:08:09+00:00,true,no_information,2023-05-06T07:08:10+00:00,N/A,false,"
            "true,2023-05-07T00:00:00+00:00,2026-01-01T00:00:00+00:00,us-east-1,s3,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
        ),
    ]
).encode()
MADE = datetime(2026, 1, 2, 1, tzinfo=UTC)
NOW = datetime(2026, 1, 2, 4, tzinfo=UTC)
NO_KEY = {"active": False, "last_rotated": None, "last_used": None, "last_used_region": None, "last_used_service": None}


def test_a_row_says_what_the_user_has() -> None:
    """Times in UTC as everywhere; what is N/A or was never seen is null; the second key that it lacks is not active."""
    row = rows_of(REPORT)["eve"]
    assert (row["created"], row["mfa_active"]) == ("2023-05-06T07:08:09Z", False)
    assert row["password"] == {"enabled": True, "last_used": None, "last_changed": "2023-05-06T07:08:10Z", "next_rotation": None}
    first = {"last_rotated": "2023-05-07T00:00:00Z", "last_used": "2026-01-01T00:00:00Z", "last_used_region": "us-east-1"}
    assert row["access_keys"] == [{"active": True, "last_used_service": "s3", **first}, NO_KEY]
    assert row["signing_certificates"] == [{"active": False, "last_rotated": None}] * 2


def test_root_has_a_row_and_may_have_a_key() -> None:
    """That nobody is to have: it is seen here and nowhere else."""
    row = rows_of(REPORT)[ROOT]
    assert (row["password"]["enabled"], row["mfa_active"], row["access_keys"][0]["active"]) == (None, False, True)


@pytest.mark.parametrize("column", COLUMNS.split(",")[1:])
def test_a_column_that_a_report_lacks_is_not_known(column: str) -> None:
    """Reports have changed before: everything else stands."""
    header, *lines = [line.split(",") for line in REPORT.decode().splitlines()]
    place = header.index(column)
    without = "\n".join(",".join(cell for n, cell in enumerate(line) if n != place) for line in [header, *lines])
    whole, row = str(rows_of(REPORT)["eve"]), rows_of(without.encode())["eve"]
    assert str(row).count("None") >= whole.count("None")
    assert set(row) == set(rows_of(REPORT)["eve"])


CELL = st.sampled_from(["", "N/A", "no_information", "true", "TRUE", "2026-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00", '"', "\x00"])


@given(
    st.lists(st.lists(CELL | st.text(max_size=5), max_size=30), max_size=5),
    st.sampled_from([COLUMNS, COLUMNS[::-1], "", "user", "user,user"]),
)
def test_no_report_is_too_odd_to_be_read(lines: list[list[str]], header: str) -> None:
    """Rows too short or too long, quotes left open, columns twice or nowhere: rows with every member, never an exception."""
    content = "\n".join([header, *(",".join(line) for line in lines)]).encode("utf-8", "replace")
    for name, row in rows_of(content).items():
        assert name
        assert all(truth in (True, False, None) for truth in (row["mfa_active"], row["password"]["enabled"]))
        assert all(isinstance(key["last_used"], str | None) for key in row["access_keys"])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_report_are_no_trouble(content: bytes) -> None:
    """They have a header at most."""
    assert isinstance(rows_of(content), dict)


def test_a_report_is_read_to_a_bound() -> None:
    """A cell that no report has ends it, and so does a number of users that no account has."""
    many = "user\n" + "\n".join(f"u{n}" for n in range(MOST_ROWS + 5))
    assert len(rows_of(many.encode())) == MOST_ROWS
    assert list(rows_of(b"user,arn\nann,a\nbob," + b"x" * 200_000 + b"\n")) == ["ann"]


@pytest.fixture
def learn(embedded_aws: str, store: Any, metrics: Metrics, make_finding: Callable[..., Finding]) -> Callable[..., Any]:
    """The fact about a call of somebody from an AWS that answers as told."""

    async def run(cloud: Canned, actor: Actor, *more: Actor, seconds: float = 10.0, **event: Any) -> Fact:
        settings = Settings(regions=("us-east-1",), enrich_deadline_seconds=seconds)
        investigator = Investigator(cast("Accounts", cloud), cast("Store", store), settings, metrics, lambda: datetime.now(UTC))
        for other in more:
            await investigator.investigate(make_finding(actor=other, **event))
        return (await investigator.investigate(make_finding(actor=actor, **event))).facts["credential_report"]

    return run


EVE, BOB, ROOT_USER = Actor("IAMUser", name="eve", account=OWN), Actor("IAMUser", name="bob", account=OWN), Actor("Root", account=OWN)


def report(_: Any) -> dict[str, Any]:
    return {"Content": REPORT, "ReportFormat": "text/csv", "GeneratedTime": MADE}


async def test_the_row_is_as_old_as_the_report(learn: Any) -> None:
    """Observed when the report was made, hours before we asked; and one request serves every finding of the account."""
    cloud = Canned("iam", get_credential_report=report)
    fact = await learn(cloud, EVE, BOB, ROOT_USER)
    assert (fact.status, fact.source, fact.observed_at, fact.reason) == (FactStatus.KNOWN, FactSource.REPORT, MADE, None)
    assert (fact.value["of"], fact.value["user"], fact.value["listed"], fact.value["mfa_active"]) == ("actor", "eve", True, False)
    assert cloud.asked["get_credential_report"] == 1
    assert cloud.asked["generate_credential_report"] == 0


async def test_a_user_that_is_not_in_it_is_newer_or_gone(learn: Any) -> None:
    """Known not to be listed, and the reason says what that means."""
    fact = await learn(Canned("iam", get_credential_report=report), BOB)
    assert (fact.status, fact.value) == (FactStatus.KNOWN, {"of": "actor", "user": "bob", "account": OWN, "listed": False})
    assert fact.reason == "not in the report of 2026-01-02T01:00:00Z: made after it, or gone before it"


@pytest.mark.parametrize(
    ("actor", "subject", "user"),
    [
        (ROOT_USER, Subject("unknown"), ("actor", ROOT)),
        (Actor("AssumedRole", name="x", account=OWN), Subject("access-key", "AKIA1", owner="eve"), ("subject", "eve")),
        (Actor("AWSService"), Subject("root", "root"), ("subject", ROOT)),
        (EVE, Subject("user", "bob"), ("actor", "eve")),
    ],
)
async def test_whose_row_it_is(learn: Any, actor: Actor, subject: Subject, user: tuple[str, str]) -> None:
    """The caller's where it has one, else that of whom it was done to."""
    fact = await learn(Canned("iam", get_credential_report=report), actor, subject=subject)
    assert (fact.value["of"], fact.value["user"]) == user


@pytest.mark.parametrize("code", ["ReportNotPresent", "ReportExpired", "ReportInProgress"])
async def test_a_report_that_is_not_there_is_made_and_awaited(learn: Any, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Asked for, looked for again, and then told."""
    monkeypatch.setattr("worker.enrich.credentials.LOOK_AGAIN_SECONDS", 0.01)
    made: list[str] = []

    def make(_: Any) -> dict[str, Any]:
        made.append("STARTED")
        return {"State": "STARTED"}

    def get(params: Any) -> dict[str, Any]:
        if len(made) < 2:
            raise refused(code, "GetCredentialReport")
        return report(params)

    fact = await learn(Canned("iam", get_credential_report=get, generate_credential_report=make), EVE)
    assert (fact.status, fact.value["listed"]) == (FactStatus.KNOWN, True)


@pytest.mark.parametrize(
    ("answers", "because", "pending"),
    [
        ({"generate_credential_report": lambda _: {"State": "INPROGRESS"}}, "no credential report yet: AWS is making one", True),
        ({}, "generate_credential_report in account 000000000000: Operation: AccessDenied", False),
    ],
)
async def test_a_report_that_is_not_to_be_had_is_unknown_and_says_why(
    learn: Any, monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], because: str, pending: bool
) -> None:
    """Not ready in time, and then told by an update; or not ours to ask for."""
    monkeypatch.setattr("worker.enrich.credentials.LOOK_AGAIN_SECONDS", 0.01)
    monkeypatch.setattr("worker.enrich.credentials.AWAITED_SECONDS", 0.05)

    def get(_: Any) -> Any:
        raise refused("ReportNotPresent", "GetCredentialReport")

    fact = await learn(Canned("iam", get_credential_report=get, **answers), EVE)
    assert (fact.status, fact.value) == (FactStatus.UNKNOWN, None)
    assert because in fact.reason
    assert fact.pending is pending


async def test_an_embedded_aws_makes_and_tells_one(embedded_aws: str, make_finding: Callable[..., Finding], investigate: Any) -> None:
    """From no report at all to the row of a user with a password, a key and no MFA device, in one investigation."""
    iam = client("iam")
    iam.create_user(UserName="eve")
    iam.create_login_profile(UserName="eve", Password="Hunter2-hunter2")
    iam.create_access_key(UserName="eve")
    fact = (await investigate(make_finding(actor=EVE)))["credential_report"]
    assert (fact.status, fact.source) == (FactStatus.KNOWN, FactSource.REPORT)
    assert (fact.value["password"]["enabled"], fact.value["mfa_active"]) == (True, False)
    assert [key["active"] for key in fact.value["access_keys"]] == [True, False]
    assert abs(fact.observed_at - datetime.now(UTC)) < timedelta(minutes=2)
