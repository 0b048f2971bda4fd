"""Rules of a running worker are exchanged by SIGHUP and by a change of their folder, and what it has in hand goes on."""

from __future__ import annotations

import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.conftest import PATIENCE_SECONDS, free_port
from tests.integration.conftest import deletion, log_file, until, until_true

HEADING = "logsource: {product: aws, service: cloudtrail}\n"


def rule(title: str, event: str) -> str:
    detection = f"{{selection: {{eventSource: iam.amazonaws.com, eventName: {event}}}, condition: selection}}"
    return f"title: {title}\n{HEADING}detection: {detection}\n"


class Running:
    """A worker as a process, and what it says of itself."""

    def __init__(self, estate, process: subprocess.Popen[bytes], address: str) -> None:
        self.estate, self.process, self.address = estate, process, address

    def metric(self, name: str, labels: str = "") -> float | None:
        with urllib.request.urlopen(f"http://{self.address}/metrics", timeout=5) as told:
            found = re.search(rf"^trailmend_{name}{re.escape(labels)} (\S+)$", told.read().decode(), re.MULTILINE)
        return None if found is None else float(found[1])

    def ready(self) -> bool:
        try:
            return self.metric("rules") is not None
        except OSError:
            assert self.process.poll() is None, (self.estate.folder / "worker.log").read_text()
            return False

    def titles(self) -> list[str]:
        return sorted(finding["rule"]["title"] for finding in self.estate.findings())

    def logged(self, event: str) -> list[dict[str, object]]:
        lines = map(orjson.loads, (self.estate.folder / "worker.log").read_bytes().splitlines())
        return [line for line in lines if line["event"] == event]

    def give(self, name: str, event: str) -> None:
        """A log object with one such event."""
        self.estate.notify(self.estate.put(name, log_file(deletion(name, eventName=event))))


@contextmanager
def running(estate, **more: str) -> Iterator[Running]:
    """The worker from ready to SIGTERM, which it must survive to: it exits 0."""
    address = f"127.0.0.1:{free_port()}"
    process = estate.process("run", TRAILMEND_HTTP_ADDRESS=address, **more)
    try:
        worker = Running(estate, process, address)
        until(worker.ready)
        yield worker
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_SECONDS) == 0
    finally:
        process.kill()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "rules"
    found.mkdir()
    (found / "one.yml").write_text(rule("One", "DeleteInstanceProfile"))
    return found


def test_sighup_reads_the_shipped_rules_again(estate):
    """Where no folder is watched nothing else could have; the worker goes on finding."""
    with running(estate) as worker:
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: worker.metric("rules_reloads_total", '{outcome="ok"}') == 1)
        worker.give("web", "DeleteInstanceProfile")
        until(lambda: estate.found() == ["web"])


def test_a_folder_of_rules_is_exchanged_refused_and_mended_while_it_runs(estate, folder):
    """A new rule finds from then on; a broken file changes nothing but gauge and log; mended, the set is taken whole."""
    with running(estate, TRAILMEND_RULES_DIR=str(folder), TRAILMEND_SHIPPED_RULES="false") as worker:
        (folder / "two.yml").write_text(rule("Two", "CreateInstanceProfile"))
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: worker.metric("rules") == 2)
        worker.give("a", "CreateInstanceProfile")
        until(lambda: worker.titles() == ["Two"])

        (folder / "one.yml").write_text(f"title: One\n{HEADING}detection:\n  condition: nothing\n")
        (folder / "two.yml").unlink()
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: worker.metric("rules_refused") == 1)
        worker.give("b", "CreateInstanceProfile")
        worker.give("c", "DeleteInstanceProfile")
        until(lambda: worker.titles() == ["One", "Two", "Two"])
        fault = worker.logged("rule_fault")[0]
        assert (fault["level"], fault["file"]) == ("error", str(folder / "one.yml"))
        assert isinstance(fault["line"], int)

        (folder / "one.yml").write_text(rule("Mended", "TagInstanceProfile"))
        worker.process.send_signal(signal.SIGHUP)
        until(lambda: worker.metric("rules_refused") == 0)
        assert worker.metric("rules") == 1
        worker.give("d", "TagInstanceProfile")
        until(lambda: worker.titles() == ["Mended", "One", "Two", "Two"])


async def test_the_worker_watches_the_folder_by_itself(estate, folder, monkeypatch):
    """Without any signal, while it works: a file put there is in force some looks later."""
    monkeypatch.setattr("worker.rules_in_force.LOOK_EVERY_SECONDS", 0.05)
    async with estate.worker(TRAILMEND_RULES_DIR=str(folder), TRAILMEND_SHIPPED_RULES="false"):
        log = estate.folder / "worker.log"
        await until_true(lambda: '"event": "started"' in log.read_text())
        (folder / "two.yml").write_text(rule("Two", "CreateInstanceProfile"))
        await until_true(lambda: '"event": "rules_reloaded"' in log.read_text())
        estate.notify(estate.put("x", log_file(deletion("x", eventName="CreateInstanceProfile"))))
        await until_true(lambda: [finding["rule"]["title"] for finding in estate.findings()] == ["Two"])
