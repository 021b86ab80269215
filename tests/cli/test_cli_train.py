"""`diffae train`: new runs, interrupted and resumed ones, and what is refused before images are read."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cli_helpers import TINY_TRAINING, Run, first, one_line
from PIL import Image

from diffae import checkpoint
from diffae.cli import models
from diffae.config import InputConfig
from diffae.errors import DataError
from diffae.latent.codes import load_codes
from diffae.model import DiffusionAutoencoder
from diffae.presets import presets
from diffae.training.autoencoder import AutoencoderTask
from diffae.training.held_out import held_out
from diffae.training.settings import TrainingConfig
from sketchfaces import write_sketch_faces


def test_train_then_reconstruct_as_it_proposes(run: Run, faces: Path) -> None:
    code, out, err = run("train", faces, "--out", "runs/a", *TINY_TRAINING)
    assert code == 0
    assert "24 images of 8 x 8 x 3 · preset small32 · z_sem of 4" in err
    assert "with the right z_sem" in out
    config = json.loads(Path("runs/a/config.json").read_text())
    assert config["model"]["encoder"]["z_sem_channels"] == 4
    assert config["training"]["images"] == 8
    losses = [{"kind": "contrastive", "weight": 0.1, "gather": True}, {"kind": "hog", "weight": 0.3}]
    assert (config["training"]["auxiliary_losses"], config["training"]["optimizer"]) == (losses, "muon")
    proposed = shlex.split(out.splitlines()[-1])
    assert proposed[:2] == ["diffae", "reconstruct"]
    code, out, _ = run(*proposed[1:], "--steps", "3")
    assert code == 0
    assert "PSNR" in out
    code, out, _ = run("info", "runs/a")
    assert code == 0
    for fact in ("8 of 8 images, 4 at a time", "8 x 8 pixels", "z_sem", "million", "loss", "model.safetensors"):
        assert fact in out


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_command_that_is_printed_resumes(
    run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, exit_code: int
) -> None:
    losses = AutoencoderTask.losses

    def pressed(*args: Any) -> Any:
        signal.raise_signal(number)
        return losses(*args)

    words = ["train", faces, "--out", "a run", *TINY_TRAINING, "--no-encoder", "--cache", "packs"]
    words.remove("--z-sem-channels")
    words.remove("4")
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "losses", pressed)
        code, out, _ = run(*words)
    assert code == exit_code
    assert "Interrupted after 4 images; everything is saved in a run" in out
    resume = shlex.split(out.splitlines()[-1])
    assert resume == ["diffae", "train", str(faces), "--out", "a run", "--resume", "--cache", "packs"]
    code, out, err = run(*resume[1:])
    assert code == 0, err
    steps = [json.loads(line)["step"] for line in Path("a run/metrics.jsonl").read_text().splitlines()]
    assert steps[-1] == 2
    code, _, err = run(*resume[1:], "--images", "12", "--preset", "small32", "--no-encoder")
    assert code == 0, err
    code, _, err = run(*resume[1:], "--images", "12")
    assert code == 0
    assert "a run has seen all its 12 images" in err


def test_resume_refuses_other_images(run: Run, faces: Path) -> None:
    code, _, err = run("train", faces, "--out", "run", *TINY_TRAINING)
    assert code == 0, err
    write_sketch_faces("others", 14, 16, seed=9)
    code, _, err = run("train", "others", "--out", "run", "--resume")
    assert code == 2
    assert re.search(r"run was trained on \d+ images of .*, not on the 14 of others: resume it with those", err)
    shutil.copytree(faces, "copied", copy_function=shutil.copyfile)  # the same names, modified now
    code, _, err = run("train", "copied", "--out", "run", "--resume")
    assert (code, "copied has changed since this run began" in err) == (0, True)


def test_the_column_split_says_what_is_trained_on(run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = sorted(path.name for path in faces.glob("*.png"))
    rows = [f"{name},{part}" for name, part in zip(names, ["train"] * 12 + ["val"] * 6 + ["test"] * 6, strict=True)]
    Path("labels.csv").write_text("\n".join(["file,split", *rows]))
    seen: list[int] = []
    losses = AutoencoderTask.losses

    def noted(self: AutoencoderTask, networks: Any, batch: Any, *more: Any) -> Any:
        seen.extend(batch.indices)
        return losses(self, networks, batch, *more)

    monkeypatch.setattr(AutoencoderTask, "losses", noted)
    words = ("train", faces, "--labels", "labels.csv", "--out", "run", *TINY_TRAINING)
    code, _, err = run(*words)
    assert code == 0, err
    assert set(seen) <= set(range(12))
    model = DiffusionAutoencoder.from_pretrained("run")
    pack = models.training_pack(model, None)  # with the labels that config.json names
    assert [list(rows) for rows in held_out(pack, TrainingConfig(val_images=6))] == [[*range(12)], [*range(12, 18)]]
    Path("labels.csv").write_text("\n".join(["file,split", *rows]).replace(",test", ",train"))
    code, _, err = run("train", faces, "--out", "run", "--resume", "--images", "12")
    assert (code, "the column 'split' of labels.csv has changed; restore it" in one_line(err)) == (2, True)
    code, _, err = run("train", faces, "--out", "run", "--resume", "--labels", "others.csv")
    assert (code, "was trained with labels = labels.csv, not others.csv" in one_line(err)) == (2, True)


def test_resume_begins_a_run_that_has_saved_nothing(run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a launcher needs that starts the same command again after any failure."""
    words = ("train", faces, "--out", "run", *TINY_TRAINING, "--cache", "packs", "--resume")
    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderTask, "losses", lambda *_: 1 / 0)
        assert run(*words)[0] == 1  # after config.json, before anything is saved
    assert not Path("run/model.safetensors").exists()
    code, _, err = run(*words, "--learning-rate", "0.001")
    assert code == 0, err
    assert "nothing is saved in run yet: training begins" in err
    weights = Path("run/model.safetensors").read_bytes()
    assert run(*words)[0] == 0  # finished: nothing is left to do
    assert Path("run/model.safetensors").read_bytes() == weights
    Path("run/training/state.safetensors").unlink()
    code, _, err = run(*words)
    assert code == 2  # a model is not replaced
    assert "this run saved no state" in one_line(err)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--batch-size", "2"), "was trained with batch_size = 4, not 2"),
        (("--preset", "small64"), "was trained with preset = small32, not small64"),
        (("--recipe", "paper"), "was trained with recipe = default, not paper"),
        (("--no-flip",), "was trained with flip = True, not False"),
        (("--crop", "0,0,8,8"), "was trained with crop = None, not [0, 0, 8, 8]"),
        (("--overwrite",), "resume and overwrite are both given"),
    ],
)
def test_resume_refuses_other_settings(run: Run, faces: Path, given: tuple[str, ...], message: str) -> None:
    model, _ = presets()["small32"]
    data = {"preset": "small32", "recipe": "default", "key": None}
    training_values = {"images": 8, "batch_size": 4}
    checkpoint.write_config(Path("run"), model, training=training_values, data=data)
    before = Path("run/config.json").read_bytes()
    code, _, err = run("train", faces, "--out", "run", "--resume", *given)
    assert code == 2
    assert message in one_line(err)
    assert Path("run/config.json").read_bytes() == before


def test_unreadable_images_are_listed_or_refused(run: Run, faces: Path) -> None:
    shutil.copytree(faces, "photos")
    Path("photos/broken.png").write_bytes(first(faces, 1)[0].read_bytes()[:60])
    code, _, err = run("train", "photos", "--out", "strict", *TINY_TRAINING, "--strict")
    assert code == 2
    assert "broken.png" in one_line(err)
    assert not Path("strict").exists()
    code, _, err = run("train", "photos", "--out", "run", *TINY_TRAINING)
    assert code == 0
    assert "left out 1 image that cannot be read" in err
    assert "image broken.png" in err


def test_the_crop_of_the_training_is_the_models(run: Run) -> None:
    wide = np.random.default_rng(0).integers(0, 255, (12, 20, 40, 4), np.uint8)
    Path("photos").mkdir()
    for index, pixels in enumerate(wide):
        Image.fromarray(pixels).save(f"photos/{index:02d}.png")
    cut = ("--crop", "10,0,18,8", "--background", "0,255,0")
    less = ("--contrastive", "0", "--hog", "0.2", "--optimizer", "adam")
    code, _, err = run("train", "photos", "--out", "run", *TINY_TRAINING, *less, *cut)
    assert code == 0, err
    config = json.loads(Path("run/config.json").read_text())
    cut = {"crop": [10, 0, 18, 8], "background": [0, 255, 0]}
    assert config["model"]["input"] == cut | {"window": None, "dtype": "uint8"}
    assert config["data"].keys() == {"preset", "preset_images", "recipe", "source", "count", "key", "names"}
    losses = [{"kind": "hog", "weight": 0.2}]
    assert (config["training"]["auxiliary_losses"], config["training"]["optimizer"]) == (losses, "adam")
    model = DiffusionAutoencoder.from_pretrained("run", device="cpu")
    assert model.config.input == InputConfig((10, 0, 18, 8), (0, 255, 0))
    model.save_pretrained("copy")
    code, _, err = run("encode", "copy", "photos", "--out", "many.safetensors")
    assert code == 0, err
    code, _, err = run("encode", "run", "photos/03.png", "--out", "one.safetensors")
    assert code == 0, err
    many, one = load_codes("many.safetensors").z_sem, load_codes("one.safetensors").z_sem
    assert many is not None
    assert one is not None
    torch.testing.assert_close(model.encode_semantic("photos/03.png"), one)
    torch.testing.assert_close(many[3:4], one)
    code, _, err = run("train", "photos", "--out", "run", "--resume", "--crop", "0,0,8,8")
    assert code == 2
    assert "was trained with crop = [10, 0, 18, 8], not [0, 0, 8, 8]" in one_line(err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--out", "run", "--resume", "--image-size", "64"), "run was trained with image_size = 32, not 64"),
        (("--out", "new", "--batch-size", "30", "--accumulation", "4"), "batch_size is 30: must be divisible by"),
        (("--out", "file/run"), "cannot write file/run"),
        (("--out", "run"), "run exists already"),
        (("--out", "new", "--preset", "small64", "--track", "tensorboard"), "pip install tensorboard"),
        (("--out", "run", "--overwrite", "--track", "tensorboard"), "pip install tensorboard"),
    ],
)
def test_what_cannot_be_is_refused_before_images_are_read(
    run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    data = {"preset": "small32", "recipe": "default", "key": "that of other images"}
    training_values = {"images": 8, "batch_size": 4}
    checkpoint.write_config(Path("run"), presets()["small32"][0], training=training_values, data=data)
    Path("file").write_text("")
    before = sorted(Path().rglob("*"))
    monkeypatch.setattr("diffae.data.build.build_pack", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    code, _, err = run("train", faces, *words)
    assert code == 2
    assert message in one_line(err)
    assert err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before


def test_photos_and_cache_are_not_overwritten_with_the_run(run: Run, faces: Path) -> None:
    shutil.copytree(faces, "run/samples")
    checkpoint.write_config(Path("run"), presets()["small32"][0])
    for words, what in ((("run/samples",), "the photos"), ((faces, "--cache", "run/packs"), "the cache")):
        code, _, err = run("train", *words, "--out", "run", "--overwrite")
        assert code == 2
        assert f"out is run: must not hold {what}" in one_line(err)
    assert {path.name for path in faces.iterdir()} == {path.name for path in Path("run/samples").iterdir()}


def test_one_of_several_processes_shows_progress_and_all_report_their_errors(
    run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    code, _, err = run("train", faces, "--out", "run", "--batch-size", "0")
    assert (code, err[:29]) == (2, "diffae: rank 1: error: batch_")
    monkeypatch.setenv("WORLD_SIZE", "3")
    code, _, err = run("train", faces, "--out", "run", "--batch-size", "4")
    assert (code, "processes x accumulation, 3" in err) == (2, True)


def test_sizes_without_attention_are_reported(run: Run, faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diffae.data.build.build_pack", _stop)
    _, _, err = run("train", faces, "--out", "run", "--image-size", "128")
    assert (
        "warning: the UNet's levels have 128, 64, 32 pixels, none of them 8: only its bottleneck has attention" in err
    )
    _, _, err = run("train", faces, "--out", "run", "--image-size", "16")
    assert "attention" not in err


def _stop(*_: object, **__: object) -> None:
    raise DataError("far enough")
