"""What reading costs, from compressed bytes to matching records, beside the bare cost of inflating: `make bench` prints it.

Objects are made of real records where `../shared/data` is there and of made-up ones otherwise, each with ids of its own, in four sizes and with
three shares of records that the shipped rules want. Every figure is a ratio of medians over interleaved rounds.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import deflate
import orjson

from benchmarks.corpus import BOUNDS, SHARED, loose_records, worker_interest
from benchmarks.results import record
from benchmarks.rounds import ROUNDS, medians
from worker.ingest import skim, trail
from worker.model import Interest, Origin

RECORDS_A_ROUND = 4_000
DECODE_ROUNDS = 3 * ROUNDS
"""A round takes milliseconds, and what else a machine does comes in bursts."""
SIZES = (5, 100, 1_000, 20_000)
SHARES = (0.0, 0.003, 0.05)


def main() -> int:
    """Measure every size with every share, print the table and write the results."""
    interest = worker_interest()
    records = loose_records()
    wanted = [record for record in records if _wants(record, interest)]
    others = [record for record in records if not _wants(record, interest)]
    chance = random.Random(4)  # noqa: S311  # draws records, guards nothing
    rows = []
    made_up = "" if SHARED.is_dir() else " (made up: no shared data here)"
    print(f"{len(records)} records{made_up}, {len(wanted)} of them wanted{'' if skim.WHY_NOT is None else f'; {skim.WHY_NOT}'}")
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
    record("decode", rows)
    return 0


def _wants(record: dict[str, Any], interest: Interest) -> bool:
    identity = record.get("userIdentity") or {}
    return interest.wants(record.get("eventSource"), record.get("eventName", ""), identity.get("type"))


def _object(wanted: Sequence[dict[str, Any]], others: Sequence[dict[str, Any]], size: int, share: float, chance: random.Random) -> bytes:
    drawn = [chance.choice(wanted if chance.random() < share else others) for _ in range(size)]
    told = [{**record, "eventID": f"{chance.getrandbits(128):032x}", "requestID": f"{chance.getrandbits(128):032x}"} for record in drawn]
    return gzip.compress(json.dumps({"Records": told}, separators=(",", ":")).encode())


def _ratios(objects: Sequence[bytes], interest: Interest) -> dict[str, float]:
    """How our rate compares with that of each baseline on the same objects, after a look that all find as many records."""

    def ours(body: bytes) -> int:
        return len(trail.read(body, Origin(path="bench"), interest, BOUNDS).records)

    def gzip_json(body: bytes) -> int:
        return sum(_wants(record, interest) for record in json.loads(gzip.decompress(body))["Records"])

    def zlib_orjson(body: bytes) -> int:
        return sum(_wants(record, interest) for record in orjson.loads(zlib.decompress(body, wbits=31))["Records"])

    def libdeflate(body: bytes) -> int:
        return len(deflate.gzip_decompress(body, int.from_bytes(body[-4:], "little")))

    readers = {"ours": ours, "gzip_json": gzip_json, "zlib_orjson": zlib_orjson}
    found = {name: _total(reader, objects) for name, reader in readers.items()}
    if len(set(found.values())) != 1:
        raise SystemExit(f"the readers do not find the same records, so their times say nothing: {found}")
    times = medians({name: partial(_total, one, objects) for name, one in {**readers, "libdeflate": libdeflate}.items()}, DECODE_ROUNDS)
    return {
        "of_libdeflate": round(times["libdeflate"] / times["ours"], 3),
        "times_gzip_json": round(times["gzip_json"] / times["ours"], 3),
        "times_zlib_orjson": round(times["zlib_orjson"] / times["ours"], 3),
    }


def _total(count: Callable[[bytes], int], objects: Sequence[bytes]) -> int:
    return sum(map(count, objects))


if __name__ == "__main__":
    sys.exit(main())
