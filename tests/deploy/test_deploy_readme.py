"""deploy/README.md tells the truth about the templates: every parameter, every default, every file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from cfnlint.decode import decode

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
README = (DEPLOY / "README.md").read_text()


def parameters(name: str) -> Mapping[str, Any]:
    read, faults = decode(str(DEPLOY / "cloudformation" / name))
    assert read is not None, faults
    told: Mapping[str, Any] = read["Parameters"]
    return told


@pytest.mark.parametrize("name", ["trailmend.yaml", "member-role.yaml"])
def test_every_parameter_is_in_the_table_with_its_default(name: str) -> None:
    """Nothing is missing, nothing is made up, and a default is the one in the template."""
    (_, table) = README.split(f"| parameter of `{name}` |")
    rows = re.findall(r"^\| `(\w+)` \|(.*?)\|", table.split("\n\n")[0], re.MULTILINE)
    told = {parameter: default.strip(" `") for parameter, default in rows}
    # Its default is empty and the table says in words what empty makes.
    told.update({"LogBucketName": ""} if "LogBucketName" in told else {})
    there = parameters(name)
    assert set(told) == set(there)
    assert told == {parameter: str(one.get("Default", "")) for parameter, one in there.items()}


def test_every_file_it_names_exists() -> None:
    """Each path in the table of files, and each document it links or names, is in the repository."""
    named = re.findall(r"`((?:cloudformation|prometheus|alertmanager|grafana|docs)/[\w./-]*|alerts\.md)`", README)
    assert len(named) >= 8
    for path in named:
        assert (DEPLOY / path).exists() or (DEPLOY.parent / path).exists(), path
