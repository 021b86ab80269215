"""Nothing needs a POSIX system."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import psutil
import pytest

from diffae.data.pack import Pack


def test_every_module_is_imported_and_locks_without_posix_modules(tmp_path: Path) -> None:
    script = """
        import importlib, pkgutil, sys

        import psutil  # its build for this system needs some of them

        for name in ("fcntl", "pwd", "grp", "resource", "termios"):
            sys.modules[name] = None

        import numpy as np
        import diffae
        from diffae.data.pack import Pack

        modules = [module.name for module in pkgutil.walk_packages(diffae.__path__, "diffae.")]
        for name in modules:
            importlib.import_module(name)
        Pack.from_arrays([np.zeros((2, 4, 4, 3), np.uint8)], sys.argv[1])
        print(len(modules))
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script), str(tmp_path / "a.pack")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 200
    assert len(Pack.open(tmp_path / "a.pack")) == 2


def test_files_are_closed_before_a_pack_is_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows renames no folder with open files, and flushes no file that is open for reading only."""
    rename, fsync, flushed = os.rename, os.fsync, []

    def checked_rename(source: Path, target: Path) -> None:
        assert not [file.path for file in psutil.Process().open_files() if ".partial" in file.path]
        rename(source, target)

    def checked_fsync(descriptor: int) -> None:
        flushed.append(os.write(descriptor, b""))
        fsync(descriptor)

    monkeypatch.setattr(os, "rename", checked_rename)
    monkeypatch.setattr(os, "fsync", checked_fsync)
    Pack.from_arrays([np.zeros((2, 4, 4, 3), np.uint8)], tmp_path / "a.pack")
    assert len(flushed) == 2
