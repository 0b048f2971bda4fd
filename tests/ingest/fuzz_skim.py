"""Made-up CloudTrail texts, whole and damaged, read with the compiled pass and without it: `make fuzz` looks for one that is read differently.

`made_texts.py` writes them, `examine(text)` raises `AssertionError` where the pass says what it may not say, or where a `Trail` depends on it. The tests
use both, with few texts; from the command line they go on for as long as one likes, and what is found lies in a file with the way to run it again.
"""

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

from tests.ingest.made_texts import KINDS, NAMES, SOURCES, happens, made
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
        if happens(chance, 10):
            self._skimmer, self._known = skim._skim.Skimmer(), set()
        if happens(chance, 30):
            key = (chance.choice((*SOURCES, None)), chance.choice(NAMES), chance.choice((*KINDS, None)))
            assert self._skimmer.add(*key)
            self._known.add(key)
        taken = check_skim(self._skimmer, self._known, text, chance.choice((3, 1, 0)) if happens(chance, 15) else 1000)
        piece_bytes = chance.choice(PIECES)
        with_pass = told_by(sieve(blind=False) if happens(chance, 10) else self._warm, text, piece_bytes)
        without = told_by(sieve(blind=True) if happens(chance, 10) else self._exact, text, piece_bytes)
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
