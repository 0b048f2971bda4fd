"""The commands answer with the documented exit status and say what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from worker import __version__, cli


def run(*arguments, **environment):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("TRAILMEND_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments], env={**bare, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_version_and_help_are_there():
    """--version tells the version, --help the commands."""
    assert run("--version").stdout.strip() == f"trailmend {__version__}"
    assert all(command in run("--help").stdout for command in ("run", "remediate", "scan", "rules", "demo"))


@pytest.mark.parametrize("arguments", [[], ["dance"], ["scan"], ["scan", "x", "--from", "yesterday"], ["rules"]])
def test_wrong_usage_is_status_2(arguments):
    """Usage faults are told on standard error."""
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_every_settings_fault_is_told_at_once():
    """One run names every variable that makes no sense, and the status is 2."""
    done = run("run", TRAILMEND_CONCURRENCY="x", TRAILMEND_STATE="y", TRAILMEND_LOG_LEVEL="z")
    assert done.returncode == 2
    assert all(f"TRAILMEND_{name}:" in done.stderr for name in ("CONCURRENCY", "STATE", "LOG_LEVEL"))


@pytest.mark.parametrize(("command", "variable"), [("run", "QUEUE_URL"), ("remediate", "TASK_QUEUE_URL")])
def test_a_missing_queue_is_a_settings_fault(command, variable):
    """What a command cannot do without is named."""
    done = run(command)
    assert done.returncode == 2
    assert f"TRAILMEND_{variable}: must be set" in done.stderr


def test_a_worker_with_a_broken_rule_does_not_start(tmp_path):
    """A rule file that does not parse is told with its place, and the status is 1."""
    (tmp_path / "broken.yml").write_text("title: [")
    done = run("run", TRAILMEND_QUEUE_URL="http://127.0.0.1:9/0/q", TRAILMEND_RULES_DIR=str(tmp_path))
    assert done.returncode == 1
    assert "broken.yml:" in done.stderr


def test_a_state_that_cannot_be_opened_is_told(tmp_path):
    """A store in a place that is no folder says what and where."""
    (tmp_path / "file").write_text("x")
    done = run("run", TRAILMEND_QUEUE_URL="http://127.0.0.1:9/0/q", TRAILMEND_STATE=f"sqlite:///{tmp_path}/file/state.db")
    assert done.returncode == 1
    assert f"{tmp_path}/file" in done.stderr


def test_rules_are_listed_checked_and_tested(tmp_path, capsys):
    """The shipped rules have no fault; a folder's own faults are told with file and line, and the status is 1."""
    assert cli.main(["rules", "list"]) == 0
    assert "iam:deleteinstanceprofile" in capsys.readouterr().out
    assert cli.main(["rules", "check"]) == 0
    assert cli.main(["rules", "test"]) == 0
    capsys.readouterr()
    rule = "title: Mine\nlogsource: {product: aws, service: cloudtrail}\ndetection: {a: {eventName: X}, condition: a}\nlevel: low\n"
    (tmp_path / "mine.yml").write_text(f"{rule}remediation: [make-tea]\ntests: [{{name: it hits, match: true, event: {{eventName: Y}}}}]\n")
    assert cli.main(["rules", "check", str(tmp_path)]) == 1
    assert "make-tea" in capsys.readouterr().err
    assert cli.main(["rules", "test", str(tmp_path)]) == 1
    assert "it hits" in capsys.readouterr().err
    (tmp_path / "mine.yml").write_text("title: [")
    assert cli.main(["rules", "check", str(tmp_path)]) == 1
    assert "mine.yml:" in capsys.readouterr().err


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    """`trailmend rules list | head -1` ends quietly."""
    command = f"{sys.executable} -m worker rules list | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr
