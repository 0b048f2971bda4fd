"""What an object costs the whole worker, from queue to delete, beside the plainest correct loop on the same messages.

Both run all the time, pinned to one core, with the stub on another; each gets the rounds in turn. The ratio is that of the median times. Says also
what share of its core the stub took, since it must not be the limit, and refuses to tell a figure when not all was deleted,
or when the worker counts other objects or records than there were.
"""

from __future__ import annotations

import json
import signal
import sys
from statistics import median

from benchmarks.fleet import CORES, BenchError, Fleet, Run, Runner, counted
from benchmarks.results import record
from benchmarks.rounds import ROUNDS
from benchmarks.traffic import Round

OBJECTS = 3_000
SHARE = 0.003
"""Of all records, those that somebody wants: *decode*'s middle one."""


def main() -> int:
    """Measure, print and write the results."""
    with Fleet(SHARE, stub_core=CORES[-1]) as fleet:
        warm, *rounds = fleet.traffic.rounds(ROUNDS + 1, OBJECTS)
        worker = fleet.worker("worker", "q-worker", core=CORES[0])
        plain = fleet.plain("q-plain", core=CORES[0])
        runs: dict[str, list[Run]] = {"worker": [], "plain": []}
        for given in (warm, *rounds):
            for name, runner in (("worker", worker), ("plain", plain)):
                run = fleet.run(given, runner)
                if given is not warm:
                    runs[name].append(run)
        fleet.settle(worker)
        _check(worker, plain, [warm, *rounds])
    seconds = {name: median(run.seconds for run in of) for name, of in runs.items()}
    rows = [_row(name, of) for name, of in runs.items()]
    print(f"{OBJECTS} objects a round, {rounds[0].records / OBJECTS:.1f} records each, {rounds[0].wanted} wanted, {ROUNDS} rounds")
    print(f"{'':>8} {'objects/s':>10} {'CPU us/object':>14} {'stub, share of a core':>22}")
    for row in rows:
        print(f"{row['who']:>8} {row['objects_per_second']:>10,} {row['cpu_us_per_object']:>14} {row['stub_share']:>22.0%}")
    ratio = round(seconds["plain"] / seconds["worker"], 2)
    print(f"the worker's rate is {ratio} times the plain loop's")
    record("objects", [*rows, {"times_plain": ratio, "records_per_object": round(rounds[0].records / OBJECTS, 2)}])
    return 0


def _row(name: str, runs: list[Run]) -> dict[str, float | str]:
    return {
        "who": name,
        "objects_per_second": round(OBJECTS / median(run.seconds for run in runs)),
        "cpu_us_per_object": round(1e6 * median(run.cpu_seconds for run in runs) / OBJECTS),
        "stub_share": round(median(run.stub_cpu_seconds / run.seconds for run in runs), 3),
    }


def _check(worker: Runner, plain: Runner, rounds: list[Round]) -> None:
    expected = (sum(one.objects for one in rounds), sum(one.records for one in rounds), sum(one.wanted for one in rounds))
    told = counted(worker)
    found = tuple(int(told[f"trailmend_{name}_total"]) for name in ("objects_read", "records", "records_interesting"))
    plain.child.process.send_signal(signal.SIGTERM)
    plain.child.process.wait(10)
    also = json.loads(plain.child.tail(1))
    for who, counts in (("worker", found), ("plain loop", (also["objects"], also["records"], also["wanted"]))):
        if counts != expected:
            raise BenchError(f"the {who} counted {counts} objects, records and wanted records, but there were {expected}")


if __name__ == "__main__":
    sys.exit(main())
