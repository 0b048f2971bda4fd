"""How long from an object's notification to the remediation task on its queue, at four fifths of what one worker can do.

What it can do is measured first, on the same traffic: some objects in a hundred tell of a deleted instance profile, each of them a finding with a
task. Notifications then come at an even pace. The time is from when one was put on the queue to the task's SendMessageBatch reaching
the stub; the calls that enrich the finding are made and refused at once, so what AWS would take for them comes on top.
"""

from __future__ import annotations

import sys
from statistics import median, quantiles

import orjson

from benchmarks.fleet import CORES, TASKS, BenchError, Fleet, Run
from benchmarks.results import record
from benchmarks.traffic import Round

SHARE = 0.003
LOAD = 0.8
OBJECTS = 4_000
BURSTS = 4
PACED_SECONDS = 15.0


def main() -> int:
    """Measure, print and write the results."""
    with Fleet(SHARE, mendable=True, stub_core=CORES[-1]) as fleet:
        worker = fleet.worker("worker", "q-worker", core=CORES[0])
        warm, *bursts = fleet.traffic.rounds(BURSTS, OBJECTS)
        fleet.run(warm, worker)
        can = OBJECTS / median(fleet.run(given, worker).seconds for given in bursts)
        [paced] = fleet.traffic.rounds(1, round(LOAD * can * PACED_SECONDS))
        run = fleet.run(paced, worker, per_second=LOAD * can, seconds=3 * PACED_SECONDS)
        took = sorted(_latencies(fleet.told(TASKS)["sent"], paced, run, LOAD * can))
    if len(took) != len(paced.deleted):
        raise BenchError(f"{len(took)} tasks were put for {len(paced.deleted)} deleted profiles")
    cut = quantiles(took, n=100)
    row = {
        "objects_per_second": round(LOAD * can),
        "load": LOAD,
        "tasks": len(took),
        "p50_ms": round(1e3 * cut[49], 1),
        "p99_ms": round(1e3 * cut[98], 1),
        "worker_share_of_core": round(run.cpu_seconds / run.seconds, 2),
    }
    print(f"one worker can do {can:,.0f} objects/s; at {LOAD:.0%} of that, {len(took)} tasks:")
    print(f"p50 {row['p50_ms']} ms, p99 {row['p99_ms']} ms; the worker's core was busy for {row['worker_share_of_core']:.0%}")
    record("latency", [row])
    return 0


def _latencies(sent: list[tuple[float, str]], paced: Round, run: Run, per_second: float) -> list[float]:
    """The seconds of each task of the paced round; SQS's requests and the tasks in them are JSON."""
    took = []
    for at, request in sent:
        for entry in orjson.loads(request)["Entries"]:
            number = paced.deleted.get(orjson.loads(entry["MessageBody"])["target"]["name"])
            if number is not None:
                took.append(at - run.began - number / per_second)
    return took


if __name__ == "__main__":
    sys.exit(main())
