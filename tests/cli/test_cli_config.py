"""`diffae config` and `train --config`, and `diffae push`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_helpers import TINY_TRAINING, Run, one_line

from diffae import checkpoint, hub
from diffae.model import DiffusionAutoencoder


def test_the_settings_of_a_run_reproduce_it(run: Run, faces: Path) -> None:
    code, _, err = run("train", faces, "--out", "a", *TINY_TRAINING)
    assert code == 0, err
    code, out, _ = run("config", "a")
    assert code == 0
    Path("settings.yaml").write_text(out)
    code, _, err = run("train", faces, "--out", "b", "--config", "settings.yaml")
    assert code == 0, err
    a, b = (DiffusionAutoencoder.from_pretrained(folder, "cpu") for folder in ("a", "b"))
    assert a.fingerprint() == b.fingerprint()
    assert checkpoint.read_config(Path("a")) == checkpoint.read_config(Path("b"))


def test_the_settings_of_a_preset(run: Run) -> None:
    code, out, _ = run("config", "--preset", "ffhq128", "--recipe", "paper")
    settings = yaml.safe_load(out)
    assert (code, settings["model"]["image_size"], settings["training"]["batch_size"]) == (0, 128, 128)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [", "config s.yaml: cannot be read"),
        ("5", "config s.yaml: must have the keys preset, recipe, model, training"),
        ("{model: {sides: 3}, training: {}}", "config s.yaml: "),
    ],
)
def test_settings_that_cannot_be_used(run: Run, faces: Path, text: str, message: str) -> None:
    Path("s.yaml").write_text(text)
    code, _, err = run("train", faces, "--out", "b", "--config", "s.yaml")
    assert code == 2
    assert message in one_line(err)


def test_push_uploads_the_run_with_a_card(run: Run, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, Any] = {}

    def upload(folder: Path, repo_id: str, *, private: bool, token: str | None) -> str:
        said.update(files=sorted(path.name for path in folder.iterdir()), private=private)
        said["card"] = (folder / "README.md").read_text()
        return f"https://hub/{repo_id}"

    monkeypatch.setattr(hub, "upload", upload)
    code, out, err = run("push", model, "me/faces", "--private", "--license", "mit")
    assert code == 0, err
    assert "https://hub/me/faces" in out
    assert said["private"]
    assert {"README.md", "config.json", "model.safetensors"} <= set(said["files"])
    assert "license: mit" in said["card"]
