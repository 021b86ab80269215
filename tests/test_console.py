"""Terminal output: control characters are escaped, nothing is interpreted, and progress is shown in logs too."""

from __future__ import annotations

import os
import pty
import select
import sys

import pytest

from diffae import console
from diffae.console import progress
from diffae.errors import escaped


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a name.png", "a name.png"),
        ("Größe 日本 ×3 ·", "Größe 日本 ×3 ·"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("two\nlines\r\t", "two\\nlines\\r\\t"),
        ("\x9b1m\x7f", "\\x9b1m\\x7f"),
        ("txt\u202egpj.exe", "txt\\u202egpj.exe"),
        ("not utf-8: \udcff", "not utf-8: \\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, expected: str) -> None:
    assert escaped(text) == expected
    assert escaped(text).encode().decode() == expected


def test_consoles_interpret_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    console.console().print("[/x] [bold]b[/] :smile: 3.5")
    assert capsys.readouterr().err == "[/x] [bold]b[/] :smile: 3.5\n"


def test_a_log_gets_a_line_at_once_and_every_half_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("diffae.console.time.monotonic", lambda: now)
    with progress("[/x] {y}", 600, start=100) as update:
        for done in range(100, 201, 10):
            now += 10.0
            update(done, "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "[/x] {y}: 100 of 600 images · 0 images/s · loss 0.5",
        "[/x] {y}: 140 of 600 images · 0.8 images/s · loss 0.5 · 10 min left",
        "[/x] {y}: 180 of 600 images · 0.889 images/s · loss 0.5 · 8 min left",
    ]


def test_what_is_not_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "LINE_EVERY_SECONDS", -1.0)
    with progress("quiet", 3, output=console.console(quiet=True)) as update:
        update(3)
    assert capsys.readouterr().err == ""
    with progress("unknown length", None, "codes") as update:
        update(3)
    assert "unknown length: 3 codes · " in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a pseudo-terminal")
def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    leader, follower = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(follower, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress("a[/x]\x1b[31m", 10) as update:
            update(4)
        terminal.flush()
        shown = b""
        while select.select([leader], [], [], 0.2)[0]:
            shown += os.read(leader, 65536)
    os.close(leader)
    assert rb"a[/x]\x1b[31m" in shown
    assert b"4/10" in shown
