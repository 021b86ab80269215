"""Runs commands of diffae under a supervisor that kills them or lets their files fail; a process of its own.

A command is a fork of this process, in which PyTorch is imported already, so that hundreds of kills take minutes. Its
points are what it does to files of the working directory (see faults.c, which counts them), and the start and end of
each validation and save of a training. It is killed at a point by its number, or after some seconds.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

AVAILABLE = sys.platform == "linux" and shutil.which("cc") is not None
"""Whether the supervisor can run here."""
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
        self.folder = tempfile.TemporaryDirectory()
        library = f"{self.folder.name}/faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
        words, environment = [sys.executable, __file__], {**os.environ, "LD_PRELOAD": library}
        self.process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def run(self, folder: Path, words: list[str], *, after: float | None = None, **settings: int) -> Outcome:
        """Run `diffae` with these words in a folder, with what is to happen to it.

        Args:
            folder: working directory.
            words: the command line.
            after: seconds after which it is killed by the signal of the settings.
            settings: the variables of faults.c, for instance signal=9, at=12.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        order = {"folder": str(folder.resolve()), "words": words, "after": after, "settings": settings}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return Outcome(**json.loads(self.process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.communicate()
        self.folder.cleanup()


def _configure(folder: str, log: int, settings: dict[str, int]) -> None:
    """Tell faults.c what to do."""
    library = ctypes.CDLL(None)
    root = f"{folder}/\0".encode()
    ctypes.memmove(ctypes.addressof((ctypes.c_char * len(root)).in_dll(library, "faults_root")), root, len(root))
    for name, value in {**settings, "log": log}.items():  # the log last: with it the count begins
        ctypes.c_long.in_dll(library, f"faults_{name}").value = value


def _around(owner: Any, name: str) -> None:
    """Make the start and the end of a method points."""
    method: Callable[..., Any] = getattr(owner, name)
    point = ctypes.CDLL(None).faults_point

    def wrapped(*arguments: Any, **options: Any) -> Any:
        point(f"before {name}".encode())
        result = method(*arguments, **options)
        point(f"after {name}".encode())
        return result

    setattr(owner, name, wrapped)


def _child(order: dict[str, Any], log: int, output: int) -> None:
    from diffae.cli import main
    from diffae.training.trainer import Trainer

    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(order["folder"])
    _around(Trainer, "validate")
    _around(Trainer, "save")
    _configure(order["folder"], log, order["settings"])
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
        if order["after"] is not None and not killed and spent > order["after"]:
            os.kill(child, order["settings"]["signal"])
            killed = True
        if spent > SECONDS:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    texts = [os.pread(file, 1 << 24, 0).decode(errors="replace") for file in (log, output)]
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
