"""Who was asked about lately, counted in bounded memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from worker.enrich.crowd import MOST_NAMES, MOST_PLACES, Crowd

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_different_names_of_one_place_are_counted_for_a_while() -> None:
    """The same name twice is one; another place counts for itself; what is older than the time is out."""
    crowd = Crowd()
    assert [crowd.joined("a", name, NOON, 60) for name in ("ann", "bob", "ann")] == [1, 2, 2]
    assert crowd.joined("b", "ann", NOON, 60) == 1
    assert crowd.joined("a", "cy", NOON + timedelta(seconds=59), 60) == 3
    assert crowd.joined("a", "bob", NOON + timedelta(seconds=60), 60) == 2


def test_a_flood_of_names_and_places_fills_no_memory() -> None:
    """Both are written by whoever is in the log."""
    crowd = Crowd()
    assert [crowd.joined("a", f"user-{n}", NOON, 60) for n in range(2 * MOST_NAMES)][-1] == MOST_NAMES
    for n in range(2 * MOST_PLACES):
        crowd.joined(f"account {n}", "ann", NOON, 60)
    assert len(crowd._seen) == MOST_PLACES
