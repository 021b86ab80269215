"""The latent prior: a second DDIM, over normalised z_sem, from which new z_sem are drawn (paper Section 4).

Shapes: b codes of size d. z_norm is z_sem with zero mean and unit variance over the training set; z_t is z_norm with
noise, as x_t is x_0 with noise.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffae import checkpoint
from diffae.checkpoint import Fingerprint
from diffae.config import PRIOR_STEPS, PriorConfig, from_dict, to_dict
from diffae.diffusion.solvers import DDIM
from diffae.diffusion.timesteps import levels_of
from diffae.errors import CheckpointError, reading, require
from diffae.networks.mlp import SkipMLP

PRIOR = "prior.safetensors"

_FORMAT = "diffae_prior"
_VERSION = "1"
_NETWORK = "network."
_BATCH = 1024


class LatentPrior:
    """Draws z_sem like those of the images the autoencoder was trained on.

    Args:
        config: the network's settings and the forward process.
        network: predicts the noise in z_t (or v).
        mean, std: (d,) of the training set's z_sem.
    """

    def __init__(
        self, config: PriorConfig, network: SkipMLP, mean: Float[Tensor, " d"], std: Float[Tensor, " d"]
    ) -> None:
        self.config = config
        self.network = network.eval()
        self.mean, self.std = mean, std
        self.process = config.diffusion.build()

    def to(self, device: str | torch.device) -> LatentPrior:
        """Move the network; returns self."""
        self.network.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)
        return self

    def normalise(self, z_sem: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """z_sem => z_norm."""
        return (z_sem - self.mean) / self.std

    def denormalise(self, z_norm: Float[Tensor, "b d"]) -> Float[Tensor, "b d"]:
        """z_norm => z_sem."""
        return z_norm * self.std + self.mean

    def predict_noise(self, z_t: Float[Tensor, "b d"], t: int) -> Float[Tensor, "b d"]:
        """eps_hat(z_t, t): the noise in z_t at level t, 1..T, the same for the batch."""
        time = torch.full((len(z_t),), t - 1, device=z_t.device)
        scales = self.process.scales(t, z_t.dim())
        return scales.eps_from_output(self.process.prediction, self.network(z_t, time), z_t)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        steps: int = PRIOR_STEPS,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "count d"]:
        """New z_sem: z_T ~ N(0, I), DDIM down to z_norm, un-normalised.

        Args:
            count: how many.
            steps: solver steps, 1 to T.
            truncation: factor on z_norm; below 1, codes are nearer the mean: more typical, less varied.
            generator: source of z_T, on the CPU.

        Raises:
            ConfigError: no codes asked for, more steps than levels, or a truncation outside [0, 1].
        """
        require(count >= 1, "count", count, "must be at least 1")
        require(0 <= truncation <= 1, "truncation", truncation, "must lie in [0, 1]; 1 leaves the codes as they are")
        levels = levels_of(steps, "leading", self.config.diffusion.levels)
        z_T = torch.randn((count, len(self.mean)), generator=generator).to(self.mean.device)
        parts = [DDIM().decode(self.predict_noise, z, levels, self.process.alpha_bar) for z in z_T.split(_BATCH)]
        return self.denormalise(truncation * torch.cat(parts))

    # ------------------------------------------------------------------ on disk

    def save(self, folder: str | Path, model: str, **more: Any) -> None:
        """Write prior.safetensors beside the autoencoder's weights, atomically.

        Args:
            folder: the autoencoder's.
            model: `DiffusionAutoencoder.fingerprint()` of the one whose z_sem these are.
            more: further plain values to store with it.
        """
        tensors = {f"{_NETWORK}{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {"mean": self.mean, "std": self.std}
        texts = {_FORMAT: _VERSION, "model": model, "config": json.dumps(to_dict(self.config))}
        noted = {name: json.dumps(value) for name, value in more.items()}
        checkpoint.write_tensors(Path(folder) / PRIOR, tensors, texts | noted)

    @classmethod
    def load(cls, folder: str | Path, model: Fingerprint) -> LatentPrior:
        """Read what `save` wrote.

        Args:
            folder: the autoencoder's.
            model: fingerprint of the autoencoder that will decode.

        Raises:
            CheckpointError: no such file, damaged, or the prior of another model.
        """
        path = Path(folder) / PRIOR
        if not path.is_file():
            raise CheckpointError(f"{folder} has no prior yet: make one with `diffae train-prior {folder}`")
        tensors, texts = checkpoint.read_tensors(path)
        if texts.get(_FORMAT) != _VERSION:
            raise CheckpointError(f"{path} holds no prior: train one with `diffae train-prior`")
        if not model.matches(texts.get("model")):
            whose = f"belongs to a model with fingerprint {texts.get('model')}, this one's is {model}"
            raise CheckpointError(f"{path} {whose}: train it again with `diffae train-prior --overwrite`")
        with reading(path, "train it again with --overwrite", CheckpointError):
            config = from_dict(PriorConfig, json.loads(texts["config"]))
            mean, std = tensors.pop("mean").float(), tensors.pop("std").float()
            require(mean.dim() == 1 and mean.shape == std.shape, "mean", tuple(mean.shape), "must be as std, (d,)")
        weights = {name.removeprefix(_NETWORK): value for name, value in tensors.items()}

        def build() -> SkipMLP:
            return SkipMLP(len(mean), config.hidden_channels, config.layers)

        checkpoint.refuse_misfit(build, weights, path)
        network = build()
        checkpoint.load_weights(network, weights, path)
        return cls(config, network, mean, std)
