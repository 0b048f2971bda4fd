"""What one object takes in memory: a worker's peak over its idle size, by the size of the object's text, and how long its loop was away meanwhile.

One worker gets one object at a time, of real records where `../shared/data` has them. The peak is the kernel's (VmHWM, reset before each). All the while
`/healthz` is asked every few milliseconds: it is answered by the loop, so the longest answer is the longest stall of heartbeats and holds.
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Self

from benchmarks.fleet import Fleet, Runner
from benchmarks.results import record
from benchmarks.traffic import BUCKET, Round

MEGABYTES = (2, 20, 200)


def main() -> int:
    """Measure, print and write the results."""
    rows = []
    print(f"{'inflated MB':>11} {'records':>8} {'seconds':>8} {'over idle':>10} {'longest /healthz':>17}")
    with Fleet(0.0) as fleet:
        worker = fleet.worker("worker", "q-memory")
        fleet.run(_object(fleet, 1)[0], worker)  # whatever is made at the first object is there from now on
        for megabytes in MEGABYTES:
            given, inflated = _object(fleet, megabytes)
            idle = _reset(worker)
            with Heartbeat(str(worker.metrics).replace("/metrics", "/healthz")) as heart:
                run = fleet.run(given, worker, seconds=60)
            over = _memory(worker, "VmHWM") - idle
            row = {
                "inflated_bytes": inflated,
                "records": given.records,
                "seconds": round(run.seconds, 2),
                "peak_over_idle_times_inflated": round(over / inflated, 2),
                "longest_healthz_ms": round(1e3 * heart.longest, 1),
            }
            rows.append(row)
            print(
                f"{inflated / 1e6:>11.1f} {given.records:>8} {run.seconds:>8.2f} {over / inflated:>9.2f}x {row['longest_healthz_ms']:>14.1f} ms"
            )
    record("memory", rows)
    return 0


class Heartbeat:
    """Asks a worker for its health again and again while the context lasts; `longest` is the longest that an answer took, in seconds."""

    def __init__(self, url: str) -> None:
        self.longest = 0.0
        self._url = url
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._over.wait(0.005):
            began = time.monotonic()
            urllib.request.urlopen(self._url, timeout=60).close()  # noqa: S310  # loopback
            self.longest = max(self.longest, time.monotonic() - began)


def _object(fleet: Fleet, megabytes: int) -> tuple[Round, int]:
    """A round of one object that inflates to so many megabytes."""
    texts = [json.dumps(event, separators=(",", ":")) for event in fleet.traffic.dull]
    size = 0
    told: list[str] = []
    while size < megabytes * 1_000_000:
        told.append(texts[len(told) % len(texts)])
        size += len(told[-1]) + 1
    body = ('{"Records":[' + ",".join(told) + "]}").encode()
    name = f"{BUCKET}/memory/{megabytes}.json.gz"
    path = fleet.traffic.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(body, 1))
    file = fleet.traffic.folder.parent / f"memory-{megabytes}.txt"
    file.write_text(name, encoding="utf-8")
    return Round(file, 1, len(told), 0, {}), len(body)


def _reset(worker: Runner) -> int:
    """Forget the peak so far; answers what is resident now, in bytes."""
    time.sleep(1)  # what the last object held goes back first
    Path(f"/proc/{worker.child.process.pid}/clear_refs").write_text("5", encoding="ascii")
    return _memory(worker, "VmRSS")


def _memory(worker: Runner, kind: str) -> int:
    lines = Path(f"/proc/{worker.child.process.pid}/status").read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:"))


if __name__ == "__main__":
    sys.exit(main())
