"""Compiles Trailmend's C (`worker/ingest/skim/`) while it is packed: into the wheel, or beside its sources where the install is editable.

Nobody needs it: where it cannot be compiled, one line tells why and what that means, and the wheel is the one for every machine. With it the wheel is for
one kind of machine and any CPython from 3.11 on, because the C keeps to the stable interface of 3.11.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.builders.wheel import WheelBuilderConfig
from setuptools import Distribution, Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

MODULE = Path("worker/ingest/skim/_skim.abi3.so")
FLAGS = ["-std=c11", "-O3", "-g0", "-fvisibility=hidden"]
"""What GCC and Clang take, and no other compiler does: the C is written for them."""


class NotCompiled(Exception):  # noqa: N818
    """Why there is no module."""


def compile_module(root: Path, folder: Path) -> Path:
    """Compile what stands beside MODULE in a source tree; the module, somewhere in a folder of its own. Raises NotCompiled."""
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        raise NotCompiled(f"it is for x86-64, and this is {platform.machine()}")
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").is_file():
        raise NotCompiled(f"Python's headers are not in {headers}")
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[0]
    if shutil.which(compiler) is None:
        raise NotCompiled(f"there is no C compiler {compiler}")
    name = ".".join([*MODULE.parent.parts, MODULE.name.partition(".")[0]])
    sources = sorted(map(str, (root / MODULE.parent).glob("*.c")))
    command = build_ext(Distribution({"ext_modules": [Extension(name, sources, extra_compile_args=FLAGS, py_limited_api=True)]}))
    command.build_lib, command.build_temp = str(folder), str(folder / "objects")
    try:
        command.ensure_finalized()
        command.run()
    except (BaseError, CCompilerError) as error:
        raise NotCompiled(f"the C compiler {compiler} failed") from error
    return folder / MODULE


class CompiledPart(BuildHookInterface[WheelBuilderConfig]):
    """Stands between hatchling and the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Give hatchling the module and the tag that it asks for; `version` is `standard` or `editable`."""
        root = Path(self.root)
        self._folder = TemporaryDirectory()
        if version == "editable":
            (root / MODULE).unlink(missing_ok=True)  # of sources that may have been others
        try:
            module = compile_module(root, Path(self._folder.name))
        except NotCompiled as reason:
            told = f"Trailmend is without its compiled part: {reason}. Large objects are read the exact way, at two thirds of the speed."
            self.app.display_warning(told)
            return
        if version == "editable":
            shutil.move(module, root / MODULE)
            return
        build_data["force_include"][str(module)] = str(MODULE)
        build_data["pure_python"] = False
        build_data["tag"] = f"cp311-abi3-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Take away what is packed by now."""
        self._folder.cleanup()
