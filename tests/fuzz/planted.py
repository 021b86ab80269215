"""Readers with one fault each, by which the supervisor is tested."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from targets import Target

from diffae.errors import DataError


def _two_lines(_: Path) -> None:
    error = DataError("one line")
    error.args = ("two\nlines",)
    raise error


def _greedy(_: Path) -> None:
    try:
        bytearray(2**40)
    except MemoryError:
        raise DataError("said to be damaged") from None


FAULTS = {
    "traceback": lambda path: {}["missing"],
    "message": _two_lines,
    "memory": _greedy,
    "outside": lambda path: (path.parents[1] / "elsewhere").write_text("x"),
    "signal": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    "hang": lambda path: time.sleep(60),
}


def targets() -> dict[str, Target]:
    """One target for each kind of fault, and a good one."""
    good = Target(lambda folder: folder, lambda path: None)
    return {"good": good, **{kind: good._replace(read=read) for kind, read in FAULTS.items()}}
