"""The account that is swept."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
from aiobotocore.session import AioSession, get_session

from tests.conftest import free_port
from tests.sweep.estate import Estate
from worker.enrich.call_budget import Rate
from worker.settings import Settings
from worker.state.sqlite import SqliteStore
from worker.sweep.pace import PacedAccounts


@pytest.fixture(scope="session")
def aged_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The endpoint URL of an embedded AWS with a past (`aged.py`)."""
    port = free_port()
    log = tmp_path_factory.mktemp("aged") / "aws.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.sweep.aged", str(port)], stdout=stream, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(f"{url}/_ministack/health", timeout=2).close()
            break
        except (urllib.error.URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                raise RuntimeError(f"the embedded AWS did not start: {log.read_text()[-2000:]}") from None
            time.sleep(0.05)
    yield url
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture
def empty(aged_process: str) -> str:
    """The same, emptied and without trouble."""
    urllib.request.urlopen(urllib.request.Request(f"{aged_process}/_ministack/reset", method="POST"), timeout=30).close()
    return aged_process


@pytest.fixture(scope="session")
def session() -> AioSession:
    """One session for all tests: each would otherwise read the service model of IAM anew."""
    return get_session()


@pytest.fixture
async def estate(empty: str, session: AioSession, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Estate]:
    """An empty account with a past, to which the environment points every client; a store in memory."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "TRAILMEND_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", empty)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = await SqliteStore.open(":memory:")
    # As fast as it goes: the pace itself has a test of its own.
    async with PacedAccounts(session, Settings(), Rate(100_000, 100_000)) as accounts:
        made = Estate(accounts, store, empty)
        await made.trouble()
        yield made
    await store.close()
