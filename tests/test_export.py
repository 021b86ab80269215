"""Networks as ONNX files and as programs of torch.export, each checked against PyTorch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tiny import normal, tiny_model

from diffae.config import Sampling
from diffae.diffusion.timesteps import levels_of
from diffae.errors import CheckpointError, ConfigError
from diffae.model import export
from diffae.model.export import DecoderStep, export_onnx, parts_of

SCRIPT = """
import sys
from tiny import tiny_config, tiny_model
from diffae.config import Sampling
from diffae.model.export import export_onnx
from diffae.model.student import Student

folder, *parts = sys.argv[1:]
model = tiny_model(tiny_config(**({} if "encoder" in parts else {"z_sem_channels": 0})), "eps")
if "student" in parts:
    model.student = Student.of(model, tiny_model(model.config, seed=3).decoder, Sampling())
print(*export_onnx(model, folder))
"""


def export_apart(folder: Path, *parts: str) -> Path:
    """Export a tiny model with these parts where its shapes are not checked."""
    helpers = str(Path(__file__).parent / "helpers")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([helpers, os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-W", "error", "-c", SCRIPT, str(folder), *parts]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == list(parts), done.stderr
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a model with an encoder."""
    return export_apart(tmp_path_factory.mktemp("onnx") / "with", "decoder", "encoder")


@pytest.mark.slow
def test_a_student_and_a_model_without_encoder(tmp_path: Path) -> None:
    folder = export_apart(tmp_path / "without", "decoder", "student")
    settings = json.loads((folder / "settings.json").read_text())
    assert [len(settings["levels"][f"student, {steps}"]) for steps in (1, 2, 4)] == [2, 3, 5]


def test_steps_of_the_file_decode_as_pytorch_does(exported: Path) -> None:
    import onnxruntime

    model, x, z_sem = tiny_model(prediction="eps"), normal(3, 3, 16, 16), normal(3, 6)
    session = onnxruntime.InferenceSession(str(exported / "decoder.onnx"))
    wanted = model.decode(z_sem=z_sem, x_T=x, sampling=Sampling(4))
    levels, state = levels_of(4, "quadratic", 1000)[::-1], x.numpy()
    for t, s in pairwise(levels):
        level = {name: torch.full((3,), value).numpy() for name, value in (("t", t), ("s", s))}
        state, _ = session.run(None, {"x_t": state, **level, "z_sem": z_sem.numpy()})
    assert (torch.from_numpy(state) - wanted).abs().max() < 1e-3 * wanted.std()


def test_settings_name_the_levels(exported: Path) -> None:
    settings = json.loads((exported / "settings.json").read_text())
    assert settings["opset"] == export.OPSET
    assert settings["levels"]["decoder"] == levels_of(Sampling().steps, "quadratic", 1000)
    assert sorted(path.name for path in exported.parent.iterdir()) == ["with"]


def test_a_file_that_differs_is_found(exported: Path) -> None:
    part = parts_of(tiny_model(prediction="eps"))["decoder"]
    assert export.difference(part, exported / "decoder.onnx") < 1e-4
    with torch.no_grad():
        part.module.get_parameter("decoder.out.bias").add_(0.1)
    assert export.difference(part, exported / "decoder.onnx") > export.AGREES


def test_a_step_ends_where_the_solver_ends() -> None:
    model, x_t, z_sem = tiny_model(), normal(2, 3, 16, 16), normal(2, 6)
    with torch.no_grad():
        x_s, x_0 = DecoderStep(model)(x_t, torch.tensor([700, 700]), torch.tensor([0, 0]), z_sem)
        torch.testing.assert_close(x_0, model.predict_x0(x_t, 700, z_sem), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(x_s, x_0)


def test_what_cannot_be_exported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model()
    (tmp_path / "there").mkdir()
    with pytest.raises(CheckpointError, match="there exists already: choose another folder, or remove it"):
        export_onnx(model, tmp_path / "there")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="package onnxscript is missing"):
        export_onnx(model, tmp_path / "new")
    model.first_stage = torch.nn.Identity()
    with pytest.raises(ConfigError, match="first_stage is Identity: only models of pixels are exported"):
        parts_of(model)
    assert not (tmp_path / "new").exists()
