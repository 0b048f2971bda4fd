"""A call outside of what the product states is caught: whoever makes it, by whichever way, here or in a child process, and swallowed or not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from aiobotocore.session import AioSession

from tests.fakes import metrics
from tests.recorder import ROOT, OutsideError
from tests.within_policy import WATCH, Watch, ungranted, unmade
from worker.dispatch.aws_targets import SnsSink
from worker.enrich.fact import Call, FactKind
from worker.enrich.lookups import Deadline, Lookups
from worker.lane import Lane
from worker.model import FactSource, Outgoing
from worker.remediate.steps import ActionCalls

CODE = """
async def ask(client, **parameters):
    return await client.{operation}(**parameters)
"""
CHILD = """
import asyncio
from contextlib import suppress
from aiobotocore.session import AioSession

code = {code!r}
scope = {{}}
exec(compile(code, {path!r}, "exec"), scope)

async def main():
    session = AioSession()
    async with session.create_client("iam", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b") as client:
        with suppress(Exception):
            await scope["ask"](client)

asyncio.run(main())
"""
REFUSED = "http://127.0.0.1:9"


@pytest.fixture
def watch(request: pytest.FixtureRequest) -> Watch:
    """What this session has seen; the faults of before are those of another test."""
    there = request.config.stash[WATCH]
    assert there.faults() == []
    return there


def product(path: str, operation: str, **more: Any) -> Callable[..., Any]:
    """A function that asks an operation, as if it stood in a file of `worker`; `more` are names in its module."""
    scope: dict[str, Any] = {"__name__": path.removesuffix(".py").replace("/", "."), **more}
    exec(compile(CODE.format(operation=operation), f"{ROOT}/{path}", "exec"), scope)
    return cast("Callable[..., Any]", scope["ask"])


@pytest.fixture
async def iam() -> Any:
    """A client that reaches nobody."""
    session: Any = AioSession()
    async with session.create_client(
        "iam", region_name="us-east-1", endpoint_url=REFUSED, aws_access_key_id="a", aws_secret_access_key="b"
    ) as client:
        yield client


async def test_a_call_that_its_part_does_not_state_is_refused(watch: Watch, iam: Any) -> None:
    """It raises where it is made, and is told to the test even where that is taken for AWS's answer."""
    ask = product("worker/ingest/made_up.py", "list_users", AWS_CALLS=("iam:GetUser",))
    with pytest.raises(OutsideError, match=r"worker\.ingest\.made_up calls iam:ListUsers and does not say so"):
        await ask(iam)
    with suppress(Exception):
        await ask(iam)
    assert watch.faults() == ["worker.ingest.made_up calls iam:ListUsers and does not say so: add it to the calls that it states"]


async def test_a_part_that_states_nothing_may_call_nothing(watch: Watch, iam: Any) -> None:
    """The fault has the line, and says what to do."""
    with pytest.raises(OutsideError):
        await product("worker/made_up.py", "get_user")(iam)
    (fault,) = watch.faults()
    assert fault.startswith("worker/made_up.py:3 calls iam:GetUser, and no part says so: state it beside the code as AWS_CALLS")


async def test_what_is_stated_and_granted_to_nobody_is_caught_too(watch: Watch, iam: Any) -> None:
    """A part that no role's policy is made of."""
    ask = product("worker/made_up.py", "get_user", AWS_CALLS=("iam:GetUser",))
    with suppress(Exception):
        await ask(iam, UserName="x")
    (fault,) = watch.faults()
    assert fault == "worker.made_up calls iam:GetUser, and nobody has said who runs it: add it to ROLES_OF in tests/everything.py"
    assert (
        ungranted("sink sns", "iam:DeleteAccessKey")
        == "sink sns calls iam:DeleteAccessKey, and the policy of worker lacks iam:DeleteAccessKey"
    )
    watch.seen.discard(("worker.made_up", "iam:GetUser"))


async def test_a_tests_own_calls_are_nobodys_business(watch: Watch, iam: Any) -> None:
    """Nor are those of the demo's stage."""
    with suppress(Exception):
        await iam.list_users()
    with suppress(Exception):
        await product("worker/local/made_up.py", "list_users")(iam)
    assert watch.faults() == []


async def test_a_tests_wrapper_is_looked_through(watch: Watch, iam: Any) -> None:
    """What the product calls through it is the product's."""

    async def list_users() -> Any:
        __tracebackhide__ = True
        return await iam.list_users()

    wrapper = type("Wrapper", (), {"list_users": staticmethod(list_users)})
    with pytest.raises(OutsideError):
        await product("worker/made_up.py", "list_users")(wrapper)
    assert len(watch.faults()) == 1


async def test_an_action_is_held_to_its_own_calls(watch: Watch, iam: Any) -> None:
    """And not to those of all actions: what is granted for one may be switched off with it."""

    class Mending:
        name = "mending"
        calls = ActionCalls(reads=("iam:GetUser",), changes=("iam:PutUserPolicy",))

    scope: dict[str, Any] = {"__name__": "worker.remediate.actions.made_up"}
    code = "async def plan(self, client):\n    return await client.list_access_keys(UserName='x')\n"
    exec(compile(code, f"{ROOT}/worker/remediate/actions/made_up.py", "exec"), scope)
    with pytest.raises(OutsideError, match="action mending calls iam:ListAccessKeys"):
        await scope["plan"](Mending(), iam)
    assert len(watch.faults()) == 1


async def test_a_fact_is_held_to_what_its_kind_states(watch: Watch) -> None:
    """Whoever answers: nothing of AWS's is needed for that."""
    scope: dict[str, Any] = {"__name__": "worker.enrich.made_up"}
    exec(compile("async def learn(case):\n    return await case()\n", f"{ROOT}/worker/enrich/made_up.py", "exec"), scope)
    kind = FactKind("made_up", FactSource.LIVE, lambda *_: True, scope["learn"], ("iam:GetUser",))
    lookups = Lookups(cast("Any", None), lambda: datetime.now(UTC), metrics().calls)

    async def case() -> Any:
        return await lookups.ask(Call(None, "iam", "list_mfa_devices", 1.0), Deadline(0.0, 0.0))

    with pytest.raises(OutsideError, match="fact made_up asks iam:list_mfa_devices and does not say so"):
        await kind.learn(cast("Any", case))
    assert len(watch.faults()) == 1


async def test_a_sink_is_held_to_its_call(watch: Watch, iam: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sink takes the refusal for the topic's, and the test is told all the same."""
    session: Any = AioSession()
    monkeypatch.setattr(SnsSink, "calls", ())
    async with session.create_client(
        "sns", region_name="us-east-1", endpoint_url=REFUSED, aws_access_key_id="a", aws_secret_access_key="b"
    ) as client:
        with suppress(Exception):
            await SnsSink(client, "arn:aws:sns:us-east-1:111122223333:x").put([Outgoing("id", "group", b"{}", "finding")])
    assert watch.faults() == ["sink sns calls sns:Publish and does not say so: add it to the calls that it states"]


async def test_the_fast_lane_is_watched(watch: Watch) -> None:
    """By the operation in its header, and a GET as GetObject."""
    lane = Lane(AioSession(), REFUSED, "sqs", "us-east-1", {}, lambda: datetime.now(UTC))
    scope: dict[str, Any] = {"__name__": "worker.ingest.made_up"}
    code = "async def purge(lane):\n    await lane.post('AmazonSQS.PurgeQueue', b'{}', seconds=1, most_bytes=1)\n"
    exec(compile(code, f"{ROOT}/worker/ingest/made_up.py", "exec"), scope)
    with pytest.raises(OutsideError, match="calls sqs:PurgeQueue"):
        await scope["purge"](lane)
    assert len(watch.faults()) == 1


async def test_obstore_is_watched(watch: Watch) -> None:
    """The other way to S3."""
    import obstore
    from obstore.store import MemoryStore

    scope: dict[str, Any] = {"__name__": "worker.ingest.made_up", "obstore": obstore, "AWS_CALLS": ("s3:GetObject",)}
    code = "async def put(store):\n    await obstore.put_async(store, 'x', b'')\n"
    exec(compile(code, f"{ROOT}/worker/ingest/made_up.py", "exec"), scope)
    with pytest.raises(OutsideError, match="calls s3:PutObject"):
        await scope["put"](MemoryStore())
    assert len(watch.faults()) == 1


def test_a_child_process_is_watched(watch: Watch) -> None:
    """With no more than the environment that tests hand on; the demo's children get PYTHONPATH alone."""
    code = CHILD.format(code=CODE.format(operation="delete_user"), path=f"{ROOT}/worker/made_up.py")
    variables = {name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT, env=variables, timeout=60).returncode == 0
    (fault,) = watch.faults()
    assert fault.startswith("worker/made_up.py:3 calls iam:DeleteUser")


SUITE = f"""
from contextlib import suppress
from tests.within_policy import RECORDER

def test_good():
    pass

def test_bad():
    scope = {{"told": lambda: RECORDER.saw("iam:DeleteUser"), "__name__": "worker.made_up"}}
    exec(compile("def ask():\\n    told()\\n", "{ROOT}/worker/made_up.py", "exec"), scope)
    with suppress(Exception):
        scope["ask"]()
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_the_test_fails_in_which_it_happened(tmp_path: Path, processes: str) -> None:
    """In one process and in several; the fault is named, and the other test has none."""
    done = suite(tmp_path, SUITE, "-n", processes, "test_made_up.py")
    assert done.returncode == 1
    assert "2 passed, 1 error" in done.stdout
    assert "ERROR test_made_up.py::test_bad" in done.stdout
    assert "worker/made_up.py:2 calls iam:DeleteUser" in done.stdout
    assert "no test had it make" not in done.stdout


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_whole_run_tells_what_is_granted_and_was_never_called(tmp_path: Path, processes: str) -> None:
    """And does not pass, although every test did."""
    whole = suite(tmp_path, GOOD, "-n", processes)
    assert (whole.returncode, "1 passed" in whole.stdout) == (1, True)
    assert "sink sns: sns:Publish" in whole.stdout


def test_a_part_of_the_suite_is_held_to_no_such_thing(tmp_path: Path) -> None:
    """Where something was left out, what was never called says nothing."""
    assert suite(tmp_path, GOOD, "-n", "0", "-k", "good").returncode == 0


GOOD = "def test_good():\n    pass\n"


def suite(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A suite of one file with this plugin, run to its end."""
    (folder / "test_made_up.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = .\naddopts = -p tests.within_policy\n")
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *arguments], cwd=folder, env=variables, check=False, capture_output=True, text=True, timeout=120
    )


def test_what_was_made_is_not_left() -> None:
    """Part by part: a call that one part makes is not made by another that states it."""
    left = unmade({("worker.aws", "sts:GetCallerIdentity")})
    assert ("worker.aws", "sts:GetCallerIdentity") not in left
    assert ("worker.remediate.attempt", "sts:GetCallerIdentity") in left


def test_facts_answer_for_one_another() -> None:
    """They are granted together: what one of them asks is of use, whoever else states it; but no action does for a fact."""
    left = unmade({("fact user", "iam:GetLoginProfile"), ("action reattach-role", "iam:GetRole")})
    assert ("fact subject_user", "iam:GetLoginProfile") not in left
    assert ("fact role", "iam:GetRole") in left
