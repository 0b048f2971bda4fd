"""What reading costs, from compressed bytes to matching records, beside the bare cost of inflating: `make bench` prints it.

Objects are made of real records where `../shared/data` is there and of made-up ones otherwise, each with ids of its own, in four sizes and with
three shares of records that the shipped rules want. Every figure is a ratio of medians over interleaved rounds. Writes `results.json`.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import deflate
import orjson

from benchmarks.rules import BOUNDS, loose_records
from worker.detect.library import load
from worker.enrich import profile
from worker.ingest import trail
from worker.model import Interest, Origin

ROUNDS = 7
RECORDS_A_ROUND = 4_000
SIZES = (5, 100, 1_000, 20_000)
SHARES = (0.0, 0.003, 0.05)
RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Measure every size with every share, print the table and write the results."""
    interest = load([], shipped=True).interest | profile.INTEREST
    records = loose_records()
    wanted = [record for record in records if _wants(record, interest)]
    others = [record for record in records if not _wants(record, interest)]
    chance = random.Random(4)  # noqa: S311  # draws records, guards nothing
    rows = []
    print(f"{'records':>7} {'hits':>6} {'of libdeflate':>14} {'x gzip+json':>12} {'x zlib+orjson':>14}")
    for size in SIZES:
        for share in SHARES:
            objects = [_object(wanted, others, size, share, chance) for _ in range(max(1, RECORDS_A_ROUND // size))]
            row = {"records": size, "hits": share, **_ratios(objects, interest)}
            rows.append(row)
            print(
                f"{size:>7} {share:>6.1%} {row['of_libdeflate']:>14.2f} {row['times_gzip_json']:>12.2f} {row['times_zlib_orjson']:>14.2f}",
                flush=True,
            )
    RESULTS.write_text(json.dumps({"decode": rows}, indent=1) + "\n", encoding="utf-8")
    return 0


def _wants(record: dict[str, Any], interest: Interest) -> bool:
    identity = record.get("userIdentity") or {}
    return interest.wants(record.get("eventSource"), record.get("eventName", ""), identity.get("type"))


def _object(wanted: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], size: int, share: float, chance: random.Random) -> bytes:
    drawn = [chance.choice(wanted if chance.random() < share else others) for _ in range(size)]
    told = [{**record, "eventID": f"{chance.getrandbits(128):032x}", "requestID": f"{chance.getrandbits(128):032x}"} for record in drawn]
    return gzip.compress(json.dumps({"Records": told}, separators=(",", ":")).encode())


def _ratios(objects: Sequence[bytes], interest: Interest) -> dict[str, float]:
    """How our rate compares with that of each baseline on the same objects."""
    origin = Origin(path="bench")
    works: dict[str, Callable[[bytes], object]] = {
        "ours": lambda body: trail.read(body, origin, interest, BOUNDS),
        "libdeflate": lambda body: deflate.gzip_decompress(body, int.from_bytes(body[-4:], "little")),
        "gzip+json": lambda body: [one for one in json.loads(gzip.decompress(body))["Records"] if _wants(one, interest)],
        "zlib+orjson": lambda body: [one for one in orjson.loads(zlib.decompress(body, 31))["Records"] if _wants(one, interest)],
    }
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, work in works.items():
            began = perf_counter()
            for body in objects:
                work(body)
            took[name].append(perf_counter() - began)
    times = {name: median(seconds) for name, seconds in took.items()}
    return {
        "of_libdeflate": round(times["libdeflate"] / times["ours"], 3),
        "times_gzip_json": round(times["gzip+json"] / times["ours"], 3),
        "times_zlib_orjson": round(times["zlib+orjson"] / times["ours"], 3),
    }


if __name__ == "__main__":
    sys.exit(main())
