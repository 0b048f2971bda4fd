"""`trailmend demo`: an embedded AWS, the shipped CloudFormation, a story, and the very worker of `trailmend run`, end to end.

In goes a console, out comes the exit status: 0 when everything the story tells was found and dispatched, 1 with what is missing. It all lives
on loopback and in a temporary folder, and nothing of it is left behind, also on Ctrl-C and SIGTERM. `_play` is the order of events.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import NoReturn

from botocore.exceptions import BotoCoreError, ClientError
from rich.console import Console
from rich.text import Text

from worker.local import stage
from worker.local.children import Child, Children
from worker.local.cloud import HOME_ACCOUNT, HOME_REGION, Cloud
from worker.local.estate import REGIONS, settle, strike
from worker.local.mended import Mended, unmended
from worker.local.mending import MODES, Mending
from worker.local.outcome import Outcome, missing
from worker.local.report import show, show_mended
from worker.local.story import BATCH_ACCOUNT, CHANGE_PATTERN, DEPLOYER, WEB_ACCOUNT, Story, tell
from worker.local.trace import calls, trace

SEED = 2026
MEMBER_ROLE = "TrailmendMember"
EXTERNAL_ID = "an-external-id-of-this-demo"
WORKER_ARN = f"arn:aws:iam::{HOME_ACCOUNT}:root"
NARROWEST_PIPE = 100


def main(keep: bool, console: Console, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> int:
    """Run the demo; with `keep`, stay up until Ctrl-C once the story has been told. Answers the exit status."""
    if find_spec("ministack") is None:
        console.print("The demo needs its embedded AWS, which is not installed: pip install 'trailmend[demo]'", markup=False)
        return 1
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST_PIPE)
    try:
        with _ended_by_signals(), TemporaryDirectory(prefix="trailmend-demo-") as folder, Children(Path(folder), environ) as children:
            return asyncio.run(_Play(console, clock, Path(folder), children).run(keep))
    except (stage.StageError, ClientError, BotoCoreError) as error:
        console.print(Text(f"The demo failed: {error}", style="red"))
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; nothing is left behind.")
        return 128 + signal.SIGINT


class _Play:
    """One run: who is on stage, and the order of events."""

    def __init__(self, console: Console, clock: Callable[[], datetime], folder: Path, children: Children) -> None:
        self._console = console
        self._clock = clock
        self._folder = folder
        self._children = children
        self._began = time.monotonic()
        self._cloud = Cloud(f"http://127.0.0.1:{stage.free_port()}")
        self._worker_address = f"127.0.0.1:{stage.free_port()}"

    async def run(self, keep: bool) -> int:
        cloud = self._cloud
        # The embedded AWS has nothing to finish, but would wait for the last long poll.
        aws = self._children.start("aws", "worker.local.embedded", cloud.endpoint.rpartition(":")[2], variables={}, grace_seconds=0.5)
        await stage.answers(aws, f"{cloud.endpoint}/_ministack/health")
        self._say(f"An embedded AWS is up at {cloud.endpoint}.")
        outputs, cast, _ = await asyncio.gather(stage.deploy(cloud, "trailmend.yaml"), settle(cloud), self._open_members())
        self._say("The shipped CloudFormation is deployed, and two member accounts are peopled.")
        story = tell(SEED, self._clock(), await strike(cloud, cast))

        variables = self._variables(outputs)
        worker = self._children.start("worker", "worker", "run", variables=variables)
        await stage.answers(worker, f"http://{self._worker_address}/readyz")
        self._say("The worker runs.")
        outcome = await self._tell(story, outputs, worker)
        self._say("Its queue is empty.")
        show(self._console, outcome, f"http://{self._worker_address}/metrics")
        lost = missing(outcome, story)
        mended = await self._mend(outputs, variables, story)
        show_mended(self._console, mended)
        lost += unmended(mended, story.cast)
        lost += await self._close_the_loop(outputs, worker, mended, int(outcome.totals["trailmend_objects_read_total"]))
        if keep:
            self._invite(variables)
            with suppress(asyncio.CancelledError):  # Ctrl-C is how a kept demo ends
                await asyncio.Event().wait()
        status = worker.stop()
        if status != 0:
            lost.append(f"a clean end of the worker: after SIGTERM its status is {status}")
        return self._verdict(lost, worker)

    async def _open_members(self) -> None:
        """Deploy the shipped role by which the worker enters a member account."""
        parameters = {"Mend": "true", "RoleName": MEMBER_ROLE, "TrustedRoleArns": WORKER_ARN, "ExternalId": EXTERNAL_ID}
        accounts = (WEB_ACCOUNT, BATCH_ACCOUNT)
        await asyncio.gather(*(stage.deploy(self._cloud, "member-role.yaml", account, **parameters) for account in accounts))

    async def _tell(self, story: Story, outputs: Mapping[str, str], worker: Child) -> Outcome:
        """Both parts of the story, each until the worker is through with it, and what came of it."""
        bucket, queue_url, worker_url = outputs["LogBucketName"], outputs["QueueUrl"], f"http://{self._worker_address}"
        began = time.monotonic()
        objects = 0
        for name, part in (("three weeks ago", story.past), ("today", story.present)):
            self._say(
                f"The trail of {name} comes in: {len(part.objects)} objects, {part.records} records, {part.copies} of them second copies."
            )
            await stage.upload(self._cloud, bucket, part)
            objects += part.logs
            await stage.drained(self._cloud, queue_url, worker, worker_url, objects)
        seconds = time.monotonic() - began
        return Outcome(
            findings=[json.loads(line) for line in self._findings.read_text().splitlines()] if self._findings.exists() else [],
            tasks=await stage.waiting_tasks(self._cloud, outputs["TaskQueueUrl"]),
            dead_letters=await stage.depth(self._cloud, outputs["DeadLetterQueueUrl"]),
            totals=await stage.metrics(worker_url),
            seconds=seconds,
        )

    async def _mend(self, outputs: Mapping[str, str], variables: Mapping[str, str], story: Story) -> Mended:
        address = f"127.0.0.1:{stage.free_port()}"
        own = {
            "TRAILMEND_HTTP_ADDRESS": address,
            "TRAILMEND_REMEDIATION_MODES": MODES,
            "TRAILMEND_FINDING_SINKS": f"file://{self._folder / 'asked.jsonl'}",
        }
        self._console.print()
        self._say(f"The executor runs, with TRAILMEND_REMEDIATION_MODES={MODES}; somebody on call answers what it asks.")
        mending = Mending(self._cloud, self._children, {**variables, **own}, self._state, address)
        mended = await mending.mend(outputs["TaskQueueUrl"], story.cast)
        self._say("Every task has come to its end.")
        return mended

    async def _close_the_loop(self, outputs: Mapping[str, str], worker: Child, mended: Mended, objects: int) -> list[str]:
        """CloudTrail tells of the executor's own calls: the worker is to know them, and to find nothing in them."""
        told = trace(SEED, self._clock(), MEMBER_ROLE, mended.tasks)
        self._console.print()
        self._say(f"CloudTrail tells of the executor's own {len(calls(mended.tasks))} calls, in {told.logs} objects.")
        before, url = len(self._findings.read_bytes().splitlines()), f"http://{self._worker_address}"
        await stage.upload(self._cloud, outputs["LogBucketName"], told)
        await stage.drained(self._cloud, outputs["QueueUrl"], worker, url, objects + told.logs)
        confirmed = (await stage.metrics(url)).get("trailmend_remediations_confirmed_total", 0.0)
        found = len(self._findings.read_bytes().splitlines()) - before
        self._say(f"The worker knows them: {confirmed:.0f} confirmed, {found} findings.")
        lost = [] if confirmed == len(calls(mended.tasks)) else [f"{confirmed:.0f} of {len(calls(mended.tasks))} own calls were confirmed"]
        return [*lost, *([f"{found} findings were made of our own calls"] if found else [])]

    @property
    def _state(self) -> Path:
        return self._folder / "state.db"

    @property
    def _findings(self) -> Path:
        return self._folder / "findings.jsonl"

    def _variables(self, outputs: Mapping[str, str]) -> dict[str, str]:
        """The worker's whole environment, as an operator would set it."""
        return {
            "TRAILMEND_QUEUE_URL": outputs["QueueUrl"],
            "TRAILMEND_TASK_QUEUE_URL": outputs["TaskQueueUrl"],
            "TRAILMEND_FINDING_SINKS": f"file://{self._findings}",
            "TRAILMEND_STATE": f"sqlite:///{self._state}",
            "TRAILMEND_HTTP_ADDRESS": self._worker_address,
            "TRAILMEND_MEMBER_ROLE_NAME": MEMBER_ROLE,
            "TRAILMEND_EXTERNAL_ID": EXTERNAL_ID,
            "TRAILMEND_ACCOUNTS": f"{WEB_ACCOUNT},{BATCH_ACCOUNT}",
            "TRAILMEND_REGIONS": ",".join(REGIONS),
            "TRAILMEND_AUTHORIZED_PRINCIPALS": f"arn:aws:iam::{BATCH_ACCOUNT}:role/{DEPLOYER}",
            "TRAILMEND_CHANGE_PATTERN": CHANGE_PATTERN,
            # A machine that is busy otherwise is to tell the same story.
            "TRAILMEND_ENRICH_DEADLINE_SECONDS": "30",
            "TRAILMEND_UPDATE_SECONDS": "5",
            "AWS_ENDPOINT_URL": self._cloud.endpoint,
            "AWS_REGION": HOME_REGION,
            "AWS_DEFAULT_REGION": HOME_REGION,
            "AWS_ACCESS_KEY_ID": HOME_ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "embedded",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def _invite(self, variables: Mapping[str, str]) -> None:
        """What to try while it stays up. A worker of one's own needs its own address and state."""
        own = {name: value for name, value in variables.items() if name not in ("TRAILMEND_HTTP_ADDRESS", "TRAILMEND_FINDING_SINKS")}
        queue_url = variables["TRAILMEND_TASK_QUEUE_URL"]
        lines = (
            "",
            "It stays up. In another terminal:",
            f"  curl -s http://{self._worker_address}/metrics | grep ^trailmend_",
            f"  tail -f {self._folder / 'worker.log'}",
            f"  python -m json.tool --json-lines {self._findings}",
            "and with the variables below, any command of trailmend, or the AWS CLI:",
            f"  aws sqs receive-message --queue-url {queue_url}",
            *(f"  export {name}={shlex.quote(value)}" for name, value in own.items()),
            "Ctrl-C ends it.",
        )
        for line in lines:
            self._console.print(Text(line), soft_wrap=True)

    def _verdict(self, lost: list[str], worker: Child) -> int:
        self._console.print()
        if not lost:
            self._say("All came out as told. The worker has stopped, and nothing is left behind.")
            return 0
        for line in lost:
            self._console.print(Text(f"Missing: {line}", style="red"))
        self._console.print(Text(f"The end of the worker's log:\n{worker.tail()}", style="dim"))
        return 1

    def _say(self, text: str) -> None:
        self._console.print(Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), text))


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as an exception would, so that everything is cleared away; Python does so for SIGINT."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
