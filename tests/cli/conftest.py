"""Drawn faces, a tiny model, and the command line in an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_helpers import SIZE, Run, save_model

from diffae.cli import main
from sketchfaces import write_sketch_faces


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    write_sketch_faces(folder, 24, SIZE, seed=3)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """main() in an empty folder; returns the exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.parent / "cache"))

    def call(*words: object) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(str(stop.code))
        out, err = capfd.readouterr()
        return code, out, err

    return call
