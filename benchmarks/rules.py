"""What a record costs by the number of rules: 10, 100, 1,000 and 3,000 of them, as ratios to 10.

The rules are SigmaHQ's for CloudTrail and copies of them with other literals; without `../shared/data` the shipped ones serve. Three sorts of copies: every literal
changed, every one but those of eventSource and eventName (so that all copies want the same records), and only patterns (contains,
startswith, endswith, re). Fewer rules than there are are those with most hits, and first one that names no event: so every record is
built at each size, nearly the same records match, and the ratio tells what rules cost that do not match.

Two costs per record, each the median of interleaved runs over the same records: `match` asks the rulebook of decoded records, `read` is the whole way from
the bytes of an object to findings. Only ratios of one run mean something; the microseconds are this machine's.
"""

from __future__ import annotations

import copy
import gzip
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import yaml

from benchmarks.corpus import BOUNDS, SHARED, whole_objects
from benchmarks.results import record
from benchmarks.rounds import medians
from worker.detect import library
from worker.detect.rulebook import Rulebook
from worker.ingest import trail
from worker.model import Origin, Record, stable_id

SIZES = (10, 100, 1_000, 3_000)
EVENT = ("eventSource", "eventName")
PATTERNS = ("contains", "startswith", "endswith", "re")

Changes = Callable[[str], bool]
"""Whether the literals under a key (a field with its modifiers) are changed in copies."""

SORTS: dict[str, Changes] = {
    "all literals": lambda _: True,
    "all but the event's": lambda key: key.split("|")[0] not in EVENT,
    "patterns": lambda key: any(part in PATTERNS for part in key.split("|")[1:]),
}


def main() -> int:
    """Print a table for each sort of copies."""
    folder = SHARED / "sigma" / "sigmahq"
    paths = sorted((folder if folder.is_dir() else library.SHIPPED).glob("*.yml"))
    rules = [rule for path in paths for rule in yaml.safe_load_all(path.read_text("utf-8")) if "detection" in rule]
    objects = list(whole_objects())
    records = [Record(event, Origin(path="x")) for body in objects for event in json.loads(gzip.decompress(body))["Records"]]
    book = book_of(rules)
    hits = Counter(finding.rule.title for record in records for finding in book.match(record).findings)
    unnamed = {one.rule.title for one in book.unindexed[:1]}
    rules = sorted(rules, key=lambda rule: (rule["title"] not in unnamed, -hits[rule["title"]], rule["title"]))
    print(
        f"{len(rules)} rules, {len(objects)} objects, {len(records)} records{'' if folder.is_dir() else ' (made up: no shared data here)'}"
    )
    rows: list[dict[str, Any]] = []
    for sort, changes in SORTS.items():
        books, seconds = {}, {}
        for size in SIZES:
            began = perf_counter()
            books[size] = book_of(copies(rules, size, changes))
            seconds[size] = perf_counter() - began
        rows += _tell(sort, books, seconds, records, objects)
    record("rules", rows)
    return 0


def book_of(rules: Iterable[Any]) -> Rulebook:
    """The rulebook of rules as YAML holds them."""
    return library.build([(f"{number}.yml", json.dumps(rule, default=str)) for number, rule in enumerate(rules)])


def _tell(
    sort: str, books: dict[int, Rulebook], seconds: dict[int, float], records: Sequence[Record], objects: Sequence[bytes]
) -> list[dict[str, Any]]:
    matched = _costs({size: partial(_match, book, records) for size, book in books.items()}, len(records))
    read = _costs({size: partial(_read, book, objects) for size, book in books.items()}, len(records))
    print(f"\nCopies with other literals: {sort}")
    print(f"{'rules':>6} {'match us':>9} {'ratio':>6} {'read us':>9} {'ratio':>6} {'findings':>9} {'load s':>7}")
    for size, book in books.items():
        print(
            f"{size:>6} {matched[size]:>9.2f} {matched[size] / matched[10]:>6.2f} {read[size]:>9.2f} {read[size] / read[10]:>6.2f} "
            f"{_match(book, records):>9} {seconds[size]:>7.2f}"
        )
    return [
        {
            "copies": sort,
            "rules": size,
            "match_times_ten": round(matched[size] / matched[10], 3),
            "read_times_ten": round(read[size] / read[10], 3),
        }
        for size in books
    ]


def _costs(works: Mapping[int, Callable[[], int]], count: int) -> dict[int, float]:
    """What each work costs in microseconds a record."""
    return {size: seconds / count * 1e6 for size, seconds in medians(works).items()}


def _match(book: Rulebook, records: Sequence[Record]) -> int:
    return sum(len(book.match(record).findings) for record in records)


def _read(book: Rulebook, objects: Sequence[bytes]) -> int:
    return sum(_match(book, trail.read(body, Origin(path="x"), book.interest, BOUNDS).records) for body in objects)


def copies(rules: Sequence[Any], size: int, changes: Changes) -> Iterator[Any]:
    """As many rules: the first ones as they are, then copies in rounds."""
    yield from rules[:size]
    changing = [rule for rule in rules if _changed("", rule["detection"], 1, changes) != rule["detection"]]
    for number in range(size - len(rules)):
        rule = copy.deepcopy(changing[number % len(changing)])
        rule["id"], rule["title"] = stable_id("copy", str(number)), f"{rule['title']} {number}"
        rule.pop("name", None)
        rule["detection"] = _changed("", rule["detection"], 1 + number // len(changing), changes)
        yield rule


def _changed(key: str, value: Any, turn: int, changes: Changes) -> Any:
    if isinstance(value, dict):
        return {one: under if one == "condition" else _changed(one, under, turn, changes) for one, under in value.items()}
    if isinstance(value, list):
        return [_changed(key, one, turn, changes) for one in value]
    if isinstance(value, str) and value and changes(key):
        return f"{value[:-1]}Q{turn}*" if value.endswith("*") and not value.endswith("\\*") else f"{value}Q{turn}"
    return value


if __name__ == "__main__":
    sys.exit(main())
