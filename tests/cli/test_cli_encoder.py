"""`diffae train --encoder`: training with a pretrained network, resuming, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_helpers import Run, one_line
from scripts import colours, save_script

TRAINING = ("--image-size", "16", "--z-sem-channels", "6", "--images", "8", "--batch-size", "4")


def test_a_run_with_a_pretrained_network_is_trained_and_resumed(run: Run, faces: Path) -> None:
    source = save_script(Path("net.pt"), colours())
    train = ("train", faces, "--out", "run", "--cache", "packs")
    code, _, err = run(*train, *TRAINING, "--encoder", source, "--learnt", "2")
    assert code == 0, err
    settings = json.loads(Path("run/config.json").read_text())
    encoder = settings["model"]["encoder"]
    assert (encoder["kind"], encoder["features"], encoder["z_sem_channels"]) == ("foundation", 3, 6)
    assert encoder["learnt"]["z_sem_channels"] == 2
    assert [loss["kind"] for loss in settings["training"]["auxiliary_losses"]] == ["hog"]
    assert len(list(Path("packs").glob("*/views-*.npy"))) == 2
    code, _, err = run(*train, "--resume", "--images", "12")
    assert code == 0, err
    code, _, err = run("encode", "run", faces, "--out", "codes.safetensors")
    assert code == 0, err
    Path("net.pt").unlink()
    code, _, err = run("info", "run")
    code, _, err = run("encode", "run", faces, "--out", "codes.safetensors")
    assert code == 2
    assert "net.pt does not exist" in one_line(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--encoder", "dinov2"), "encoder is 'dinov2': must be timm:NAME"),
        (
            ("--encoder", "torchscript:net.pt", "--no-encoder", "--z-sem-channels", "0"),
            "must be left out with --no-enc",
        ),
        (("--encoder", "torchscript:net.pt", "--learnt", "6"), "z_sem_channels is 6: must be more than the 6"),
        (("--learnt", "2"), "learnt is 2: must be left out without --encoder"),
        (("--encoder", "torchscript:net.pt", "--contrastive", "0.1"), "must not contrast views"),
        (("--encoder", "torchscript:net.pt", "--channels", "2"), "image_channels is 2: must be 1 or 3"),
    ],
)
def test_unsuitable_encoders_are_refused(run: Run, faces: Path, words: tuple[str, ...], message: str) -> None:
    save_script(Path("net.pt"), colours())
    code, _, err = run("train", faces, "--out", "run", "--cache", "packs", *TRAINING, *words)
    assert code == 2
    assert message in one_line(err)
    assert not Path("run").exists()
