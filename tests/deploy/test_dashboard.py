"""The Grafana dashboard: every query names series that exist, and a real Prometheus answers it with data."""

from __future__ import annotations

import inspect
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import start_http_server

from tests.conftest import PATIENCE_SECONDS, free_port
from tests.fakes import metrics
from worker.detect.document import RuleFault
from worker.model import (
    Actor,
    EnrichedFinding,
    Fact,
    FactSource,
    FactStatus,
    Finding,
    Level,
    Origin,
    Record,
    Rule,
    Subject,
    Target,
    Task,
    Withheld,
)
from worker.observe.calls import Calls
from worker.observe.metrics import Metrics
from worker.observe.queues import Queues

DASHBOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "trailmend.json"
CONFIG = """
global: {{scrape_interval: 250ms, scrape_timeout: 250ms}}
scrape_configs: [{{job_name: trailmend, static_configs: [{{targets: ["127.0.0.1:{port}"]}}]}}]
"""


def dashboard() -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads(DASHBOARD.read_text())
    return read


def panels() -> list[Mapping[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def queries() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in panels() for target in panel["targets"]]


def everything_happens(to: Metrics) -> None:
    """Call every method of `Metrics` that counts."""
    now = datetime.now(UTC)
    event = {"eventName": "DeleteInstanceProfile", "eventTime": (now - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%SZ")}
    rule = Rule("instance-profile-deleted", "Instance profile deleted", Level.CRITICAL)
    finding = Finding(rule, Record(event, Origin(path="log.json")), Actor("IAMUser", name="ada"), Subject("instance-profile", "web"))
    impact = Fact("impact", FactStatus.KNOWN, {"band": "11-100"}, now, FactSource.LIVE)
    found = EnrichedFinding(finding, {"impact": impact})
    for queue in ("main", "tasks"):
        to.queues.received(queue, 2, now)
        to.queues.received(queue, 0, now)
        to.queues.waited(queue, 3.0)
        to.queues.receive_failed(queue, "AccessDenied")
        to.queues.in_hand(queue, lambda: 2)
        to.queues.progressed(queue, now)
        to.queues.deleted(queue, 1)
        to.queues.delete_failed(queue, "message-1", "ReceiptHandleIsInvalid")
        to.queues.hold_failed(queue, "message-1", "ReceiptHandleIsInvalid")
        to.queues.returned(queue, 1)
    for queue in ("main", "tasks", "dlq"):
        to.queues.depth(queue, {"visible": 3, "in_flight": 2, "delayed": 0})
    to.queues.left("object-missing")
    to.notice("s3")
    to.skipped("digest")
    to.object_fetched(1_000)
    to.records_read(9_000, 50, 2)
    to.in_flight("compressed", lambda: 1_000)
    to.in_flight("inflated", lambda: 9_000)
    to.fault("fetch", "object-missing")
    to.staged("read", 0.02)
    to.rules_loaded(25, 3, 1, now)
    to.rules_reloaded(26, 3, 1, now)
    to.rules_refused([RuleFault("rule.yml", 3, "its condition names no selection")])
    to.rule_error(rule.id, "TypeError")
    for status in FactStatus:
        to.fact(Fact("user", status, None, now, FactSource.EVENT, "AccessDenied" if status is FactStatus.UNKNOWN else None), 0.2)
    for outcome in ("complete", "partial", "closed", "failed"):
        to.snapshot(outcome)
    to.untold(rule.id, "in-use", finding.id)
    to.suppressed(rule.id, "vpc-migration", "CHG0048213", finding.id)
    to.sighted(rule.id, 3)
    for reason in ("untimed", "crowded", "late"):
        to.sighting_dropped(rule.id, reason, 1)
    for outcome in ("found", "nothing", "abandoned"):
        to.window_closed(rule.id, outcome)
    to.calls.made("iam", "ok")
    to.calls.awaited(0.1)
    to.calls.answered("live")
    to.calls.count_closed(lambda: 1)
    to.finding(found, now)
    pending = {"user": Fact("user", FactStatus.UNKNOWN, None, now, FactSource.LIVE, "throttled", pending=True)}
    to.finding(EnrichedFinding(finding, pending), now)
    for facts in ({}, pending):
        to.finding(EnrichedFinding(finding, facts, update=1), now)
    to.duplicate(finding.id)
    for outcome in ("ok", "posted", "failed"):
        to.delivered("sqs", outcome)
    for outcome in ("ok", "failed", "abandoned"):
        to.retried("sqs", outcome)
    to.outbox("sqs", 3, 90.0)
    to.task(Task("restore-instance-profile", Target("instance-profile", "web", "123456789012"), {}, found))
    to.withheld(Withheld("restore-instance-profile", "replaced", "made again"), finding.id)
    to.remediated("restore-instance-profile", "applied")
    to.own_record(known=True)
    to.own_record(known=False)
    to.remediation_confirmed("restore-instance-profile", "confirmed")
    to.remediation_confirmed("restore-instance-profile", "unconfirmed")
    to.journal_exported(3)
    to.journal_export_failed(2, "AccessDenied")
    to.task_refused("not-json")
    to.task_quarantined(None)
    to.remediation_stopped(None)
    to.approvals.waiting(2, 1)
    to.approvals.asked("waiting")
    to.approvals.ended("approved")
    to.approvals.breaker_tripped("enforce-mfa")


@contextmanager
def prometheus(metrics_port: int, folder: Path) -> Iterator[str]:
    """A Prometheus on loopback that scrapes that port; yields its address. Skips where there is none, but not in CI."""
    program = shutil.which("prometheus")
    if program is None:
        missing = "prometheus is not installed (Debian: prometheus)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(port=metrics_port))
    port = free_port()
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


def answers(address: str, query: str, *, idle: bool = False) -> bool:
    """Whether the query gives at least one number now; when `idle`, one that may be none. Raises what the server says where the query is wrong."""
    try:
        with urllib.request.urlopen(f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}", timeout=5) as told:
            result = json.load(told)["data"]["result"]
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 503:  # it is still starting
                return False
            raise AssertionError(f"{query}: {error.read().decode()}") from error
    except urllib.error.URLError:
        return False
    return any(idle or not math.isnan(float(series["value"][1])) for series in result)


def test_the_story_leaves_no_metric_out():
    """Every public method of `Metrics` that counts is called, so a new one needs its line here (and perhaps a panel)."""
    public = {name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if not name.startswith("_")}
    told = set(re.findall(r"\bto\.(\w+)\(", inspect.getsource(everything_happens)))
    assert told == public - {"life"}
    public = {name for name, _ in inspect.getmembers(Calls, inspect.isfunction) if not name.startswith("_")}
    told = set(re.findall(r"\bto\.calls\.(\w+)\(", inspect.getsource(everything_happens)))
    assert told == public - {"account_closed"}
    public = {name for name, _ in inspect.getmembers(Queues, inspect.isfunction) if not name.startswith("_")}
    assert set(re.findall(r"\bto\.queues\.(\w+)\(", inspect.getsource(everything_happens))) == public


def test_every_series_on_the_dashboard_exists():
    """A renamed metric must not leave an empty panel, and no metric is left without a panel."""
    of = metrics()
    everything_happens(of)
    existing = {sample.name for family in of.registry.collect() for sample in family.samples if not sample.name.endswith("_created")}
    named = {name for _, query in queries() for name in re.findall(r"\btrailmend_\w+", query)}
    assert named
    assert named <= existing
    assert {re.sub("_(count|sum)$", "_bucket", name) for name in existing} == named


def test_every_panel_says_what_it_shows():
    """Title, description and unit on each panel; ids unique; the data source is the one the reader chose; the rows on-call looks for."""
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert {part["datasource"]["uid"] for part in (panel, *panel["targets"])} == {"${datasource}"}
    everything = dashboard()["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    assert dashboard()["uid"] == "trailmend"
    assert [variable["type"] for variable in dashboard()["templating"]["list"]] == ["datasource"]
    rows = [panel["title"] for panel in everything if panel["type"] == "row"]
    assert rows == ["Is it working", "Throughput", "Findings", "Rules and correlations", "Facts and dispatch", "Faults", "Remediation"]


def test_no_two_panels_overlap():
    """Grafana's grid is 24 wide; a panel that lies on another is moved by the browser, and not to where it was meant."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_every_query_has_data_on_a_real_prometheus(tmp_path: Path):
    """Each query of each panel answers with numbers of its own, no stand-in for nothing, while a worker's counters grow."""
    of = metrics()
    server, thread = start_http_server(port=0, addr="127.0.0.1", registry=of.registry)
    try:
        with prometheus(server.server_port, tmp_path) as address:
            asked = ((title, query.removesuffix(" or vector(0)")) for title, query in queries())
            waiting = {(title, query.replace("$__rate_interval", "5s")) for title, query in asked}
            until = time.monotonic() + PATIENCE_SECONDS
            while waiting and time.monotonic() < until:
                everything_happens(of)
                waiting = {one for one in waiting if not answers(address, one[1])}
                time.sleep(0.1)
            assert not waiting, (tmp_path / "prometheus.log").read_text()[-2000:]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def test_every_query_has_data_from_a_demo_run(tmp_path: Path):
    """The dashboard over `trailmend demo --keep`: no panel is empty, also those of things that did not happen.

    It is idle by then, so a quantile of the last seconds is there as what it is, not a number.
    """
    told = tmp_path / "demo.txt"
    with told.open("w") as stream:
        demo = subprocess.Popen([sys.executable, "-m", "worker", "demo", "--keep"], stdout=stream, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + PATIENCE_SECONDS
        while "It stays up" not in told.read_text():
            assert demo.poll() is None, told.read_text()
            assert time.monotonic() < until, told.read_text()
            time.sleep(0.1)
        port = re.search(r"http://127\.0\.0\.1:([0-9]+)/metrics", told.read_text())
        assert port is not None
        with prometheus(int(port[1]), tmp_path) as address:
            waiting = {(title, query.replace("$__rate_interval", "10s")) for title, query in queries()}
            until = time.monotonic() + PATIENCE_SECONDS
            while waiting and time.monotonic() < until:
                waiting = {one for one in waiting if not answers(address, one[1], idle=True)}
                time.sleep(0.1)
            assert not waiting
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(PATIENCE_SECONDS) == 0
