"""`diffae evaluate` as a user meets it: a report, reasons, exit codes, and bad input in one line."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import Run, one_line, save_model, save_networks

from diffae.cli import models
from diffae.data.locks import in_use
from diffae.evaluation import task
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks import TASK_NAMES
from diffae.model import DiffusionAutoencoder


@pytest.fixture(autouse=True)
def tiny_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    few = ("varied=2", "variations=2", "reconstructed=2", "pairs=2", "rounds=1")
    own = task.counts_of
    monkeypatch.setattr(
        task, "counts_of", lambda tasks, *, changes=(), **how: own(tasks, changes=(*few, *changes), **how)
    )


@pytest.fixture
def trained(model: Path, faces: Path, tmp_path: Path) -> Path:
    """A run folder that tells its images, though it never saw them."""
    folder = tmp_path / "trained"
    shutil.copytree(model, folder)
    settings = json.loads((folder / "config.json").read_text())
    settings["training"] = {"val_images": 4}
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def test_a_report_is_written_and_resumed(run: Run, trained: Path, faces: Path) -> None:
    words = ("evaluate", trained, "variation", "--quick", "--counts", "variations=3", "--images", faces, "--out",
             "report")  # fmt: skip
    code, out, err = run(*words)
    assert code == 0, err
    assert "report/index.html" in out
    results = json.loads(Path("report/results.json").read_text())
    assert results["quick"]
    assert set(results["tasks"]) == {"variation"}
    page = Path("report/index.html").read_text()
    assert "Quick run: small counts." in page
    assert "each decoded with 3 x_T" in page
    assert '="http' not in page  # needs no other file
    for name in ("variation-fixed.csv", "variation-sheet.png"):
        assert (Path("report") / name).stat().st_size > 0
    before = Path("report/variation-sheet.png").stat().st_mtime_ns
    code, _, err = run(*words)
    assert code == 0
    assert "variation: there already" in err
    assert Path("report/variation-sheet.png").stat().st_mtime_ns == before


def test_what_is_absent_is_a_reason_and_decides_the_exit_code(run: Run, trained: Path, faces: Path) -> None:
    words = ("evaluate", trained, "generation", "attributes", "--quick", "--images", faces, "--out", "report")
    code, _, err = run(*words)
    assert code == 2
    assert "generation was left out: no feature network is given" in err
    assert "attributes was left out: no binary labels are given" in err
    page = Path("report/index.html").read_text()
    assert "Left out: no feature network is given; name one by --features FILE.onnx, or inception." in page
    assert run(*words, "--keep-going")[0] == 0


def test_sets_and_pairs_of_images_may_be_compared_by_two_networks(run: Run, trained: Path, faces: Path) -> None:
    save_networks()
    words = ("evaluate", trained, "variation", "--quick", "--images", faces, "--out", "report")
    assert run(*words, "--features", "vectors.pt")[0] == 0
    assert not Path("report/variation-alike.csv").exists()
    code, _, err = run(*words, "--features", "vectors.pt", "--perceptual", "maps.pt")
    assert code == 0
    assert "not the images that config.json names: some that count as unseen may have been trained on" in err
    assert "maps distance" in Path("report/variation-alike.csv").read_text()
    facts = json.loads(Path("report/results.json").read_text())
    assert (facts["feature network"], facts["perceptual distance"]) == ("vectors", "maps distance")


BAD = [
    (("reconstructoin",), "task 'reconstructoin' does not exist; did you mean 'reconstruction'?"),
    (("--counts", "detectd=5"), "counts: 'detectd=5': must be NAME=NUMBER"),
    (("--features", "nothing.onnx"), "feature network 'nothing.onnx': must be an ONNX or TorchScript file"),
    (("--identity", "bad.onnx"), "bad.onnx is not an ONNX network"),
    (("--ddim", "{trained}"), "has an encoder: --ddim takes a run trained with --no-encoder"),
    (("--ddim", "{small}"), "is for images of shape (3, 8, 8), the model's are (3, 16, 16)"),
    (("--autoencoder", "nowhere"), "autoencoder nowhere: must be a diffusers folder"),
    (
        ("--features", "maps.pt"),
        "name another network by --features, and this one by --perceptual",
    ),
    (("--identity", "maps.pt"), "maps gives no feature vectors: name another network by --identity"),
    (("--perceptual", "vectors.pt"), "vectors gives no feature maps to compare"),
    (("--unseen", "{faces}"), "unseen images are among the images of training"),
    (("--labels", "labels.csv"), "none names one of the"),
    (("--out-of-distribution", "nowhere"), "nowhere"),
    (
        ("--labels", "all.csv", "--attributes", "smling,hat"),
        "attribute 'smling' is not among the binary labels; did you mean 'smiling'?",
    ),
    (("--attributes", "hat"), "attribute 'hat' is not among the binary labels; choose from none: give --labels"),
    (
        ("--labels", "all.csv", "--attributes", "smiling,hat"),
        "attribute 'hat' does not vary among training images: name another, or label more",
    ),
]


@pytest.mark.parametrize(("words", "message"), BAD)
def test_bad_input(run: Run, trained: Path, faces: Path, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    Path("bad.onnx").write_bytes(b"no network")
    save_networks()
    Path("labels.csv").write_text("file,hat\nsomebody.png,1\nelse.png,0\n")
    rows = [f"{path.name},{number % 2},{int(number == 0)}" for number, path in enumerate(sorted(faces.glob("*.png")))]
    Path("all.csv").write_text("\n".join(["file,smiling,hat", *rows]))
    small = save_model(tmp_path / "small", z_sem_channels=0, image_size=8)
    words = tuple(word.format(trained=trained, small=small, faces=faces) for word in words)
    code, _, err = run("evaluate", trained, *words, "--quick", "--images", faces, "--out", "report")
    assert code == 2
    assert message in one_line(err)
    assert not Path("report/results.json").exists()


def test_a_split_that_contradicts_training_is_named(run: Run, trained: Path, faces: Path) -> None:
    config = json.loads((trained / "config.json").read_text())
    config["data"] = {"key": models.training_pack(DiffusionAutoencoder.from_pretrained(trained), faces).index["key"]}
    (trained / "config.json").write_text(json.dumps(config))
    rows = [f"{path.name},{'train' if place < 4 else 'test'}" for place, path in enumerate(sorted(faces.glob("*.png")))]
    Path("split.csv").write_text("\n".join(["file,split", *rows]))
    words = ("evaluate", trained, "variation", "--quick", "--images", faces, "--labels", "split.csv", "--out", "report")
    _, _, err = run(*words, "--keep-going")
    assert re.search(r"'split' contradicts training: \d+ of 20 images of “test” were trained on, and are left out", err)


def test_a_second_evaluation_is_told_who_writes_the_report(run: Run, trained: Path, faces: Path) -> None:
    Path("report").mkdir()
    with in_use(Path("report")):
        code, _, err = run("evaluate", trained, "--images", faces, "--out", "report", "--quick")
    assert code == 2
    assert re.search(r"report is in use by process \d+ on .*: wait until it ends", one_line(err))


def test_a_ddim_baseline_is_not_evaluated_itself(run: Run, tmp_path: Path, faces: Path) -> None:
    ddim = save_model(tmp_path / "ddim", z_sem_channels=0)
    code, _, err = run("evaluate", ddim, "--images", faces, "--out", "report")
    assert code == 2
    assert "has no encoder" in one_line(err)


def test_feature_networks_see_gray_or_rgb_only(run: Run, tmp_path: Path, faces: Path) -> None:
    pair = save_model(tmp_path / "pair", image_channels=2)
    code, _, err = run("evaluate", pair, "--images", faces, "--features", "inception", "--out", "report")
    assert code == 2
    assert "images have 2 channels: feature networks take gray or RGB, 1 or 3" in one_line(err)


def test_the_images_of_training_must_be_known(run: Run, model: Path) -> None:
    code, _, err = run("evaluate", model, "variation", "--out", "report")
    assert code == 2
    assert "--images" in one_line(err)


def test_help_names_every_task_and_is_quick_to_import(run: Run) -> None:
    code, out, _ = run("evaluate", "--help")
    assert code == 0
    assert all(name in out.replace("\n", " ") or name[:8] in out for name in TASK_NAMES)
    light = "import sys, diffae.cli.evaluate; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", light], check=True)


def test_a_network_that_was_distilled_is_named(run: Run, trained: Path, faces: Path) -> None:
    save_networks()
    shutil.copytree(trained, "distilled")
    config = json.loads(Path("distilled/config.json").read_text())
    config.setdefault("data", {})["teacher_key"] = FeatureNetwork.open("vectors.pt").key
    Path("distilled/config.json").write_text(json.dumps(config))
    for model, warned in ((trained, False), ("distilled", True)):
        words = ("evaluate", model, "variation", "--quick", "--images", faces, "--out", f"report-{warned}")
        code, _, err = run(*words, "--features", "vectors.pt")
        assert code == 0, err
        assert ("this model was distilled from vectors, so its numbers flatter it" in err) == warned
