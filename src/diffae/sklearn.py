"""scikit-learn's interface: a transformer from images to z_sem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from diffae.devices import default_device
from diffae.model import BATCH, DiffusionAutoencoder

__all__ = ["SemanticEncoder"]


class SemanticEncoder(TransformerMixin, BaseEstimator):
    """Images to z_sem, for pipelines and searches of scikit-learn.

    Nothing is learnt by `fit`, which loads the model. A fitted estimator can be pickled; it loads the model again.

    Args:
        model: a run folder or a Hub id.
        device: where to compute; by default a GPU if there is one, else the CPU.
        batch_size: images read and encoded at once.

    Attributes:
        n_features_out_: size of z_sem.

    Example::

        probe = make_pipeline(SemanticEncoder("runs/faces"), LogisticRegression())
        probe.fit(paths, smiling)
    """

    def __init__(self, model: str | Path = "runs/photos", device: str | None = None, batch_size: int = BATCH) -> None:
        self.model = model
        self.device = device
        self.batch_size = batch_size

    def fit(self, X: Any = None, y: Any = None) -> SemanticEncoder:
        """Load the model; images and labels are ignored.

        Raises:
            CheckpointError: there is no such model, or it is damaged.
            ConfigError: it has no encoder.
        """
        self._load()
        return self

    def transform(self, X: Sequence[Any] | np.ndarray) -> Float32[np.ndarray, "n d"]:
        """z_sem of images.

        Args:
            X: paths, Pillow images, arrays (h, w) or (h, w, c), or an array (n, h, w, c).

        Raises:
            NotFittedError: before `fit`.
            DataError: an image that cannot be used.
        """
        check_is_fitted(self, "n_features_out_")
        encoder = self._encoder if hasattr(self, "_encoder") else self._load()
        shares = (X[start : start + self.batch_size] for start in range(0, len(X), self.batch_size))
        codes = [
            encoder.encode_semantic(share if isinstance(share, np.ndarray) and share.ndim == 4 else [*share])
            for share in shares
        ]
        return torch.cat(codes).float().cpu().numpy() if codes else np.zeros((0, self.n_features_out_), np.float32)

    def _load(self) -> DiffusionAutoencoder:
        device = default_device() if self.device is None else self.device
        self._encoder = DiffusionAutoencoder.from_pretrained(self.model, device).require_encoder()
        self.n_features_out_ = self._encoder.config.z_sem_channels
        return self._encoder

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the columns: z0, z1, ..."""
        check_is_fitted(self, "n_features_out_")
        return np.array([f"z{index}" for index in range(self.n_features_out_)], dtype=object)

    def __getstate__(self) -> dict[str, Any]:
        state: Any = super().__getstate__()
        return {name: value for name, value in state.items() if name != "_encoder"}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.requires_fit = True
        return tags
