"""Ctrl-C and SIGTERM, which Slurm, Docker and `timeout` send: work is saved, and the exit code says which it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_last = signal.SIGINT


def exit_code() -> int:
    """That of a process ended by the last of these signals: 130 after Ctrl-C, 143 after SIGTERM."""
    return 128 + _last


def _raise(number: int, frame: FrameType | None) -> None:
    global _last
    _last = signal.Signals(number)
    raise KeyboardInterrupt


@contextmanager
def _handled(handlers: dict[signal.Signals, signal.Handlers]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def raised() -> Iterator[None]:
    """Let SIGTERM, like Ctrl-C, raise KeyboardInterrupt, so that what was begun is cleaned up."""
    global _last
    _last = signal.SIGINT
    with _handled(dict.fromkeys(SIGNALS, _raise)):  # pyright: ignore[reportArgumentType]
        yield


@contextmanager
def deferred() -> Iterator[list[bool]]:
    """Let the first of these signals set a flag, so that a step is finished and saved; a second interrupts at once."""
    stop = [False]

    def on_signal(number: int, frame: FrameType | None) -> None:
        global _last
        _last = signal.Signals(number)
        if stop[0]:
            raise KeyboardInterrupt
        stop[0] = True

    with _handled(dict.fromkeys(SIGNALS, on_signal)):  # pyright: ignore[reportArgumentType]
        yield stop
