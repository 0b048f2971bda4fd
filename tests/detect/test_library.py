"""A library of folders tells every fault of every file at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from worker.detect import library
from worker.detect.library import RuleFaults

GONE = {"eventSource": "iam.amazonaws.com", "eventName": "DeleteInstanceProfile"}


def rule_text(title: str, detection: Any, condition: Any = "selection", **more: Any) -> str:
    named = detection if "selection" in detection else {"selection": detection}
    logsource = {"product": "aws", "service": "cloudtrail"}
    return json.dumps({"title": title, "logsource": logsource, "detection": {**named, "condition": condition}, **more})


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yml").write_text(text)
    return folder


def test_folders_files_and_depth(tmp_path: Path):
    """Folders are read to any depth, .yml and .yaml, each file once and in order; single files too; other files are passed over."""
    write(tmp_path, b=rule_text("B", GONE), a=rule_text("A", GONE))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "c.yaml").write_text(rule_text("C", GONE))
    (tmp_path / "notes.txt").write_text("no rule")
    book = library.load([tmp_path, tmp_path / "a.yml", tmp_path / "deep"], shipped=False)
    assert [compiled.rule.title for compiled in book.rules] == ["A", "B", "C"]
    assert [compiled.rule.title for compiled in library.load([tmp_path / "b.yml"], shipped=False).rules] == ["B"]


def test_a_mounted_config_map_holds_each_rule_once(tmp_path: Path):
    """Kubernetes mounts files as links into a hidden folder beside them; that is one rule, not two with one id."""
    hidden = tmp_path / "..2026_11_23"
    hidden.mkdir()
    write(hidden, a=rule_text("A", GONE))
    (tmp_path / "..data").symlink_to(hidden.name)
    (tmp_path / "a.yml").symlink_to("..data/a.yml")
    assert len(library.load([tmp_path], shipped=False).rules) == 1


def test_a_byte_order_mark_is_no_fault(tmp_path: Path):
    """Editors on Windows begin files with one."""
    (tmp_path / "a.yml").write_bytes(b"\xef\xbb\xbf" + rule_text("A", GONE).encode())
    assert len(library.load([tmp_path], shipped=False).rules) == 1


def test_every_fault_of_every_file_is_told_at_once(tmp_path: Path):
    """One error lists what is wrong in all files, by file and line, with what cannot be read and what is not there."""
    write(tmp_path, a=rule_text("A", GONE, level="severe"), b="- x", c=rule_text("C", {"eventName|lt": "x"}), good=rule_text("G", GONE))
    (tmp_path / "d.yml").write_bytes(b"title: \xff\xfe")
    (tmp_path / "e.yml").symlink_to("nowhere")
    with pytest.raises(RuleFaults) as raised:
        library.load([tmp_path, tmp_path / "missing"], shipped=False)
    assert [Path(fault.path).name for fault in raised.value.faults] == ["a.yml", "b.yml", "c.yml", "d.yml", "e.yml", "missing"]
    for fault in raised.value.faults:
        assert str(fault) in str(raised.value)


def test_an_id_given_twice_is_a_fault(tmp_path: Path):
    """Findings are told apart by their rule's id, so it must be one rule's alone; the fault names both files."""
    write(tmp_path, a=rule_text("Same", GONE), b=rule_text("Same", {"eventName": "x"}))
    with pytest.raises(RuleFaults) as raised:
        library.load([tmp_path], shipped=False)
    (fault,) = raised.value.faults
    assert fault.path == str(tmp_path / "b.yml")
    assert f"{tmp_path / 'a.yml'}:1" in fault.text


def test_own_rules_come_after_the_shipped_ones(tmp_path: Path):
    """A user's folder adds to the shipped rules, or stands alone; the shipped folder given once more adds nothing."""
    write(tmp_path, a=rule_text("Mine", GONE))
    shipped = library.load([])
    assert library.load([tmp_path]).rules[-1].rule.title == "Mine"
    assert len(library.load([tmp_path]).rules) == len(shipped.rules) + 1
    assert len(library.load([library.SHIPPED]).rules) == len(shipped.rules)
    assert len(library.load([tmp_path], shipped=False).rules) == 1


def test_an_unreadable_folder_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A folder that cannot be listed is told, not passed over as if it were empty."""
    (tmp_path / "secret").mkdir()

    def refuse(path: Any) -> Iterator[Any]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(RuleFaults, match="this folder cannot be read: Permission denied"):
        library.load([tmp_path / "secret"], shipped=False)


def test_the_shipped_folder_can_be_moved(tmp_path: Path):
    """Rules hold no path of their own: a copy of the shipped folder loads as a user's folder."""
    shutil.copytree(library.SHIPPED, tmp_path / "rules")
    assert len(library.load([tmp_path / "rules"], shipped=False).rules) == len(library.load([]).rules)
