"""`diffae train-prior`, `sample` and `nearest` as a user runs them, and what they say to bad input."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Run, first, one_line, save_model
from PIL import Image

from diffae.cli import main
from diffae.data.images import to_uint8
from diffae.latent.typicality import TypicalCodes
from diffae.model import DiffusionAutoencoder

TINY_PRIOR = ("--layers", "2", "--hidden-channels", "8", "--codes", "256", "--batch-size", "64")
FEW = ("--steps", "2", "--prior-steps", "3")


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory, model: Path, faces: Path) -> Path:
    """A run with a prior, and folders of examples."""
    folder = tmp_path_factory.mktemp("ready")
    shutil.copytree(model, folder / "run")
    assert main(["train-prior", str(folder / "run"), "--images", str(faces), *TINY_PRIOR]) == 0
    for name, part in (("like", slice(0, 8)), ("unlike", slice(8, 16)), ("few", slice(0, 4))):
        (folder / name).mkdir()
        for path in first(faces, 24)[part]:
            shutil.copy(path, folder / name)
    return folder


def test_a_prior_is_trained_resumed_and_replaced(run: Run, model: Path, faces: Path) -> None:
    shutil.copytree(model, "run")
    words = ("train-prior", "run", "--images", faces)
    code, out, err = run(*words, *TINY_PRIOR, "--resume")
    assert code == 0, err
    assert "run has no prior yet: training begins" in err
    assert "MLP of 2 layers, 8 wide" in err
    assert "The prior is in run/prior.safetensors" in out
    codes = [np.load(path) for path in Path("run/cache").glob("*.npy")]
    assert sorted(z.shape for z in codes) == [(2, 6), (22, 6)]  # held-out images are not learnt
    code, _, err = run(*words, *TINY_PRIOR)
    assert code == 2
    assert "run has a prior already: continue it with --resume, or replace it by --overwrite" in one_line(err)
    assert run(*words, "--resume", "--codes", "512")[0] == 0  # with its own settings
    code, _, err = run(*words, "--resume", "--layers", "3")
    assert code == 2
    assert "was trained with layers = 2, not 3" in one_line(err)
    assert run(*words, "--overwrite", *TINY_PRIOR)[0] == 0


def test_a_picture_of_samples_is_what_python_makes(run: Run, ready: Path) -> None:
    code, out, err = run("sample", ready / "run", "--count", "10", "--seed", "3", "--out", "made", "--official", *FEW)
    assert code == 0, err
    assert "10 images written to made." in out
    import torch

    from diffae.config import Sampling

    loaded = DiffusionAutoencoder.from_pretrained(ready / "run")
    x = loaded.sample(10, sampling=Sampling.official(2), prior_steps=3, generator=torch.Generator().manual_seed(3))
    paths = sorted(Path("made").iterdir())
    assert len(paths) == 10
    for path, pixels in zip(paths, to_uint8(x), strict=True):
        with Image.open(path) as picture:
            assert np.abs(np.asarray(picture).astype(int) - pixels).max() <= 1  # another order of summation
    assert run("sample", ready / "run", "--count", "10", "--out", "made.png", *FEW)[0] == 0
    with Image.open("made.png") as picture:
        assert picture.size == (5 * 136 + 8, 2 * 136 + 8)


def test_samples_like_examples(run: Run, ready: Path) -> None:
    words = ("sample", ready / "run", "--like", ready / "like", "--count", "6", "--out", "a.png", *FEW)
    for others in ((), ("--unlike", ready / "unlike"), ("--unlabelled", ready / "unlike")):
        code, out, err = run(*words, *others)
        assert code == 0, err
        assert "Classifier from 8 images: AUROC" in out
        assert "z_sem drawn (" in out
        assert Path("a.png").exists()


def test_a_model_without_an_encoder_needs_no_prior(run: Run, ready: Path) -> None:
    save_model(Path("baseline"), z_sem_channels=0)
    code, _, err = run("sample", "baseline", "--count", "3", "--out", "a.png", *FEW)
    assert code == 0, err
    code, _, err = run("sample", "baseline", "--like", ready / "like", "--out", "b.png", *FEW)
    assert code == 2
    assert "this model has no z_sem to compare by" in one_line(err)
    code, _, err = run("train-prior", "baseline")
    assert code == 2
    assert "this model has no z_sem to learn" in one_line(err)


def test_nearest_training_images(run: Run, ready: Path, faces: Path) -> None:
    code, out, err = run("sample", ready / "run", "--images", faces, "--count", "4", "--nearest", "near", *FEW)
    assert code == 0, err
    assert "one-sided Mann-Whitney U test" in out
    assert sorted(path.name for path in Path("near").iterdir()) == ["distances.png", "nearest.csv", "nearest.png"]
    with open("near/nearest.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 3  # samples, measures, ranks
    assert {row["training image"] for row in rows} <= {path.name for path in faces.iterdir()}
    first_sample = [float(row["distance"]) for row in rows if row["sample"] == "0" and row["distance by"] == "pixels"]
    assert first_sample == sorted(first_sample)


BAD = [
    (("sample", "{model}", "--out", "a.png"), "no latent prior to sample from: make one with `diffae train-prior`"),
    (("sample", "stale", "--out", "a.png"), "belongs to a model with fingerprint"),
    (("sample", "run", "--out", "a.gif"), "the suffix must be one of"),
    (("sample", "run", "--count", "0", "--out", "a.png"), "count is 0: must be at least 1"),
    (("sample", "run", "--prior-steps", "0", "--out", "a.png"), "steps is 0: must be between 1 and"),
    (("sample", "run", "--truncation", "2", "--out", "a.png"), "truncation is 2.0: must lie in [0, 1]"),
    (("sample", "run", "--like", "few", "--out", "a.png"), "4 positive examples are too few: give at least 5"),
    (
        ("sample", "run", "--like", "like", "--unlike", "few", "--out", "a.png"),
        "4 images to compare them with are too few",
    ),
    (("sample", "run", "--like", "nowhere", "--out", "a.png"), "images nowhere: there is no such file or folder"),
    (("sample", "run", "--unlike", "few", "--out", "a.png"), "is given without like"),
    (("sample", "run", "--like", "like", "--unlike", "few", "--unlabelled", "few", "--out", "a.png"), "drop one"),
    (("sample", "{model}", "--nearest", "near"), "no latent prior to sample from"),
    (("sample", "run", "--count", "1", "--nearest", "near"), "count is 1: must be at least 2"),
    (("sample", "run", "--images", "few", "--nearest", "near"), "at least 10"),
    (("sample", "run", "--features", "nowhere.onnx", "--nearest", "near"), "nowhere.onnx"),
    (("train-prior", "nowhere"), "nowhere is not a run folder"),
    (("train-prior", "{model}"), "name some by --images"),
    (("train-prior", "{model}", "--layers", "1"), "layers is 1: must be at least 2"),
    (("train-prior", "stale", "--resume"), "belongs to a model with fingerprint"),
    (("train-prior", "run", "--resume", "--overwrite"), "drop one"),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input(
    run: Run, ready: Path, model: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    if not (ready / "stale").exists():
        save_model(ready / "stale", model_channels=16)
        shutil.copy(ready / "run" / "prior.safetensors", ready / "stale")
    monkeypatch.chdir(ready)
    before = sorted(ready.rglob("*"))
    quick = () if words[0] == "train-prior" or "--prior-steps" in words else FEW
    code, _, err = run(*(word.format(model=model) for word in words), *quick)
    assert code == 2
    assert message in one_line(err)
    assert sorted(ready.rglob("*")) == before  # nothing written


def test_images_unlike_those_of_training_are_named(run: Run, ready: Path, faces: Path) -> None:
    """The distribution of z_sem is kept with the run when its prior is trained."""
    for number in range(3):
        Path("others").mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(f"others/noise{number}.png")
    typical = TypicalCodes.load(ready / "run", DiffusionAutoencoder.from_pretrained(ready / "run").fingerprint())
    assert typical is not None
    typical.threshold_ = 1e-6
    shutil.copytree(ready / "run", "strict")
    typical.save(Path("strict"), DiffusionAutoencoder.from_pretrained("strict").fingerprint())
    code, _, err = run("encode", "strict", "others", "--out", "codes.safetensors")
    assert code == 0, err
    assert "3 of 3 images unlike those of training (noise0.png, noise1.png, noise2.png)" in " ".join(err.split())
    typical.threshold_ = 1e6
    typical.save(Path("strict"), DiffusionAutoencoder.from_pretrained("strict").fingerprint())
    assert "unlike" not in run("encode", "strict", "others", "--out", "codes.safetensors")[2]
