"""The alert rules and the configurations beside them: right for Prometheus's own tools, true to our metrics, and each with its runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from tests.conftest import PATIENCE_SECONDS
from tests.fakes import metrics

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "trailmend.rules.yml"
ALERTMANAGER = DEPLOY / "alertmanager" / "alertmanager.yml"
SERIES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def run(tool: str, *arguments: str | Path) -> str:
    """Run one of Prometheus's tools; answers its output, and fails with it. Skips where the tool is missing, but not in CI."""
    program = shutil.which(tool)
    if program is None:
        missing = f"{tool} is not installed (Debian: prometheus, prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rules() -> list[Mapping[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def alerts() -> list[Mapping[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def series_of(family: Metric) -> Iterator[str]:
    return (family.name + suffix for suffix in SERIES.get(family.type, []))


def test_promtool_accepts_the_rules():
    """The rules parse, and so does every template in their annotations."""
    run("promtool", "check", "rules", RULES)


def test_the_rules_alert_when_they_should_and_are_quiet_otherwise():
    """Every case of trailmend.rules.test.yml holds: first appearances, restarts, failed scrapes, quiet."""
    run("promtool", "test", "rules", RULES.with_suffix(".test.yml"))


def test_every_alert_has_a_case_that_fires_and_one_that_does_not():
    """No alert is shipped that was never seen to fire, or never seen to be quiet."""
    cases = yaml.safe_load(RULES.with_suffix(".test.yml").read_text())["tests"]
    checks = [check for case in cases for check in case["alert_rule_test"]]
    names = {alert["alert"] for alert in alerts()}
    assert {check["alertname"] for check in checks if check["exp_alerts"]} == names
    assert {check["alertname"] for check in checks if not check["exp_alerts"]} == names


def test_promtool_accepts_the_scrape_configuration():
    """The example prometheus.yml loads, with the rules beside it, under the job's name that the alerts know."""
    run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == ["trailmend"]


def test_amtool_accepts_the_alertmanager_configuration():
    """The example alertmanager.yml loads."""
    run("amtool", "check-config", ALERTMANAGER)


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_alertmanager_routes_by_severity(severity: str):
    """What pages goes to the pager, what does not goes to the tickets."""
    told = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", "job=trailmend", f"severity={severity}")
    assert told.strip() == severity


def test_every_series_in_a_rule_exists():
    """A renamed metric must not leave an alert that can never fire."""
    registry = metrics().registry
    ProcessCollector(registry=registry)
    existing = {name for family in registry.collect() for name in series_of(family)}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = {name for rule in rules() for name in re.findall(r"\b(?:trailmend|process)_\w+|\btrailmend:[\w:]+", rule["expr"])}
    assert len(named) > 15
    assert named <= existing | recorded
    assert recorded <= named, "a recording that nothing reads"


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_every_alert_tells_what_to_do(alert: Mapping[str, Any]):
    """Whoever is paged gets a severity, what it means, and a link to a section that exists."""
    assert alert["labels"]["severity"] in {"page", "ticket"}
    told = alert["annotations"]
    assert told["summary"]
    assert len(told["description"].split()) > 15
    page, _, anchor = told["runbook"].partition("#")
    assert page == "deploy/alerts.md"
    headings = re.findall(r"^## (.+)$", (DEPLOY / "alerts.md").read_text(), re.MULTILINE)
    assert anchor in {heading.lower().replace(" ", "-") for heading in headings}


def test_every_section_belongs_to_an_alert():
    """No runbook outlives its alert."""
    headings = re.findall(r"^## (.+)$", (DEPLOY / "alerts.md").read_text(), re.MULTILINE)
    assert sorted(headings) == sorted(alert["alert"] for alert in alerts())
