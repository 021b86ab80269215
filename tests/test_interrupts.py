"""Ctrl-C and SIGTERM: what they raise or set, and the exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from diffae import interrupts

SIGNALS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@SIGNALS
def test_a_signal_raises(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), interrupts.raised():
        signal.raise_signal(number)
    assert interrupts.exit_code() == code
    assert signal.getsignal(number) is before


@SIGNALS
def test_the_first_signal_is_deferred_and_the_second_raises(number: signal.Signals, code: int) -> None:
    with interrupts.deferred() as stop:
        assert stop == [False]
        signal.raise_signal(number)
        assert stop == [True]
        assert interrupts.exit_code() == code
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@SIGNALS
@pytest.mark.parametrize("module", ["diffae.cli", "tyro"])
def test_a_signal_while_modules_are_imported(number: signal.Signals, code: int, module: str) -> None:
    script = f"""
import os, sys

class Finder:
    def find_spec(self, name, *args):
        if name == {module!r}:
            os.kill(os.getpid(), {int(number)})

sys.meta_path.insert(0, Finder())
from diffae.__main__ import main
sys.argv[1:] = ["info", "run"]
sys.exit(main())
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (code, "diffae: interrupted\n")
