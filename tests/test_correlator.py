"""Correlations over a shared store find the same, whoever sees which record, when, how often, in which order, and whatever has been told by then."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.detect.correlations import START, book, record, watching
from tests.fakes import metrics, sample
from worker.correlator import Correlator, Hit
from worker.detect.offline import correlated
from worker.detect.rulebook import Matches, Rulebook
from worker.model import Record
from worker.state.sqlite import SqliteStore
from worker.state.store import Store

BY: dict[str, Any] = {"group_by": ["userIdentity.arn"]}
LATENESS = timedelta(seconds=60)
OPEN = [
    watching("event_count", "a", **BY, condition={"gte": 3}, title="Burst"),
    watching("event_count", "a", "b", condition={"gt": 4}, title="Crowd"),
    watching("value_count", "b", **BY, condition={"gte": 2, "field": "requestParameters.name"}, title="Spread"),
    watching("temporal", "a", "b", "c", **BY, title="All"),
    watching("temporal", **BY, condition="(a or b) and c", title="Either"),
    watching("temporal_ordered", "a", "b", "c", **BY, title="Chain"),
    watching("temporal_ordered", "burst", "spread", **BY, timespan="4s", title="Chained"),
    watching("event_count", "burst", **BY, timespan="1m", condition={"gte": 2}, title="Bursts"),
]
CLOSING = [
    watching("event_count", "a", **BY, condition={"eq": 2}, title="Pair"),
    watching("temporal", "a", "b", **BY, condition="a and not b", title="Alone"),
    watching("value_avg", "b", **BY, condition={"gte": 2, "field": "requestParameters.size"}, title="Heavy"),
    watching("event_count", "pair", **BY, timespan="1m", condition={"gte": 2}, title="Pairs"),
]
KNOWN = {
    "suppressions": [
        {
            "id": "known",
            "rules": [one["title"] for one in (*OPEN, *CLOSING)],
            "principal": "alice",
            "until": "2026-12-31",
            "reason": "a test of ours",
        }
    ]
}
BOOKS = {"plain": book(*OPEN, *CLOSING), "suppressing": book(*OPEN, *CLOSING, KNOWN)}
BOOK = BOOKS["plain"]

RECORDS = st.lists(
    st.builds(record, st.sampled_from("ABC"), st.integers(0, 45), st.sampled_from(["mallory", "alice"]), st.integers(0, 3)), max_size=24
)


class Time:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


def hits(records: Sequence[Record], rules: Rulebook = BOOK) -> list[Hit]:
    return [(rule, one) for one in records for rule in rules.match(one).hits]


def expected(records: Sequence[Record], rules: Rulebook = BOOK) -> set[str]:
    """What is found with everything at hand: the model that the live one is held to."""
    return {finding.id for matches in correlated(rules, hits(records, rules)) for finding in matches.findings}


def ids(found: Sequence[Matches]) -> set[str]:
    return {finding.id for matches in found for finding in matches.findings}


async def closed(worker: Correlator, found: set[str], rules: Rulebook = BOOK) -> None:
    async for judged in worker.due(rules):
        found |= ids(judged.matches)
        await worker.closed(judged.closing, "worker")


async def arriving(records: Sequence[Record], chance: Random, stores: Sequence[Store], rules: Rulebook) -> set[str]:
    """Two workers take the records in any order that keeps the lateness bound, some of them twice, in batches of any size, and at once.

    Some of what they find is told at once, and some only later or by nobody.
    """
    time = Time()
    workers = [Correlator(store, time, metrics(), LATENESS) for store in stores]
    copies = [one for one in records for _ in range(chance.choice([1, 1, 2]))]
    late = LATENESS.total_seconds() - 1
    arrivals = sorted(((one.time or START) + timedelta(seconds=chance.uniform(0, late)), number, one) for number, one in enumerate(copies))
    found: set[str] = set()
    while arrivals:
        batch, arrivals = arrivals[: (size := chance.randint(1, 6))], arrivals[size:]
        time.now = batch[0][0]
        await closed(chance.choice(workers), found, rules)
        mine = [one for _, _, one in batch if chance.random() < 0.5]
        others = [one for _, _, one in batch if not any(one is other for other in mine)]
        for answer in await asyncio.gather(workers[0].observe(rules, hits(mine, rules)), workers[1].observe(rules, hits(others, rules))):
            found |= ids(answer)
        await stores[0].settle([one for one in sorted(found) if chance.random() < 0.5], "worker", time.now)
    # A chain of closing ones is judged link by link.
    for _ in range(3):
        time.now += timedelta(hours=1)
        await closed(workers[0], found, rules)
    return found


@pytest.mark.parametrize("rules", BOOKS.values(), ids=BOOKS)
@given(records=RECORDS, chance=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_any_order_of_arrival_finds_the_same(rules: Rulebook, records: list[Record], chance: Random):
    """Late, twice, out of order, by two workers at once: the findings are those of the whole log read at leisure."""

    async def run() -> set[str]:
        store = await SqliteStore.open(":memory:")
        try:
            return await arriving(records, chance, [store, store], rules)
        finally:
            await store.close()

    assert asyncio.run(run()) == expected(records, rules)


def test_the_model_finds_something():
    """The property above compares sets that are not all empty: one story fulfils every correlation."""
    story = [
        *(record("A", second) for second in (0, 1, 2, 30, 31, 32)),
        record("A", 1, number=1),
        *(record("B", second, number=second) for second in (3, 4)),
        record("C", 5),
        *(record("A", second, "alice") for second in (20, 21, 40, 41)),
    ]
    found = {finding.rule.title for matches in correlated(BOOK, hits(story)) for finding in matches.findings}
    told = {one.rule.title for one in BOOK.correlations} - {one.rule.title for one in BOOK.correlations if one.rule.id in BOOK.silent}
    assert found == told
    assert "Chained" in told


async def test_every_end_of_an_inner_correlation_counts():
    """A burst that goes on is near what follows its last event, though it was found at its third."""
    store, story = await SqliteStore.open(":memory:"), [*(record("A", n) for n in range(5)), *(record("B", n, number=n) for n in (7, 8))]
    found = await Correlator(store, Time(), metrics(), LATENESS).observe(BOOK, hits(story))
    assert "Chained" in {finding.rule.title for matches in found for finding in matches.findings}
    assert ids(found) <= expected(story)
    await store.close()


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_suppressed_beginning_hides_no_end(order: tuple[int, ...]):
    """Two events of a known principal are suppressed; with a third of another it is told, however they come."""
    against = {"id": "known", "rules": ["Together"], "principal": "mallory", "until": "2026-12-31", "reason": "a test of ours"}
    counting = watching("event_count", "a", condition={"gte": 2}, timespan="1h")
    rules, story = book(counting, {"suppressions": [against]}), [record("A", 0), record("A", 1), record("A", 2, "alice")]
    for batches in ([[story[number] for number in order]], [[story[number]] for number in order]):
        store, found = await SqliteStore.open(":memory:"), set[str]()
        worker = Correlator(store, Time(), metrics(), LATENESS)
        for batch in batches:
            found |= ids(await worker.observe(rules, hits(batch, rules)))
        assert found == expected(story, rules) != set()
        await store.close()


async def test_late_records_do_not_reopen_a_span():
    """What was judged is judged once; a record that comes after is counted as late and changes nothing."""
    store, time, counted = await SqliteStore.open(":memory:"), Time(), metrics()
    worker, found = Correlator(store, time, counted, LATENESS), set[str]()
    await worker.observe(BOOK, hits([record("A", 0), record("A", 1)]))
    time.now += timedelta(hours=1)
    await closed(worker, found)
    assert len(found) > 0
    await worker.observe(BOOK, hits([record("A", 2)]))
    time.now += timedelta(hours=1)
    again = set[str]()
    await closed(worker, again)
    assert not again
    assert sum(sample(counted, "sightings_dropped_total", rule=one.rule.id, reason="late") for one in BOOK.correlations) > 0
    await store.close()


async def test_what_is_due_stays_due_until_it_is_told():
    """A worker that dies between judging and telling loses nothing: the span is judged again."""
    store, time = await SqliteStore.open(":memory:"), Time()
    worker = Correlator(store, time, metrics(), LATENESS)
    await worker.observe(BOOK, hits([record("A", 0), record("A", 1)]))
    time.now += timedelta(hours=1)
    first = [judged async for judged in worker.due(BOOK)]
    second = [judged async for judged in worker.due(BOOK)]
    assert ids([one for judged in first for one in judged.matches]) == ids([one for judged in second for one in judged.matches]) != set()
    await store.close()


async def test_a_changed_rule_gives_its_spans_up():
    """Spans of a rule that is no longer there, or means something else now, are abandoned, and counted."""
    store, time, counted = await SqliteStore.open(":memory:"), Time(), metrics()
    worker = Correlator(store, time, counted, LATENESS)
    await worker.observe(BOOK, hits([record("A", 0)]))
    time.now += timedelta(days=2)
    other = book(*OPEN)
    judged = [one async for one in worker.due(other)]
    assert judged
    assert not any(one.matches for one in judged)
    assert sample(counted, "windows_closed_total", rule="gone", outcome="abandoned") == len(judged)
    await store.close()


async def test_a_storm_is_thinned_out():
    """Of a storm are kept as many events as its correlation counts to, for each short while; a second delivery does not count."""
    rules = book(watching("event_count", "a", **BY, condition={"gte": 3}, timespan="1h"))
    store, counted = await SqliteStore.open(":memory:"), metrics()
    worker, found = Correlator(store, Time(), counted, LATENESS), set[str]()
    for _ in range(2):
        for number in range(50):
            found |= ids(await worker.observe(rules, hits([record("A", number, number=number)], rules)))
    (rule,) = rules.correlations
    assert len(found) == 1
    assert sample(counted, "sightings_dropped_total", rule=rule.rule.id, reason="crowded") == 2 * 46
    (window,) = {one.window for one in rule.sightings(rule.rules[0], record("A", 0))}
    assert len(await store.sightings(window, START, START + timedelta(hours=1), 1000)) == 4
    await store.close()


class Watched:
    """A store that counts how often windows are read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.reads = 0

    def __getattr__(self, name: str) -> Any:
        self.reads += name == "sightings"
        return getattr(self._store, name)


async def test_a_window_that_holds_too_little_is_not_read():
    """What no order of its sightings could fulfil is counted and left."""
    store = Watched(await SqliteStore.open(":memory:"))
    worker = Correlator(store, Time(), metrics(), LATENESS)
    assert await worker.observe(BOOK, hits([record("A", 0), record("A", 1), record("B", 2)])) == []
    assert store.reads == 0
    await store.close()


async def test_what_has_been_told_is_not_looked_for_again():
    """Until its finding is settled it is found at each event of its span; from then on its window is not even read, but for the next span."""
    rules = book(watching("event_count", "a", **BY, condition={"gte": 3}))
    store = Watched(await SqliteStore.open(":memory:"))
    worker = Correlator(store, Time(), metrics(), LATENESS)
    for second in (0, 1, 2):
        found = ids(await worker.observe(rules, hits([record("A", second)], rules)))
    assert len(found) == 1
    assert ids(await worker.observe(rules, hits([record("A", 3)], rules))) == found
    await store.settle([*found], "worker", START)
    before = store.reads
    assert ids(await worker.observe(rules, hits([record("A", 4), record("A", 5)], rules))) == set()
    assert store.reads == before
    following = ids(await worker.observe(rules, hits([record("A", 11)], rules)))
    assert len(following) == 1
    assert following.isdisjoint(found)
    await store.close()


async def test_a_late_record_of_a_span_that_was_told_still_counts_for_the_next():
    """With it the next span is fulfilled, which has not been told."""
    rules = book(watching("event_count", "a", **BY, condition={"gte": 3}))
    store, story, found = await SqliteStore.open(":memory:"), [record("A", second) for second in (0, 1, 2, 12, 9)], set[str]()
    worker = Correlator(store, Time(), metrics(), LATENESS)
    for one in story:
        found |= (now := ids(await worker.observe(rules, hits([one], rules))))
        await store.settle([*now], "worker", START)
    assert found == expected(story, rules)
    assert len(found) == 2
    await store.close()


async def test_what_was_told_goes_on_counting_for_what_watches_it():
    """A burst that has been told goes on, and only its last event is near enough to what follows."""
    rules = book(
        watching("event_count", "a", **BY, condition={"gte": 3}, title="Burst"),
        watching("temporal_ordered", "burst", "b", **BY, timespan="4s", generate=True, title="Chained"),
    )
    store, story, found = await SqliteStore.open(":memory:"), [*(record("A", n) for n in range(5)), record("B", 8)], set[str]()
    worker = Correlator(store, Time(), metrics(), LATENESS)
    for one in story:
        found |= (now := ids(await worker.observe(rules, hits([one], rules))))
        await store.settle([*now], "worker", START)
    assert found == expected(story, rules)
    assert len(found) == 2
    await store.close()


async def test_records_years_apart_are_one_message():
    """Thousands of spans lie between them, of which nothing is asked."""
    rules = book(watching("event_count", "a", **BY, condition={"gte": 2}))
    story = [record("A", second, number=number) for second in (0, 3e8) for number in (1, 2)]
    store = await SqliteStore.open(":memory:")
    found = await Correlator(store, Time(), metrics(), LATENESS).observe(rules, hits(story, rules))
    assert ids(found) == expected(story, rules)
    assert len(found) == 2
    await store.close()


async def test_a_storm_hides_nothing():
    """Thousands of one event before the real step, or of one value before others, keep no correlation from being found, and make none up."""
    rules = book(
        watching("temporal", "a", "b", **BY, timespan="1h", title="Both"),
        watching("temporal_ordered", "a", "b", **BY, timespan="1h", title="Order"),
        watching("value_count", "a", **BY, timespan="1h", condition={"gte": 3, "field": "requestParameters.name"}, title="Spread"),
        watching("temporal", "a", "b", **BY, timespan="1h", condition="a and not b", title="Without"),
    )
    storm = [record("A", number // 4, eventID=f"storm-{number}") for number in range(2500)]
    story = [*storm, *(record("A", 700, number=number) for number in (1, 2, 3)), record("B", 701)]
    store, time = await SqliteStore.open(":memory:"), Time()
    worker, found = Correlator(store, time, metrics(), LATENESS), set[str]()
    for start in range(0, len(story), 100):
        found |= ids(await worker.observe(rules, hits(story[start : start + 100], rules)))
    time.now += timedelta(days=1)
    async for judged in worker.due(rules):
        found |= ids(judged.matches)
    assert found == expected(story, rules)
    assert len(found) == 3
    await store.close()


async def test_a_span_of_other_rules_waits_for_those_who_know_them():
    """A worker that still has, or already has, other rules leaves a span that it does not know to others, for a day."""
    store, time = await SqliteStore.open(":memory:"), Time()
    ours, theirs = Correlator(store, time, metrics(), LATENESS), Correlator(store, time, metrics(), LATENESS)
    await ours.observe(BOOK, hits([record("A", 0), record("A", 1)]))
    time.now += timedelta(hours=2)
    assert [judged async for judged in theirs.due(book(*OPEN))] == []
    assert ids([one async for judged in ours.due(BOOK) for one in judged.matches])
    await store.close()


async def test_numbers_beyond_measure_are_none():
    """Digits by the hundred in somebody's event are no number, and keep nothing else from being judged."""
    rules = book(watching("value_avg", "a", condition={"gt": 1, "field": "requestParameters.size"}, title="Mean"))
    story = [record("A", 0, requestParameters={"size": "9" * 400}), record("A", 1, requestParameters={"size": "-" + "9" * 308})]
    assert expected(story, rules) == set()
    assert expected([*story, record("A", 2, number=7)], rules) != set()
