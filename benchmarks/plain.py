"""The baseline of *objects*: the plainest correct loop that a good engineer would write, with aiobotocore, gzip and orjson.

`python -m benchmarks.plain QUEUE_URL` takes notifications, reads the objects they name, counts the records that the shipped rules want, and deletes
what it has read. It has the worker's number of hands, and none of its duties: no holding, no claims, no metrics, no rules, no
bounds, no notification but S3's own. On SIGTERM it prints what it counted as JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import signal
import sys
from collections import Counter
from typing import Any
from urllib.parse import unquote_plus

import orjson
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from benchmarks.corpus import worker_interest
from worker.settings import Settings

BATCH = 10


async def run(url: str) -> None:
    """Consume the queue until SIGTERM."""
    interest = worker_interest()
    hands = Settings().concurrency
    counted: Counter[str] = Counter()
    at_once = asyncio.Semaphore(hands)
    create: Any = AioSession().create_client  # the stubs know each service by a literal
    config = AioConfig(max_pool_connections=64, s3={"addressing_style": "path"})
    async with create("sqs", config=config) as sqs, create("s3", config=config) as s3:

        async def read(message: dict[str, Any]) -> None:
            async with at_once:
                for told in orjson.loads(message["Body"])["Records"]:
                    key = unquote_plus(told["s3"]["object"]["key"])
                    answer = await s3.get_object(Bucket=told["s3"]["bucket"]["name"], Key=key)
                    async with answer["Body"] as stream:
                        body = await stream.read()
                    records = orjson.loads(gzip.decompress(body))["Records"]
                    counted["objects"] += 1
                    counted["records"] += len(records)
                    for record in records:
                        identity = record.get("userIdentity") or {}
                        counted["wanted"] += interest.wants(record.get("eventSource"), record["eventName"], identity.get("type"))

        async def poll() -> None:
            while True:
                answer = await sqs.receive_message(
                    QueueUrl=url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=20, MessageSystemAttributeNames=["SentTimestamp"]
                )
                messages = answer.get("Messages", [])
                if messages:
                    await asyncio.gather(*map(read, messages))
                    entries = [{"Id": str(number), "ReceiptHandle": one["ReceiptHandle"]} for number, one in enumerate(messages)]
                    await sqs.delete_message_batch(QueueUrl=url, Entries=entries)

        pollers = [asyncio.create_task(poll()) for _ in range(-(-hands // BATCH))]
        working = asyncio.gather(*pollers)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await working
    print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1]))
