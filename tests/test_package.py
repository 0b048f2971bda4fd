"""Trailmend as it is packed: with its compiled part where there is a compiler, without it elsewhere, and reading the same either way."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from worker.ingest import skim

ROOT = Path(__file__).resolve().parent.parent
SKIM = "worker/ingest/skim"
MODULE = f"{SKIM}/_skim.abi3.so"
COMPILER = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
HEADERS = Path(sysconfig.get_path("include"))
CPU = Path("/proc/cpuinfo")

IS_X86_64 = platform.machine().lower() in {"x86_64", "amd64"}
HAS_AVX2 = IS_X86_64 and CPU.is_file() and " avx2 " in CPU.read_text()

needs_compiler = pytest.mark.skipif(
    not IS_X86_64 or shutil.which(COMPILER[0]) is None or not (HEADERS / "Python.h").is_file(),
    reason="needs x86-64, a C compiler and Python's headers",
)

READ = """
import json
from worker.ingest import skim, trail
from worker.model import Interest, Origin

wanted, other = ("iam.amazonaws.com", "DeleteInstanceProfile"), ("ec2.amazonaws.com", "DescribeInstances")
records = [{"eventSource": source, "eventName": name, "eventID": str(i)} for i, (source, name) in enumerate([*[other] * 500, wanted] * 2)]
text = json.dumps({"Records": records}, separators=(",", ":")).encode()
found = trail.read(text, Origin(path="x"), Interest(pairs=frozenset({(wanted[0], wanted[1].lower())})), trail.Bounds(10_000_000, 100_000))
told = {"seen": found.seen, "ids": [record.event["eventID"] for record in found.records], "faults": len(found.faults)}
print(json.dumps({"at": skim.__file__, "available": skim.AVAILABLE, "told": told}))
"""


@pytest.fixture
def tree(tmp_path):
    """The tree as somebody unpacks it who has no git, and so nothing that tells what was generated."""
    tree = tmp_path / "tree"
    for folder in ("worker", "deploy/cloudformation"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for file in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / file, tree)
    return tree


def build(what, tree, **environment):
    """What hatchling makes of the tree (`wheel`, `editable`, `sdist`), and what it says meanwhile."""
    program = f"from hatchling import build; print(build.build_{what}('{tree.parent}'))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tree, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return tree.parent / done.stdout.splitlines()[-1], done.stderr


def names_in(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def read_with(wheel, folder):
    """What the installed wheel makes of an object: pip takes no wheel whose tag is not for this interpreter."""
    site = folder / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index", "--no-compile", "--target", site, wheel], check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run([sys.executable, "-c", READ], cwd=folder, env=environment, capture_output=True, check=True)
    found = json.loads(done.stdout)
    assert Path(found["at"]).is_relative_to(site)
    assert found["told"] == {"seen": 1002, "ids": ["500", "1001"], "faults": 0}
    return found["available"]


@needs_compiler
def test_with_a_compiler_the_wheel_has_the_compiled_part(tree):
    """It is for one kind of machine, and for every CPython from 3.11 on; the C itself stays behind."""
    wheel, said = build("wheel", tree)
    assert wheel.name.startswith("trailmend-0.1.0-cp311-abi3-")
    assert not wheel.name.endswith("-any.whl")
    names = names_in(wheel)
    assert MODULE in names
    assert not [name for name in names if name.endswith((".c", ".h"))]
    assert "worker/local/cloudformation/trailmend.yaml" in names
    assert "without its compiled part" not in said
    assert read_with(wheel, tree.parent) or not HAS_AVX2


def test_without_a_compiler_the_wheel_is_for_every_machine_and_reads_the_same(tree):
    """One line tells what is missing, why, and what that means; what another build left in the tree does not get in."""
    (tree / MODULE).write_bytes(b"compiled elsewhere")
    wheel, said = build("wheel", tree, CC="false")
    assert wheel.name == "trailmend-0.1.0-py3-none-any.whl"
    assert [line for line in said.splitlines() if "without its compiled part: " in line and "two thirds of the speed" in line]
    names = names_in(wheel)
    assert "worker/local/cloudformation/trailmend.yaml" in names
    assert not [name for name in names if name.endswith((".so", ".c", ".h"))]
    assert read_with(wheel, tree.parent) is False


@needs_compiler
def test_a_compiler_that_is_not_there_is_named(tree):
    """Whoever lacks one reads which was looked for."""
    _, said = build("wheel", tree, CC="no-such-compiler -m64")
    assert "there is no C compiler no-such-compiler." in said


@needs_compiler
def test_an_editable_install_compiles_beside_the_sources(tree):
    """And takes away what was compiled of sources before, where these do not compile."""
    build("editable", tree)
    assert (tree / MODULE).is_file()
    _, said = build("editable", tree, CC="false")
    assert "without its compiled part" in said
    assert not (tree / MODULE).exists()


def test_the_source_archive_has_all_that_is_compiled(tree):
    """C, headers and the hook, and nothing that a machine made of them."""
    (tree / MODULE).write_bytes(b"compiled here")
    archive, _ = build("sdist", tree)
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    sources = {f"{SKIM}/{file.name}" for file in (tree / SKIM).glob("*.[ch]")}
    assert sources
    assert sources | {"hatch_build.py", "pyproject.toml", "deploy/cloudformation/trailmend.yaml"} <= names
    assert MODULE not in names


@needs_compiler
def test_the_c_code_compiles_without_a_warning(tmp_path):
    """Conversions and shadowing are what a reader of sizes and offsets gets wrong."""
    flags = ["-std=c11", "-O3", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror", f"-I{HEADERS}"]
    done = subprocess.run([*COMPILER, *flags, "-c", *(ROOT / SKIM).glob("*.c")], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_c_code_counts_references_where_it_runs():
    """A wheel made by Python 3.12 and used by 3.11 would take True apart: `Py_RETURN_TRUE` and its like count nothing in newer headers."""
    for file in (ROOT / SKIM).glob("*.c"):
        assert not re.search(r"\bPy_RETURN_\w+;", file.read_text()), file.name


def test_ci_reads_with_the_compiled_part():
    """Where nobody would notice that it is missing, it must not be."""
    if os.environ.get("CI") != "true":
        pytest.skip("asked of CI alone: everywhere else Trailmend may be without its compiled part")
    if not HAS_AVX2:
        pytest.skip("needs x86-64 with AVX2, as far as /proc/cpuinfo tells")
    assert skim.AVAILABLE
