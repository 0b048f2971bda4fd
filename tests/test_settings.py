"""Settings come from the environment, and every fault is told at once with its variable's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import addresses
from worker.addresses import Address, Place
from worker.model import Level
from worker.modes import Lock, Mode
from worker.settings import Settings, SettingsError
from worker.variables import HttpAddress

QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/main"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#oncall"


def test_nothing_set_gives_the_defaults():
    """An empty environment, and empty variables, are no fault."""
    assert Settings.from_environment({}) == Settings()
    assert Settings.from_environment({"TRAILMEND_CONCURRENCY": "  ", "PATH": "/bin"}) == Settings()


def test_every_setting_is_read(tmp_path):
    """Each variable reaches its field, in its own type."""
    told = Settings.from_environment(
        {
            "TRAILMEND_QUEUE_URL": QUEUE,
            "TRAILMEND_TASK_QUEUE_URL": f"{QUEUE}.fifo",
            "TRAILMEND_TASK_SINKS": "arn:aws:states:eu-west-1:111122223333:stateMachine:mend",
            "TRAILMEND_FINDING_SINKS": f"stdout:, archive=file:///tmp/f.jsonl,{QUEUE}",
            "TRAILMEND_NOTIFY": f"oncall={SLACK}  mail=mailto://user:pass@example.com?to=a@example.com,b@example.com",
            "TRAILMEND_ROUTES": "critical: all; low: archive, oncall; informational:",
            "TRAILMEND_WEBHOOK_SECRET": "0123456789abcdefghijklmn whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "TRAILMEND_RULES_DIR": str(tmp_path),
            "TRAILMEND_SHIPPED_RULES": "no",
            "TRAILMEND_LATENESS_SECONDS": "900.5",
            "TRAILMEND_STATE": "dynamodb://trailmend",
            "TRAILMEND_CONCURRENCY": "8",
            "TRAILMEND_VISIBILITY_TIMEOUT_SECONDS": "60",
            "TRAILMEND_GRACE_SECONDS": "2.5",
            "TRAILMEND_HTTP_ADDRESS": "[::1]:0",
            "TRAILMEND_INFLIGHT_OBJECT_BYTES": "70000000",
            "TRAILMEND_INFLIGHT_INFLATED_BYTES": "600000000",
            "TRAILMEND_MEMBER_ROLE_NAME": "TrailmendMember",
            "TRAILMEND_EXTERNAL_ID": "secret",
            "TRAILMEND_ACCOUNTS": "111122223333, 444455556666",
            "TRAILMEND_REGIONS": "us-east-1,us-gov-west-1",
            "TRAILMEND_SNAPSHOT_SECONDS": "900",
            "TRAILMEND_AUTHORIZED_PRINCIPALS": "arn:aws:iam::*:role/terraform-*, arn:aws:iam::111122223333:user/ci",
            "TRAILMEND_CHANGE_PATTERN": "CHG[0-9]{7}",
            "TRAILMEND_REMEDIATION_MODE": "AUTO",
            "TRAILMEND_ALLOW_IRREVERSIBLE": "yes",
            "TRAILMEND_ASSUME_IN_OWN_ACCOUNT": "true",
            "TRAILMEND_CONFIRM_SECONDS": "0",
            "TRAILMEND_JOURNAL_EXPORT": "s3://journal-bucket/of/trailmend",
            "TRAILMEND_JOURNAL_RETAIN_DAYS": "2555",
            "TRAILMEND_JOURNAL_LOCK": "Governance",
            "TRAILMEND_TASK_KEY": "the-first-secret-of-24-bytes whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX",
            "TRAILMEND_EXEMPT_TAGS": "break-glass, team=sec*",
            "TRAILMEND_STOP": "no",
            "TRAILMEND_STOP_FILE": "/run/trailmend/stop",
            "TRAILMEND_STOP_PARAMETER": "/trailmend/stop",
            "TRAILMEND_LOG_LEVEL": "DEBUG",
        }
    )
    assert (told.queue_url, told.task_queue_url, told.rules_dir) == (QUEUE, f"{QUEUE}.fifo", tmp_path)
    assert [(one.name, one.url) for one in told.finding_sinks] == [
        ("stdout", "stdout:"),
        ("archive", "file:///tmp/f.jsonl"),
        ("sqs", QUEUE),
    ]
    assert (told.task_sinks[0].name, told.notify[0]) == ("stepfunctions", Address("oncall", SLACK, people=True))
    assert told.routes.table == {Level.CRITICAL: {"all"}, Level.LOW: {"archive", "oncall"}, Level.INFORMATIONAL: frozenset()}
    assert told.webhook_secrets == (b"0123456789abcdefghijklmn", bytes(range(24)))
    assert (told.shipped_rules, told.state, told.concurrency, told.grace_seconds) == (False, "dynamodb://trailmend", 8, 2.5)
    assert told.lateness_seconds == 900.5
    assert told.http_address == HttpAddress("::1", 0)
    assert (told.inflight_object_bytes, told.inflight_inflated_bytes) == (70_000_000, 600_000_000)
    assert told.regions == ("us-east-1", "us-gov-west-1")
    assert (told.accounts, told.snapshot_seconds) == (("111122223333", "444455556666"), 900.0)
    assert told.authorized_principals == ("arn:aws:iam::*:role/terraform-*", "arn:aws:iam::111122223333:user/ci")
    assert (told.change_pattern, told.remediation_mode, told.log_level) == ("CHG[0-9]{7}", Mode.AUTO, "debug")
    assert told.allow_irreversible
    assert (told.assume_in_own_account, told.confirm_seconds) == (True, 0)
    exported = (told.journal_export, told.journal_retain_days, told.journal_lock)
    assert exported == (Place("journal-bucket", "of/trailmend/"), 2555, Lock.GOVERNANCE)
    assert (told.task_keys, told.exempt_tags) == ((b"the-first-secret-of-24-bytes", bytes(range(24))), ("break-glass", "team=sec*"))
    assert (told.stop, told.stop_file, told.stop_parameter) == (False, Path("/run/trailmend/stop"), "/trailmend/stop")
    assert "secret" not in repr(told).replace("external_id='secret'", "")


WHERE = {"webhook+https://example.com/no-secret-to-sign-with": "WEBHOOK_SECRET"}
"""What is told under the name of another setting: the one to set."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUEUE_URL", "my-queue"),
        ("TASK_QUEUE_URL", "https://"),
        ("FINDING_SINKS", "kafka://x"),
        ("FINDING_SINKS", "stdout:,stdout:"),
        ("FINDING_SINKS", "all=stdout:"),
        ("FINDING_SINKS", "arn:aws:lambda:eu-west-1:111122223333:function:x"),
        ("FINDING_SINKS", "arn:aws:sns:eu-west-1:111122223333:"),
        ("FINDING_SINKS", "webhook+https://example.com/no-secret-to-sign-with"),
        ("FINDING_SINKS", "webhook+http://example.com/in-the-clear"),
        ("FINDING_SINKS", "webhook+ftp://example.com/"),
        ("TASK_SINKS", "tasks"),
        ("NOTIFY", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"),
        ("NOTIFY", "a=nosuchthing://token"),
        ("NOTIFY", "a=json://localhost a=json://localhost/b"),
        ("NOTIFY", "stdout=json://localhost"),
        ("ROUTES", "critical: pager"),
        ("ROUTES", "urgent: all"),
        ("ROUTES", "all"),
        ("ROUTES", "low: all; low: stdout"),
        ("WEBHOOK_SECRET", "short"),
        ("TASK_KEY", "short"),
        ("EXEMPT_PRINCIPALS", "a" * 1025),
        ("EXEMPT_TAGS", "=value"),
        ("EXEMPT_TAGS", "a" * 400),
        ("STOP", "perhaps"),
        ("STOP_PARAMETER", "/trailmend/stop now"),
        ("WEBHOOK_SECRET", "whsec_!!!"),
        ("RULES_DIR", "/no/such/folder"),
        ("LATENESS_SECONDS", "604801"),
        ("LATENESS_SECONDS", "an hour"),
        ("SHIPPED_RULES", "perhaps"),
        ("STATE", "postgres://x"),
        ("STATE", "sqlite://"),
        ("STATE", "dynamodb://a b"),
        ("CONCURRENCY", "0"),
        ("CONCURRENCY", "many"),
        ("CONCURRENCY", "1e3"),
        ("VISIBILITY_TIMEOUT_SECONDS", "43201"),
        ("GRACE_SECONDS", "-1"),
        ("GRACE_SECONDS", "nan"),
        ("HTTP_ADDRESS", "9464"),
        ("HTTP_ADDRESS", "host:99999"),
        ("MAX_OBJECT_BYTES", "0"),
        ("INFLIGHT_OBJECT_BYTES", "1000"),
        ("INFLIGHT_INFLATED_BYTES", "1000"),
        ("MEMBER_ROLE_NAME", "arn:aws:iam::111122223333:role/x"),
        ("EXTERNAL_ID", "has no use alone"),
        ("ACCOUNTS", "111122223333"),
        ("ACCOUNTS", "production"),
        ("REGIONS", "Ireland"),
        ("SNAPSHOT_SECONDS", "59"),
        ("SNAPSHOT_SECONDS", "604801"),
        ("CHANGE_PATTERN", "(?=lookahead)"),
        ("EXEMPT_PRINCIPALS", "break-glass,arn:*:user/safe/*"),
        ("AUTHORIZED_PRINCIPALS", "arn:aws:iam:*"),
        ("REMEDIATION_MODE", "ask"),
        ("REMEDIATION_MODES", "enforce-mfa"),
        ("REMEDIATION_MODES", "enforce-mfa=ask"),
        ("REMEDIATION_MODES", "enforce-mfa@prod=auto"),
        ("REMEDIATION_MODES", "enforce mfa=auto"),
        ("REMEDIATION_MODES", "=auto"),
        ("REMEDIATION_MODES", "enforce-mfa=auto,enforce-mfa@*=off"),
        ("APPROVAL_SECONDS", "59"),
        ("TWO_APPROVERS", "quarantine-user@"),
        ("TWO_APPROVERS", "quarantine-user=2"),
        ("BREAKER_LIMIT", "0"),
        ("ASSUME_IN_OWN_ACCOUNT", "true"),
        ("ASSUME_IN_OWN_ACCOUNT", "maybe"),
        ("CONFIRM_SECONDS", "-1"),
        ("CONFIRM_SECONDS", "604801"),
        ("JOURNAL_EXPORT", "journal-bucket"),
        ("JOURNAL_EXPORT", "s3://"),
        ("JOURNAL_EXPORT", "s3://Journal/x"),
        ("JOURNAL_EXPORT", "s3://journal-bucket/a b"),
        ("JOURNAL_EXPORT", "https://journal-bucket.s3.amazonaws.com/"),
        ("JOURNAL_RETAIN_DAYS", "0"),
        ("JOURNAL_RETAIN_DAYS", "36501"),
        ("JOURNAL_LOCK", "legal-hold"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_what_makes_no_sense_is_told_by_name(name, value):
    """A fault begins with the variable's name and says what is wrong with its value."""
    with pytest.raises(SettingsError) as told:
        Settings.from_environment({f"TRAILMEND_{name}": value})
    assert len(told.value.faults) == 1
    assert told.value.faults[0].startswith(f"TRAILMEND_{WHERE.get(value, name)}: ")


def test_no_fault_tells_a_secret():
    """Of a webhook's URL, a URL of apprise and a secret it is said which is wrong, not what it is; nor does a printed setting tell."""
    with pytest.raises(SettingsError) as told:
        Settings.from_environment(
            {
                "TRAILMEND_FINDING_SINKS": "webhook+http://example.com/t0ken",
                "TRAILMEND_NOTIFY": "a=nosuchthing://t0ken",
                "TRAILMEND_WEBHOOK_SECRET": "t0ken",
            }
        )
    assert len(told.value.faults) == 3
    assert "t0ken" not in str(told.value)
    with pytest.raises(SettingsError) as told:
        Settings.from_environment({"TRAILMEND_FINDING_SINKS": "slack://t0ken/t0ken/t0ken"})  # where NOTIFY was meant
    assert "t0ken" not in str(told.value)
    settings = Settings.from_environment({"TRAILMEND_NOTIFY": f"a={SLACK}", "TRAILMEND_WEBHOOK_SECRET": "0123456789abcdefghijklmn"})
    assert not {text for text in (SLACK, "0123456789abcdefghijklmn") if text in repr(settings)}


def test_routes_lead_by_level():
    """Without a table every sink has everything and people what is high; a row of the table replaces that for its level."""
    archive, pager = Address("archive", "file:///x"), Address("pager", SLACK, people=True)
    plain, table = Settings().routes, addresses.routes("critical: pager; low: all; medium:")
    assert [level for level in Level if plain.leads(level, archive)] == list(Level)
    assert [level for level in Level if plain.leads(level, pager)] == [Level.HIGH, Level.CRITICAL]
    assert [level for level in Level if table.leads(level, archive)] == [Level.INFORMATIONAL, Level.LOW, Level.HIGH]
    assert [level for level in Level if table.leads(level, pager)] == [Level.LOW, Level.HIGH, Level.CRITICAL]


def test_all_faults_are_told_at_once():
    """Whoever deploys mends them in one go."""
    with pytest.raises(SettingsError) as told:
        Settings.from_environment(
            {"TRAILMEND_CONCURRENCY": "x", "TRAILMEND_STATE": "y", "TRAILMEND_MAX_RECORD_BYTES": "9", "TRAILMEND_MAX_INFLATED_BYTES": "8"}
        )
    assert [fault.partition(":")[0] for fault in told.value.faults] == [
        "TRAILMEND_STATE",
        "TRAILMEND_CONCURRENCY",
        "TRAILMEND_MAX_RECORD_BYTES",
    ] or len(told.value.faults) == 3


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("s3://bucket", ""),
        ("s3://bucket/", ""),
        ("s3://bucket/a", "a/"),
        ("s3://bucket//a/b//", "a/b/"),
        ("s3://bucket/env=prod/x", "env=prod/x/"),
    ],
)
def test_a_place_in_a_bucket_is_a_folder(text, prefix):
    """With a slash or without one at its ends."""
    assert addresses.place(text) == Place("bucket", prefix)
    assert addresses.place(str(addresses.place(text))) == Place("bucket", prefix)
