"""Correlations over every store we ship, each worker with a connection of its own."""

from __future__ import annotations

from random import Random

import pytest

from tests.detect.correlations import record
from tests.state.stores import Opened
from tests.test_correlator import BOOK, arriving, expected


@pytest.mark.parametrize("seed", range(4))
async def test_two_workers_find_what_is_there(opened: Opened, seed: int):
    """Records at two workers at once, late, twice and out of order, over a store that they share: what the whole log holds."""
    chance = Random(seed)
    records = [record(chance.choice("ABC"), chance.randint(0, 40), "mallory", chance.randint(0, 3)) for _ in range(16)]
    found = await arriving(records, chance, [opened.store, await opened.again()], BOOK)
    assert found == expected(records) != set()
