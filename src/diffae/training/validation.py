"""Validation on held-out images: the loss of Eq. 6 on fixed noise and levels, whether z_sem is used, pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from diffae.config import ModelConfig, Sampling
from diffae.data.images import grid, save_image, to_rgb, to_tensor, to_uint8, to_unit
from diffae.diffusion.process import Scales
from diffae.model import DiffusionAutoencoder
from diffae.networks.autoencoder import AutoencoderNetworks

PAIRS = 64
"""Losses are means over at least so many pairs of an image and a level, however few the images."""

PICTURES = 8
"""Images in the pictures of samples/."""

UNUSED_GAP = 0.02
"""z_sem counts as unused when shuffling it raises the loss by less than this share (see docs/training.md)."""

TOO_EARLY = 20_000
"""Images before which a small gap means nothing: z_sem is learnt late."""


class Validation:
    """The held-out images with their fixed noise and levels, so that numbers of different moments compare."""

    def __init__(self, model: ModelConfig, images: UInt[np.ndarray, "n h w c"], seed: int, samples: Path) -> None:
        self.model, self.samples = model, samples
        self.x_0 = to_tensor(images)
        generator = torch.Generator().manual_seed(seed)
        self.x_T = torch.randn(self.x_0.shape, generator=generator)
        # images take turns; the levels are spread evenly over 1..T, so that every part of the path counts alike
        self.rows = torch.arange(len(images)).repeat(-(-PAIRS // len(images)))
        self.t = torch.linspace(1, model.diffusion.levels, len(self.rows)).round().long()
        self.t = self.t[torch.randperm(len(self.rows), generator=generator)]
        self.eps = torch.randn((len(self.rows), *self.x_0.shape[1:]), generator=generator)

    @torch.inference_mode()
    def measure(self, networks: AutoencoderNetworks, images_seen: int) -> dict[str, float]:
        """Losses in terms of eps whatever the network predicts, so that they compare between settings.

        Returns:
            val_loss: mean of ||eps_hat - eps||^2 (Eq. 6).
            val_loss_shuffled: the same with the z_sem of another image; the gap is what z_sem contributes.
            val_mse_semantic: error of images decoded from z_sem and random x_T in 20 steps, images in [0, 1].
        """
        networks.eval()
        model = DiffusionAutoencoder(self.model, networks)
        if networks.encoder is None:
            loss = self._loss(model, None)
            self._save(images_seen, [model.decode(x_T=self.x_T[: 2 * PICTURES])])
            return {"val_loss": loss}
        z_sem = model.encode_semantic(self.x_0)
        from_z = model.decode(z_sem=z_sem, x_T=self.x_T).cpu()
        some = self.x_0[:PICTURES]
        explicit = Sampling(inversion="explicit")
        back = model.decode(model.encode(some, explicit), sampling=explicit)
        self._save(images_seen, [some, from_z[:PICTURES], back])
        return {
            "val_loss": self._loss(model, z_sem),
            "val_loss_shuffled": self._loss(model, z_sem.roll(1, 0)),
            "val_mse_semantic": (to_unit(from_z) - to_unit(self.x_0)).square().mean().item(),
        }

    def _loss(self, model: DiffusionAutoencoder, z_sem: Tensor | None) -> float:
        total = 0.0
        for pairs in torch.arange(len(self.t)).split(PAIRS):
            rows, t = self.rows[pairs], self.t[pairs]
            x_t = Scales.at(model.alpha_bar, t, dims=4).add_noise(self.x_0[rows], self.eps[pairs])
            given = None if z_sem is None else z_sem[rows]
            eps_hat = model.predict_noise(x_t.to(model.device), t.to(model.device), given).cpu()
            total += (eps_hat - self.eps[pairs]).square().mean(dim=(1, 2, 3)).sum().item()
        return total / len(self.t)

    def _save(self, images_seen: int, rows: list[Float[Tensor, "n c h w"]]) -> None:
        picture = grid(to_rgb(to_uint8(torch.cat([row.cpu() for row in rows]))), columns=PICTURES)
        save_image(self.samples / f"{images_seen:09d}.png", picture)


def z_sem_unused(metrics: dict[str, float]) -> bool:
    """Whether the decoder does as well with another image's z_sem: then z_sem says nothing."""
    return metrics.get("val_loss_shuffled", np.inf) < (1 + UNUSED_GAP) * metrics["val_loss"]
