"""`diffae import` and `diffae export`, as typed; what they compute is in tests/official."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_helpers import Run, one_line, save_model

from diffae.compat.original.writing import autoencoder_tensors, write_classifier, write_networks
from diffae.config import ModelConfig, UNetConfig, UNetEncoderConfig
from diffae.model import DiffusionAutoencoder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A published autoencoder of images of 8 x 8 pixels."""
    shared = {"model_channels": 32, "channel_mult": (1,), "res_blocks": 1, "attention_resolutions": ()}
    config = ModelConfig(8, decoder=UNetConfig(**shared), encoder=UNetEncoderConfig(4, **shared))
    tensors = autoencoder_tensors(config, DiffusionAutoencoder(config).state_dict())
    write_networks(tmp_path / "last.ckpt", config, tensors, {})
    return tmp_path / "last.ckpt"


def test_there_and_back(run: Run, checkpoint: Path) -> None:
    write_classifier(checkpoint.with_name("cls.ckpt"), (), torch.randn(2, 4), torch.randn(2),
                     conds_mean=torch.zeros(1, 4), conds_std=torch.ones(1, 4))  # fmt: skip
    words = ("--classifier", "cls.ckpt", "--attribute-names", "round", "red")
    code, out, err = run("import", checkpoint, *words, "--out", "runs/a")
    assert (code, err) == (0, "")
    assert "An autoencoder with z_sem of 4 numbers for images of 8 x 8 pixels" in out
    code, out, _ = run("attributes", "show", "runs/a")
    assert code == 0
    assert "round" in out
    assert "nan" not in out
    code, out, err = run("export", "runs/a", "--out", "exported")
    assert (code, err) == (0, "")
    assert "cls.ckpt, last.ckpt, latent.pkl, template.py written to exported." in out
    assert "Note: the published ClsModel takes CelebA's 40 attributes" in out
    assert run("import", "exported/last.ckpt", "--classifier", "exported/cls.ckpt", "--out", "b")[0] == 0
    assert (Path("b") / "model.safetensors").read_bytes() == Path("runs/a/model.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("absent.ckpt",), "absent.ckpt does not exist"),
        (("last.ckpt", "--latent", "last.ckpt"), "has no tensors named ema_model.latent_net.*"),
        (("last.ckpt", "--classifier", "last.ckpt"), "has an unknown tensor 'model."),
        (("last.ckpt", "--stats", "last.ckpt"), "there is no latent net and no classifier"),
        (("last.ckpt", "--heads", "3"), "heads is 3: must divide every level's width"),
        (("last.ckpt", "--image-size", "0"), "image_size is 0: must be at least 1"),
        (("pickle.ckpt",), "holds more than tensors and plain values, so it is not read: it names"),
        (
            ("evil.pkl",),
            "is damaged, or holds more than tensors and plain values, so it is not read (Unsupported operand",
        ),
        (("photo.jpg",), "photo.jpg is not a checkpoint: it begins neither as a zip nor as a pickle"),
        (("cut.ckpt",), "is damaged, truncated or not a checkpoint"),
    ],
)
def test_bad_input_is_one_line(run: Run, checkpoint: Path, words: tuple[str, ...], message: str) -> None:
    class Foreign:
        def __reduce__(self) -> Any:
            return sys.exit, ()

    torch.save({"state_dict": {}, "code": Foreign()}, checkpoint.with_name("pickle.ckpt"))
    checkpoint.with_name("evil.pkl").write_bytes(pickle.dumps({"code": Foreign()}, protocol=4))
    checkpoint.with_name("photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    checkpoint.with_name("cut.ckpt").write_bytes(checkpoint.read_bytes()[:5000])
    code, _, err = run("import", *words, "--out", "run")
    assert code == 2
    assert message in one_line(err)
    assert not Path("run").exists()
    assert not list(Path().glob(".*.part"))


def test_export_refusals(run: Run, tmp_path: Path) -> None:
    save_model(tmp_path / "v")
    code, _, err = run("export", "v", "--out", "exported")
    assert code == 2
    assert "the network predicts v: the published code supports only eps" in one_line(err)
    code, _, err = run("export", "absent", "--out", "exported")
    assert code == 2
    assert "absent is not a run folder" in one_line(err)
    assert not Path("exported").exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "out or onnx must be given, one of the two"),
        (("--out", "a", "--onnx", "b"), "out or onnx must be given, one of the two"),
        (("--onnx", "there"), "there exists already: choose another folder, or remove it"),
    ],
)
def test_bad_targets_of_an_export(run: Run, model: Path, words: tuple[str, ...], complaint: str) -> None:
    Path("there").mkdir()
    code, _, err = run("export", model, *words)
    assert code == 2
    assert complaint in one_line(err)
