"""`diffae train --first-stage`: training in latents, resuming, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from autoencoders import save_autoencoder
from cli_helpers import Run, one_line

from diffae.model import DiffusionAutoencoder

TRAINING = ("--image-size", "16", "--z-sem-channels", "4", "--images", "8", "--batch-size", "4")


def test_a_run_in_latents_is_trained_resumed_and_used(run: Run, faces: Path) -> None:
    source = save_autoencoder(Path("theirs"))
    train = ("train", faces, "--out", "run", "--cache", "packs", "--first-stage", f"diffusers:{source}")
    code, _, err = run(*train, *TRAINING, "--encoder-input", "latents", "--preset", "small32")
    assert code == 0, err
    assert "latents of 8 x 8 x 3" in err
    assert len(list(Path("packs").glob("*/views-*.npy"))) == 2
    code, _, err = run(*train, "--resume", "--images", "12")
    assert code == 0, err
    settings = json.loads(Path("run/config.json").read_text())["model"]
    assert settings["encoder_input"] == "latents"
    assert len(settings["first_stage"]["mean"]) == 3
    assert DiffusionAutoencoder.from_pretrained("run", "cpu").config.latent_shape == (3, 8, 8)

    save_autoencoder(Path("theirs"), seed=1)
    code, _, err = run(*train, "--resume", "--images", "16")
    assert code == 2
    assert "run was trained with key = " in one_line(err)
    code, _, err = run("reconstruct", "run", next(faces.glob("*.png")), "--out", "back")
    assert code == 2
    assert "and the model was trained with" in one_line(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--first-stage", "haar:3"), "factor is 3: must be a power of 2"),
        (("--first-stage", "vae"), "first_stage is 'vae': must be space-to-depth:N"),
        (("--first-stage", "space-to-depth:3"), "image_size is 16: must be divisible by 3"),
        (("--first-stage", "diffusers:nowhere/model"), "first stage nowhere/model cannot be read"),
        (("--first-stage", "diffusers:theirs", "--channels", "1"), "image_channels is 1: must be 3"),
    ],
)
def test_unsuitable_first_stages_are_refused(run: Run, faces: Path, words: tuple[str, ...], message: str) -> None:
    save_autoencoder(Path("theirs"))
    code, _, err = run("train", faces, "--out", "run", "--cache", "packs", *TRAINING, *words)
    assert code == 2
    assert message in one_line(err)
    assert not Path("run").exists()
    assert not Path("packs").exists()


def test_a_missing_library_is_named(run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    code, _, err = run("train", faces, "--out", "run", *TRAINING, "--first-stage", "diffusers:theirs")
    assert code == 2
    assert "pip install 'diffae[diffusers]'" in one_line(err)
