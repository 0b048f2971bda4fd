"""Made-up CloudTrail texts of the form that AWS writes, ordinary and odd, whole and damaged: written by chance, Python's or Hypothesis's."""

# ruff: noqa: SIM905  # a list of tokens is read best as a line of them
from __future__ import annotations

import json
import random
import re

BORDERS = (32, 64, 4096)

SOURCES = ("iam.amazonaws.com", "ec2.amazonaws.com", "s3.amazonaws.com")
NAMES = ("DeleteInstanceProfile", "deleteinstanceprofile", "DescribeInstances", "GetObject", "Wanted", "A", "É", "")
KINDS = ("IAMUser", "AssumedRole", "AWSService", "Root")
CHARACTERS = (
    *r"a Bc 0 { } [ ] , : é € 😀 / true ], },{ \" \\ \/ \b \f \n \r \t \u0041 \u00e9 \u0022 \u005c \u0000 \uD83D\uDE00 \ud83d\ude00 \\\\ \\\"".split(),
    *(" ", "\x7f"),
)
NUMBERS = "0 -0 7 -12 123456789012345678 0.5 -0.25 1e5 1E+5 2e-7 0e0 12.5e10".split()
SCALARS = 'true false null "" {} []'.split()
# JSON that some reader takes and another does not, or takes otherwise; and what is none.
ODD_NUMBERS = (
    *"1e999 -1e999 1e309 1e308 1E+0400 0e999 1e-999 1234567890123456789 18446744073709551616".split(),
    *"01 - +1 1. .5 1e 1e+ 0x1 -01 1.e5 00 NaN Infinity -Infinity 1_0 ٣ tr nul True".split(),
    *("9" * 30, "1" * 400, "0." + "3" * 30),
)
ODD_STRINGS = (
    *r'"\ud800" "\ud800a" "\udc00" "\ud800\ud83d\ude00" "\ud800\n" "\ude00\ud83d" "\ud83dx\ude00" "\u12" "\x"'.split(),
    '"\t"',
)
TOKENS = [
    one.encode() for one in r'" \ { } [ ] , : 0 - . e / true null é 😀 \u00e9 \ud800 \udc00 \" \\ },{ {} [] "" 01 1e5 [1,2] ]}'.split()
]
TOKENS += [b'"a":1,', b'"eventName":"A",', b'"event\\u004eame":"A",', b'{"a":[]}', b',"eventSource":"iam.amazonaws.com"']
TOKENS += [b" ", b"\n", b"\xff", b"\x00", b"\x1f", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82"]


def happens(chance: random.Random, percent: float) -> bool:
    """True in so many cases of a hundred."""
    return chance.random() * 100 < percent


def _string(chance: random.Random) -> str:
    if happens(chance, 0.2):
        return chance.choice(ODD_STRINGS)
    inside = "".join(chance.choice(CHARACTERS) for _ in range(chance.randrange(5)))
    return f'"{inside}{"x" * chance.randrange(80) if happens(chance, 15) else ""}"'


def _number(chance: random.Random) -> str:
    return chance.choice(ODD_NUMBERS if happens(chance, 1) else NUMBERS)


def _value(chance: random.Random, depth: int = 0) -> str:
    if happens(chance, 0.3):
        deep = chance.choice((55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 128, 1020, 1022, 1024))
        return chance.choice(("[" * deep + "]" * deep, '{"a":' * deep + "1" + "}" * deep, '[{"a":' * deep + "0" + "}]" * deep))
    which = chance.randrange(6 if depth < 4 else 4)
    if which == 0:
        return _number(chance)
    if which == 1:
        return chance.choice(SCALARS)
    if which < 4:
        return _string(chance)
    if which == 4:
        return f"[{','.join(_value(chance, depth + 1) for _ in range(chance.randrange(4)))}]"
    return f"{{{','.join(f'{_string(chance)}:{_value(chance, depth + 1)}' for _ in range(chance.randrange(4)))}}}"


def _quoted(chance: random.Random, text: str) -> str:
    """A string, now and then with its first character escaped."""
    return f'"\\u{ord(text[0]):04x}{text[1:]}"' if text and happens(chance, 2) else f'"{text}"'


def _identity(chance: random.Random) -> str:
    kind = f'"type":{_quoted(chance, chance.choice(KINDS))}'
    if happens(chance, 60):
        return f'{{{kind},"userName":{_string(chance)}}}'
    more = f'"a":{_value(chance, 2)}'
    return chance.choice(
        (
            f"{{{kind}}}",
            f"{{{more},{kind},{more}}}",
            f'{{{kind},"type":"Root"}}',
            f'{{"type":{_value(chance, 2)}}}',
            f'{{"t\\u0079pe":"Root",{kind}}}',
            f'{{"more":{{"type":"Root"}},{kind}}}',
            '{"type":null,"type":"Root"}',
            '{"type":""}',
            "{}",
            "[]",
            f"[{{{kind}}}]",
            '"Root"',
            "null",
        )
    )


def _members(chance: random.Random) -> list[str]:
    """A record's members as AWS orders them."""
    return [
        f'"eventVersion":{_string(chance)}',
        f'"userIdentity":{_identity(chance)}',
        f'"eventTime":{_string(chance)}',
        f'"eventSource":{_quoted(chance, chance.choice(SOURCES))}',
        f'"eventName":{_quoted(chance, chance.choice(NAMES))}',
        *(f"{_string(chance)}:{_value(chance)}" for _ in range(chance.randrange(4))),
    ]


def _odd_members(chance: random.Random) -> list[str]:
    members = _members(chance)
    for _ in range(chance.randrange(1, 4)):
        which = chance.randrange(6)
        if which == 0 and members:
            members.pop(chance.randrange(len(members)))
        elif which == 1:
            chance.shuffle(members)
        elif which == 2 and members:
            members.append(chance.choice(members))
        else:
            name = chance.choice(
                ("eventName", "event\\u004eame", "eventSource", "userIdentity", "detail", "CloudTrailEvent", "Records", "eventVersion")
            )
            inner = f"{{{','.join(_members(chance))}}}"
            told = chance.choice((_value(chance), inner, f"[{inner},{_value(chance)}]", json.dumps(inner), '"Wanted"', '"A"', '"Root"'))
            members.insert(chance.randrange(len(members) + 1), f'"{name}":{told}')
    return members


def _record(chance: random.Random) -> str:
    if happens(chance, 50):
        return f"{{{','.join(_members(chance))}}}"
    if happens(chance, 70):
        return f"{{{','.join(_odd_members(chance))}}}"
    if happens(chance, 5):
        return _value(chance)
    return chance.choice(
        (
            "{}",
            '{"":[]}',
            '{"eventName":"A"}',
            '{"eventCategory":"Insight","a":1}',
            '{"digestStartTime":"x"}',
            '{"eventName":"Wanted","a":' + json.dumps("y" * 4_000) + "}",
            f'{{"detail":{{{",".join(_members(chance))}}}}}',
            f"{{{_string(chance)}:{_value(chance)}}}",
        )
    )


def _document(chance: random.Random, most_records: int) -> bytearray:
    records = ",".join(_record(chance) for _ in range(chance.randrange(1, most_records + 1)))
    return bytearray(f'{{"Records":[{records}]}}'.encode(errors="surrogatepass"))


def _moved(text: bytearray, chance: random.Random) -> bytearray:
    """With a record before all others, so long that something in the text falls on the border of a block or chunk."""
    before, after = b'{"Records":[', b'{"eventName":"A","pad":"'
    what = chance.choice(
        (
            re.compile(rb"\\"),
            re.compile(rb"[\[\]{}]"),
            re.compile(rb'["]'),
            re.compile(rb"[-\dtfn]"),
            re.compile(rb"[\x80-\xff]"),
            re.compile(rb"[,:]"),
        )
    )
    places = [found.start() for found in what.finditer(text)] or [len(text)]
    pad = -(chance.choice(places) + len(after) + 3) % chance.choice(BORDERS) + chance.randrange(-3, 4)
    pad += 4096 * chance.randrange(3) if happens(chance, 30) else 0
    return bytearray(before + after + b"x" * max(pad, 0) + b'"},' + text[len(before) :])


def _damage(text: bytearray, chance: random.Random) -> None:
    structure = [found.start() for found in re.finditer(rb'[{}\[\]:,"\\]', text)]
    at = chance.choice(structure) + chance.randrange(-1, 2) if structure and happens(chance, 70) else chance.randrange(len(text) + 1)
    at = min(max(at, 0), len(text))
    which = chance.randrange(7)
    if which < 2:
        text[at : at + 1] = chance.choice(TOKENS)
    elif which < 4:
        text[at:at] = chance.choice(TOKENS)
    elif which == 4:
        del text[at : at + chance.choice((1, 1, 2, 5))]
    elif which == 5:
        text[at:at] = text[at : at + chance.randrange(1, 60)]
    elif at < len(text):
        text[at] ^= 1 << chance.randrange(8)


def made(chance: random.Random, most_records: int = 8) -> bytes:
    """A text of the form AWS writes, ordinary or odd, and every other one damaged."""
    text = _document(chance, most_records)
    if happens(chance, 60):
        text = _moved(text, chance)
    if happens(chance, 50):
        for _ in range(chance.randrange(1, 4)):
            _damage(text, chance)
    if happens(chance, 10):
        text += chance.choice((b"\n", b"\r\n", b" \t", b"\x0b", b"\0", b"\n]}"))
    return bytes(text)
