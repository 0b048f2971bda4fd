"""How sightings are written: whatever JSON a record holds, and whatever its size."""

import random
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.model import Origin, Record, Sighting
from worker.state import canonical, items

NOW = datetime(2026, 3, 1, 12, 0, 0, 123_456, tzinfo=UTC)

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
names = st.sampled_from(["eventID", "eventTime", "eventName", "requestParameters", "userIdentity", "responseElements"]) | st.text()
origins = st.builds(Origin, bucket=st.text(), key=st.text()) | st.builds(Origin, path=st.text()) | st.builds(Origin, message=st.text())


def of(event: dict[str, Any], origin: Origin = Origin(path="x")) -> Sighting:  # noqa: B008  # frozen
    return Sighting("w", "rule", "item", NOW, Record(event, origin), ("g",), ("1", "2"))


def again(seen: Sighting) -> Sighting:
    return canonical.unpack(canonical.pack(seen), seen.window, seen.time)


def noise(size: int, seed: int = 0) -> str:
    """Text of some size that zlib can only bring down to three quarters."""
    return "".join(random.Random(f"{seed} {size}").choices("abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ+/", k=size))


@given(st.dictionaries(names, values), origins, st.lists(st.text()), st.lists(st.text()))
def test_what_orjson_reads_is_written_and_read_the_same(event: dict[str, Any], origin: Origin, group: list[str], told: list[str]) -> None:
    """Every JSON value, spelt the same when written out; and the key of the record."""
    event = orjson.loads(orjson.dumps(event))
    seen = Sighting("w", "rule", "item", NOW, Record(event, origin), tuple(group), tuple(told))
    found = again(seen)
    assert found == seen
    assert orjson.dumps(found.record.event) == orjson.dumps(event)
    assert (found.key, found.record.key) == (seen.key, seen.record.key)


@pytest.mark.parametrize(
    "number", ["18446744073709551615", "-9223372036854775808", "123456789012345678901234567890", "1e308", "5e-324", "-0.0"]
)
def test_numbers_at_the_ends_of_what_orjson_reads_come_back(number: str) -> None:
    """The largest and smallest integers, what is read as a float because it is larger, and the ends of the floats."""
    seen = of(orjson.loads(f'{{"n": {number}}}'))
    assert repr(again(seen).record.event["n"]) == repr(seen.record.event["n"])


@pytest.mark.parametrize(
    ("sizes", "left_out"),
    [
        ({"requestParameters": 300_000}, set()),
        ({"requestParameters": 100_000, "responseElements": 350_000}, {"responseElements"}),
        ({"requestParameters": 500_000, "additionalEventData": 100_000}, {"requestParameters"}),
        ({"requestParameters": 1, "responseElements": 1, "additionalEventData": 500_000}, set(canonical.LEFT_OUT_FIRST)),
        ({"requestParameters": 200_000, "responseElements": 300_000, "resources": 300_000}, {"requestParameters", "responseElements"}),
        ({"requestParameters": 1, "resources": 800_000}, {"resources"}),
    ],
)
def test_of_what_is_too_large_no_more_is_left_out_than_must_be(sizes: dict[str, int], left_out: set[str]) -> None:
    """First what was answered, then what was asked, then the additional data; at last whatever is large, and then these only if large."""
    event = {"eventID": "1", "userIdentity": {"arn": "a"}, **{name: {"x": noise(size)} for name, size in sizes.items()}}
    seen = of(event)
    packed = canonical.pack(seen)
    assert len(packed) <= canonical.MOST_PACKED_BYTES
    found = canonical.unpack(packed, "w", NOW)
    assert event.keys() - found.record.event.keys() == left_out
    assert found.record.event == {name: value for name, value in event.items() if name not in left_out}
    assert (found.key, found.record.key) == (seen.key, seen.record.key)


@pytest.mark.parametrize("depth", [240, 251, 252, 253, 254, 255, 600, 1020])
@pytest.mark.parametrize("name", ["requestParameters", "tlsDetails"])
def test_what_is_nested_too_deep_to_be_written_costs_only_itself(depth: int, name: str) -> None:
    """Orjson reads deeper than it writes: such a member is left out, and who, what and when are kept."""
    nested = orjson.loads('{"a":' * depth + "1" + "}" * depth)
    event = {"eventID": "1", "eventTime": "2026-03-01T12:00:00Z", "userIdentity": {"arn": "a"}}
    found = again(of({**event, name: nested}))
    assert found.record.event in ({**event, name: nested}, event)
    assert (name in found.record.event) == (depth <= 252)
    assert found.record.key == of({**event, name: nested}).record.key


def test_a_record_of_countless_members_is_kept_in_part() -> None:
    """Ten thousand members that come to more than fits: the first of them are kept."""
    seen = of({"eventID": "1", **{f"m{n}": noise(80, n) for n in range(10_000)}})
    packed = canonical.pack(seen)
    assert len(packed) <= canonical.MOST_PACKED_BYTES
    assert list(canonical.unpack(packed, "w", NOW).record.event)[:2] == ["eventID", "m0"]


@given(st.datetimes(timezones=st.just(UTC)), st.datetimes(timezones=st.just(UTC)), st.text(min_size=1))
def test_sort_keys_stand_in_the_order_of_time(one: datetime, other: datetime, key: str) -> None:
    """Over the whole calendar; and all keys of a moment lie between the moment and what is past it."""
    assert (items.sortable(one) < items.sortable(other)) == (one < other)
    assert items.sortable(one) < f"{items.sortable(one)}#{key}" < items.past(one)
    assert (items.past(one) < items.sortable(other)) == (one < other)
