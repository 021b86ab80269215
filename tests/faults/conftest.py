"""What the tests of faults share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_helpers import save_model
from killing import AVAILABLE, Supervisor

from diffae.cli import main
from sketchfaces import write_sketch_faces


@pytest.fixture(scope="session")
def supervisor() -> Iterator[Supervisor]:
    if not AVAILABLE:
        pytest.skip("needs Linux and a C compiler")
    started = Supervisor()
    yield started
    started.close()


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a model."""
    folder = tmp_path_factory.mktemp("start")
    write_sketch_faces(folder / "faces", 12, 16, seed=3)
    save_model(folder / "tiny")
    words = ("encode", str(folder / "tiny"), str(folder / "faces"), "--out", str(folder / "codes"), "--steps", "2")
    assert main([*words, "--stochastic"]) == 0
    return folder
