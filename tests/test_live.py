"""A role in its process, as one of several."""

from __future__ import annotations

import os
import subprocess
import sys

import orjson

from tests.conftest import PATIENCE_SECONDS

CHILD = """
import asyncio, sys, time
from pathlib import Path
from worker import live
from worker.settings import Settings

async def role(settings, world, stop):
    world.log.info("begun")
    await stop.wait()
    before = time.process_time()
    await asyncio.sleep(0.5)
    world.log.info("drained", busy=time.process_time() - before)

live.child(role, Settings(), 7, Path(sys.argv[1]))
"""


def test_without_its_parent_it_drains_at_rest(tmp_path):
    """The end of its standard input asks it to drain, once: it takes no processor from the work that is left. Each line says which process it is."""
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path / "7.sock")],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
    )
    assert process.stderr is not None
    assert process.stdin is not None
    begun = orjson.loads(process.stderr.readline())
    process.stdin.close()
    drained = orjson.loads(process.stderr.readline())
    process.stderr.close()
    assert process.wait(PATIENCE_SECONDS) == 0
    assert [(line["event"], line["process"]) for line in (begun, drained)] == [("begun", 7), ("drained", 7)]
    assert drained["busy"] < 0.2


def test_a_parent_knows_nothing_of_what_a_worker_is_made_of():
    """Its children wait for it to begin, and its memory comes on top of theirs."""
    code = "import sys, worker.cli, worker.cpus, worker.parent; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": "."})
    loaded = set(answer.stdout.split())
    assert "worker.supervisor" in loaded
    assert not loaded & {"worker.app", "worker.detect", "worker.dispatch", "worker.enrich", "worker.ingest", "botocore", "obstore", "sigma"}
