"""How typical a z_sem is of the training images, and from where on an image counts as outside their distribution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffae import checkpoint
from diffae.checkpoint import Fingerprint
from diffae.errors import CheckpointError, DataError

TYPICAL = "typical.safetensors"
QUANTILE = 0.99
"""Share of held-out images that count as typical."""


class TypicalCodes:
    """The distribution of z_sem of training images, by its mean and covariance (paper Section 7, Appendix K).

    The correlation matrix is shrunk towards the identity (Ledoit and Wolf), so that codes may be few.
    """

    def fit(self, codes: Float[Tensor, "n d"], held_out: Float[Tensor, "m d"] | None = None) -> TypicalCodes:
        """Fit to z_sem of training images; `held_out` are those of others of the same distribution.

        Sets `threshold_`, the distance within which 99 % of the held-out images lie.

        Raises:
            DataError: fewer than 2 codes.
        """
        from sklearn.covariance import LedoitWolf

        if len(codes) < 2:
            raise DataError(f"{len(codes)} typical codes: their covariance needs at least 2")
        self.mean_, std = codes.double().mean(0), codes.double().std(0).clamp(min=1e-12)
        fitted = LedoitWolf().fit(((codes.double() - self.mean_) / std).numpy())
        # (z - mean) W has the identity for its covariance; the shrunk estimate is centred on its own mean, 0
        self.whitening_ = torch.from_numpy(np.linalg.cholesky(np.asarray(fitted.precision_, np.float64))) / std[:, None]
        held_out = codes if held_out is None else held_out
        self.threshold_ = float(np.quantile(self.distance(held_out), QUANTILE))
        return self

    def distance(self, z_sem: Float[Tensor, "b d"]) -> Float[np.ndarray, " b"]:
        """Mahalanobis distance of each z_sem from the training images'; higher is less typical."""
        return ((z_sem.cpu().double() - self.mean_) @ self.whitening_).norm(dim=1).numpy()

    def outside(self, z_sem: Float[Tensor, "b d"]) -> Bool[np.ndarray, " b"]:
        """Which images are less typical than 99 % of the held-out ones."""
        return self.distance(z_sem) > self.threshold_

    def save(self, folder: Path, model: Fingerprint) -> None:
        """Write typical.safetensors beside the model's weights, atomically."""
        tensors = {"mean": self.mean_, "whitening": self.whitening_, "threshold": torch.tensor([self.threshold_])}
        checkpoint.write_tensors(folder / TYPICAL, tensors, {"model": model})

    @classmethod
    def load(cls, folder: Path, model: Fingerprint) -> TypicalCodes | None:
        """Read what `save` wrote; None if there is none of this model.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = folder / TYPICAL
        if not path.is_file():
            return None
        tensors, texts = checkpoint.read_tensors(path)
        if not model.matches(texts.get("model")):
            return None
        found = cls()
        try:
            found.mean_, found.whitening_ = tensors["mean"], tensors["whitening"]
            found.threshold_ = float(tensors["threshold"][0])
        except (KeyError, IndexError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): train the prior again, or remove the file") from error
        return found
