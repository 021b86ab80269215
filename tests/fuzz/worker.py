"""Reads the cases it is told on standard input, under limits, and says what became of each: see `supervisor`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

LIBRARIES = (
    sys.prefix,
    sys.base_prefix,
    "/usr",
    "/lib",
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    str(Path(__file__).parents[2]),
)
"""Where files may be read while a case runs: modules are imported late."""
FORBIDDEN = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "ctypes.dlopen")
_state: dict[str, Any] = {"folder": None, "touched": []}


def _audit(event: str, arguments: tuple) -> None:
    folder = _state["folder"]
    if folder is None:
        return
    if event in FORBIDDEN:
        _state["touched"].append(f"{event} {arguments[0]!r:.80}")
    elif event == "open" and isinstance(arguments[0], (str, bytes)):
        path, mode, flags = arguments
        real = os.path.realpath(os.fsdecode(path))
        writes = bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "r" not in (mode or "r")
        if not real.startswith((folder, *(() if writes else LIBRARIES))) and real != "/dev/null":
            _state["touched"].append(f"open {real}")


def _peak() -> int:
    """Largest resident size in KiB since the last reset, and reset it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    Path("/proc/self/clear_refs").write_text("5")
    return peak


def _chain(error: BaseException | None) -> list[BaseException]:
    found = []
    while error is not None:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def outcome(read: Any, path: Path) -> tuple[str, str]:
    """Kind and detail of what a reader does with a file."""
    from diffae.errors import DiffaeError, escaped

    try:
        read(path)
    except BaseException as error:
        chain = _chain(error)
        frame = traceback.extract_tb(chain[-1].__traceback__)[-1]
        where = f"{type(chain[-1]).__name__} at {Path(frame.filename).name}:{frame.lineno}"
        if any(isinstance(link, MemoryError) for link in chain):
            return "memory", f"{where}: {error!s:.200}"
        if not isinstance(error, DiffaeError):
            return "traceback", f"{type(error).__name__}: {error!s:.200} ({where})"
        message = str(error)
        if message != escaped(message) or len(message) > 2000:
            return "message", f"{message[:200]!r} of {len(message)} characters ({where})"
        return "named", f"{message[:300]}"
    return "ok", ""


def main(module: str, limit: int) -> None:
    """Serve cases until standard input ends."""
    known, answers = import_module(module).targets(), os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # a library that prints must not disturb the answers
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.addaudithook(_audit)
    answers.write("ready\n")
    for line in sys.stdin:
        name, path, folder = json.loads(line)
        _peak()
        _state.update(folder=os.path.realpath(folder), touched=[])
        begin = time.monotonic()
        kind, detail = outcome(known[name].read, Path(path))
        _state["folder"] = None
        if _state["touched"]:
            kind, detail = "outside", "; ".join(_state["touched"][:3])
        elif (peak := _peak() * 1024) > limit:
            kind, detail = "memory", f"{peak / 2**20:.0f} MiB; {detail}"
        answers.write(json.dumps([kind, detail, time.monotonic() - begin]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
