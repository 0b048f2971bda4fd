"""`trailmend scan` finds in files what the worker finds in a bucket, whatever wraps the records, and tells what it could not read."""

from __future__ import annotations

import gzip
import io
import json
import sys

import boto3
import orjson
import pytest

from worker import cli

ACCOUNT = "111122223333"


def record(name: str, event: str = "DeleteInstanceProfile", second: int = 0, **more):
    return {
        "eventVersion": "1.08",
        "eventID": f"{event}-{name}-{second}",
        "eventTime": f"2026-11-23T12:00:{second:02}Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": event,
        "awsRegion": "us-east-1",
        "recipientAccountId": ACCOUNT,
        "userIdentity": {"type": "IAMUser", "userName": "mallory", "arn": f"arn:aws:iam::{ACCOUNT}:user/mallory", "accountId": ACCOUNT},
        "requestParameters": {"instanceProfileName": name, "roleName": "web-role"},
        **more,
    }


CHAIN = [
    record("web", "CreateInstanceProfile", 1),
    record("web", "AddRoleToInstanceProfile", 2),
    record("web", "RemoveRoleFromInstanceProfile", 3),
    record("web", "DeleteInstanceProfile", 4),
    {"eventSource": "ec2.amazonaws.com", "eventName": "DescribeInstances", "eventTime": "2026-11-23T12:00:05Z", "eventID": "x"},
]


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    import os

    for name in [name for name in os.environ if name.startswith(("AWS_", "TRAILMEND_"))]:
        monkeypatch.delenv(name)


def scan(capsys, *arguments):
    """Runs the command; answers its status, findings and stats."""
    status = cli.main(["scan", *map(str, arguments), "--format", "jsonl", "--stats", "-"])
    told = capsys.readouterr()
    stats = next((orjson.loads(line) for line in told.err.splitlines() if line.startswith("{")), None)
    return status, [orjson.loads(line) for line in told.out.splitlines()], stats, told.err


def names(findings):
    return [finding["event"]["name"] for finding in findings]


def test_a_folder_of_logs_is_read_and_the_rest_passed_over(tmp_path, capsys):
    """Logs in any depth are read; licences, digests and insights are passed over and counted; it is no fault."""
    logs = tmp_path / "AWSLogs" / ACCOUNT
    for folder in ("CloudTrail", "CloudTrail-Digest", "CloudTrail-Insight"):
        (logs / folder).mkdir(parents=True)
        (logs / folder / "x.json.gz").write_bytes(gzip.compress(json.dumps({"Records": CHAIN}).encode()))
    (tmp_path / "LICENSE").write_text("words")
    status, findings, stats, _ = scan(capsys, tmp_path)
    assert status == 0
    assert "DeleteInstanceProfile" in names(findings)
    assert (stats["files"], stats["records"], stats["findings"]) == (1, 5, len(findings))
    assert stats["skipped"] == {"digest": 1, "insight": 1, "no-log": 1, "not-in-use": 1}
    assert stats.keys() == {"files", "records", "bytes_compressed", "bytes_inflated", "findings", "seconds", "skipped"}


def test_the_log_alone_tells_the_deleted_profiles_role(tmp_path, capsys):
    """Offline, a deletion still tells the role that the profile held, and findings come in the order of their events."""
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, reversed(CHAIN))))
    _, findings, _, _ = scan(capsys, tmp_path)
    assert [finding["event"]["time"] for finding in findings] == sorted(finding["event"]["time"] for finding in findings)
    deleted = findings[-1]
    assert deleted["facts"]["profile"]["value"]["last_role"]["name"] == "web-role"
    assert deleted["facts"]["replaced"]["status"] == "unknown"
    assert deleted["object"] == {"path": str(tmp_path / "x.jsonl")}


def test_a_repeated_event_is_one_finding(tmp_path, capsys):
    """The same event in two files is told once, and the second is counted."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.json").write_text(json.dumps({"Records": [CHAIN[3]]}))
    _, findings, stats, _ = scan(capsys, tmp_path)
    assert names(findings) == ["DeleteInstanceProfile"]
    assert stats["skipped"] == {"duplicate": 1}


def test_a_masked_event_id_hides_nothing(tmp_path, capsys):
    """Anonymised logs repeat one event id for different events; each is found."""
    events = [record(name, eventID="00000000-0000-0000-0000-000000000000") for name in ("one", "two", "three")]
    (tmp_path / "x.json").write_text(json.dumps(events))
    assert len(scan(capsys, tmp_path)[1]) == 3


def test_a_span_of_time_is_asked_for(tmp_path, capsys):
    """--from is in, --to is out; a record without a time is always in."""
    untimed = record("untimed")
    del untimed["eventTime"]
    (tmp_path / "x.json").write_text(json.dumps([*CHAIN, untimed]))
    findings = scan(capsys, tmp_path, "--from", "2026-11-23T12:00:03Z", "--to", "2026-11-23T12:00:04Z")[1]
    assert sorted(names(findings)) == ["DeleteInstanceProfile", "RemoveRoleFromInstanceProfile"]


def test_standard_input_is_read(monkeypatch, capsys):
    """`-` takes records from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(CHAIN[3]).encode())))
    status, findings, _, _ = scan(capsys, "-")
    assert (status, names(findings)) == (0, ["DeleteInstanceProfile"])


def test_what_cannot_be_read_is_told_and_the_rest_found(tmp_path, capsys):
    """A broken log makes the status 1, names file and reason, and hides nothing beside it."""
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(json.dumps({"Records": CHAIN}).encode())[:-20])
    (tmp_path / "b.json").write_text(json.dumps([7, CHAIN[3]]))
    status, findings, stats, told = scan(capsys, tmp_path)
    assert status == 1
    assert "DeleteInstanceProfile" in names(findings)
    assert stats["skipped"]["truncated-gzip"] == stats["skipped"]["record-not-an-object"] == 1
    assert "a.json.gz: truncated-gzip" in told
    assert "b.json: record-not-an-object: record 1 of 2" in told


def test_odd_things_in_a_folder_are_counted_and_stop_nothing(tmp_path, capsys):
    """Links in a circle, broken links and pipes neither hang the scan nor hide a log; a linked folder is read once."""
    import os

    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "x.json").write_text(json.dumps(CHAIN))
    (logs / "round").symlink_to(tmp_path)
    (logs / "broken").symlink_to(tmp_path / "nowhere")
    os.mkfifo(logs / "pipe")
    status, findings, stats, _ = scan(capsys, tmp_path, tmp_path, logs / "x.json")
    assert (status, stats["files"], stats["records"]) == (0, 1, 5)
    assert stats["skipped"] == {"no-file": 2, "not-in-use": 1}
    assert findings


def test_a_span_that_holds_nothing_is_wrong_usage(tmp_path, capsys):
    """--from after --to finds nothing for sure, and says so."""
    assert scan(capsys, tmp_path, "--from", "2026-11-24", "--to", "2026-11-23")[0] == 2


def test_a_named_file_that_is_no_log_is_a_fault(tmp_path, capsys):
    """Who names a file wants it read."""
    (tmp_path / "notes.txt").write_text("words")
    status, _, _, told = scan(capsys, tmp_path / "notes.txt")
    assert status == 1
    assert "notes.txt: not-gzip" in told


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path, capsys):
    """Nothing is read when a path is mistyped."""
    status, _, _, told = scan(capsys, tmp_path / "missing")
    assert status == 2
    assert "missing" in told


def test_rules_of_ones_own(tmp_path, capsys):
    """--rules adds, --no-shipped-rules takes the shipped ones away; a broken rule is told with its place."""
    (tmp_path / "log.json").write_text(json.dumps(CHAIN))
    rules = tmp_path / "rules"
    rules.mkdir()
    rule = "title: Looked at\nlogsource: {product: aws, service: cloudtrail}\ndetection: {a: {eventName: DescribeInstances}, condition: a}\nlevel: low\n"
    (rules / "mine.yml").write_text(rule)
    assert names(scan(capsys, tmp_path / "log.json", "--rules", rules, "--no-shipped-rules")[1]) == ["DescribeInstances"]
    assert "DescribeInstances" in names(scan(capsys, tmp_path / "log.json", "--rules", rules)[1])
    (rules / "broken.yml").write_text("title: x\n  detection: [")
    status, _, _, told = scan(capsys, tmp_path / "log.json", "--rules", rules)
    assert status == 1
    assert "broken.yml:" in told


def test_no_rule_at_all_is_wrong_usage(tmp_path, capsys):
    """A scan that could find nothing says so instead of finding nothing."""
    assert scan(capsys, tmp_path, "--no-shipped-rules")[0] == 2


def test_people_get_a_table_without_control_characters(tmp_path, capsys):
    """What a caller writes cannot move the cursor of whoever reads the table, nor be taken for markup."""
    wild = record("[red]web\x1b[2J")
    (tmp_path / "x.json").write_text(json.dumps([wild]))
    assert cli.main(["scan", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "\x1b" not in told
    assert "[red]web" in told
    assert "1 findings: 1 high" in told


def test_a_bucket_is_scanned(embedded_aws, capsys):
    """s3://bucket/prefix reads every log below the prefix and passes over the rest."""
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="logs")
    body = gzip.compress(json.dumps({"Records": CHAIN}).encode())
    s3.put_object(Bucket="logs", Key=f"AWSLogs/{ACCOUNT}/CloudTrail/x.json.gz", Body=body)
    s3.put_object(Bucket="logs", Key=f"AWSLogs/{ACCOUNT}/CloudTrail-Digest/x.json.gz", Body=body)
    s3.put_object(Bucket="logs", Key="elsewhere/x.json.gz", Body=body)
    status, findings, stats, _ = scan(capsys, "s3://logs/AWSLogs/")
    assert (status, stats["files"]) == (0, 1)
    assert findings[-1]["object"] == {"bucket": "logs", "key": f"AWSLogs/{ACCOUNT}/CloudTrail/x.json.gz"}


def test_a_bucket_that_is_not_there_is_a_fault(embedded_aws, capsys):
    """The error names the bucket."""
    status, _, _, told = scan(capsys, "s3://nowhere/x")
    assert status == 1
    assert "s3://nowhere/x" in told


def wrapped(path, records, how):
    folder = path / how
    folder.mkdir()
    if how == "inflated":
        (folder / "x.json").write_bytes(orjson.dumps({"Records": records}))
    elif how == "lines":
        (folder / "x.jsonl").write_bytes(b"\n".join(map(orjson.dumps, records)))
    else:
        lines = [
            orjson.dumps({"detail-type": "AWS API Call via CloudTrail", "source": one["eventSource"], "detail": one}) for one in records
        ]
        (folder / "x.jsonl").write_bytes(b"\n".join(lines))
    return folder


def test_the_real_deletions_are_told_whole_from_the_log_alone(shared_data, capsys):
    """Three profiles that Terraform made and deleted: role, tags and the instance that ran with each, by whom, and that none came back."""
    status, findings, stats, _ = scan(capsys, shared_data / "cloudtrail" / "invictus")
    assert status == 0
    deleted = {one["subject"]["name"]: one for one in findings if one["rule"]["title"] == "Instance profile deleted"}
    used = {
        "stratus-red-team-ec2-steal-credentials-instance": [("i-0dbc91f429e48eeed", "2023-07-10T11:55:21Z", "2023-07-10T12:08:06Z")],
        "stratus-red-team-ec2-enumerate-instance": [("i-05c30218156bcc246", "2023-07-10T12:03:24Z", "2023-07-10T12:08:05Z")],
        "stratus-red-team-usr-data-instance": [],
    }
    # Four of the six RunInstances that name a profile came before EC2 knew of it.
    refused = {
        "stratus-red-team-ec2-steal-credentials-instance": ["2023-07-10T11:55:18Z", "2023-07-10T11:55:16Z"],
        "stratus-red-team-ec2-enumerate-instance": ["2023-07-10T12:03:21Z", "2023-07-10T12:03:20Z"],
        "stratus-red-team-usr-data-instance": [],
    }
    assert deleted.keys() == used.keys()
    for name, one in deleted.items():
        facts = {fact: told["value"] for fact, told in one["facts"].items()}
        profile = facts["profile"]
        assert profile["last_role"]["name"] == name.removesuffix("-instance") + "-role"
        assert (profile["path"], profile["tags"], profile["complete"]) == ("/", {"StratusRedTeam": "true"}, True)
        assert all("2023-07-10T11:55" <= at < one["event"]["time"] for at in profile["learnt_at"].values())
        told = [(use["id"], use["since"], use["until"]) for use in profile["instances"]]
        assert told == used[name]
        assert {(use["how"], use["region"]) for use in profile["instances"]} <= {("RunInstances", "us-east-1")}
        assert [one["at"] for one in profile["failed_launches"]] == refused[name]
        assert {one["error"] for one in profile["failed_launches"]} <= {"Client.InvalidParameterValue"}
        assert (facts["replaced"]["replaced"], facts["authorised"]["authorised"], facts["authorised"]["iac_agent"]) == (
            False,
            False,
            "Terraform",
        )
        assert "AWS was not asked" in one["facts"]["replaced"]["reason"]
    # Every instance had been terminated before its profile lost the role, so nobody is told of a profile in use.
    assert "Role removed from an instance profile in use" not in {one["rule"]["title"] for one in findings}
    assert (stats["skipped"]["not-in-use"], stats["findings"]) == (3, len(findings))


def test_a_role_taken_from_a_profile_in_use_is_told_by_itself(tmp_path, capsys):
    """An instance runs with the profile: two findings, the removal and the harm; the same without the instance: one, and one is counted."""
    started = record("web", "RunInstances", 2, eventSource="ec2.amazonaws.com")
    started["requestParameters"] = {"iamInstanceProfile": {"name": "web"}}
    started["responseElements"] = {"instancesSet": {"items": [{"instanceId": "i-0000000a"}]}}
    (tmp_path / "with.json").write_text(json.dumps([*CHAIN[:3], started]))
    (tmp_path / "without.json").write_text(json.dumps(CHAIN[:3]))
    titles = {"Role removed from instance profile": "medium", "Role removed from an instance profile in use": "high"}
    for name, expected in (("with", titles), ("without", {"Role removed from instance profile": "medium"})):
        _, findings, stats, _ = scan(capsys, tmp_path / f"{name}.json")
        told = {one["rule"]["title"]: one["level"] for one in findings if one["event"]["name"] == "RemoveRoleFromInstanceProfile"}
        assert told == expected
        assert stats["skipped"].get("not-in-use", 0) == 2 - len(expected)
        assert stats["findings"] == len(findings)


@pytest.mark.parametrize("seconds", [59, 60])
def test_a_profile_is_not_replaced_as_far_as_the_log_goes_on(tmp_path, capsys, seconds):
    """A minute of log after the deletion without a new profile says that there is none; less says nothing."""
    at = f"2026-11-23T12:0{(4 + seconds) // 60}:{(4 + seconds) % 60:02}Z"
    (tmp_path / "x.json").write_text(json.dumps([*CHAIN[:4], record("other", "TagInstanceProfile", 0, eventTime=at)]))
    _, findings, _, _ = scan(capsys, tmp_path / "x.json")
    (fact,) = [one["facts"]["replaced"] for one in findings if one["rule"]["title"] == "Instance profile deleted"]
    assert (fact["status"], fact["source"]) == (("known", "memory") if seconds == 60 else ("unknown", "live"))
    assert "AWS was not asked" in fact["reason"]


@pytest.mark.parametrize("how", ["inflated", "lines", "eventbridge"])
def test_the_real_deletions_are_found_in_every_form(shared_data, tmp_path, capsys, how):
    """The real trail gives the same findings as S3 objects, inflated, as JSON lines and as EventBridge events."""
    real = shared_data / "cloudtrail" / "invictus"
    status, expected, stats, _ = scan(capsys, real)
    assert (status, stats["files"], stats["records"]) == (0, 55, 2900)
    assert names(expected).count("DeleteInstanceProfile") == 3
    records = [one for path in sorted(real.rglob("*.gz")) for one in orjson.loads(gzip.decompress(path.read_bytes()))["Records"]]
    status, findings, stats, _ = scan(capsys, wrapped(tmp_path, records, how))
    assert (status, stats["records"]) == (0, 2900)
    assert [finding["id"] for finding in findings] == [finding["id"] for finding in expected]
