"""Runs readers on mutated files in a worker process with limits on time and memory, and says what became of each.

A worker serves many cases, because importing the package takes seconds; one that dies or hangs is replaced.
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import zlib
from importlib import import_module
from pathlib import Path
from random import Random
from typing import NamedTuple

from mutations import mutate

SECONDS, BYTES = 20, 2**31
"""Limits of one case: wall-clock time, and memory beyond what the worker uses before it reads anything."""
GOOD = ("ok", "named")
_HERE = Path(__file__).parent
PATHS = [str(_HERE.parents[1] / "src"), str(_HERE), str(_HERE.parent / "helpers")]
"""Where the worker finds its modules."""


class Outcome(NamedTuple):
    """What became of one case."""

    target: str
    case: int
    kind: str
    """ok, named (one line that names the fault), message (more than a line, or control characters), traceback, hang,
    memory, signal, or outside (a file outside the case's folder or another process was touched)."""
    detail: str
    seconds: float = 0.0


class Supervisor:
    """A context manager with one worker for the targets of a module. `case` and `path` run one file each."""

    def __init__(self, module: str = "targets") -> None:
        self._module = module
        self.targets = import_module(module).targets()
        self._folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
        self._worker: subprocess.Popen | None = None

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def case(self, name: str, number: int, keep: Path | None = None) -> Outcome:
        """Mutation number `number` of a target's files; they are copied to `keep`."""
        folder = self._folder / f"{name}-{number}"
        folder.mkdir(parents=True)
        try:
            path = self._write(name, number, folder)
            if keep is not None:
                shutil.copytree(folder, keep, symlinks=True)
            return Outcome(name, number, *self._run(name, path, folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def path(self, name: str, path: Path) -> Outcome:
        """A file made by hand, which may touch its own folder only."""
        return Outcome(name, -1, *self._run(name, path, path.parent))

    def _write(self, name: str, number: int, folder: Path) -> Path:
        seed = self._folder / "seeds" / name
        if not seed.exists():
            seed.mkdir(parents=True)
            path = self.targets[name].write(seed)
            (self._folder / f"{name}.path").write_text(str(path.relative_to(seed)))
        shutil.copytree(seed, folder, dirs_exist_ok=True, symlinks=True)
        random = Random(zlib.crc32(f"{name} {number}".encode()))
        mutate(random.choice(sorted(path for path in folder.rglob("*") if path.is_file())), random)
        return folder / (self._folder / f"{name}.path").read_text()

    def _run(self, name: str, path: Path, folder: Path) -> tuple[str, str, float]:
        """A case that hangs is tried again: on a busy machine a worker may only have waited for its turn."""
        found = self._try(name, path, folder)
        return self._try(name, path, folder) if found[0] == "hang" else found

    def _try(self, name: str, path: Path, folder: Path) -> tuple[str, str, float]:
        worker = self._started()
        assert worker.stdin is not None
        worker.stdin.write(json.dumps([name, str(path), str(folder)]).encode() + b"\n")
        worker.stdin.flush()
        answer = self._answer(SECONDS)
        if answer is None:
            code = worker.poll()
            self._stop()
            return ("hang", "", SECONDS) if code is None else ("signal", f"ended with {code}", 0.0)
        return tuple(json.loads(answer))

    def _started(self) -> subprocess.Popen:
        if self._worker is None:
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(PATHS), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(_HERE / "worker.py"), self._module, str(BYTES)]
            pipe, null = subprocess.PIPE, subprocess.DEVNULL
            self._worker = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=null)
            assert self._answer(600) == b"ready\n", "the worker does not start"
        return self._worker

    def _answer(self, seconds: float) -> bytes | None:
        """The next line of the worker; None if it died or takes longer."""
        assert self._worker is not None
        assert self._worker.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._worker.stdout, selectors.EVENT_READ)
            if not selector.select(seconds):
                return None
        if line := self._worker.stdout.readline():
            return line
        self._worker.wait()
        return None

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.communicate()
            self._worker = None
