"""Commands that several processes share, started as by torchrun: the files are those of one process, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import job_steps
import pytest
from cli_helpers import SIZE, save_model, save_networks
from jobs import run_job

from diffae.cli import main
from sketchfaces import write_sketch_faces

COUNTS = ["outliers=8", "varied=3", "variations=3"]
PRIOR = ["--layers", "2", "--hidden-channels", "8", "--codes", "64", "--batch-size", "32"]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "faces"
    table = write_sketch_faces(folder, 44, SIZE, seed=3)
    rows = [line.split(",")[:3] for line in table.read_text().splitlines()]
    table.write_text("".join(f"{','.join(row)}\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, faces: Path) -> Path:
    """A run with a prior."""
    folder = save_model(tmp_path_factory.mktemp("model") / "run")
    settings = json.loads((folder / "config.json").read_text())
    settings["training"] = {"val_images": 12}
    (folder / "config.json").write_text(json.dumps(settings))
    assert main(["train-prior", str(folder), "--images", str(faces), *PRIOR]) == 0
    return folder


def lines(folder: Path, faces: Path) -> list[list[str]]:
    run, labels = str(folder / "run"), str(faces / "labels.csv")
    networks = ["--features", str(folder / "vectors.pt"), "--perceptual", str(folder / "maps.pt")]
    return [
        ["sample", run, "--count", "11", "--steps", "2", "--prior-steps", "2", "--out", str(folder / "samples")],
        ["attributes", "fit", run, "--labels", labels, "--images", str(faces)],
        ["evaluate", run, "variation", "--images", str(faces), "--out", str(folder / "report"),
         "--quick", "--counts", *COUNTS, *networks],
    ]  # fmt: skip


def outcome(folder: Path) -> dict[str, bytes]:
    """The files that were written, those aside that hold times or paths."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".png", ".csv", ".npy") or path.name == "attributes.safetensors"
    }


def test_commands_are_shared(trained: Path, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for count in (1, 2):
        folder = tmp_path / str(count)
        shutil.copytree(trained, folder / "run")
        monkeypatch.chdir(folder)
        save_networks()
        done = run_job(job_steps.commands, folder, *lines(folder, faces), count=count)
        assert [codes for codes, _ in done] == [[0, 0, 0]] * count
        found[count] = outcome(folder), [decoded for _, decoded in done]
    written = found[1][0]
    assert found[2][0] == written
    assert {"report/variation-fixed.csv", "samples/sample_00010.png", "run/attributes.safetensors"} < set(written)
    (alone,), (first, second) = found[1][1], found[2][1]
    assert first + second == alone
    assert second > alone / 4
