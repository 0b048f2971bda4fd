"""A small estate on the embedded AWS, and the worker over it."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import orjson
import pytest
import structlog

from tests.conftest import PATIENCE_SECONDS, free_port
from worker.app import World, run_worker
from worker.settings import Settings

ACCOUNT = "000000000000"


def deletion(name: str, **more: Any) -> dict[str, Any]:
    """A CloudTrail record of a deleted instance profile."""
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "userName": "mallory", "accountId": ACCOUNT, "arn": f"arn:aws:iam::{ACCOUNT}:user/mallory"},
        "eventTime": "2026-11-23T12:00:00Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "awsRegion": "us-east-1",
        "sourceIPAddress": "198.51.100.7",
        "userAgent": "aws-cli/2.0",
        "requestParameters": {"instanceProfileName": name},
        "responseElements": None,
        "requestID": f"request-{name}",
        "eventID": f"event-{name}",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "recipientAccountId": ACCOUNT,
        **more,
    }


def log_file(*records: Any) -> bytes:
    """The records as S3 holds them."""
    return gzip.compress(json.dumps({"Records": records}).encode())


def log_key(name: str) -> str:
    return f"AWSLogs/{ACCOUNT}/CloudTrail/us-east-1/2026/11/23/{ACCOUNT}_CloudTrail_us-east-1_20261123T1200Z_{name}.json.gz"


@dataclass
class Estate:
    """A bucket that tells a queue of its objects, the queue's dead letters, and a task queue."""

    folder: Path
    sqs: Any = field(default_factory=lambda: boto3.client("sqs"))
    s3: Any = field(default_factory=lambda: boto3.client("s3"))
    queue: str = ""
    dead: str = ""
    tasks: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dead = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        self.queue = self.sqs.create_queue(QueueName="main")["QueueUrl"]
        self.patience(2)
        self.tasks = self.sqs.create_queue(QueueName="tasks")["QueueUrl"]
        self.s3.create_bucket(Bucket="logs")

    def patience(self, receives: int) -> None:
        """Let a message be received so often before it is redriven."""
        redrive = json.dumps({"deadLetterTargetArn": self.arn("dead"), "maxReceiveCount": receives})
        self.sqs.set_queue_attributes(QueueUrl=self.queue, Attributes={"RedrivePolicy": redrive})

    def arn(self, queue: str) -> str:
        return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}"

    def put(self, name: str, body: bytes) -> str:
        """An object of the log bucket; answers its key."""
        self.s3.put_object(Bucket="logs", Key=log_key(name), Body=body)
        return log_key(name)

    def notify(self, key: str) -> None:
        """A direct S3 notice of an object, as S3 writes it."""
        s3 = {"bucket": {"name": "logs"}, "object": {"key": key, "size": 512}}
        record = {"eventSource": "aws:s3", "awsRegion": "us-east-1", "eventName": "ObjectCreated:Put", "s3": s3}
        self.send({"Records": [record]})

    def send(self, body: Any) -> None:
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def depth(self, queue: str) -> int:
        """Messages waiting and in flight."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        return sum(int(value) for value in self.sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"].values())

    def bodies(self, queue: str) -> list[Any]:
        """Takes all messages off a queue."""
        found = []
        while told := self.sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            found += [message["Body"] for message in told]
            for message in told:
                self.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return found

    @property
    def findings_file(self) -> Path:
        return self.folder / "findings.jsonl"

    def findings(self) -> list[dict[str, Any]]:
        if not self.findings_file.exists():
            return []
        found = []
        for line in self.findings_file.read_bytes().splitlines(keepends=True):
            try:
                found.append(orjson.loads(line))
            except orjson.JSONDecodeError:
                # Being written just now, or half written by a process that was killed: then it is told again.
                assert not line.endswith(b"}\n")
        return found

    def found(self) -> list[str]:
        """The names of the profiles whose deletion was found, sorted; an update with a fact that came late is no finding of its own."""
        own = (finding for finding in self.findings() if finding["correlation"] is None and not finding["update"])
        return sorted(finding["subject"]["name"] for finding in own)

    def found_together(self) -> list[str]:
        """The titles of the correlations that were told, sorted."""
        return sorted(finding["rule"]["title"] for finding in self.findings() if finding["correlation"] is not None)

    def environment(self, **more: str) -> dict[str, str]:
        return {
            "TRAILMEND_QUEUE_URL": self.queue,
            "TRAILMEND_TASK_QUEUE_URL": self.tasks,
            "TRAILMEND_FINDING_SINKS": f"file://{self.findings_file}",
            "TRAILMEND_STATE": f"sqlite:///{self.folder}/state.db",
            "TRAILMEND_HTTP_ADDRESS": f"127.0.0.1:{free_port()}",
            "TRAILMEND_REGIONS": "us-east-1",
            "TRAILMEND_VISIBILITY_TIMEOUT_SECONDS": "30",
            # On a busy machine too every fact is in time, and what is in hand is done before a stop: the opposite is for tests which say so.
            "TRAILMEND_ENRICH_DEADLINE_SECONDS": "120",
            "TRAILMEND_GRACE_SECONDS": "150",
            "TRAILMEND_PROCESSES": "1",
            **more,
        }

    def process(self, command: str = "run", **more: str) -> subprocess.Popen[bytes]:
        """The worker as a process of its own, which does not outlive the test."""
        with (self.folder / "worker.log").open("ab") as log:
            made = subprocess.Popen([sys.executable, "-m", "worker", command], env={**os.environ, **self.environment(**more)}, stderr=log)
        self.processes.append(made)
        return made

    def end(self) -> None:
        """End what a test that failed left running."""
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()

    @asynccontextmanager
    async def worker(self, **more: str) -> AsyncIterator[None]:
        """The worker in this process, while the context lasts."""
        environment = {**os.environ, **self.environment(**more)}
        stop = asyncio.Event()
        with (self.folder / "worker.log").open("a") as log:
            world = World(
                environment=environment,
                clock=lambda: datetime.now(UTC),
                chance=random.Random(1),
                owner="test",
                stdout=io.BytesIO(),
                log=structlog.wrap_logger(
                    structlog.PrintLogger(log), processors=[structlog.contextvars.merge_contextvars, structlog.processors.JSONRenderer()]
                ),
            )
            running = asyncio.create_task(run_worker(Settings.from_environment(environment), world, stop))
            try:
                yield
            finally:
                stop.set()
                await running


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true, asking again and again; fails when patience is at its end."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


async def until_true(true: Callable[[], bool]) -> None:
    """Like `until`, letting the loop go on meanwhile."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(true):
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


@pytest.fixture
def estate(embedded_aws: str, tmp_path: Path) -> Iterator[Estate]:
    made = Estate(tmp_path)
    yield made
    made.end()
