"""The compiled pass never has an opinion of its own: what it says is so, and reading finds the same with it and without it."""

# ruff: noqa: SIM905  # a list of tokens is read best as a line of them
import gzip
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ingest import fuzz_skim
from tests.ingest.fuzz_skim import Examiner, check_skim, exact_size, made, plain_records, run, sieve, told_by
from worker.ingest import skim, trail
from worker.ingest.skim import Skimmed, Skimmer

pytestmark = pytest.mark.skipif(not skim.AVAILABLE, reason="the compiled part is not built (no C compiler), or this processor has no AVX2")

CHUNK = 4096
LONG_BYTES = 1 << 20
KEY = ("ec2.amazonaws.com", "DescribeInstances", "IAMUser")
USUAL = (
    b'{"eventVersion":"1.08","userIdentity":{"type":"IAMUser","userName":"a"},"eventTime":"2023-07-10T12:07:24Z",'
    b'"eventSource":"ec2.amazonaws.com","eventName":"DescribeInstances","readOnly":true}'
)


def text_of(*records):
    return b'{"Records":[' + b",".join(records) + b"]}"


def with_value(value):
    """A text with one ordinary record, and one that has this member value."""
    return text_of(USUAL, b'{"eventName":"A","more":' + value + b',"after":"x"}')


def skimmer(*keys):
    made: Any = skim._skim.Skimmer()
    assert all(made.add(*key) for key in keys)
    return made


def is_taken(text):
    """Whether the pass takes a text for plain; whatever it says, it may say."""
    return check_skim(skimmer(KEY), {KEY}, text, 1000)


def is_read_alike(text, piece_bytes=1_000_000):
    """Whether reading gives the same with the pass and without it, cold and warm."""
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    cold = told_by(with_pass, text, piece_bytes), told_by(exact, text, piece_bytes)
    warm = told_by(with_pass, text, piece_bytes), told_by(exact, text, piece_bytes)
    return cold[0] == cold[1] == warm[0] == warm[1]


# What is plain, and what is not.

PLAIN = [
    *"true false null 0 -0 7 -12 0.5 -0.25 1e5 1E+5 2e-7 0e0 1.5e10 123456789012345678 -12345678901234567".split(),
    *r'"" "\"" "\\" "\\\"" "\/" "\b\f\n\r\t" "\u0041" "\uABCD" "\uabcd" "\u0000" "\ud83d\ude00" "\uD83D\uDE00" "é" "€" "😀"'.split(),
    *'{} [] [[]] [{}] {"":1} {"a":[]} {"a":{}} [1,"a",true,null,[],{}] {"a":"b","c":"d"} {"a":1,"a":2} "]}" "],[" "{" ":"'.split(),
    *("[" * 57 + "]" * 57, '{"a":' * 57 + "1" + "}" * 57, '"\x7f"', '" "', '"' + "x" * 10_000 + '"'),
]
BROKEN = [
    *"tr True nul nullx fal truefalse tfn 01 -01 00 - -- +1 1. .5 1.e5 1e 1e+ 1e+- 1-2 1.2.3 0x1 NaN Infinity -Infinity 1_0 1a é ٣".split(),
    *r'"\x" "\u12" "\u12g4" "\u123" "\U0041" "\"  "\\\" "a"b" "a""b" "a "a"1 1"a" \n \"a\"'.split(),
    *"[1 [1} {] ] } [1,] [,1] [,] [1,,2] [1:2] [:] [[] []] [1]2 [1][2] [1]{} {}[] [tr] [01]".split(),
    *'{"a"} {"a":} {"a":1,} {,"a":1} {"a":1,,"b":2} {"a":1"b":2} {"a":1:2} {"a":"b":"c"} {"a","b"} {1:2} {true:1} {"a"1} {"a":1 {:1}'.split(),
    *'{"a":{} {"a":[}} {"a":1]} {{}} {[]} {"a":1}{"b":2} {"a":1}"b" "a"{} "a"[] {"a"{}} {"a":"b""c":1} {"a":"b"1} {"a":tr} {"a":1.}'.split(),
    *('"\t"', '"\n"', '"\x00"', '"\x1f"', "", ",", ":"),
]
UNUSUAL = [
    *("[1, 2]", '{"a": 1}', " 1", "1\n", '{ "a":1}', "[1 ,2]", "[ ]", "\t1"),
    *"1e999 -1e999 1e309 1E+0400 1234567890123456789 18446744073709551616".split(),
    *("9" * 30, "0." + "3" * 30, "1" * 400, "[" * 64 + "]" * 64, "[" * 1030 + "]" * 1030, '{"a":' * 1030 + "1" + "}" * 1030),
    *r'"\ud800" "\ud800a" "\ud800\u0041" "\udc00" "\udc00\ud800" "\ud800\n" "\ud800\ud83d\ude00" "\ud83da\ude00" "\ud800a\ud83d\ude00"'.split(),
    *(r'["\ud83d","\ude00"]', r'"\ud83d\u00e9\ude00"', r'"\ud83d\\ude00"'),
]
NO_UTF8 = [
    *(
        b"\x80",
        b"\xbf",
        b"\xc0\x80",
        b"\xc1\xbf",
        b"\xc3",
        b"\xc3(",
        b"\xe0\x80\x80",
        b"\xe0\x9f\xbf",
        b"\xe2\x82",
        b"\xe2\x82(",
        b"\xe2(\xac",
        b"\xed\xa0\x80",
    ),
    *(
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf0\x9f\x98",
        b"\xf0\x9f\x98(",
        b"\xf0\x9f(\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
    ),
]


@pytest.mark.parametrize("value", PLAIN)
def test_plain_json_is_taken(value):
    """Any value that JSON allows, in a text without white space, leaves the text plain."""
    text = with_value(value.encode())
    assert is_taken(text)
    assert is_read_alike(text)


@pytest.mark.parametrize("value", [*BROKEN, *UNUSUAL])
def test_what_is_broken_or_unusual_is_left_to_the_exact_way(value):
    """What is no JSON, and what one parser takes and another does not or takes otherwise, is never taken."""
    text = with_value(value.encode())
    assert not is_taken(text)
    assert is_read_alike(text)


@pytest.mark.parametrize("noise", NO_UTF8)
def test_what_is_no_utf8_is_left_to_the_exact_way(noise):
    """Overlong forms, surrogates, what lies beyond U+10FFFF and what is cut off: nowhere, nor around the border of eight bytes."""
    for pad in range(9):
        text = with_value(b'"' + b"x" * pad + noise + b'"')
        assert not is_taken(text)
        assert is_read_alike(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"]}",
        b'{"Records":[',
        b'{"Records":[]}',
        b'{"Records":[]}' + b" " * 100,
        text_of(USUAL) + b"\0",
        text_of(USUAL) + b"\v",
        text_of(USUAL) + b"\nx",
        text_of(USUAL)[:-1] + b"\n}",
        b"\n" + text_of(USUAL),
        b" " * 100,
        b"\xef\xbb\xbf" + text_of(USUAL),
        text_of(USUAL)[:-1],
        text_of(USUAL)[:-2],
        text_of(USUAL) + b"}",
        text_of(USUAL) + b"]}",
        text_of(USUAL) + text_of(USUAL),
        text_of(USUAL) + b"{}",
        text_of(USUAL)[:-2] + b",]}",
        text_of(b"," + USUAL),
        text_of(USUAL, b"5"),
        text_of(b"5", USUAL),
        text_of(USUAL, b"[]"),
        text_of(b"[" + USUAL + b"]"),
        text_of(b"[" * 70 + b"]" * 70),
        text_of(USUAL)[:-1] + b',"Records":[]}',
        text_of(USUAL)[:-1] + b',"Records":[' + USUAL + b"]}",
        text_of(USUAL)[:-1] + b',"more":[1]}',
        b'{"Records":[{"a":' + b"[1]" * 30 + b"]}",
        b'{"Records":[{"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa":[1]}',
        b'{"Records":[' + USUAL + b',{"a":"' + b"x" * 100 + b"]}",
        b'{"Records":[' + b"]" * 100 + b"]}",
        b'{"Records":[' + b"}" * 5000 + b"]}",
        b'{"Records":[' + b"{" * 5000 + b"]}",
        b'{"Records":[' + b"[{" * 5000 + b"]}",
        b'{"Records":[' + b'"' * 5000 + b"]}",
        b'{"Records":[' + b"\\" * 5000 + b"]}",
        b'{"Records":[' + b"1" * 4000 + b"]}",
        b'{"records":[' + USUAL + b"]}",
        b'{"Records":{' + USUAL + b"]}",
    ],
    ids=lambda text: repr(text[:12] + b".." + text[-12:]),
)
def test_another_frame_is_left_to_the_exact_way(text):
    """Only objects in one list, which is the one member of an object, and not a byte more."""
    assert not is_taken(text)
    assert is_read_alike(text)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b" \t", b"\n" * 5_000])
def test_white_space_at_the_end_is_no_part_of_a_text(end):
    """A file may end in a line's end: the records stand where they stand."""
    text = text_of(USUAL, b"{}")
    assert skimmer().skim(exact_size(text + end), 9) == skimmer().skim(exact_size(text), 9) is not None
    assert is_taken(text + end)
    assert is_read_alike(text + end)


@pytest.mark.parametrize("length", range(40, 90))
def test_the_shortest_texts(length):
    """Around the size below which nothing is taken, texts are read alike."""
    for text in (text_of(b'{"a":"' + b"x" * length + b'"}'), text_of(*[b"{}"] * (length // 3)), text_of(USUAL)[:length]):
        is_taken(text)
        assert is_read_alike(text)


# On every border.

STRADDLERS = [
    *(value.encode() for value in PLAIN if 1 < len(value) < 60),
    *(value.encode() for value in BROKEN + UNUSUAL if len(value) < 40),
    *(b'"%b"' % noise for noise in NO_UTF8),
    b'"' + b"\\\\" * 40 + b'"',
    b'"' + b"\\\\" * 40 + b'\\"',
    b'"' + b"\\" * 81 + b'"',
    b"[" + b"{}," * 40 + b"[]]",
]


@pytest.mark.parametrize("border", [32, 64, CHUNK, 2 * CHUNK])
def test_whatever_straddles_a_border_is_judged_the_same(border):
    """Each value, sound or not, is pushed over the border of a block and of a chunk, byte by byte: the judgement stays."""
    before, after = b'{"Records":[{"eventName":"A","pad":"', b'","more":'
    for value in STRADDLERS:
        expected = plain_records(with_value(value)) is not None and fuzz_skim.is_ordinary(with_value(value))
        for shift in range(-2, min(len(value), 8) + 2):
            pad = border * 2 - len(before + after) - shift
            text = before + b"x" * pad + after + value + b"},{}," + USUAL + b"]}"
            assert is_taken(text) == expected, (value, shift)


@pytest.mark.parametrize("border", [64, CHUNK])
def test_a_record_on_a_border_is_known_by_its_members(border):
    """A dull record that begins before a border and ends behind it is left out wherever the border falls, and another is not."""
    other = USUAL.replace(b"DescribeInstances", b"DescribeVolumes")
    turned = USUAL[:1] + b'"a":[{}],"b":{"type":[]},' + USUAL[1:]
    for record, left_out in ((USUAL, True), (turned, True), (other, False)):
        for at in range(len(record) + 2):
            first = b'{"eventName":"A","pad":"' + b"x" * (8 * border - at - 12 - 27) + b'"}'
            text = text_of(first, record, other)
            begin, last = 8 * border - at, len(text) - 2
            expected = [(2, begin, begin + len(record)), (3, last - len(other), last)]
            known = skimmer(KEY, (None, "A", None))
            assert known.skim(exact_size(text), 1000) == (3, expected[left_out:])


@pytest.mark.parametrize(
    "other",
    [
        USUAL.replace(b"DescribeInstances", b"DescribeVolumes"),
        USUAL.replace(b'"eventTime"', b'"eventName":"Other","a":[{}],"b":"' + b"x" * 60 + b'","c":{},"eventTime"'),
    ],
    ids=["usual", "named before"],
)
def test_no_record_is_taken_for_one_before_it(other):
    """Among dull records in the usual order every other one is not, and is told so wherever the borders of chunks fall in it."""
    for shift in range(len(USUAL) + len(other)):
        first = b'{"eventName":"A","pad":"' + b"x" * shift + b'"}'
        told = skimmer(KEY, (None, "A", None)).skim(exact_size(text_of(first, *[USUAL, other] * 50)), 1000)
        assert [number for number, _, _ in told[1]] == list(range(3, 102, 2))


def test_small_records_by_the_thousand():
    """A chunk full of brackets alone: every record of `{}` is told, each with its place."""
    for count in (21, 1365, 1366, 10_000):
        for record in (b"{}", b'{"a":{}}', b'{"a":[[],{}]}'):
            text = text_of(*[record] * count)
            length = len(record) + 1
            assert skimmer().skim(exact_size(text), count) == (
                count,
                [(n + 1, 12 + n * length, 11 + (n + 1) * length) for n in range(count)],
            )


# Which records are left out.


@pytest.mark.parametrize(
    ("record", "key"),
    [
        (USUAL, KEY),
        (b'{"eventSource":"s","eventName":"n","userIdentity":{"type":"t"}}', ("s", "n", "t")),
        (b'{"userIdentity":{"a":{"type":"x"},"type":"t"},"eventName":"n","eventSource":"s"}', ("s", "n", "t")),
        (b'{"eventName":"n","eventName":"o","eventSource":"s","eventSource":"r"}', ("s", "n", None)),
        (b'{"eventName":"n","userIdentity":{"type":"t","type":"u"},"userIdentity":{"type":"v"}}', (None, "n", "t")),
        (b'{"eventName":"n","userIdentity":{"type":1,"type":"u"}}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":[{"type":"t"}],"eventSource":null}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":"t","eventSource":{"eventSource":"s"}}', (None, "n", None)),
        (b'{"eventName":"n","userIdentity":{},"eventSource":""}', ("", "n", None)),
        (b'{"eventName":"n","userIdentity":{"type":""}}', (None, "n", "")),
        (b'{"detail":{"eventName":"o"},"a":"\\"","b":[{"eventName":"p"}],"eventName":"n"}', (None, "n", None)),
        (b'{"a":["\\\\",{"b":"]}\\"}"}],"eventName":"n"}', (None, "n", None)),
        ('{"eventName":"É€😀"}'.encode(), (None, "É€😀", None)),
        (USUAL.replace(b'"type":"IAMUser"', b'"type":"IAMUser","type":"Root"'), KEY),
        (USUAL.replace(b'"userName":"a"', b'"a":[[{}],{"b":{}}],"eventName":"o"'), KEY),
        (USUAL.replace(b'"readOnly":true', b'"eventName":"o","userIdentity":{"type":"Root"}'), KEY),
        (USUAL.replace(b'"1.08"', b"{}"), KEY),
        (USUAL.replace(b'"1.08"', b'"\\n"'), KEY),
        (USUAL.replace(b'"eventTime":', b'"more":[],"eventTime":'), KEY),
    ],
    ids=lambda one: None if isinstance(one, tuple) else repr(one[:60]),
)
def test_a_record_is_known_by_three_members(record, key):
    """It is left out if exactly its source, name and identity type were added, wherever they stand: of equal members the first."""
    pad = b'{"pad":"' + b"x" * 64 + b'"}'
    text = text_of(record, pad)
    last = (2, 13 + len(record), 13 + len(record) + len(pad))
    assert fuzz_skim.key_of(next(iter((plain_records(text) or {}).values()))) == key
    assert skimmer(key).skim(text, 9) == (2, [last])
    near = [
        (*key[:i], other, *key[i + 1 :])
        for i in range(3)
        for other in ("x", None, "", (key[i] or "") + "x", (key[i] or "x")[:-1])
        if other != key[i]
    ]
    near = [one for one in near if one[1] is not None]
    assert skimmer(*near).skim(text, 9) == (2, [(1, 12, 12 + len(record)), last])


@pytest.mark.parametrize(
    "record",
    [
        b'{"a":1}',
        b'{"eventName":null}',
        b'{"eventName":3,"eventName":"n"}',
        b'{"eventName":{"eventName":"n"}}',
        b'{"event\\u004eame":"o","eventName":"n"}',
        b'{"eventName":"\\u006e"}',
        b'{"userIdentity":{"t\\u0079pe":"Root","type":"t"},"eventName":"n"}',
        b'{"detail":{"eventName":"n"}}',
        b'{"Records":[{"eventName":"n"}]}',
        b'{"CloudTrailEvent":"{}"}',
        b"{}",
    ],
)
def test_a_record_that_is_not_understood_is_never_left_out(record):
    """Without a name that is plain text, a record may be anything: it is told, whatever was added."""
    known = skimmer(*((source, name, kind) for source in (None, "") for name in ("n", "o", "", "3") for kind in (None, "t", "")))
    assert known.skim(text_of(record, USUAL), 9) == (2, [(1, 12, 12 + len(record)), (2, 13 + len(record), 13 + len(record) + len(USUAL))])


def test_most_is_the_limit():
    """Where more may be wanted than allowed, nothing is told; as many are."""
    text = text_of(*[USUAL] * 50)
    for most in (-(2**63), -1, 0, 1, 49):
        assert skimmer().skim(text, most) is None
    assert len(skimmer().skim(text, 50)[1]) == 50
    assert skimmer(KEY).skim(text, 0) == skimmer(KEY).skim(text, -1) == (50, [])
    assert Skimmer().skim(text) is None
    one: Any = Skimmer()
    assert one.skim(text_of(*[USUAL] * skim.FEW)) == Skimmed(4, skimmer().skim(text_of(*[USUAL] * 4), 4)[1])


def test_many_that_are_dull_hide_nothing_else():
    """60,000 kinds, alike at both ends and of every length: nearly all are known, and no other is taken for one of them."""
    known = skimmer()
    keys = [
        (f"begins alike {number:05} ends alike"[: 5 + number % 32], f"Name{number}", ("t" * (number % 41)) or None)
        for number in range(60_000)
    ]
    keys += [("s" * source, "n" * name, "k" * kind) for source in range(0, 20, 3) for name in range(1, 40) for kind in range(12)]
    keys += [("begins alike ", f"begins {'-' * 20}{number:04}{'-' * 20} ends alike", "t") for number in range(2_000)]
    random.Random(1).shuffle(keys)
    assert all(known.add(*key) for key in keys)
    distinct = set(keys)

    def left_out(told):
        records = [{"eventSource": s, "eventName": n, "userIdentity": {"type": k}} for s, n, k in told]
        text = json.dumps({"Records": records}, separators=(",", ":")).encode()
        count, wanted = known.skim(text, len(told))
        assert count == len(told)
        return count - len(wanted)

    assert left_out([(s, n + "x", k) for s, n, k in keys]) == sum((s, n + "x", k) in distinct for s, n, k in keys)
    assert left_out([((s or "") + "\x7f", n, k) for s, n, k in keys]) == 0
    assert left_out([(s, n, (k or "") + "\x7f") for s, n, k in keys]) == 0
    assert left_out([(s, n[:8] + "!" + n[9:], k) for s, n, k in keys if len(n) > 16]) == 0
    assert left_out(keys) > 0.9 * len(keys)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_texts_that_differ_in_the_middle_alone_are_told_apart(which):
    """They fall on one place of the set: only a look at every byte keeps a wanted record from being left out."""
    known, other = list(KEY), list(KEY)
    known[which], other[which] = "12345678-a-12345678", "12345678-b-12345678"
    source, name, kind = other
    record = f'{{"eventSource":"{source}","eventName":"{name}","userIdentity":{{"type":"{kind}"}}}}'.encode()
    assert skimmer(known).skim(text_of(record), 10) == (1, [(1, 12, 12 + len(record))])
    assert skimmer(other).skim(text_of(record), 10) == (1, [])


def test_an_event_that_is_too_long_is_judged_anew_each_time():
    """Beyond 1,024 bytes together nothing is kept; up to there it is."""
    for source, name, kind in [("s" * 512, "n" * 500, "k" * 12), ("", "n" * 1024, None), ("s" * 1023, "n", "")]:
        for more in ("", "x"):
            known = skimmer((source, name + more, kind))
            record = {"eventSource": source, "eventName": name + more, "userIdentity": {"type": kind}}
            text = json.dumps({"Records": [record]}, separators=(",", ":")).encode()
            assert len(known.skim(text, 9)[1]) == len(more)
    assert skimmer(("s" * 5_000_000, "é" * 600, None)).skim(text_of(USUAL), 9) is not None


# The edge to Python.


def test_arguments_of_another_kind_are_refused():
    """What is no text is a TypeError, and half a surrogate pair, which no plain text holds, is not kept."""
    known = skimmer()
    for arguments in [
        (),
        ("a", "b"),
        ("a", "b", "c", "d"),
        (1, "b", "c"),
        ("a", None, "c"),
        ("a", b"b", "c"),
        ("a", "b", 1),
        (b"a", "b", None),
    ]:
        with pytest.raises(TypeError):
            known.add(*arguments)
    for given_to_skim in [(), (b"{}",), ("{}", 1), (None, 1), (b"{}", None), (b"{}", "1"), (b"{}", 1.5), (b"{}", 1, 2)]:
        with pytest.raises(TypeError):
            known.skim(*given_to_skim)
    with pytest.raises(OverflowError):
        known.skim(b"{}", 2**70)
    new: Any = skim._skim.Skimmer
    with pytest.raises(TypeError):
        new(1)
    with pytest.raises(TypeError):
        new(a=1)
    for arguments in [("\ud800", "n", "t"), ("s", "\udc00", "t"), ("s", "n", "\ud800")]:
        assert known.add(*arguments)
    assert known.skim(text_of(USUAL), 1) == (1, [(1, 12, 12 + len(USUAL))])


def test_any_contiguous_buffer_is_read():
    """bytes, bytearray and views of them are read alike; a view with gaps is refused; none is held afterwards."""
    text = text_of(USUAL, b"{}")
    told = skimmer(KEY).skim(text, 9)
    changing = bytearray(b"??" + text)
    assert told == skimmer(KEY).skim(bytearray(text), 9) == skimmer(KEY).skim(memoryview(changing)[2:], 9)
    changing.append(0)  # raises while anybody holds it
    with pytest.raises(BufferError):
        skimmer().skim(memoryview(changing)[::2], 9)
    assert skimmer().skim(b"", 9) is skimmer().skim(bytearray(), 9) is skimmer().skim(memoryview(b"")[:0], 9) is None


# What is read.


def test_a_number_beyond_all_floats_changes_no_other_record():
    """For such a text the exact way has another parser, to which the last of equal members counts: the pass does not take it."""
    twice = b'{"eventSource":"iam.amazonaws.com","eventName":"DescribeX","eventName":"DeleteInstanceProfile"}'
    for value in (b"1e999", b"-1E400", b'"\\ud800"', b'"\\ud800x"', b'"\\ud800\\ud83d\\ude00"', b"9" * 400):
        text = text_of(USUAL, twice, b'{"eventName":"A","more":' + value + b"}")
        assert not is_taken(text)
        assert is_read_alike(text)


def test_a_record_larger_than_many_pieces_is_no_fault():
    """A plain text is whole, however large its records are beside a piece, and however many lists they hold."""
    large = b'{"eventName":"Wanted","pad":"' + b"x" * 2_000 + b'"}'
    lists = b'{"eventName":"Wanted","list":[' + b",".join([b'{"version":"1"}'] * 60) + b"]}"
    for record in (large, lists):
        text = text_of(USUAL, record, b"{}", record)
        for piece_bytes in (60, 100, 200, 400):
            found = told_by(sieve(blind=True), text, piece_bytes)
            assert found == told_by(sieve(blind=False), text, piece_bytes)
            assert found[0] == "2 records of 3"


def test_a_fault_tells_the_same_place():
    """Which record of how many, in which order of faults, with which count: as the exact way words it."""
    large = b'{"eventName":"Wanted","pad":"' + b"x" * 4_000 + b'"}'
    wrapped = b'{"Records":[{"a":1},{"eventName":"Wanted"},7]}'
    told = b'{"CloudTrailEvent":"{"}'
    filler = [USUAL] * 40
    records = [
        *filler,
        b'{"a":1}',
        *filler,
        wrapped,
        large,
        *filler,
        told,
        b"{}",
        large,
        b'{"detail":{"detail":{}}}',
        b'{"eventCategory":"Insight"}',
    ]
    text = text_of(*records, *[USUAL] * 400)
    warm = sieve(blind=False)
    told_by(warm, text, 1_000_000)
    assert warm.skimmer.skim(text) is not None
    for piece_bytes in (1_000, 50_000, 1_000_000):
        assert told_by(warm, text, piece_bytes) == told_by(sieve(blind=True), text, piece_bytes)
        assert is_read_alike(text, piece_bytes)
    assert "record 41 of 528" in "".join(told_by(warm, text, 1_000_000))


def test_more_wanted_records_than_a_piece_hands_on(monkeypatch):
    """Records that are handed on a few at a time are the same, with the same faults at the end."""
    monkeypatch.setattr(trail, "RECORDS_A_PIECE", 2)
    wanted = b'{"eventName":"Wanted","n":%d}'
    text = text_of(*(wanted % n for n in range(9)), *[USUAL] * 2000, b'{"a":1}', wanted % 9)
    warm = sieve(blind=False)
    told_by(warm, text, 1_000_000)
    assert warm.skimmer.skim(text) is not None
    assert told_by(warm, text, 1_000_000) == told_by(sieve(blind=True), text, 1_000_000)


def test_a_sieve_that_forgets_begins_anew(monkeypatch):
    """Where too many kinds are dull all are forgotten, by the pass as well, and reading goes on alike."""
    monkeypatch.setattr(trail, "MOST_DULL", 3)
    chance = random.Random(2)
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    for _ in range(60):
        records = [USUAL.replace(b"Instances", b"%d" % chance.randrange(12)) for _ in range(chance.randrange(1, 5))]
        assert told_by(with_pass, text_of(*records), 1_000_000) == told_by(exact, text_of(*records), 1_000_000)


# Made-up texts.


@settings(max_examples=300)
@given(st.randoms(use_true_random=False), st.integers(1, 4))
def test_made_up_texts_are_read_alike(chance, most_records):
    """Whatever may stand in a file, whole or damaged: the pass says only what is so, and a Trail does not depend on it."""
    Examiner().examine(made(chance, most_records), chance)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_worker_that_has_read_many_texts_reads_the_next_alike(seed):
    """The same with a memory, over thousands; a good share is taken, and a good share is not."""
    counts = run(seed, lambda texts: texts < 1_500)
    assert counts.taken > 0.25 * counts.texts
    assert counts.refused > 0.25 * counts.texts


@pytest.mark.parametrize("compact", [True, False], ids=["compact", "as they lie there"])
def test_real_objects_are_read_alike_and_nearly_all_are_plain(shared_data, compact):
    """Each of the 55 real objects, and the two loose collections as objects of a hundred records, gives the same with the pass and without it."""
    texts = [gzip.decompress(path.read_bytes()) for path in sorted(shared_data.glob("cloudtrail/invictus/AWSLogs/**/*.gz"))]
    for path in sorted(shared_data.glob("cloudtrail/*/records.jsonl")):
        lines = path.read_bytes().splitlines()
        texts += [text_of(*lines[at : at + 100]) for at in range(0, len(lines), 100)]
    assert len(texts) == 66
    if compact:
        texts = [json.dumps(json.loads(text), separators=(",", ":")).encode() for text in texts]
    with_pass, exact = sieve(blind=False), sieve(blind=True)
    for piece_bytes in (1_000, 10_000, 1_000_000):
        for text in texts:
            assert told_by(with_pass, text, piece_bytes) == told_by(exact, text, piece_bytes)
    taken = [check_skim(skimmer(), set(), text, 10_000) for text in texts]
    assert all(taken if compact else taken[:55])


# Several threads.


def test_a_long_text_is_skimmed_while_others_go_on():
    """Over a long text the others run meanwhile: what cannot be added then is told so, every answer stays right, and it is learnt later."""
    shared = skimmer()
    wanted = b'{"eventName":"Wanted"}'
    long = text_of(wanted, *[USUAL] * (3 * LONG_BYTES // len(USUAL)), wanted)
    short = text_of(wanted, USUAL, wanted)
    assert shared.add(*KEY)
    expected = shared.skim(long, 10)
    expected_short = shared.skim(short, 10)
    assert [number for number, _, _ in expected[1]] == [1, expected[0]]
    over = threading.Event()
    answers = set()

    def skim_long():
        assert all(shared.skim(text, 10) == expected for text in [long, bytearray(long)] * 10)

    def disturb(which):
        number = 0
        while not over.is_set():
            answers.add(shared.add(f"{which}", f"Name{number}", None))
            assert shared.skim(short, 10) == expected_short
            assert skimmer().skim(short, 10)[0] == 3
            number += 1

    with ThreadPoolExecutor(5) as threads:
        disturbing = [threads.submit(disturb, which) for which in range(2)]
        skimming = [threads.submit(skim_long) for _ in range(3)]
        try:
            for one in skimming:
                one.result()
        finally:
            over.set()
        for one in disturbing:
            one.result()
    assert answers <= {True, False}
    assert shared.add("s", "Wanted", None)
    assert shared.add(None, "Wanted", None)
    assert shared.skim(long, 10) == (expected[0], [])


def test_what_cannot_be_added_yet_is_learnt_with_a_later_text():
    """While another thread is busy an event waits; the first text after that is skimmed with it."""

    class Busy:
        def __init__(self, real):
            self.real, self.is_busy = real, True
            self.skim = real.skim

        def add(self, *key):
            return not self.is_busy and self.real.add(*key)

    one: Any = Skimmer()
    one._known = busy = Busy(one._known)
    one.add(*KEY)
    one.add(None, "Other", None)
    text = text_of(USUAL, USUAL)
    assert one.skim(text).wanted == one.skim(text).wanted != []
    busy.is_busy = False
    assert one.skim(text) == Skimmed(2, [])
    assert one.skim(text_of(b'{"eventName":"Other","pad":"' + b"x" * 64 + b'"}')) == Skimmed(1, [])


def test_threads_learn_from_one_list():
    """What one thread takes from the list of what is to be learnt, another does not miss."""

    class TakenMeanwhile(list[Any]):
        def __bool__(self):
            self.clear()
            return True

    one: Any = Skimmer()
    one._learnt = TakenMeanwhile([KEY])
    assert one.skim(text_of(USUAL)).records == 1


def test_without_the_compiled_part_nothing_is_known(monkeypatch):
    """A skimmer then says nothing of any text, and forgets what it is told."""
    monkeypatch.setattr(skim, "AVAILABLE", False)
    one: Any = Skimmer()
    one.add(*KEY)
    assert one.skim(text_of(USUAL)) is None
    assert one._learnt == []
