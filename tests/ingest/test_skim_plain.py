"""The compiled pass takes what is plain, byte by byte and on every border, and nothing else."""

# ruff: noqa: SIM905  # a list of tokens is read best as a line of them

import pytest

from tests.ingest import fuzz_skim
from tests.ingest.fuzz_skim import exact_size, plain_records
from tests.ingest.plain_texts import CHUNK, KEY, SKIMMED, USUAL, is_read_alike, is_taken, skimmer, text_of, with_value

pytestmark = SKIMMED

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
