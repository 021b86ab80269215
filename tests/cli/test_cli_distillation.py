"""`diffae train --distill-from`: what is recorded, how such a run is resumed, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cli_helpers import TINY_TRAINING, Run, one_line, save_networks

from diffae.model import DiffusionAutoencoder
from diffae.training.settings import DistillationConfig


def test_a_distilled_run_is_recorded_and_resumed(run: Run, faces: Path) -> None:
    save_networks(size=8)
    train = ("train", faces, "--out", "run", "--cache", "packs")
    code, _, err = run(*train, *TINY_TRAINING, "--distill-from", "vectors.pt")
    assert code == 0, err
    assert "z_sem of 4, distilled from vectors" in err
    config = json.loads(Path("run/config.json").read_text())
    assert {"kind": "distillation", "weight": DistillationConfig.weight} in config["training"]["auxiliary_losses"]
    assert config["data"]["teacher"] == "vectors.pt"
    assert len(list(Path("packs").glob("*/vectors-*.npy"))) == 1
    assert "vectors.pt" in run("info", "run")[1]

    code, _, err = run(*train, "--resume", "--images", "12")
    assert code == 0, err
    code, _, err = run(*train, "--resume", "--images", "16", "--distill-from", "other.pt")
    assert code == 2
    assert "--distill-from other.pt is another network than the run began with" in one_line(err)
    shutil.move("vectors.pt", "elsewhere.pt")
    code, _, err = run(*train, "--resume", "--images", "16")
    assert code == 2
    assert "'vectors.pt': must be an ONNX or TorchScript file" in one_line(err)
    code, _, err = run(*train, "--resume", "--images", "16", "--distill-from", "elsewhere.pt")
    assert code == 0, err
    assert json.loads(Path("run/config.json").read_text())["data"]["teacher"] == "elsewhere.pt"
    DiffusionAutoencoder.from_pretrained("run", device="cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--distill-from", "nothing.onnx"), "feature network 'nothing.onnx': must be an ONNX or TorchScript file"),
        (("--distill-from", "maps.pt"), "--distill-from maps.pt gives no feature vectors"),
        (("--distill-from", "vectors.pt", "--channels", "2"), "feature networks take gray or RGB"),
        (
            ("--distill-from", "vectors.pt", "--no-encoder"),
            "distill_from is 'vectors.pt': must be left out with --no-encoder",
        ),
    ],
)
def test_unsuitable_networks_are_refused_before_anything_is_made(
    run: Run, faces: Path, words: tuple[str, ...], message: str
) -> None:
    save_networks(size=8)
    code, _, err = run("train", faces, "--out", "run", "--cache", "packs", *words)
    assert code == 2
    assert message in one_line(err)
    assert not Path("run").exists()
    assert not Path("packs").exists()


def test_a_run_begun_without_distillation_continues_without(run: Run, faces: Path) -> None:
    save_networks(size=8)
    assert run("train", faces, "--out", "run", *TINY_TRAINING)[0] == 0
    code, _, err = run("train", faces, "--out", "run", "--resume", "--images", "12", "--distill-from", "vectors.pt")
    assert code == 2
    assert "run was trained without distillation" in one_line(err)
