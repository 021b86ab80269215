"""`diffae.train`: from images to a model in one call."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import tiny_config

import diffae
from diffae.errors import CheckpointError, ConfigError
from sketchfaces import write_sketch_faces

SHORT = {"seen": 8, "batch_size": 4, "auxiliary_losses": (), "precision": "float32"}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sketch_faces(tmp_path_factory.mktemp("data") / "faces", 12, 16).parent


def test_train_and_show(faces: Path, tmp_path: Path) -> None:
    config = tiny_config()
    model = diffae.train(faces, tmp_path / "run", model=config, cache=tmp_path / "cache", **SHORT)
    assert (model.config.image_size, model.folder) == (16, tmp_path / "run")
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (about["training"]["images"], about["data"]["count"], about["data"]["preset"]) == (8, 12, "small32")
    x = model.decode(z_sem=model.encode_semantic(sorted(faces.glob("*.png"))[:3]), sampling=diffae.Sampling(steps=2))
    picture = diffae.show(x, ["a", "b", "c"], columns=2, side=16)
    assert isinstance(picture, Image.Image)
    assert picture.height > 2 * 16
    assert np.asarray(diffae.to_pil(x[0])[0]).shape == (16, 16, 3)
    with pytest.raises(CheckpointError, match="exists already"):
        diffae.train(faces, tmp_path / "run", model=config, cache=tmp_path / "cache", **SHORT)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"preset": "huge"}, "preset is 'huge': choose one of small32"),
        ({"epochs": 3}, "unexpected keyword argument 'epochs'"),
    ],
)
def test_settings_that_do_not_exist(faces: Path, tmp_path: Path, given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        diffae.train(faces, tmp_path / "run", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()
