"""`diffae train --first-stage`: training in latents, resuming, and what is refused."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from autoencoders import save_autoencoder
from cli_helpers import Run, one_line
from PIL import Image
from tiny import tiny_config, tiny_model

from diffae.model import DiffusionAutoencoder
from diffae.networks.first_stages.settings import DiffusersConfig

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


@pytest.fixture(scope="module")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose first stage loses much of the image."""
    folder = tmp_path_factory.mktemp("lossy")
    stage = DiffusersConfig.read(save_autoencoder(folder / "theirs"), (3, 16, 16))
    stage = replace(stage, mean=(0.0,) * 3, std=(1.0,) * 3)
    tiny_model(replace(tiny_config(), first_stage=stage)).save_pretrained(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("out", ["codes.safetensors", "codes"])
def test_with_the_residual_the_round_trip_is_bit_exact(run: Run, faces: Path, lossy: Path, out: str) -> None:
    if out == "codes":
        pytest.importorskip("pyarrow")
    how = ("--stochastic", "--residual", "--inversion", "explicit", "--steps", "3")
    code, _, err = run("encode", lossy, faces, "--out", out, *how)
    assert code == 0, err
    code, _, err = run("decode", lossy, out, "--out", "back")
    assert code == 0, err
    assert "differ" not in err
    for path in faces.glob("*.png"):
        again = Image.open(Path("back") / f"{path.stem}-decoded.png")
        np.testing.assert_array_equal(np.asarray(again), np.asarray(Image.open(path).convert("RGB")))


def test_the_residual_needs_both_codes(run: Run, faces: Path, lossy: Path) -> None:
    code, _, err = run("encode", lossy, faces, "--out", "codes.safetensors", "--residual")
    assert code == 2
    assert "residual is given without stochastic" in one_line(err)


def test_reconstruct_tells_what_the_first_stage_loses(run: Run, faces: Path, lossy: Path, model: Path) -> None:
    photos = sorted(faces.glob("*.png"))[:2]
    code, _, err = run("reconstruct", lossy, *photos, "--out", "back", "--steps", "5")
    assert code == 0, err
    with Path("back/results.csv").open() as file:
        rows = [{name: float(value) for name, value in row.items() if name != "image"} for row in csv.DictReader(file)]
    assert len(rows) == 2
    for row in rows:
        assert row["first_stage_mse"] > 1e-3
        assert row["own_mse"] < 0.02 * row["first_stage_mse"]
        assert row["mse"] == pytest.approx(row["first_stage_mse"], rel=0.02)
    code, _, err = run("reconstruct", model, photos[0], "--out", "plain", "--steps", "5")
    assert code == 0, err
    with Path("plain/results.csv").open() as file:
        assert {row["first_stage_mse"] for row in csv.DictReader(file)} == {""}


def test_presets_for_latents_need_a_first_stage(run: Run, faces: Path) -> None:
    code, _, err = run("train", faces, "--out", "run", "--preset", "latent256")
    assert code == 2
    assert "preset is 'latent256', which needs a first stage of factor 8" in one_line(err)
