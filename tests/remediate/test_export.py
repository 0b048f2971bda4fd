"""What is exported is the journal, whole and in order, written once and locked; and whoever rewrites the store's is found out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiobotocore.session import AioSession
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes import metrics, sample
from worker import cli
from worker.addresses import Place
from worker.aws import Accounts
from worker.model import JournalEntry
from worker.modes import Lock
from worker.remediate import export, exported
from worker.remediate.archive import Archive, ArchiveError, Kept
from worker.remediate.export import Export, check
from worker.remediate.exported import SpoiltError
from worker.settings import Settings
from worker.state import canonical
from worker.state.sqlite import SqliteStore
from worker.state.store import StoreError

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
BUCKET = "journal-bucket"


def entry(number: int, text: str = "") -> JournalEntry:
    return JournalEntry(f"task-{number}", NOW + timedelta(seconds=number), "started", {"number": number, "text": text})


@dataclass
class House:
    """A journal, and buckets to export it to."""

    store: SqliteStore
    accounts: Accounts
    s3: Any
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def archive(self, lock: Lock = Lock.COMPLIANCE, bucket: str = BUCKET, prefix: str = "trailmend/") -> Archive:
        return Archive(self.accounts, Place(bucket, prefix), lock)

    def export(self, archive: Archive | None = None, store: Any = None) -> Export:
        """As a process of its own would have it."""
        return Export(store or self.store, archive or self.archive(), timedelta(days=30), lambda: self.now)

    async def append(self, *numbers: int, text: str = "") -> None:
        for number in numbers:
            await self.store.append(entry(number, text))

    async def keys(self, bucket: str = BUCKET) -> list[str]:
        answer = await self.s3.list_object_versions(Bucket=bucket)
        return [one["Key"] for one in answer.get("Versions", [])]

    async def holds(self, archive: Archive | None = None) -> None:
        """The export is the journal: every line, once, in order, and nothing else."""
        first, found = await check(archive or self.archive(), self.store)
        count = len([line async for line in self.store.journal()])
        assert (first, found) == (1 if count else 0, exported.Comparison(count))


@pytest.fixture
async def house(embedded_aws: str, session: AioSession) -> AsyncIterator[House]:
    store = await SqliteStore.open(":memory:")
    async with Accounts(session, Settings()) as accounts:
        s3 = await accounts.client("s3")
        await s3.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
        yield House(store, accounts, s3)
    await store.close()


@pytest.mark.parametrize("lock", [Lock.COMPLIANCE, Lock.GOVERNANCE])
async def test_lines_are_written_once_and_locked_for_as_long_as_is_asked(lock: Lock, house: House) -> None:
    """Each object by the number of its first line; nobody deletes it before its time."""
    await house.append(1, 2, 3)
    assert await house.export(house.archive(lock)).once() == 3
    assert await house.keys() == ["trailmend/000000000001.jsonl"]
    key = {"Bucket": BUCKET, "Key": "trailmend/000000000001.jsonl"}
    kept = (await house.s3.get_object_retention(**key))["Retention"]
    assert (kept["Mode"], kept["RetainUntilDate"]) == (lock.value.upper(), house.now + timedelta(days=30))
    (version,) = (await house.s3.list_object_versions(Bucket=BUCKET))["Versions"]
    with pytest.raises(ClientError, match="AccessDenied"):
        await house.s3.delete_object(**key, VersionId=version["VersionId"])
    lines = (await (await house.s3.get_object(**key))["Body"].read()).decode().splitlines()
    told = [line async for line in house.store.journal()]
    assert [json.loads(line) for line in lines] == [
        {"number": n, "entry": json.loads(canonical.line(one)), "hash": mark, "previous": before}
        for n, (one, mark, before) in enumerate(told, 1)
    ]
    await house.holds()


async def test_only_what_is_new_is_written_and_every_process_knows_where_the_export_stands(house: House) -> None:
    """Nothing is kept but in the bucket; so a crash after a write loses nothing and writes nothing twice."""
    first = house.export()
    assert await first.once() == 0
    await house.append(1, 2)
    assert await first.once() == 2
    await house.append(3)
    assert await first.once() == 1
    await house.append(4, 5)
    assert await house.export().once() == 2
    await house.append(6)
    assert await first.once() == 1
    assert await house.keys() == [f"trailmend/00000000000{n}.jsonl" for n in (1, 3, 4, 6)]
    await house.holds()


@pytest.mark.parametrize("count", [1, 7, 40])
async def test_of_many_that_export_at_once_each_line_is_written_by_one(count: int, house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they begin at the same line or one is behind."""
    monkeypatch.setattr(export, "MOST_BYTES", 600)
    behind = house.export()
    await behind.once()
    await house.append(*range(1, count + 1))
    written = await asyncio.gather(*(one.once() for one in (behind, *(house.export() for _ in range(3)))))
    assert sum(written) == count
    await house.holds()


async def test_a_write_whose_answer_was_lost_is_no_gap_and_no_second_object(house: House) -> None:
    """The process that comes after it finds the object there."""
    await house.append(1, 2)
    archive = house.archive()
    real = archive.write

    async def lost(first: int, body: bytes, until: datetime) -> bool:
        await real(first, body, until)
        raise ArchiveError("the answer was lost")

    archive.write = lost  # type: ignore[method-assign]
    dying = house.export(archive)
    with pytest.raises(ArchiveError):
        await dying.once()
    archive.write = real  # type: ignore[method-assign]
    await house.append(3)
    assert await dying.once() == 1
    await house.holds()


async def test_a_long_line_has_an_object_for_itself(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no object is larger than it need be."""
    monkeypatch.setattr(export, "MOST_BYTES", 1_000)
    await house.append(1, 2)
    await house.append(3, text="x" * 5_000)
    await house.append(4, 5)
    assert await house.export().once() == 5
    sizes = [one["Size"] for one in (await house.s3.list_object_versions(Bucket=BUCKET))["Versions"]]
    assert len([size for size in sizes if size > 1_000]) == 1
    await house.holds()


async def test_a_bucket_without_a_lock_will_do_where_that_is_said(house: House) -> None:
    """It is written once all the same."""
    await house.s3.create_bucket(Bucket="plain-bucket")
    archive = house.archive(Lock.NONE, "plain-bucket", "")
    await house.append(1)
    assert await house.export(archive).once() == 1
    assert not await archive.write(1, b"other", house.now)
    assert await house.keys("plain-bucket") == ["000000000001.jsonl"]
    await house.holds(archive)


async def rewritten(house: House, *numbers: int, changed: int | None = None) -> SqliteStore:
    """A journal with hashes as good as any, whose lines are these and one of them other than it was."""
    store = await SqliteStore.open(":memory:")
    for number in numbers:
        await store.append(entry(number, "harmless" if number == changed else ""))
    return store


@pytest.mark.parametrize(
    ("numbers", "changed", "fault"),
    [
        ((1, 2, 3, 4), None, None),
        ((1, 2, 3), None, None),
        ((1, 2, 3, 4), 2, "line 2, of task task-2 in the export, is another in the store"),
        ((2, 3, 4), None, "line 1, of task task-1 in the export, is another in the store"),
        ((1, 2), None, "line 3 was exported and is not in the store: lines were cut off its end"),
        ((), None, "line 1 was exported and is not in the store: lines were cut off its end"),
    ],
)
async def test_whoever_rewrote_the_whole_table_is_found_out(
    numbers: tuple[int, ...], changed: int | None, fault: str | None, house: House
) -> None:
    """Though every hash in it is right."""
    await house.append(1, 2, 3)
    await house.export().once()
    store = await rewritten(house, *numbers, changed=changed)
    _, found = await check(house.archive(), store)
    assert found.fault == fault
    if fault is None:
        assert (found.agreeing, found.beyond) == (3, len(numbers) - 3)
    await store.close()


async def test_an_object_that_was_written_over_is_told_and_its_first_version_read(house: House) -> None:
    """A lock keeps the version and not the name: a rewritten table exported over it would agree with itself."""
    await house.append(1, 2)
    await house.export().once()
    store = await rewritten(house, 1, 2, changed=1)
    forged = exported.pack(1, [line async for line in store.journal()])
    await house.s3.put_object(Bucket=BUCKET, Key="trailmend/000000000001.jsonl", Body=forged)
    for held in (house.store, store):
        with pytest.raises(SpoiltError, match="has 2 versions"):
            await check(house.archive(), held)
    (one,) = await house.archive().kept()
    assert await house.archive().read(one) == exported.pack(1, [line async for line in house.store.journal()])
    await store.close()


async def test_an_object_that_is_missing_or_spoilt_is_told(house: House) -> None:
    """In a bucket without a lock anything may happen."""
    await house.s3.create_bucket(Bucket="plain-bucket")
    archive = house.archive(Lock.NONE, "plain-bucket", "")
    exporting = house.export(archive)
    for number in (1, 2, 3):
        await house.append(number)
        await exporting.once()
    await house.s3.put_object(Bucket="plain-bucket", Key="README.txt", Body=b"not ours")
    await house.holds(archive)
    body = await archive.read((await archive.kept())[1])
    await house.s3.delete_object(Bucket="plain-bucket", Key="000000000002.jsonl")
    with pytest.raises(SpoiltError, match=r"3\.jsonl does not follow line 1"):
        await check(archive, house.store)
    for spoilt in (b"", b"{}\n", b"\xff\n", b"[]\n", body.replace(b'"number":2,"previous"', b'"number":9,"previous"')):
        await house.s3.put_object(Bucket="plain-bucket", Key="000000000002.jsonl", Body=spoilt)
        with pytest.raises(SpoiltError, match=r"2\.jsonl"):
            await check(archive, house.store)
    await house.s3.put_object(Bucket="plain-bucket", Key="000000000002.jsonl", Body=body.replace(b"task-2", b"task-9"))
    _, found = await check(archive, house.store)
    assert found.fault == "line 2 of the export does not follow line 1, or is not what it was"


async def test_what_is_past_its_time_may_be_gone_from_the_beginning(house: House) -> None:
    """The rest is held against the store as before, and the export goes on where it stands."""
    await house.s3.create_bucket(Bucket="plain-bucket")
    archive = house.archive(Lock.NONE, "plain-bucket", "")
    exporting = house.export(archive)
    for number in (1, 2):
        await house.append(number)
        await exporting.once()
    await house.s3.delete_object(Bucket="plain-bucket", Key="000000000001.jsonl")
    assert await check(archive, house.store) == (2, exported.Comparison(1))
    await house.append(3)
    assert await house.export(archive).once() == 1
    assert await check(archive, house.store) == (2, exported.Comparison(2))


async def test_a_bucket_that_is_not_there_says_what_to_do(house: House) -> None:
    """And where."""
    await house.append(1)
    with pytest.raises(ArchiveError, match=r"s3://missing-bucket/trailmend/: .*NoSuchBucket.*make it, with Object Lock"):
        await house.export(house.archive(bucket="missing-bucket")).once()


async def test_one_process_exports_and_what_fails_is_counted_until_it_is_done(house: House) -> None:
    """The other looks again each minute, and takes over when the first is gone."""
    await house.append(1, 2)
    counted, others = metrics(), metrics()

    class EndError(Exception):
        pass

    async def once(exporting: Export, to: Any, owner: str) -> None:
        async def sleep(_: float) -> None:
            raise EndError

        with pytest.raises(EndError):
            await export.watch(exporting, to, owner, sleep)

    broken = house.export(house.archive(bucket="missing-bucket"))
    await once(broken, counted, "one")
    assert sample(counted, "journal_unexported_lines") == 2
    assert sample(counted, "journal_exports_total", outcome="failed") == 1
    await once(house.export(), others, "two")
    assert await house.keys() == []
    await once(house.export(), counted, "one")
    assert (sample(counted, "journal_unexported_lines"), sample(counted, "journal_exported_lines_total")) == (0, 2)
    house.now += timedelta(minutes=6)
    await house.append(3)
    await once(house.export(), others, "two")
    assert sample(others, "journal_exported_lines_total") == 1
    await house.holds()


async def test_a_store_that_cannot_be_read_is_counted_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a guess at how much is left."""
    counted = metrics()

    def down(_: int = 0) -> Any:
        raise StoreError("down")

    async def sleep(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(house.store, "journal", down)
    with pytest.raises(KeyboardInterrupt):
        await export.watch(house.export(), counted, "one", sleep)
    assert sample(counted, "journal_exports_total", outcome="failed") == 1


async def looked(exporting: Export, counted: Any) -> None:
    """One look of the watch, which must go on to its sleep."""

    async def sleep(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await export.watch(exporting, counted, "one", sleep)


async def test_another_journal_than_the_exported_one_is_told_and_nothing_more_of_it_exported(house: House) -> None:
    """Shorter or longer than what was exported, empty or truncated while a process runs: the alert hears of it."""
    await house.append(1, 2, 3)
    running = house.export()
    assert await running.once() == 3
    for numbers in ((), (1, 2), (7, 8, 9), (7, 8, 9, 10, 11), (1, 2, 9, 10)):
        store, counted = await rewritten(house, *numbers), metrics()
        await house.store.release("journal export", "one")
        running.store = store
        for exporting in (running, house.export(store=store)):
            with pytest.raises(SpoiltError, match="line 3 was exported to s3://journal-bucket/trailmend/ and is"):
                await exporting.once()
            await looked(exporting, counted)
            assert sample(counted, "journal_unexported_lines") == max(len(numbers), 1)
        await store.close()
    assert len(await house.keys()) == 1


async def test_a_planted_object_does_not_say_where_the_export_stands(house: House) -> None:
    """Whoever may write there could else have the export skip what is to come."""
    await house.append(1, 2)
    await house.export().once()
    planted = exported.pack(1_000, [line async for line in house.store.journal()])
    await house.s3.put_object(Bucket=BUCKET, Key="trailmend/000000001000.jsonl", Body=planted)
    await house.append(3)
    counted = metrics()
    await looked(house.export(), counted)
    assert sample(counted, "journal_unexported_lines") == 3


async def test_whatever_a_look_raises_is_counted_and_the_watch_goes_on(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that cannot be read, or an answer that is cut short."""
    await house.append(1, 2, 3)
    await house.store._database.write("UPDATE journal SET line = ? WHERE number = 2", [("not json",)])
    counted = metrics()
    await looked(house.export(), counted)
    assert sample(counted, "journal_exports_total", outcome="failed") == 1
    assert sample(counted, "journal_unexported_lines") == 2
    archive = house.archive()

    class Cut:
        async def get_object(self, **_: Any) -> Any:
            raise aiohttp.ClientPayloadError("Response payload is not completed")

    async def client(*_: Any) -> Any:
        return Cut()

    monkeypatch.setattr(house.accounts, "client", client)
    with pytest.raises(ArchiveError, match="payload is not completed"):
        await archive.read(Kept(1, "x", "v", 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda of: st.lists(of) | st.dictionaries(st.text(), of),
    max_leaves=6,
)
ENTRIES = st.lists(
    st.builds(JournalEntry, st.text(), st.datetimes(timezones=st.just(UTC)), st.text(), st.dictionaries(st.text(), JSON)), min_size=1
)


@given(ENTRIES, st.integers(1, 10**11), st.integers(1, 2_000))
def test_what_is_packed_is_read_back_whatever_it_says(entries: list[JournalEntry], first: int, most_bytes: int) -> None:
    """In objects that follow each other, each as large as it may be or of one line."""

    async def lines() -> AsyncIterator[exported.Line]:
        for number, one in enumerate(entries):
            yield one, f"hash {number}", f"hash {number - 1}"

    async def packed() -> list[tuple[int, bytes, int, str]]:
        return [one async for one in exported.batches(first, lines(), most_bytes)]

    objects = asyncio.run(packed())
    read = [line for number, body, *_ in objects for line in exported.unpack(number, body)]
    assert [canonical.line(one) for one, _, _ in read] == [canonical.line(one) for one in entries]
    assert [(mark, before) for _, mark, before in read] == [(f"hash {n}", f"hash {n - 1}") for n in range(len(entries))]
    assert [number for number, *_ in objects] == [first + sum(count for _, _, count, _ in objects[:n]) for n in range(len(objects))]
    assert all(len(body) <= most_bytes or count == 1 for _, body, count, _ in objects)
    assert all(exported.first_of(exported.name(number)) == number for number, *_ in objects)


@given(st.binary(max_size=300))
def test_no_object_is_too_odd_to_be_read(body: bytes) -> None:
    """It is spoilt, and that is said."""
    with pytest.raises(SpoiltError):
        exported.unpack(1, body)


@pytest.mark.parametrize(
    "name",
    ["", "1.jsonl", "000000000001", "00000000000a.jsonl", "000000000001.jsonl.bak", "x/000000000001.jsonl", "\u0661" * 12 + ".jsonl"],
)
def test_names_of_another_make_are_nobodys_lines(name: str) -> None:
    """Other things may lie beside the export."""
    assert exported.first_of(name) is None


async def test_by_hand_it_is_exported_and_verified(
    house: House, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the documented exit status, to where it is said or set."""
    monkeypatch.setenv("TRAILMEND_STATE", f"sqlite:///{tmp_path}/state.db")

    async def tasks(*arguments: str) -> int:
        return await asyncio.to_thread(cli.main, ["tasks", *arguments])

    async def journal(*numbers: int) -> None:
        (tmp_path / "state.db").unlink(missing_ok=True)
        store = await SqliteStore.open(f"{tmp_path}/state.db")
        for number in numbers:
            await store.append(entry(number))
        await store.close()

    await journal(1, 2)
    assert await tasks("export-journal") == 2
    assert "TRAILMEND_JOURNAL_EXPORT" in capsys.readouterr().err
    assert await tasks("export-journal", "http://elsewhere") == 2
    assert await tasks("export-journal", f"s3://{BUCKET}/by-hand") == 0
    assert f"2 new lines exported to s3://{BUCKET}/by-hand/" in capsys.readouterr().out
    monkeypatch.setenv("TRAILMEND_JOURNAL_EXPORT", f"s3://{BUCKET}/by-hand/")
    assert await tasks("export-journal") == 0
    assert await tasks("verify-journal", "--exported") == 0
    assert f"2 lines are as they were exported to s3://{BUCKET}/by-hand/; 0 are not exported yet" in capsys.readouterr().out
    await journal(1, 3)
    assert await tasks("verify-journal") == 0
    assert await tasks("verify-journal", "--exported", f"s3://{BUCKET}/by-hand") == 1
    assert "line 2, of task task-2 in the export, is another in the store" in capsys.readouterr().err
    assert await tasks("verify-journal", "--exported", "s3://missing-bucket/x") == 1
    assert await tasks("export-journal", "s3://missing-bucket/x") == 1
