"""The bytes of an object become the records that matter, whatever form they have, and a bad part never hides a good one."""

import gzip
import json
import tracemalloc
import zlib

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.ingest import trail
from worker.ingest.inflate import inflate, inflate_exactly
from worker.ingest.tally import Tally
from worker.ingest.trail import Bounds, read
from worker.model import Interest, Origin

WANTED = Interest(pairs=frozenset({("iam.amazonaws.com", "deleteinstanceprofile")}))
ORIGIN = Origin(path="test")
BOUNDS = Bounds(inflated_bytes=10_000_000, record_bytes=100_000)


def hit(number=0, **more):
    return {
        "eventVersion": "1.08",
        "eventSource": "iam.amazonaws.com",
        "eventName": "DeleteInstanceProfile",
        "eventID": str(number),
        **more,
    }


def miss(number=0, **more):
    return {"eventVersion": "1.08", "eventSource": "ec2.amazonaws.com", "eventName": "DescribeInstances", "eventID": str(number), **more}


RECORDS = [miss(1), hit(2, requestParameters={"instanceProfileName": "web"}), miss(3, x="é"), hit(4, tags=[{"key": "a"}])]
FILE = json.dumps({"Records": RECORDS}).encode()


def ids(found):
    return [record.event["eventID"] for record in found.records]


def reasons(found):
    return [fault.reason for fault in found.faults]


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        pytest.param(gzip.compress(FILE), 4, id="gzip"),
        pytest.param(FILE, 4, id="plain"),
        pytest.param(b"\xef\xbb\xbf" + FILE, 4, id="byte order mark"),
        pytest.param(json.dumps({"Records": RECORDS}, indent=2).encode(), 4, id="indented"),
        pytest.param(json.dumps(RECORDS).encode(), 4, id="bare list"),
        pytest.param("\n".join(map(json.dumps, RECORDS)).encode(), 4, id="JSON lines"),
        pytest.param("\r\n".join(map(json.dumps, RECORDS)).encode() + b"\r\n\r\n", 4, id="JSON lines, CRLF"),
        pytest.param("\n".join(json.dumps({"Records": [record]}) for record in RECORDS).encode(), 4, id="files as lines"),
        pytest.param(gzip.compress(FILE) + gzip.compress(b"\n") + b"\0\0", 4, id="several members, padded"),
        pytest.param(
            "\n".join(json.dumps({"detail-type": "AWS API Call via CloudTrail", "detail": r}) for r in RECORDS).encode(),
            4,
            id="EventBridge lines",
        ),
        pytest.param(json.dumps({"Events": [{"CloudTrailEvent": json.dumps(r)} for r in RECORDS]}).encode(), 4, id="LookupEvents"),
        pytest.param("\n".join(json.dumps({"CloudTrailEvent": json.dumps(r)}) for r in RECORDS).encode(), 4, id="LookupEvents lines"),
    ],
)
def test_every_wrapper_holds_the_same_records(body, seen):
    """However the records are wrapped, the same ones are found, and none is a fault."""
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert (ids(found), found.seen, found.faults) == (["2", "4"], seen, ())


def test_one_object_is_one_record():
    """A file may be a single record."""
    assert ids(read(json.dumps(RECORDS[1]).encode(), ORIGIN, WANTED, BOUNDS)) == ["2"]
    wrapped = {"detail-type": "AWS API Call via CloudTrail", "detail": RECORDS[1]}
    assert ids(read(json.dumps(wrapped).encode(), ORIGIN, WANTED, BOUNDS)) == ["2"]


@pytest.mark.parametrize(
    ("body", "reason", "found_ids"),
    [
        pytest.param(b"", "empty", [], id="no bytes"),
        pytest.param(gzip.compress(b""), "empty", [], id="gzip of nothing"),
        pytest.param(b"PK\x03\x04zip", "not-gzip", [], id="zip"),
        pytest.param(b"hello", "not-gzip", [], id="text"),
        pytest.param(gzip.compress(b"hello"), "invalid-json", [], id="gzip of text"),
        pytest.param(gzip.compress(FILE)[:-8], "truncated-gzip", ["2", "4"], id="gzip cut in its trailer"),
        pytest.param(gzip.compress(FILE)[:-8] + b"\0\0\0\0" + gzip.compress(FILE)[-4:], "corrupt-gzip", ["2", "4"], id="wrong checksum"),
        pytest.param(gzip.compress(FILE) + b"junk", "corrupt-gzip", ["2", "4"], id="gzip and junk"),
        pytest.param(FILE[:-12], "invalid-json", ["2"], id="cut in the last record"),
        pytest.param(b'{"Records": 3}', "records-not-a-list", [], id="Records no list"),
        pytest.param(json.dumps({"Records": [3, hit(1)]}).encode(), "record-not-an-object", ["1"], id="record no object"),
        pytest.param(json.dumps({"Records": [{"a": 1}, hit(1)]}).encode(), "record-without-event-name", ["1"], id="record without name"),
        pytest.param(
            json.dumps({"Records": [hit(0, eventName=3), hit(1)]}).encode(), "record-without-event-name", ["1"], id="name no string"
        ),
        pytest.param(
            json.dumps({"Records": [hit(0, pad="x" * 100_000), hit(1)]}).encode(), "record-too-large", ["1"], id="record too large"
        ),
        pytest.param(FILE.replace(b'"eventID": "3"', b'"eventID": tru'), "invalid-json", ["2", "4"], id="one broken record"),
        pytest.param(
            b"\n".join([json.dumps(hit(1)).encode(), b"{oops", json.dumps(hit(2)).encode()]),
            "invalid-json",
            ["1", "2"],
            id="one broken line",
        ),
        pytest.param(FILE.replace(b"\\u00e9", b"\xff"), "invalid-json", ["2", "4"], id="not UTF-8"),
        pytest.param(b"[" * 50_000, "invalid-json", [], id="too deep"),
    ],
)
def test_a_fault_is_told_and_hides_no_good_record(body, reason, found_ids):
    """Every kind of bad input has its reason, with its place in words, and every good record beside it is found."""
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert reasons(found) == [reason]
    assert found.faults[0].detail
    assert ids(found) == found_ids


def test_faults_of_one_kind_are_counted_together():
    """A thousand bad records make one fault with its count, not a thousand log lines."""
    body = json.dumps({"Records": [7] * 1000 + [hit(1)]}).encode()
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert [(fault.reason, fault.count) for fault in found.faults] == [("record-not-an-object", 1000)]
    assert "record 1 of 1001" in found.faults[0].detail


@pytest.mark.parametrize("lie", [None, 0, 100])
def test_a_bomb_is_not_inflated_past_the_bound(lie):
    """A small file that would inflate beyond the bound is refused, whatever its trailer claims."""
    bomb = gzip.compress(b" " * 50_000_000)
    if lie is not None:
        bomb = bomb[:-4] + lie.to_bytes(4, "little")
    found = read(bomb, ORIGIN, WANTED, Bounds(1_000_000, 1000))
    assert reasons(found) == ["too-large"]
    assert found.inflated_bytes == 0


def test_a_bomb_of_many_members_is_not_inflated_past_the_bound():
    """The bound is for the object, not for each gzip member."""
    body = gzip.compress(b"[" + b" " * 600_000) * 3
    assert reasons(read(body, ORIGIN, WANTED, Bounds(1_000_000, 1000))) == ["too-large"]


def test_what_is_no_log_is_skipped_not_faulted():
    """Insight records and a digest file are passed over and counted."""
    insight = {"eventVersion": "1.08", "eventType": "AwsCloudTrailInsight", "eventCategory": "Insight", "insightDetails": {}}
    found = read(json.dumps({"Records": [insight, hit(1)]}).encode(), ORIGIN, WANTED, BOUNDS)
    assert (ids(found), dict(found.skipped or {}), found.faults) == (["1"], {"insight": 1}, ())
    digest = {"awsAccountId": "111122223333", "digestStartTime": "2026-11-23T12:00:00Z", "digestS3Bucket": "logs", "logFiles": []}
    found = read(json.dumps(digest).encode(), ORIGIN, WANTED, BOUNDS)
    assert (found.seen, dict(found.skipped or {}), found.faults) == (0, {"digest": 1}, ())


def test_escapes_cannot_hide_a_record():
    r"""JSON says that `\\u0044elete...` is Delete..., in a value and in a member's name."""
    for plain, escaped in ((b'"DeleteInstanceProfile"', b'"\\u0044eleteInstanceProfile"'), (b'"eventName"', b'"event\\u004eame"')):
        assert ids(read(FILE.replace(plain, escaped), ORIGIN, WANTED, BOUNDS)) == ["2", "4"]


@pytest.mark.parametrize("wrap", [b'{"Records": [%b]}', b"[%b]", b"%b", b'{"detail": %b}'], ids=["file", "list", "alone", "detail"])
def test_of_a_member_named_twice_the_first_counts(wrap):
    """For the interest and for the rules alike, and in every wrapper."""
    twice = b'{"eventName": "DeleteInstanceProfile", "eventSource": "iam.amazonaws.com", "userIdentity": {"type": "Root", "type": "x"}, "eventName": "y"}'
    (record,) = read(wrap % twice, ORIGIN, WANTED, BOUNDS).records
    assert record.event["eventName"] == "DeleteInstanceProfile"
    assert record.identity_type == "Root"
    other = twice.replace(b"DeleteInstanceProfile", b"z").replace(b'"y"', b'"DeleteInstanceProfile"')
    assert read(wrap % other, ORIGIN, WANTED, BOUNDS).records == ()


@pytest.mark.parametrize(
    ("value", "read_as"),
    [(b"1" * 30, float("1" * 30)), (b"-" + b"9" * 400, float("-inf")), (b"18446744073709551615", 2**64 - 1), (b"1e400", float("inf"))],
)
def test_a_number_beyond_all_integers_cannot_hide_a_record(value, read_as):
    """It is read as the nearest float, and the record can be written as JSON again."""
    body = FILE.replace(b'"web"', value)
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert (ids(found), found.faults) == (["2", "4"], ())
    assert found.records[0].event["requestParameters"]["instanceProfileName"] == read_as
    assert orjson.dumps(found.records[0].event)


def test_a_number_of_thousands_of_digits_is_a_fault_of_its_record_alone():
    """Python makes no such number; the record beside it is found."""
    found = read(FILE.replace(b'"web"', b"7" * 5000), ORIGIN, WANTED, BOUNDS)
    assert (ids(found), reasons(found), found.seen) == (["4"], ["invalid-json"], 4)


@pytest.mark.parametrize(
    "odd",
    [
        "{}",
        '{{"eventName":{}}}',
        '{{"eventName":"A","eventSource":{},"userIdentity":{{"type":{}}}}}',
        '{{"detail":{}}}',
        '{{"CloudTrailEvent":{}}}',
        '{{"Records":{}}}',
        '{{"Records":[{}]}}',
        '{{"eventCategory":{}}}',
    ],
)
def test_a_number_of_thousands_of_digits_is_no_obstacle(odd):
    """Wherever it stands, what comes after it is read."""
    number = "1" * 5_000
    lines = [json.dumps(hit(1)), odd.format(number, number), json.dumps(hit(2))]
    for body in (f'{{"Records":[{",".join(lines)}]}}', "\n".join(lines)):
        assert ids(read(body.encode(), ORIGIN, WANTED, BOUNDS)) == ["1", "2"]


def test_a_lone_surrogate_cannot_hide_a_record():
    """A caller who writes a lone surrogate into a user agent is found all the same."""
    body = FILE.replace(b'"web"', b'"\\ud800"')
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert (ids(found), found.faults) == (["2", "4"], ())
    assert found.records[0].event["requestParameters"]["instanceProfileName"] == "?"


DEEP = b'{"eventName": "DeleteInstanceProfile", "eventSource": "iam.amazonaws.com", "eventID": "1", "x": ' + b"[" * 400 + b"]" * 400 + b"}"


@pytest.mark.parametrize(
    ("body", "found_ids"),
    [
        pytest.param(json.dumps({"detail": hit(1)}).encode(), ["1"], id="a detail without its type"),
        pytest.param(b"\n".join(json.dumps([hit(n), miss(n)]).encode() for n in (1, 2)), ["1", "2"], id="lines of lists"),
        pytest.param(
            b"\n".join(json.dumps({"Events": [{"CloudTrailEvent": json.dumps(hit(n))}]}).encode() for n in (1, 2)),
            ["1", "2"],
            id="pages as lines",
        ),
        pytest.param(b"\n".join(json.dumps(hit(n), indent=2).encode() for n in (1, 2)), ["1", "2"], id="indented documents"),
        pytest.param(b'{"Records": [' + DEEP + b"]}", ["1"], id="deeply nested"),
        pytest.param(b"[" + DEEP + b"]", ["1"], id="deeply nested in a bare list"),
        pytest.param(json.dumps([hit(1, eventTime="0001-01-01T00:00:00+14:00")]).encode(), ["1"], id="a time before time"),
    ],
)
def test_whole_forms_that_are_rare_are_no_fault(body, found_ids):
    """Forms that tools do write, and values that callers may, are read without a complaint."""
    found = read(body, ORIGIN, WANTED, BOUNDS)
    assert (ids(found), found.faults) == (found_ids, ())
    assert all(record.key and (record.time is None or record.time.year) for record in found.records)


@pytest.mark.parametrize(
    "body",
    [
        b'[{"x": 1e400}, ' + json.dumps(hit(1)).encode(),
        b'[{"a":' * 150 + b"[1" + b",1" * 300_000,
        gzip.compress(b"") * 20_000,
        b'{"detail":' * 900 + b"1" + b"}" * 900,
    ],
    ids=["an infinite number", "a thousand beginnings", "twenty thousand members", "envelopes without end"],
)
def test_hostile_files_are_a_fault_and_no_more(body):
    """Files made to be read for ever, or to break the reader, end as a fault."""
    assert len(reasons(read(body, ORIGIN, WANTED, BOUNDS))) == 1


def test_a_faults_detail_is_short():
    """A name of megabytes does not fill the log."""
    found = read(json.dumps([{"A" * 1_000_000: 1}]).encode(), ORIGIN, WANTED, BOUNDS)
    assert len(found.faults[0].detail) <= 500


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "eventName": st.sampled_from(["DeleteInstanceProfile", "deleteinstanceprofile", "DescribeInstances", ""]) | VALUES,
        "eventSource": st.sampled_from(["iam.amazonaws.com", "IAM.amazonaws.com", "ec2.amazonaws.com"]) | VALUES,
        "detail": VALUES,
        "more": VALUES,
    },
)


def naively(document):
    """The wanted ones among a file's records, and how many there are, as a reader that builds everything finds them; None where it is no plain file."""
    if not isinstance(document, dict) or "eventName" in document or not isinstance(document.get("Records"), list):
        return None
    wanted, seen = [], 0
    for told in document["Records"]:
        item = told
        while isinstance(item, dict) and not (isinstance(item.get("eventName"), str) and item["eventName"]):
            item = item.get("detail") if not {"CloudTrailEvent", "Records"} & item.keys() else None
        if isinstance(item, dict):
            seen += 1
            source = item.get("eventSource")
            if not isinstance(source, str) or (source.lower(), item["eventName"].lower()) in WANTED.pairs:
                wanted.append(item)
    return wanted, seen


def by_pieces(body, piece_bytes):
    found = list(trail.pieces(body, ORIGIN, WANTED, BOUNDS, piece_bytes=piece_bytes))
    return (
        [record.event for one in found for record in one.records],
        sum(one.seen for one in found),
        {fault.reason for fault in found[-1].faults},
    )


@pytest.mark.parametrize("indent", [None, 1])
@given(st.lists(EVENTS | VALUES, max_size=6), st.sampled_from([60, 200, 1_000_000]))
def test_the_reader_finds_what_building_everything_finds(indent, records, piece_bytes):
    """For any list of records, ordinary or odd, in pieces of any size: the same records, as many seen."""
    document = {"Records": records}
    wanted, seen = naively(document)
    assert by_pieces(json.dumps(document, indent=indent).encode(), piece_bytes)[:2] == (wanted, seen)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(hit(1, pad="x" * 20_000), id="longer than the largest piece"),
        pytest.param(hit(1, resources=[{"version": 1}] * 500), id="with what looks like the list's next records"),
    ],
)
def test_whole_lists_are_read_whole_however_hard_to_cut(record):
    """A file that is whole is never told to be broken, even where no piece of it can be cut off; what follows is found too."""
    body = json.dumps({"Records": [miss(0), record, hit(2)]}).encode()
    assert by_pieces(body, 1_000) == ([record, hit(2)], 3, set())


@pytest.mark.parametrize("between", ["", "\n", ", "])
def test_documents_one_after_the_other_are_no_fault_in_pieces(between):
    """Even where their records end in lists, which look like the end of a document."""
    first, second = ([miss(number, resources=[{"a": 1}]) for number in range(40)] + [hit(name)] for name in ("a", "b"))
    body = between.join(json.dumps({"Records": records}) for records in (first, second)).encode()
    for piece_bytes in range(700, 3_000, 100):
        assert by_pieces(body, piece_bytes) == ([first[-1], second[-1]], 82, set())


def test_a_fault_of_one_record_does_not_hide_that_the_file_is_broken():
    """Both are told, in pieces too."""
    body = json.dumps({"Records": [{"a": 1}, *[miss(number) for number in range(50)], hit(7)]}).encode()[:-30]
    *_, found = trail.pieces(body, ORIGIN, WANTED, BOUNDS, piece_bytes=500)
    assert set(reasons(found)) == {"record-without-event-name", "invalid-json"}


def test_endless_names_fill_no_memory():
    """Names that are longer than any of AWS's are asked about each time, not remembered."""
    body = json.dumps({"Records": [miss(number, eventSource=f"{number}" * 2_000) for number in range(20)]}).encode()
    found = read(body, ORIGIN, WANTED, Bounds(10_000_000, 1_000_000))
    assert found.seen == 20
    assert max(len(source or "") for source, _, _ in trail._sieve(WANTED).dull) < 1_000


def are_documents(body):
    """Whether the bytes are whole JSON documents, one after the other."""
    try:
        text = body.decode().strip()
        while text:
            _, end = json.JSONDecoder().raw_decode(text)
            text = text[end:].lstrip(", \n\r\t")
    except ValueError:
        return False
    return True


@settings(max_examples=1000)
@given(
    st.integers(0, len(FILE) - 1),
    st.integers(0, 20),
    st.binary(max_size=3) | st.sampled_from([b'"', b"}", b"]},", b"{", b",", b"\\"]),
    st.data(),
)
def test_a_mutated_file_is_read_as_it_stands_or_told(at, length, noise, data):
    """Bytes of a file replaced: either it is JSON still and read as such, in one go and in pieces alike, or there is a fault."""
    body = FILE[:at] + noise + FILE[at + length :]
    wholly = by_pieces(body, 1_000_000)
    pieces = by_pieces(body, data.draw(st.integers(60, 400)))
    assert pieces[2] == wholly[2]
    assert wholly[2] or pieces == wholly  # of broken text, what can be had may begin elsewhere
    repeats = []

    def members(pairs):
        repeats.extend([1] if len({name for name, _ in pairs}) < len(pairs) else [])
        return dict(pairs)

    try:
        document = json.loads(body, object_pairs_hook=members)
    except ValueError:
        assert wholly[2] or are_documents(body)
        return
    expected = naively(document)
    if expected is not None and not repeats:
        assert wholly[:2] == expected


def test_a_large_file_needs_little_beside_its_text():
    """Of 40 MB of text in pieces, a tenth beside it is never exceeded, and every record is seen."""
    record = json.dumps(miss(1, pad="x" * 500)).encode()
    body = gzip.compress(b'{"Records":[' + b",".join([record] * 60_000) + b"]}", 1)
    tracemalloc.start()
    found = read(body, ORIGIN, WANTED, Bounds(100_000_000, 1000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.seen, found.faults) == (60_000, ())
    assert peak < found.inflated_bytes * 1.1


@settings(max_examples=300)
@given(st.data())
def test_a_damaged_file_loses_no_whole_record_and_never_raises(data):
    """Cut anywhere: every record whose bytes are whole is found."""
    cut = data.draw(st.integers(0, len(FILE)))
    found = read(FILE[:cut], ORIGIN, WANTED, BOUNDS)
    whole = [
        record["eventID"]
        for record in RECORDS
        if record in (RECORDS[1], RECORDS[3]) and FILE.find(json.dumps(record).encode()) + len(json.dumps(record)) <= cut
    ]
    assert ids(found) == whole
    assert cut == len(FILE) or found.faults


@settings(max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 400), st.booleans())
def test_no_bytes_make_the_reader_raise(noise, at, compressed):
    """Bytes put anywhere into a file, compressed or not, give records and faults, never an exception."""
    body = gzip.compress(FILE) if compressed else FILE
    at = min(at, len(body))
    found = read(body[:at] + noise + body[at:], ORIGIN, WANTED, BOUNDS)
    assert found.faults or found.seen >= 4


@given(st.binary(max_size=4000))
def test_inflating_agrees_with_zlib(content):
    """One call of libdeflate and a loop over zlib give the same bytes."""
    tally = Tally()
    assert inflate(gzip.compress(content), 10_000, tally) == content
    assert inflate_exactly(gzip.compress(content), 10_000, tally) == content
    assert zlib.decompress(gzip.compress(content), wbits=31) == content


def test_the_real_deletions_are_found(shared_data):
    """The 55 real objects hold 2,900 records, and three of them delete an instance profile."""
    found = [read(path.read_bytes(), ORIGIN, WANTED, BOUNDS) for path in sorted(shared_data.glob("cloudtrail/invictus/AWSLogs/**/*.gz"))]
    assert len(found) == 55
    assert sum(one.seen for one in found) == 2900
    times = sorted(record.event["eventTime"] for one in found for record in one.records)
    assert times == ["2023-07-10T12:07:24Z", "2023-07-10T12:08:37Z", "2023-07-10T12:09:09Z"]
    assert not any(one.faults for one in found)
