"""`diffae distill`, and the commands that decode by the student."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli_helpers import Run, first, one_line
from PIL import Image

from diffae.cli import main

SHORT = ("--length", "16", "--trajectories", "3", "--batch-size", "8")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, model: Path, faces: Path) -> Path:
    """A run with a student."""
    run = tmp_path_factory.mktemp("ready") / "run"
    shutil.copytree(model, run)
    assert main(["distill", str(run), "--images", str(faces), *SHORT]) == 0
    return run


def test_a_student_is_made_resumed_and_replaced(run: Run, ready: Path, faces: Path) -> None:
    shutil.copytree(ready, "run")
    words = ("distill", "run", "--images", faces)
    code, _, err = run(*words, *SHORT)
    assert code == 2
    assert "run has a student already: continue with --resume, or replace it by --overwrite" in one_line(err)
    code, out, err = run(*words, "--resume", "--length", "24")
    assert code == 0, err
    assert "3 trajectories · 24 images to see, 8 at a time" in err
    assert "The student is in run/student.safetensors" in out
    assert out.count(" dB") == 3
    code, _, err = run(*words, "--resume", "--seed", "1")
    assert code == 2
    assert "was trained with seed = 0, not 1" in one_line(err)


def test_commands_decode_by_it(run: Run, ready: Path, faces: Path) -> None:
    a, b = first(faces, 2)
    for words in (("vary", ready, a, "--count", "2"), ("interpolate", ready, a, b, "--steps", "2", "--frames", "3")):
        pictures = []
        for how in ((), ("--student", "1"), ("--student", "2")):
            code, _, err = run(*words, "--out", "made.png", *how)
            assert code == 0, err
            pictures.append(Image.open("made.png").tobytes())
        assert len(set(pictures)) == 3


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("vary", "ready", "a", "--student", "3"), "steps is 3: the student was trained for 1, 2 or 4"),
        (("interpolate", "ready", "a", "a", "--student", "3"), "steps is 3: the student was trained for 1, 2 or 4"),
        (("vary", "bare", "a", "--student", "1"), "no student to decode by: make one with `diffae distill`"),
        (("sample", "bare", "--student", "1"), "no student to decode by"),
        (("distill", "bare", "--trajectories", "0"), "trajectories is 0: must be at least 1"),
        (("distill", "bare", "--resume", "--overwrite"), "resume and overwrite are both given"),
        (("distill", "nowhere"), "nowhere is not a run folder"),
    ],
)
def test_bad_input(run: Run, ready: Path, model: Path, faces: Path, words: tuple[str, ...], complaint: str) -> None:
    places = {"ready": ready, "bare": model, "a": first(faces, 1)[0]}
    out = () if words[0] == "distill" else ("--out", "made.png")
    code, _, err = run(*(places.get(word, word) for word in words), *out)
    assert code == 2
    assert complaint in one_line(err)
