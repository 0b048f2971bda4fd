"""What a demo does to the embedded AWS and asks of the worker: deploy, upload, wait until all is read, collect.

In go a `Cloud` and addresses on loopback; waits are bounded, end as soon as what they wait for is there, and raise `StageError` with the
end of the log of whoever is at fault.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import aiohttp

from worker.local.children import Child
from worker.local.cloud import HOME_ACCOUNT, Cloud
from worker.local.delivery import Delivery
from worker.local.outcome import Json, totals

STACK = "trailmend"
START_SECONDS = 30.0
DRAIN_SECONDS = 45.0
PAUSE_SECONDS = 0.05
UPLOADS_AT_ONCE = 8


class StageError(Exception):
    """The demo cannot go on. The text says what failed and shows what the part at fault wrote."""


def free_port() -> int:
    """A port of loopback that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def template(name: str) -> str:
    """A CloudFormation template that users deploy: packed into the wheel beside this file, or in the checkout's `deploy/`."""
    packed = resources.files("worker.local").joinpath("cloudformation", name)
    in_checkout = Path(__file__).resolve().parents[2] / "deploy" / "cloudformation" / name
    return packed.read_text() if packed.is_file() else in_checkout.read_text()


async def answers(child: Child, url: str) -> None:
    """Wait until a child's URL answers 200."""
    if not await _until(START_SECONDS, lambda: _ok(url), child):
        raise StageError(f"{child.name} did not answer at {url} within {START_SECONDS:.0f} s:\n{child.tail()}")


async def deploy(cloud: Cloud, name: str, account: str = HOME_ACCOUNT, **parameters: str) -> Mapping[str, str]:
    """Deploy a template as a stack in an account; answers its outputs."""
    async with cloud.client("cloudformation", account) as cloudformation:
        await cloudformation.create_stack(
            StackName=STACK,
            TemplateBody=template(name),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack: Mapping[str, Any] = {}

        async def settled() -> bool:
            nonlocal stack
            stack = (await cloudformation.describe_stacks(StackName=STACK))["Stacks"][0]
            return not str(stack["StackStatus"]).endswith("_IN_PROGRESS")

        if not await _until(START_SECONDS, settled) or stack["StackStatus"] != "CREATE_COMPLETE":
            raise StageError(
                f"the stack of {name} in account {account} is {stack['StackStatus']}: {stack.get('StackStatusReason', 'no reason given')}"
            )
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", ())}


async def upload(cloud: Cloud, bucket: str, delivery: Delivery) -> None:
    """Put the objects into the log bucket, whose notifications do the rest."""
    at_once = asyncio.Semaphore(UPLOADS_AT_ONCE)
    async with cloud.client("s3") as s3:

        async def put(key: str, body: bytes) -> None:
            async with at_once:
                await s3.put_object(Bucket=bucket, Key=key, Body=body)

        await asyncio.gather(*(put(stored.key, stored.body) for stored in delivery.objects))


async def drained(cloud: Cloud, queue_url: str, worker: Child, worker_url: str, objects: int) -> None:
    """Wait until the worker has read that many objects in all and its queue is empty, and says that it is well."""
    empty = 0

    async def through() -> bool:
        nonlocal empty
        read = (await metrics(worker_url)).get("trailmend_objects_read_total", 0.0)
        # SQS counts approximately: once is no proof.
        empty = empty + 1 if read >= objects and await depth(cloud, queue_url) == 0 else 0
        return empty >= 2

    if not await _until(DRAIN_SECONDS, through, worker):
        read = (await metrics(worker_url)).get("trailmend_objects_read_total", 0.0)
        left = await depth(cloud, queue_url)
        raise StageError(
            f"after {DRAIN_SECONDS:.0f} s the worker has read {read:.0f} of {objects} objects and {left} messages are left:\n{worker.tail()}"
        )
    await answers(worker, f"{worker_url}/readyz")


async def emptied(cloud: Cloud, queue_url: str, child: Child) -> None:
    """Wait until a queue is empty, as its consumer leaves it."""
    empty = 0

    async def through() -> bool:
        nonlocal empty
        # SQS counts approximately: once is no proof.
        empty = empty + 1 if await depth(cloud, queue_url) == 0 else 0
        return empty >= 2

    await holds(through, child, f"{queue_url} to be empty")


async def holds(holding: Callable[[], Awaitable[bool]], child: Child, what: str) -> None:
    """Wait for what a child is to bring about."""
    if not await _until(DRAIN_SECONDS, holding, child):
        raise StageError(f"waited {DRAIN_SECONDS:.0f} s for {what}:\n{child.tail()}")


async def ended(child: Child) -> None:
    """Wait until a child has ended by itself."""

    async def gone() -> bool:
        return child.ended

    if not await _until(START_SECONDS, gone):
        raise StageError(f"{child.name} did not end within {START_SECONDS:.0f} s:\n{child.tail()}")


async def depth(cloud: Cloud, queue_url: str) -> int:
    """Messages in a queue: waiting, in flight and delayed."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
    async with cloud.client("sqs") as sqs:
        told = (await sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)).get("Attributes", {})
    return sum(int(told.get(name, 0)) for name in names)


async def waiting_tasks(cloud: Cloud, queue_url: str) -> list[Json]:
    """Read the tasks on the queue and leave them there for an executor."""
    tasks: list[Json] = []
    handles: list[str] = []
    async with cloud.client("sqs") as sqs:
        while batch := (await sqs.receive_message(QueueUrl=queue_url, MaxNumberOfMessages=10, VisibilityTimeout=60, WaitTimeSeconds=0)).get(
            "Messages"
        ):
            tasks += [json.loads(message["Body"]) for message in batch]
            handles += [message["ReceiptHandle"] for message in batch]
        for handle in handles:
            await sqs.change_message_visibility(QueueUrl=queue_url, ReceiptHandle=handle, VisibilityTimeout=0)
    return tasks


async def metrics(worker_url: str) -> Mapping[str, float]:
    """The worker's metrics, each summed over its labels."""
    async with aiohttp.ClientSession() as session, session.get(f"{worker_url}/metrics") as answer:
        return totals(await answer.text())


async def _ok(url: str) -> bool:
    try:
        async with aiohttp.ClientSession() as session, session.get(url, timeout=aiohttp.ClientTimeout(total=2)) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def _until(seconds: float, holds: Callable[[], Awaitable[bool]], child: Child | None = None) -> bool:
    """Ask until the answer is yes or the time is up. Raises `StageError` when the child everything waits for has ended."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while not await holds():
        if child is not None and child.ended:
            raise StageError(f"{child.name} ended with status {child.process.returncode}:\n{child.tail()}")
        if loop.time() > deadline:
            return False
        await asyncio.sleep(PAUSE_SECONDS)
    return True
