"""Several worker processes over one queue and one state file do the work of one, each finding once."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from collections import Counter
from pathlib import Path

import orjson
import pytest

from tests.conftest import PATIENCE_SECONDS, free_port
from tests.integration.conftest import Estate, deletion, log_file, until

NAMES = [f"profile-{number:02}" for number in range(12)]


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_SECONDS) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


@pytest.fixture
def port() -> int:
    return free_port()


def test_nothing_is_lost_when_one_process_is_killed(estate: Estate, port: int) -> None:
    """Sixty objects with copies of twelve deletions; a process is killed in the middle of them. What it had sent and not yet settled is sent once more, by its id."""
    estate.patience(10)
    for copy in range(60):
        names = [NAMES[(copy + step) % 12] for step in range(3)]
        estate.notify(estate.put(f"copy-{copy}", log_file(*(deletion(name) for name in names))))
    process = estate.process(
        TRAILMEND_PROCESSES="2",
        TRAILMEND_HTTP_ADDRESS=f"127.0.0.1:{port}",
        TRAILMEND_VISIBILITY_TIMEOUT_SECONDS="4",
        TRAILMEND_ENRICH_DEADLINE_SECONDS="0.1",
        TRAILMEND_UPDATE_SECONDS="0",
    )
    try:
        until(lambda: len(estate.found()) >= 2)
        first, second = children(process.pid)
        os.kill(first, signal.SIGKILL)
        until(lambda: estate.depth("main") == 0)  # what it had claimed is free after its lease of 20 s
        until(lambda: metric(port, "trailmend_processes") == 2)
        told = Counter(estate.found())
        assert set(told) == set(NAMES)
        assert max(told.values()) <= 2
        assert len({finding["id"] for finding in estate.findings() if finding["correlation"] is None}) == len(NAMES)
        assert len({orjson.loads(body)["id"] for body in estate.bodies("tasks")}) == len(NAMES)
        assert metric(port, "trailmend_process_restarts_total") == 1
        assert 0 < metric(port, "trailmend_findings_total") <= len(estate.findings())
        again = children(process.pid)
        assert second in again
        assert first not in again
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in again)
    finally:
        process.kill()
        process.wait()


def test_without_their_parent_the_processes_drain_and_go(estate: Estate, port: int) -> None:
    """A parent that is killed leaves no orphan that works on unwatched."""
    process = estate.process(TRAILMEND_PROCESSES="2", TRAILMEND_HTTP_ADDRESS=f"127.0.0.1:{port}")
    try:
        until(lambda: (estate.folder / "worker.log").read_bytes().count(b'"event":"started"') == 2)
        orphans = children(process.pid)
        assert len(orphans) == 2
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphans))
    finally:
        process.kill()
        process.wait()


def test_a_taken_port_or_a_broken_rule_ends_all_with_the_usual_status(estate: Estate, port: int) -> None:
    """2 for the port, 1 for the rule: as with one process."""
    rules = estate.folder / "rules"
    rules.mkdir()
    (rules / "broken.yml").write_text("title: broken\ndetection: 3\n")
    broken = estate.process(TRAILMEND_PROCESSES="2", TRAILMEND_HTTP_ADDRESS=f"127.0.0.1:{port}", TRAILMEND_RULES_DIR=str(rules))
    assert broken.wait(PATIENCE_SECONDS) == 1
    with socket.create_server(("127.0.0.1", port)):
        taken = estate.process(TRAILMEND_PROCESSES="2", TRAILMEND_HTTP_ADDRESS=f"127.0.0.1:{port}")
        assert taken.wait(PATIENCE_SECONDS) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in (estate.folder / "worker.log").read_text()
