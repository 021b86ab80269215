"""The comparison of recipes decodes each with its own sampler, and publishes no figure that rests on another alone."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tiny import images, tiny_model
from torch import Tensor

from diffae.config import Sampling

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
OWN = {"paper": "published sampler", "default": "default sampler"}


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location("recipe", BENCHMARKS / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def test_every_run_is_decoded_by_the_published_sampler_and_by_the_default_one(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that predicts eps used to be decoded without clipping alone, which no published figure does."""
    faces = SimpleNamespace(rows=lambda split: np.arange(4), images=lambda rows: images(len(rows)))
    features = SimpleNamespace(name="Net", vectors=lambda x: x.mean((2, 3)).numpy(), distance=_distance)
    assert recipe.SAMPLERS["published sampler"] == Sampling.official(20)
    few = {name: replace(one, steps=2, max_iterations=2) for name, one in recipe.SAMPLERS.items()}
    monkeypatch.setattr(recipe, "SAMPLERS", few)
    arguments = SimpleNamespace(split="test", measured=4, inverted=2)
    found = recipe.decodings(tiny_model(prediction="eps"), faces, arguments, features)
    for sampler in OWN.values():
        assert np.isfinite([found[f"{what}, {sampler}"] for what in ("MSE from z_sem", "Net distance", "FD-Net")]).all()
    assert found["MSE from z_sem, published sampler"] != found["MSE from z_sem, default sampler"]


def _distance(a: Tensor, b: Tensor) -> np.ndarray:
    return (a - b).square().mean((1, 2, 3)).numpy()


@pytest.mark.parametrize("name", ["recipe.json"])
def test_no_published_figure_decodes_a_recipe_by_the_other_ones_sampler_alone(name: str) -> None:
    rows = json.loads((BENCHMARKS / name).read_text())["runs"]
    for row in rows:
        own = OWN[row["run"].split(",")[0]]
        for key in row:
            what, _, sampler = key.rpartition(", ")
            if key.startswith(("MSE from z_sem", "SqueezeNet distance", "FD-SqueezeNet")):
                assert sampler in OWN.values(), key
                by_inversion = what == "MSE from z_sem and x_T"  # exact for every network
                assert by_inversion or f"{what}, {own}" in row, (row["run"], key)


def test_a_kept_run_is_measured_without_training(
    recipe: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = SimpleNamespace(out=tmp_path, split="test")
    assert recipe.kept("paper", 0, arguments, None, None) == []
    folder = recipe.folder_of("paper", 0, tmp_path)
    folder.mkdir()
    monkeypatch.setattr(recipe.DiffusionAutoencoder, "from_pretrained", lambda *a: tiny_model())
    monkeypatch.setattr(recipe.checkpoint, "read_config", lambda folder: {"training": {"images": 250_000}})
    monkeypatch.setattr(recipe, "train_autoencoder", lambda *a, **how: pytest.fail("trained"))
    for name in ("readings", "decodings", "sampled"):
        monkeypatch.setattr(recipe, name, lambda *a, name=name: {name: 1.0})
    [row] = recipe.kept("paper", 0, arguments, None, None)
    assert row == {"run": "paper", "seed": 0, "images": 250_000, "readings": 1.0, "decodings": 1.0, "sampled": 1.0}
