"""What a second process brings on two cores: the same rounds for one worker and for two on a queue and a state file that they share.

Nothing is pinned: the workers and the stub share what there is, and the stub's share of the cores is told, since it limits the ratio. So is how many
messages had to come again, because one worker was busy with what the other found too.
"""

from __future__ import annotations

import sys
from statistics import median

from benchmarks.fleet import CORES, Fleet, Run, Runner
from benchmarks.results import record
from benchmarks.rounds import ROUNDS

OBJECTS = 12_000
SHARE = 0.003
SUPERVISED = True
"""Whether the two are children of one worker (TRAILMEND_PROCESSES), or two workers that somebody started side by side."""


def main() -> int:
    """Measure, print and write the results."""
    with Fleet(SHARE) as fleet:
        warm, *rounds = fleet.traffic.rounds(ROUNDS + 1, OBJECTS)
        runners = {1: [fleet.worker("one", "q-one", state="one")], 2: _two(fleet)}
        runs: dict[int, list[Run]] = {processes: [] for processes in runners}
        for given in (warm, *rounds):
            for processes, workers in runners.items():
                run = fleet.run(given, *workers)
                if given is not warm:
                    runs[processes].append(run)
        returned = {processes: fleet.settle(workers[0]) for processes, workers in runners.items()}
    print(f"{len(CORES)} cores, {OBJECTS} objects a round, {ROUNDS} rounds")
    print(f"{'processes':>9} {'objects/s':>10} {'CPU us/object':>14} {'came again':>11} {'stub, share of the cores':>25}")
    rows = []
    for processes, of in runs.items():
        row = {
            "processes": processes,
            "objects_per_second": round(OBJECTS / median(run.seconds for run in of)),
            "cpu_us_per_object": round(1e6 * median(run.cpu_seconds for run in of) / OBJECTS),
            "came_again": returned[processes],
            "stub_share_of_cores": round(median(run.stub_cpu_seconds / run.seconds for run in of) / len(CORES), 3),
        }
        rows.append(row)
        print(
            f"{processes:>9} {row['objects_per_second']:>10,} {row['cpu_us_per_object']:>14} {row['came_again']:>11} {row['stub_share_of_cores']:>25.0%}"
        )
    ratio = round(median(run.seconds for run in runs[1]) / median(run.seconds for run in runs[2]), 2)
    print(f"two processes do {ratio} times the work of one")
    record("cores", [*rows, {"cores": len(CORES), "two_against_one": ratio}])
    return 0


def _two(fleet: Fleet) -> list[Runner]:
    if SUPERVISED:
        return [fleet.worker("two", "q-two", state="two", processes=2)]
    return [fleet.worker(f"two-{number}", "q-two", state="two") for number in range(2)]


if __name__ == "__main__":
    sys.exit(main())
