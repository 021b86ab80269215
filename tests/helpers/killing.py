"""Runs commands of diffae under a supervisor that kills them; started by `Supervisor`, as a process of its own.

A command is a fork of this process, in which PyTorch is imported already, so that hundreds of kills take minutes. Its
points are what it does to files of the working directory (opened for writing, renamed, removed, made durable), and the
start and end of each validation and save of a training. It is killed at a point by its number, or after some seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
WARM = (
    "matplotlib.pyplot",
    "rich.progress",
    "sklearn.linear_model",
    "torch._dynamo",
    "torchmetrics.functional.image",
    "tyro",
    "diffae.cli.train",
    "diffae.evaluation.tasks.reconstruction",
    "diffae.training.autoencoder",
    "diffae.training.prior",
)
"""Imported before forking, so that a command does not spend its time on it."""

SECONDS = 120
"""After which a command that does not end counts as hanging."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    """Exit code; -9, for instance, where a signal ended it."""
    points: list[str]
    """What it did, as far as it came."""
    output: str
    """What it printed, on both streams."""


class Supervisor:
    """Runs command lines in forks of a warm process."""

    def __init__(self) -> None:
        words = [sys.executable, __file__]
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def run(self, folder: Path, words: list[str], number: int = signal.SIGKILL, **when: float) -> Outcome:
        """Run `diffae` with these words in a folder; kill it `at` a point, or `after` so many seconds.

        Args:
            folder: working directory.
            words: the command line.
            number: the signal that kills it.
            when: at=k or after=seconds; nothing lets it end.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"folder": str(folder), "words": words, "number": int(number), **when}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.communicate()


class _Points:
    """Counts what the command does, writes it down, and kills the process at one of these points."""

    def __init__(self, log: int, at: float | None, number: int) -> None:
        self.here, self.log, self.at, self.number = os.getcwd(), log, at, number
        self.count, self.lock = 0, threading.RLock()

    def __call__(self, what: str) -> None:
        with self.lock:
            os.write(self.log, f"{what}\n".encode())
            if self.count == self.at:
                os.kill(os.getpid(), self.number)
            self.count += 1

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str) and arguments[2] & WRITING:
            self.of_file("open", arguments[0])
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate"):
            self.of_file(event.partition(".")[2], str(arguments[0]))

    def of_file(self, what: str, path: str) -> None:
        if os.path.abspath(path).startswith(self.here):
            self(f"{what} {os.path.relpath(path, self.here)}")


def _around(points: _Points, owner: Any, name: str) -> None:
    """Make the start and the end of a method points."""
    method: Callable[..., Any] = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        points(f"before {name}")
        result = method(*args, **kwargs)
        points(f"after {name}")
        return result

    setattr(owner, name, wrapped)


def _child(order: dict[str, Any], log: int, output: int) -> None:
    from diffae.cli import main
    from diffae.training.trainer import Trainer

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order["folder"])
    points = _Points(log, order.get("at"), order["number"])
    _around(points, os, "fsync")
    _around(points, Trainer, "validate")
    _around(points, Trainer, "save")
    sys.addaudithook(points.audit)
    code = 1
    try:
        code = main(order["words"])
    except SystemExit as stop:
        code = int(str(stop.code))
    except BaseException:  # what the command line lets through is a traceback
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _run(order: dict[str, Any]) -> Outcome:
    log, output = (os.memfd_create(name) for name in ("log", "output"))
    child = os.fork()
    if child == 0:
        _child(order, log, output)
    start, killed, status = time.monotonic(), False, None
    while status is None:
        pid, ended = os.waitpid(child, os.WNOHANG)
        status = ended if pid else None
        spent = time.monotonic() - start
        if "after" in order and not killed and spent > order["after"]:
            os.kill(child, order["number"])
            killed = True
        if spent > SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    texts = [os.pread(file, 1 << 20, 0).decode(errors="replace") for file in (log, output)]
    os.close(log)
    os.close(output)
    return Outcome(os.waitstatus_to_exitcode(status), texts[0].splitlines(), texts[1])


def _serve() -> None:
    import torch

    for module in WARM:
        import_module(module)
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line)).__dict__), flush=True)


if __name__ == "__main__":
    _serve()
