"""`trailmend sweep` as it is typed: the plan first, a yes, and the documented exit status."""

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.sweep.estate import ACCOUNT, Estate, user
from worker import cli
from worker.remediate.actions.enforce_mfa import POLICY_NAME

MEMBER = "111111111111"


@pytest.fixture
async def state(estate: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state file that the commands are pointed at, mode shadow, and two users without MFA."""
    monkeypatch.setenv("TRAILMEND_STATE", f"sqlite:///{tmp_path}/state.db")
    await estate.strong()
    await estate.seed(
        [
            user("ann", estate.now, password=1, keys={"0000000000000001": ("Active", 99, None)}),
            user("bob", estate.now, password=1, keys={"0000000000000002": ("Inactive", 99, None)}),
        ]
    )
    return tmp_path / "state.db"


async def trailmend(*arguments: str) -> int:
    return await asyncio.to_thread(cli.main, list(arguments))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


async def held(estate: Estate) -> list[str]:
    return sorted(name for name, policies in (await estate.policies()).items() if POLICY_NAME in policies)


async def test_a_plan_is_shown_and_nothing_changed(estate: Estate, state: Path, capsys: Any) -> None:
    """A row for each user and action with its reason and steps, what is withheld and why, and totals; status 0."""
    assert await trailmend("sweep") == 0
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    assert "ann enforce-mfa it has a console password and no MFA device deny user ann everything but setting up MFA" in told
    assert "make access key AKIA0000000000000001 of user ann inactive" in told
    assert "2 users looked at; 3 to do: 2 enforce-mfa, 1 deactivate-unused-access-keys" in told
    assert "1 withheld: 1 delete-inactive-access-keys" in told
    assert "TRAILMEND_ALLOW_IRREVERSIBLE is not set" in told
    assert await held(estate) == []


async def test_programs_get_a_line_for_each_row_and_again_with_what_became_of_it(estate: Estate, state: Path, capsys: Any) -> None:
    """JSON Lines on standard output and nothing else there."""
    assert await trailmend("sweep", "--format", "jsonl", "--only", "enforce-mfa", "--user", "ann", "--apply", "--yes") == 0
    plan, outcome = map(json.loads, capsys.readouterr().out.splitlines())
    assert (plan["kind"], plan["action"], plan["target"]["name"], plan["verdict"]) == ("plan", "enforce-mfa", "ann", "planned")
    assert (outcome["kind"], outcome["task"], outcome["outcome"]) == ("outcome", plan["task"], "applied")
    assert await held(estate) == ["ann"]


@pytest.mark.parametrize(
    ("arguments", "typed", "status", "done"),
    [
        (["--yes"], None, 0, True),
        ([], "sweep\n", 0, True),
        ([], "y\n", 1, False),
        ([], "", 1, False),
        ([], None, 2, False),
    ],
)
async def test_apply_wants_a_yes(
    arguments: list[str], typed: str | None, status: int, *, done: bool, estate: Estate, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beforehand or the word typed at a terminal, in mode shadow too; without a terminal nothing is even looked at."""
    monkeypatch.setattr(sys, "stdin", io.StringIO() if typed is None else Terminal(typed))
    await estate.trouble()
    assert await trailmend("sweep", "--apply", "--only", "enforce-mfa", *arguments) == status
    if status == 2:
        assert await estate.trouble() == []
    assert await held(estate) == (["ann", "bob"] if done else [])


@pytest.mark.parametrize(
    ("arguments", "environment", "says"),
    [
        (["--yes"], {}, "--yes agrees to nothing without --apply"),
        (["--apply", "--yes"], {"TRAILMEND_REMEDIATION_MODE": "off"}, "the mode is off in every account"),
        (["--apply", "--yes"], {"TRAILMEND_REMEDIATION_MODES": "*=off"}, "the mode is off in every account"),
        (
            ["--apply", "--yes", "--only", "enforce-mfa"],
            {"TRAILMEND_REMEDIATION_MODE": "off", "TRAILMEND_REMEDIATION_MODES": "quarantine-user=auto"},
            "the mode is off in every account",
        ),
        (["--all-accounts", "--account", MEMBER], {}, "leave --account away"),
        (["--user", "ann", "--only", "enforce-password-policy"], {}, "leave --user away"),
    ],
)
async def test_wrong_usage_is_told_before_anything(
    arguments: list[str], environment: dict[str, str], says: str, estate: Estate, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Status 2, and AWS hears nothing."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    await estate.trouble()
    assert await trailmend("sweep", *arguments) == 2
    assert says in capsys.readouterr().err
    assert await estate.trouble() == []


@pytest.mark.parametrize("arguments", [["--days", "0"], ["--days", "3651"], ["--account", "1"], ["--only", "quarantine-user"]])
async def test_what_the_command_line_cannot_mean_is_wrong_usage(arguments: list[str], capsys: Any) -> None:
    """Argparse's own status."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["sweep", *arguments])
    assert stopped.value.code == 2


async def test_what_fails_or_cannot_be_looked_at_is_status_1(estate: Estate, state: Path, capsys: Any) -> None:
    """A user who is not there, one who cannot be read, and one who cannot be mended; the others are done."""
    assert await trailmend("sweep", "--user", "nobody") == 1
    assert "there is no user nobody" in capsys.readouterr().out
    await estate.trouble(denied=[["GetLoginProfile", "bob"]])
    assert await trailmend("sweep") == 1
    assert "1 could not be looked at" in capsys.readouterr().err
    await estate.trouble(denied=[["PutUserPolicy", "bob"]])
    assert await trailmend("sweep", "--apply", "--yes", "--only", "enforce-mfa") == 1
    told = capsys.readouterr()
    assert "1 of 2 were not done" in told.err
    assert "AccessDenied" in told.out
    assert await held(estate) == ["ann"]


async def test_a_task_of_a_sweep_is_listed_and_undone(estate: Estate, state: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As any other, with who asked for it as approver."""
    await trailmend("sweep", "--apply", "--yes", "--only", "enforce-mfa", "--user", "ann", "--format", "jsonl")
    task = json.loads(capsys.readouterr().out.splitlines()[0])["task"]
    monkeypatch.setenv("TRAILMEND_REMEDIATION_MODE", "auto")
    assert await trailmend("tasks", "show", task) == 0
    assert re.search(r"approver +arn:aws:iam::000000000000:root", capsys.readouterr().out)
    assert await trailmend("tasks", "undo", task, "--yes") == 0
    assert await held(estate) == []


async def test_members_are_entered_and_one_that_is_closed_spoils_only_itself(
    estate: Estate, state: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """--account instead of our own, --all-accounts for that and those of the settings."""
    await estate.seed([user("eve", estate.now, password=1)], account=MEMBER)
    assert await trailmend("sweep", "--account", MEMBER, "--only", "enforce-mfa") == 1
    assert "set TRAILMEND_MEMBER_ROLE_NAME" in capsys.readouterr().out
    monkeypatch.setenv("TRAILMEND_MEMBER_ROLE_NAME", "member")
    monkeypatch.setenv("TRAILMEND_ACCOUNTS", MEMBER)
    assert await trailmend("sweep", "--all-accounts", "--only", "enforce-mfa", "--format", "jsonl") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["account"], one["target"]["name"]) for one in found] == [(ACCOUNT, "ann"), (ACCOUNT, "bob"), (MEMBER, "eve")]


async def test_ctrl_c_ends_what_is_begun_and_says_what_is_left(estate: Estate, state: Path) -> None:
    """The real process: status 1, whoever is held stands in the journal, and the same command does the rest."""
    names = [f"user-{number:02}" for number in range(30)]
    await estate.seed([user(name, estate.now, password=1) for name in names])
    command = [sys.executable, "-m", "worker", "sweep", "--apply", "--yes", "--only", "enforce-mfa", "--format", "jsonl"]
    process = await asyncio.create_subprocess_exec(*command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not await held(estate):  # another process makes it so
        await asyncio.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, _ = await process.communicate()
    told = [one for one in map(json.loads, out.splitlines()) if one["kind"] == "outcome"]
    applied = sorted(one["target"]["name"] for one in told if one["outcome"] == "applied")
    assert (process.returncode, {one["outcome"] for one in told}) == (1, {"applied", "left"})
    assert await held(estate) == applied
    assert await trailmend("sweep", "--apply", "--yes", "--only", "enforce-mfa") == 0
    assert await held(estate) == ["ann", "bob", *names]
