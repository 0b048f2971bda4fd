"""The compiled pass touches no memory that is not its own, and gives back what it takes: built under sanitizers, in a child process."""

import re
import shutil

import pytest

from tests.ingest.fuzz_skim import C_SOURCES, build_sanitized, run_sanitized, sanitizer
from worker.ingest import skim

LIBRARY = sanitizer() or ""
pytestmark = [
    pytest.mark.skipif(not LIBRARY, reason="needs gcc with its address sanitizer"),
    pytest.mark.skipif(not skim.AVAILABLE, reason="the compiled part is not built (no C compiler), or this processor has no AVX2"),
]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory):
    return build_sanitized(C_SOURCES, tmp_path_factory.mktemp("sanitized"))


def test_no_text_makes_it_touch_what_is_not_its_own(sanitized, tmp_path):
    """Over texts of exactly their size, whole and damaged, nothing is read or written beside them, and no arithmetic is undefined."""
    done = run_sanitized(sanitized, LIBRARY, "--seed", "1", "--texts", "700", "--seconds", "600", "--found", str(tmp_path / "found"))
    assert done.returncode == 0, done.stdout
    assert "none read differently" in done.stdout


def test_a_read_of_one_byte_behind_a_text_would_be_seen(tmp_path):
    """The same, of sources that look one byte too far, ends at once: so the test above can fail."""
    sources = tmp_path / "sources"
    shutil.copytree(C_SOURCES, sources, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    told = (sources / "text.c").read_text()
    changed, times = re.subn(r"(\nOutcome skim_text\([^)]*\) \{)", r"\1 if (text[size] == 1) { return SKIM_NOT_PLAIN; }", told)
    assert times == 1
    (sources / "text.c").write_text(changed)
    done = run_sanitized(build_sanitized(sources, tmp_path), LIBRARY, "--seed", "1", "--texts", "700", "--found", str(tmp_path / "found"))
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stdout


def test_what_it_takes_it_gives_back(sanitized):
    """After skimmers were filled and dropped, and texts taken, refused and broken off in the middle, no more memory is in use than before."""
    done = run_sanitized(sanitized, LIBRARY, "--leaks", "20")
    assert done.returncode == 0, done.stdout
    assert int(done.stdout.split()[0]) < 1_000, done.stdout  # of one forgotten list there were twenty
