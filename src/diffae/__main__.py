"""The `diffae` command and `python -m diffae`. What interrupts it while modules are imported ends it in one line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def _end(number: int, frame: FrameType | None) -> None:
    os.write(2, b"diffae: interrupted\n")
    os._exit(128 + number)


def main() -> int:
    """Run the command line; see `diffae.cli.main`."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    from diffae.cli import main

    return main()


if __name__ == "__main__":
    sys.exit(main())
