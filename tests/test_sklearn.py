"""The transformer for scikit-learn: values, pipelines, clones, pickles, and errors."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_helpers import save_model
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from diffae.errors import CheckpointError, ConfigError
from diffae.model import DiffusionAutoencoder
from diffae.sklearn import SemanticEncoder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tiny"
    save_model(folder)
    return folder


@pytest.fixture
def images(run: Path) -> np.ndarray:
    size = DiffusionAutoencoder.from_pretrained(run, "cpu").config.image_size
    return np.random.default_rng(0).integers(0, 255, (12, size, size, 3), np.uint8)


def test_it_gives_z_sem(run: Path, images: np.ndarray) -> None:
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    wanted = model.encode_semantic(images).numpy()
    encoder = SemanticEncoder(run, "cpu", batch_size=5).fit()
    np.testing.assert_allclose(encoder.transform(images), wanted, atol=1e-5)
    np.testing.assert_allclose(encoder.transform(list(images)), wanted, atol=1e-5)
    assert encoder.transform([]).shape == (0, model.config.z_sem_channels)
    assert list(encoder.get_feature_names_out())[:2] == ["z0", "z1"]
    assert len(encoder.get_feature_names_out()) == model.config.z_sem_channels


def test_in_a_pipeline_and_a_search(run: Path, images: np.ndarray) -> None:
    labels = (images.mean(axis=(1, 2, 3)) > np.median(images.mean(axis=(1, 2, 3)))).astype(int)
    search = GridSearchCV(
        make_pipeline(SemanticEncoder(run, "cpu"), LogisticRegression()), {"logisticregression__C": [0.1, 10]}, cv=2
    )
    assert set(search.fit(images, labels).predict(images)) <= {0, 1}


def test_clones_and_pickles(run: Path, images: np.ndarray) -> None:
    encoder = SemanticEncoder(run, "cpu", batch_size=3).fit()
    fresh: Any = clone(encoder)
    assert fresh.get_params() == {"model": run, "device": "cpu", "batch_size": 3}
    stored = pickle.dumps(encoder)
    assert len(stored) < 2000  # the networks are not in it
    np.testing.assert_array_equal(pickle.loads(stored).transform(images), encoder.transform(images))


def test_errors(run: Path, images: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        SemanticEncoder(run).transform(images)
    with pytest.raises(CheckpointError, match="is not a run folder"):
        SemanticEncoder(tmp_path / "nowhere").fit()
    with pytest.raises(ConfigError, match="this model has no encoder"):
        SemanticEncoder(save_model(tmp_path / "ddim", z_sem_channels=0)).fit()
