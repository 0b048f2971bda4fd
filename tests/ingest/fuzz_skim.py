"""Made-up CloudTrail texts, whole and damaged, read with the compiled pass and without it: `make fuzz` looks for one that is read differently.

`made(chance)` writes a text, `examine(text)` raises `AssertionError` where the pass says what it may not say, or where a `Trail` depends on it. The tests
use both, with few texts; from the command line they go on for as long as one likes, and what is found lies in a file with the way to run it again.
"""

# ruff: noqa: SIM905  # a list of tokens is read best as a line of them
from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.util
import json
import os
import random
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from array import array
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import fastsimdjson

from worker.ingest import lazy, skim, trail
from worker.ingest.trail import Bounds, Trail
from worker.model import Interest, Origin

Key = tuple[str | None, str, str | None]

WANTED = Interest(
    pairs=frozenset({("iam.amazonaws.com", "deleteinstanceprofile")}), names=frozenset({"wanted"}), identity_types=frozenset({"root"})
)
ORIGIN = Origin(path="made up")
BOUNDS = Bounds(inflated_bytes=100_000_000, record_bytes=3_000)
PIECES = (60, 400, 3_000, 1_000_000)
BORDERS = (32, 64, 4096)

# Texts are written by chance, which may be Python's or Hypothesis's.

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


def _is(chance: random.Random, percent: float) -> bool:
    return chance.random() * 100 < percent


def _string(chance: random.Random) -> str:
    if _is(chance, 0.2):
        return chance.choice(ODD_STRINGS)
    inside = "".join(chance.choice(CHARACTERS) for _ in range(chance.randrange(5)))
    return f'"{inside}{"x" * chance.randrange(80) if _is(chance, 15) else ""}"'


def _number(chance: random.Random) -> str:
    return chance.choice(ODD_NUMBERS if _is(chance, 1) else NUMBERS)


def _value(chance: random.Random, depth: int = 0) -> str:
    if _is(chance, 0.3):
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
    return f'"\\u{ord(text[0]):04x}{text[1:]}"' if text and _is(chance, 2) else f'"{text}"'


def _identity(chance: random.Random) -> str:
    kind = f'"type":{_quoted(chance, chance.choice(KINDS))}'
    if _is(chance, 60):
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
    if _is(chance, 50):
        return f"{{{','.join(_members(chance))}}}"
    if _is(chance, 70):
        return f"{{{','.join(_odd_members(chance))}}}"
    if _is(chance, 5):
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
    pad += 4096 * chance.randrange(3) if _is(chance, 30) else 0
    return bytearray(before + after + b"x" * max(pad, 0) + b'"},' + text[len(before) :])


def _damage(text: bytearray, chance: random.Random) -> None:
    structure = [found.start() for found in re.finditer(rb'[{}\[\]:,"\\]', text)]
    at = chance.choice(structure) + chance.randrange(-1, 2) if structure and _is(chance, 70) else chance.randrange(len(text) + 1)
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
    if _is(chance, 60):
        text = _moved(text, chance)
    if _is(chance, 50):
        for _ in range(chance.randrange(1, 4)):
            _damage(text, chance)
    if _is(chance, 10):
        text += chance.choice((b"\n", b"\r\n", b" \t", b"\x0b", b"\0", b"\n]}"))
    return bytes(text)


# What may be said about a text: by Python's own json, which has nothing in common with what is examined.


def _refuse(told: str) -> None:
    raise ValueError(told)


def _float(told: str) -> float:
    number = float(told)
    if number in {float("inf"), float("-inf")}:
        raise ValueError(told)
    return number


def _first_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))


DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_float, object_pairs_hook=_first_of_each)
HEAD = '{"Records":['
OUTSIDE_STRINGS = re.compile(r'"(?:[^"\\]|\\.)*"')


class Span(NamedTuple):
    number: int
    begin: int
    end: int


def plain_records(text: bytes) -> dict[Span, Any] | None:
    """The records of a text in the one plain form, by where they stand; None for any other text."""
    try:
        text.decode()
        told = text.decode("latin-1")  # so that a position is a byte's
        told = told.rstrip(" \t\r\n")
        if not told.startswith(HEAD) or re.search(r"\s", OUTSIDE_STRINGS.sub("", told)):
            return None
        records: dict[Span, Any] = {}
        at = len(HEAD)
        while True:
            record, end = DECODER.raw_decode(told, at)
            record = DECODER.decode(text[at:end].decode())
            json.dumps(record, ensure_ascii=False).encode()  # raises for half a surrogate pair
            if not isinstance(record, dict):
                return None
            records[Span(len(records) + 1, at, end)] = record
            if told[end:] == "]}":
                return records
            if told[end : end + 1] != ",":
                return None
            at = end + 1
    except (ValueError, RecursionError):
        return None


def key_of(record: Any) -> tuple[str | None, ...]:
    """A record's eventSource, eventName and userIdentity.type; None for what is absent or no string."""
    identity = record.get("userIdentity")
    told = record.get("eventSource"), record.get("eventName"), identity.get("type") if isinstance(identity, dict) else None
    return tuple(one if isinstance(one, str) else None for one in told)


def _depth(text: str) -> int:
    deepest = depth = 0
    for bracket in re.findall(r"[\[\]{}]", OUTSIDE_STRINGS.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def is_ordinary(text: bytes) -> bool:
    """Whether a plain text has nothing that the pass leaves to others: deep nesting, long numbers, large exponents."""
    numbers = re.findall(r"[-+.\deE]+", OUTSIDE_STRINGS.sub("", text.decode()))
    return (
        len(text.rstrip()) >= 64
        and _depth(text.decode()) <= 60
        and not any(len(one) > 18 or re.search(r"[eE][-+]?\d{3}", one) for one in numbers)
    )


def exact_size(text: bytes) -> array[int]:
    """The bytes in memory of exactly their size (a bytes object has one more), so that a sanitizer sees a read behind them."""
    return array("B", text)[:]


def check_skim(skimmer: Any, known: set[Key], text: bytes, most: int) -> bool:
    """Whether the text is taken as plain. What is said of it must hold; nothing may be said of any other."""
    told = skimmer.skim(exact_size(text), most)
    records = plain_records(text)
    if told is None:
        may_be_wanted = [record for record in (records or {}).values() if key_of(record) not in known]
        assert records is None or not is_ordinary(text) or len(may_be_wanted) > most or b"\\" in text, "a plain text is not known as one"
        return False
    assert records is not None, "what is not plain is taken"
    assert isinstance(lazy.parse(text), fastsimdjson.Object), "the exact parser would not have taken it"
    count, wanted = told
    assert count == len(records)
    assert len(wanted) <= max(most, 0)
    assert wanted == sorted(set(wanted))
    assert set(wanted) <= set(records), "a span that is no record"
    for span, record in records.items():
        if span not in wanted:
            assert key_of(record) in known, "a record is left out that nobody called dull"
        else:
            assert key_of(record) not in known or b"\\" in text[span.begin : span.end], "a dull record is not left out"
    return True


# With the pass and without it.


class Blind:
    """A skimmer without its compiled part."""

    def add(self, source: str | None, name: str, kind: str | None) -> None:
        """Nothing is learnt."""

    def skim(self, text: bytes | bytearray) -> None:
        """Nothing is known."""


def sieve(*, blind: bool) -> trail._Sieve:
    """A sieve of its own, so that what one reader has learnt is not another's."""
    made = trail._Sieve(WANTED)
    if blind:
        made.skimmer = Blind()  # type: ignore[assignment]
    return made


def told_by(one: trail._Sieve, text: bytes, piece_bytes: int) -> list[str]:
    """Everything that reading gives, in words: so that order, the sign of a zero and the kind of a number count."""
    with patch.object(trail, "_sieve", lambda _: one):
        found: list[Trail] = list(trail.pieces(text, ORIGIN, WANTED, BOUNDS, piece_bytes=piece_bytes))
    told = [
        f"{sum(len(piece.records) for piece in found)} records of {sum(piece.seen for piece in found)}",
        f"{found[-1].inflated_bytes} bytes",
        f"{found[-1].faults}",
        f"{found[-1].skipped}",
    ]
    boxes: list[Any] = [record.event for piece in found for record in piece.records]
    while boxes:  # without recursion: events may be nested deeper than Python's repr goes
        box = boxes.pop()
        told.append(f"{list(box)}" if isinstance(box, dict) else f"{len(box)}")
        for value in box.values() if isinstance(box, dict) else box:
            if isinstance(value, dict | list):
                boxes.append(value)
            else:
                told.append(f"{value!r}")
    assert all(record.origin == ORIGIN for piece in found for record in piece.records)
    return told


class Examiner:
    """Examines texts, and remembers between them what a worker would remember."""

    def __init__(self) -> None:
        self._skimmer = skim._skim.Skimmer()
        self._known: set[Key] = set()
        self._warm, self._exact = sieve(blind=False), sieve(blind=True)

    def examine(self, text: bytes, chance: random.Random) -> bool:
        """Whether the text was taken as plain; raises AssertionError where the pass differs from the exact way."""
        if _is(chance, 10):
            self._skimmer, self._known = skim._skim.Skimmer(), set()
        if _is(chance, 30):
            key = (chance.choice((*SOURCES, None)), chance.choice(NAMES), chance.choice((*KINDS, None)))
            assert self._skimmer.add(*key)
            self._known.add(key)
        taken = check_skim(self._skimmer, self._known, text, chance.choice((3, 1, 0)) if _is(chance, 15) else 1000)
        piece_bytes = chance.choice(PIECES)
        with_pass = told_by(sieve(blind=False) if _is(chance, 10) else self._warm, text, piece_bytes)
        without = told_by(sieve(blind=True) if _is(chance, 10) else self._exact, text, piece_bytes)
        assert with_pass == without, "a Trail depends on the pass"
        return taken


class Counts(NamedTuple):
    texts: int
    taken: int
    refused: int


def run(seed: int, go_on: Callable[[int], bool]) -> Counts:
    """Make and examine texts for as long as `go_on` says for how many there were. A finding is an exception with the text as `text`."""
    chance, examiner = random.Random(seed), Examiner()
    texts = taken = 0
    while go_on(texts):
        text = made(chance)
        texts += 1
        try:
            taken += examiner.examine(text, chance)
        except Exception as error:
            error.text = text  # type: ignore[attr-defined]
            raise
    return Counts(texts, taken, texts - taken)


# The same under sanitizers: a build of its own, in a child process.

C_SOURCES = Path(skim.__file__).parent
SANITIZED = (
    "-std=c11",
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-shared",
    "-fPIC",
)


def sanitizer() -> str | None:
    """The library that a sanitized part needs loaded before all others; None where there is none, or no compiler."""
    if shutil.which("gcc") is None:
        return None
    library = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    return library if Path(library).is_absolute() else None


def build_sanitized(sources: Path, into: Path) -> Path:
    """The compiled part of a folder's sources, with every access to memory watched."""
    built = into / "_skim.abi3.so"
    headers = sysconfig.get_path("include")
    subprocess.run(["gcc", *SANITIZED, f"-I{headers}", *map(str, sorted(sources.glob("*.c"))), "-o", str(built)], check=True)
    return built


def run_sanitized(built: Path, library: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run this file in a child process with a sanitized build."""
    root = Path(__file__).resolve().parents[2]
    watched = {"LD_PRELOAD": library, "PYTHONMALLOC": "malloc", "ASAN_OPTIONS": "detect_leaks=0", "PYTHONPATH": str(root)}
    command = [sys.executable, "-m", "tests.ingest.fuzz_skim", "--extension", str(built), *arguments]
    return subprocess.run(
        command, cwd=root, env={**os.environ, **watched}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def load(built: Path) -> None:
    """Take a build from elsewhere for the compiled part."""
    spec = importlib.util.spec_from_file_location("_skim", built)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    skim._skim, skim.AVAILABLE = module, True
    skim.Known = module.Skimmer  # type: ignore[attr-defined]


def kept_bytes(rounds: int) -> int:
    """How much more memory is in use, as the sanitizer counts it, after everything was done many times that takes some."""
    in_use = ctypes.CDLL(None).__sanitizer_get_current_allocated_bytes
    in_use.restype = ctypes.c_size_t
    record = '{"eventName":"Wanted","pad":"' + "x" * 40 + '"}'
    whole = f"{HEAD}{','.join([record] * 200)}]}}".encode()
    broken = whole[:-2] + b',{"a":tr}]}'

    def use() -> None:
        one: Any = skim._skim.Skimmer()
        for number in range(5_000):  # more than it has room for at first
            one.add(f"source {number}", f"name {number}", None)
            one.add(f"source {number}", f"name {number}", None)
        one.add("s" * 2_000, "n", "k")
        one.add("\ud800", "n", "k")
        assert len(one.skim(whole, 1_000)[1]) == 200
        assert one.skim(whole, 100) is one.skim(broken, 1_000) is None
        for argument in (whole.decode(), memoryview(whole)[::2]):
            with suppress(TypeError, BufferError):
                one.skim(argument, 1)

    for _ in range(3):
        use()
    gc.collect()
    before = in_use()
    for _ in range(rounds):
        use()
    gc.collect()
    return int(in_use()) - int(before)


def main(arguments: list[str] | None = None) -> int:
    """Examine texts until the time is over, or something is found."""
    options = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    options.add_argument("--seconds", type=float, default=60)
    options.add_argument("--texts", type=int, help="stop after so many")
    options.add_argument("--seed", type=int, help="begin as an earlier run did; by default anew")
    options.add_argument("--sanitized", action="store_true", help="watch every access to memory (needs gcc and its sanitizers)")
    options.add_argument("--extension", type=Path, help="a build of the compiled part from elsewhere")
    options.add_argument(
        "--leaks", type=int, help="instead, do everything so many times and say how much memory was not given back (sanitized)"
    )
    options.add_argument("--found", type=Path, default=Path("skim-finding.json"), help="where the text goes that is read differently")
    told = options.parse_args(arguments)
    if told.sanitized:
        library = sanitizer()
        if library is None:
            print("no gcc here, or none with sanitizers")
            return 1
        with tempfile.TemporaryDirectory() as folder:
            passed_on = [one for one in sys.argv[1:] if one != "--sanitized"]
            done = run_sanitized(build_sanitized(C_SOURCES, Path(folder)), library, *passed_on)
        print(done.stdout, end="")
        return done.returncode
    if told.extension is not None:
        load(told.extension)
    if not skim.AVAILABLE:
        print("the compiled part is not built: nothing to compare")
        return 1
    if told.leaks:
        print(f"{kept_bytes(told.leaks)} bytes more in use after {told.leaks} rounds")
        return 0
    seed = random.SystemRandom().randrange(2**32) if told.seed is None else told.seed
    until = time.monotonic() + told.seconds
    print(f"seed {seed}", flush=True)
    try:
        counts = run(seed, lambda texts: time.monotonic() < until and (told.texts is None or texts < told.texts))
    except Exception as error:  # noqa: BLE001  # reading never raises: whatever it is, it is a finding
        told.found.write_bytes(error.text)  # type: ignore[attr-defined]
        print(f"FOUND: {error!r}\nthe text is in {told.found}; again with: python -m tests.ingest.fuzz_skim --seed {seed}")
        return 1
    print(f"{counts.texts} texts: {counts.taken} taken, {counts.refused} left to the exact way, none read differently")
    return 0


if __name__ == "__main__":
    sys.exit(main())
