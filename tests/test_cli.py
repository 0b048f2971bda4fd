"""The commands answer with the documented exit status and say what is wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_SECONDS
from worker import __version__, cli


def run(*arguments, **environment):
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("TRAILMEND_", "AWS_"))}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        env={**bare, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )


def test_version_and_help_are_there():
    """--version tells the version, --help the commands."""
    assert run("--version").stdout.strip() == f"trailmend {__version__}"
    assert all(command in run("--help").stdout for command in ("run", "remediate", "scan", "rules", "tasks", "demo"))


@pytest.mark.parametrize(
    "arguments", [[], ["dance"], ["scan"], ["scan", "x", "--from", "yesterday"], ["rules"], ["tasks"], ["tasks", "undo"]]
)
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


RULES = """\
title: Key made
name: key_made
id: 0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c
description: Somebody made a key.
references: [https://example.com/keys]
tags: [attack.persistence]
falsepositives: [Onboarding]
logsource: {product: aws, service: cloudtrail}
detection:
  selection: {eventSource: iam.amazonaws.com, eventName: CreateAccessKey}
  ops: {userIdentity.userName|expand: '%break_glass%'}
  condition: selection and not ops
level: high
level_when: {authorised: low}
remediation: [deactivate-access-key]
runbook: docs/keys.md
tests: [{name: made, match: true, event: {eventSource: iam.amazonaws.com, eventName: CreateAccessKey}}]
---
title: Not CI
logsource: {product: aws, service: cloudtrail}
filter: {rules: [key_made], ci: {userIdentity.arn|endswith: ':role/ci'}, condition: not ci}
---
placeholders: {break_glass: [ops-1, ops-2]}
---
title: Many keys
id: 0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d
correlation: {type: event_count, rules: [key_made], group-by: [userIdentity.userName], timespan: 5m, condition: {gte: 2}}
level: critical
tests:
  - {name: one, match: false, events: [{eventSource: iam.amazonaws.com, eventName: CreateAccessKey, eventTime: '2026-11-02T09:14:31Z'}]}
---
suppressions:
  - {id: yearly, rules: [key_made], principal: '*eve*', since: 2026-11-01, until: 2026-11-03, reason: the yearly test}
  - {id: over, account: '111122223333', until: 2020-01-01, reason: long ago}
  - {id: later, rules: [odd_agent], account: '111122223333', until: 2030-01-01, reason: a test}
---
title: Odd agent
name: odd_agent
id: 1f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d
logsource: {product: aws, service: cloudtrail}
detection: {a: {userAgent|contains: odd}, b: {eventName: X}, condition: a or b}
level: low
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """A folder of rules, a correlation, a filter, placeholders and suppressions, looked at on the day of the events."""
    monkeypatch.setattr(cli, "_now", lambda: datetime(2026, 11, 2, 12, tzinfo=UTC))
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "keys.yml").write_text(RULES)
    return str(folder)


def key_made(who, second=31, **more):
    return {
        "eventTime": f"2026-11-02T09:14:{second}Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateAccessKey",
        "userIdentity": {"type": "IAMUser", "userName": who, "arn": f"arn:aws:iam::1:user/{who}"},
        **more,
    }


@pytest.fixture
def log(tmp_path):
    """Writes records into a file and answers its path."""

    def written(*records):
        path = tmp_path / "log.json"
        path.write_text(json.dumps({"Records": records}))
        return str(path)

    return written


def test_rules_list_tells_rules_and_correlations(rules, capsys):
    """A row for each rule and correlation, with its marks, what it is asked of, and a count of everything below."""
    assert cli.main(["rules", "list", rules]) == 0
    out = capsys.readouterr().out
    rows = {line.split("  ")[0]: line.split() for line in out.splitlines() if line}
    assert rows["LEVEL"] == ["LEVEL", "RULE", "EVENTS", "UNINDEXED", "TESTS", "ID"]
    assert " ".join(rows["high"][1:]) == "Key made (silent, filtered) iam:createaccesskey 1 0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c"
    assert " ".join(rows["critical"][1:]) == "Many keys event_count of Key made 1 0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d"
    assert " ".join(rows["low"][1:]) == "Odd agent every record yes 0 1f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d"
    assert out.splitlines()[-1] == "2 rules and 1 correlation, 1 unindexed, 2 tests, 3 suppressions (1 expired)"


def test_rules_check_remarks_on_what_is_no_fault(rules, capsys):
    """A rule without tests and a rule that is asked of everything are remarks with their place and cause, and the status is 0."""
    assert cli.main(["rules", "check", rules]) == 0
    untested, unindexed, last = capsys.readouterr().out.splitlines()
    assert untested.endswith("keys.yml:37: Odd agent: carries no test")
    assert unindexed.endswith("demands no eventSource, eventName or userIdentity.type: userAgent contains odd")
    assert last == "2 rules and 1 correlation, no fault"


def test_rules_test_counts_and_tells_correlations_too(rules, tmp_path, capsys):
    """Tests inside correlations are run and counted; one that fails is told with its file and line."""
    assert cli.main(["rules", "test", rules]) == 0
    assert capsys.readouterr().out == "2 tests passed, 0 failed, in 2 rules and 1 correlation\n"
    (tmp_path / "rules" / "keys.yml").write_text(RULES.replace("{name: one, match: false", "{name: one, match: true"))
    assert cli.main(["rules", "test", rules]) == 1
    assert "keys.yml:30: test 'one' of 'Many keys': " in capsys.readouterr().err


def test_rules_show_tells_what_must_be_known(capsys):
    """A rule that is told only when the facts say so, and one that is always."""
    for title, wanted in (("Role removed from an instance profile in use", True), ("Role removed from instance profile", False)):
        assert cli.main(["rules", "show", title]) == 0
        assert ("told only when  in-use" in " ".join(capsys.readouterr().out.splitlines())) is wanted


@pytest.mark.parametrize("called", ["0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c", "0F6D3A8E-3C0B-4A55-9A35-6A2F6D0F4B1C", "key_made", "key Made"])
def test_rules_show_tells_all_of_a_rule(rules, capsys, called):
    """By its id, name or title, a rule is told with its metadata, index, surroundings and condition."""
    assert cli.main(["rules", "show", called, rules]) == 0
    out = capsys.readouterr().out
    told = {line[2:17].strip(): line[18:] for line in out.splitlines() if line[:2] == "  " != line[2:4]}
    assert out.splitlines()[0] == "Key made"
    assert (told["level"], told["when authorised"], told["when dry-run"]) == ("high", "low", "info")
    assert told["file"].endswith("keys.yml:1")
    assert told["description"] == "Somebody made a key."
    assert told["reference"] == "https://example.com/keys"
    assert (told["tags"], told["false positives"]) == ("attack.persistence", "Onboarding")
    assert (told["remediation"], told["runbook"]) == ("deactivate-access-key", "docs/keys.md")
    assert told["index"] == "asked of iam:createaccesskey"
    assert told["narrowed by"].startswith("filter 'Not CI' (")
    assert told["watched by"] == "Many keys (0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d)"
    assert "makes no findings of its own" in told["silent"]
    assert "yearly (principal *eve*, 2026-11-01 00:00 to 2026-11-04 00:00 UTC, in force): the yearly test" in out
    assert "over (every rule, account 111122223333, 2019-01-01 00:00 to 2020-01-02 00:00 UTC, expired): long ago" in out
    assert "later" not in out
    assert "\n    NOT\n      ops: userIdentity.userName = any of ops-1, ops-2\n" in out


def test_rules_show_tells_the_levels_in_force(rules, capsys, monkeypatch):
    """The table as a worker has it: author's rows, the house's with their place, and none that nobody gave."""
    own = Path(rules) / "ours.yml"
    own.write_text("levels:\n  key_made: {wide: critical, authorised: medium}\n")
    monkeypatch.setenv("TRAILMEND_RULES_DIR", rules)
    for folder in ([rules], []):
        assert cli.main(["rules", "show", "key_made", *folder]) == 0
        told = [line.split(None, 2) for line in capsys.readouterr().out.splitlines() if line.startswith("  when ")]
        assert told == [
            ["when", "authorised", f"medium, by {own}:2"],
            ["when", "dry-run", "info"],
            ["when", "wide", f"critical, by {own}:2"],
        ]


def test_rules_show_without_a_folder_shows_those_in_force(rules, capsys, monkeypatch):
    """The shipped ones and those of the settings, as `run` would have them."""
    monkeypatch.setenv("TRAILMEND_RULES_DIR", rules)
    for called in ("Instance profile deleted", "Odd agent"):
        assert cli.main(["rules", "show", called]) == 0
    monkeypatch.setenv("TRAILMEND_SHIPPED_RULES", "no")
    assert cli.main(["rules", "show", "Instance profile deleted"]) == 2
    capsys.readouterr()


def test_rules_show_tells_all_of_a_correlation(rules, capsys):
    """A correlation is told with what it watches and asks."""
    assert cli.main(["rules", "show", "many keys", rules]) == 0
    out = capsys.readouterr().out
    assert "  watches         Key made (0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c)\n" in out
    assert "  group by        userIdentity.userName\n" in out
    assert "  condition       event_count gte 2 within 5m\n" in out
    assert "(open)" in out


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("0f6d", "'0f6d' may be any of these\n  0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c  Key made\n  0f6d3a8e"),
        ("keys made", "'keys made' is no id, name or title of a rule; near it are\n  0f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1c  Key made"),
        ("agent", "near it are\n  1f6d3a8e-3c0b-4a55-9a35-6a2f6d0f4b1d  Odd agent"),
        ("zzz", "'zzz' is no id, name or title of a rule\n"),
    ],
)
def test_rules_show_of_no_rule_offers_the_nearest(rules, capsys, called, told):
    """A name that leads nowhere, or to several, is wrong usage and names what was meant."""
    assert cli.main(["rules", "show", called, rules]) == 2
    assert told in capsys.readouterr().err


def test_the_beginning_of_an_id_is_enough(rules, capsys):
    """A beginning that only one id has leads to it."""
    assert cli.main(["rules", "show", "1f6d", rules]) == 0
    assert capsys.readouterr().out.startswith("Odd agent\n")


def test_an_event_that_matches_is_explained(rules, log, capsys):
    """Each part of the condition is told with what was found, and the status is 0."""
    assert cli.main(["rules", "show", "key_made", rules, "--event", log(key_made("mallory"))]) == 0
    out = capsys.readouterr().out
    assert "record 1 of 1: 2026-11-02 09:14:31 iam.amazonaws.com CreateAccessKey: match\n" in out
    assert "  yes      eventName = CreateAccessKey  <- found: CreateAccessKey\n" in out
    assert "  no       ops: userIdentity.userName = any of ops-1, ops-2  <- found: mallory\n" in out
    assert "for want of" not in out
    assert out.endswith("\n1 of 1 records matched\n")


def test_an_event_that_does_not_match_says_why(rules, log, capsys):
    """The fewest tests that stood in the way are named, and the status is 1."""
    assert cli.main(["rules", "show", "key_made", rules, "--event", log(key_made("ops-2", eventName="X\x1b[2J"))]) == 1
    out = capsys.readouterr().out
    assert ": no match\n" in out
    assert (
        "  for want of: eventName = CreateAccessKey (found: X\N{REPLACEMENT CHARACTER}[2J); "
        "NOT userIdentity.userName = any of ops-1, ops-2 (found: ops-2)\n" in out
    )
    assert "\x1b" not in out


def test_long_values_are_cut(rules, log, capsys):
    """What the event holds is shown to a sane length, and in a sane number."""
    agents = ["x" * 500, {"a": [1]}, "", None, 5]
    assert cli.main(["rules", "show", "Odd agent", rules, "--event", log({"eventName": "Y", "userAgent": agents})]) == 1
    out = capsys.readouterr().out
    assert f'<- found: ["{"x" * 78}...\n' in out
    many = dict(zip(("useragent", "UserAgent", "Useragent", "USERAGENT"), ("odd", "", None, "x"), strict=True))
    assert cli.main(["rules", "show", "Odd agent", rules, "--event", log({"eventName": "Y", **many})]) == 0
    assert "<- found: odd, '', null and 1 more\n" in capsys.readouterr().out


def test_a_suppressed_match_is_told_as_such(rules, log, capsys):
    """A match that a suppression speaks against is a match, and names the suppression."""
    assert cli.main(["rules", "show", "key_made", rules, "--event", log(key_made("eve"))]) == 0
    assert ": match\n  suppressed by yearly: the yearly test\n" in capsys.readouterr().out


def test_of_many_records_the_first_are_told(rules, log, capsys):
    """Each of several records is told, up to twenty, and all are counted."""
    records = [key_made("mallory" if number == 24 else "ops-1", 10 + number) for number in range(25)]
    assert cli.main(["rules", "show", "key_made", rules, "--event", log(*records)]) == 0
    out = capsys.readouterr().out
    assert out.count("\nrecord ") == 20
    assert out.endswith("1 of 25 records matched; only the first 20 are told\n")


def test_a_correlation_tells_what_it_saw(rules, log, capsys):
    """Its sightings are told group by group, and whether they fulfil it decides the status."""
    path = log(key_made("mallory", 31), key_made("mallory", 35), key_made("bob"), key_made("eve"), {**key_made("x"), "userIdentity": {}})
    assert cli.main(["rules", "show", "many keys", rules, "--event", path]) == 0
    out = capsys.readouterr().out
    assert "userIdentity.userName = mallory: fulfilled (event_count gte 2 within 5m)\n  2026-11-02 09:14:31 iam" in out
    assert "userIdentity.userName = bob: not fulfilled" in out
    assert "= eve" not in out
    assert "in no group, for want of a time or a group-by field: 1\n" in out
    assert cli.main(["rules", "show", "many keys", rules, "--event", log(key_made("bob"))]) == 1
    assert cli.main(["rules", "show", "many keys", rules, "--event", log(key_made("bob", eventName="X"))]) == 1
    assert "no record matches a rule that it watches" in capsys.readouterr().out


def test_an_event_is_read_from_standard_input(rules, capsys, monkeypatch):
    """`--event -` takes one bare record from standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(key_made("mallory")).encode())))
    assert cli.main(["rules", "show", "key_made", rules, "--event", "-"]) == 0
    assert "1 of 1 records matched" in capsys.readouterr().out


def test_an_event_that_cannot_be_read_is_told(rules, tmp_path, capsys):
    """A file that is not there is wrong usage; one without records is told and matches nothing."""
    assert cli.main(["rules", "show", "key_made", rules, "--event", str(tmp_path / "nothing")]) == 2
    assert "nothing: there is no such file" in capsys.readouterr().err
    (tmp_path / "broken.json").write_text("{")
    assert cli.main(["rules", "show", "key_made", rules, "--event", str(tmp_path / "broken.json")]) == 1
    assert "broken.json: invalid-json" in capsys.readouterr().err


def test_an_unknown_placeholder_is_refused_with_its_place(tmp_path, capsys):
    """A rule that names a placeholder nobody filled in is told with file, line and what to write."""
    (tmp_path / "keys.yml").write_text(RULES.split("---", maxsplit=1)[0])
    assert cli.main(["rules", "check", str(tmp_path)]) == 1
    assert (
        "keys.yml:11: userIdentity.userName: the placeholder %break_glass% has no values: write `placeholders: {break_glass: [...]}`"
        in (capsys.readouterr().err)
    )


def test_output_into_a_closed_pipe_is_no_error(tmp_path):
    """`trailmend rules list | head -1` ends quietly."""
    command = f"{sys.executable} -m worker rules list | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    assert "Traceback" not in done.stderr
