"""From the start of a process to its first receive, beside the same of the plain loop, which loads the same rules and the same AWS client.

What the page cache holds is warm, as it is for the second container on a machine; each worker makes its state file anew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from statistics import median

from benchmarks.fleet import Fleet, Runner
from benchmarks.results import record
from benchmarks.rounds import ROUNDS


def main() -> int:
    """Measure, print and write the results."""
    took: dict[str, list[float]] = {"worker": [], "plain": []}
    with Fleet(0.0) as fleet:
        for turn in range(ROUNDS + 1):  # the first one warms the page cache
            starts: dict[str, Callable[[str], Runner]] = {
                "worker": lambda queue: fleet.worker(queue, queue, state=queue),
                "plain": fleet.plain,
            }
            for name, start in starts.items():
                queue = f"{name}-{turn}"
                began = time.monotonic()
                start(queue).child.stop()
                if turn:
                    took[name].append(fleet.told(queue)["first_receive"] - began)
    row = {f"{name}_seconds": round(median(seconds), 3) for name, seconds in took.items()}
    print(f"start to first receive, median of {ROUNDS}: {row['worker_seconds']:.2f} s; the plain loop {row['plain_seconds']:.2f} s")
    record("startup", [{**row, "slowest_worker_seconds": round(max(took["worker"]), 3)}])
    return 0


if __name__ == "__main__":
    sys.exit(main())
