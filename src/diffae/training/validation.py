"""Validation on held-out images: the loss of Eq. 6 at fixed noise and levels, the use of z_sem, pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt
from torch import Tensor

from diffae.config import ModelConfig, Sampling
from diffae.console import Update
from diffae.data.images import to_tensor, to_unit
from diffae.distributed import divided, is_main
from diffae.model import DiffusionAutoencoder
from diffae.plotting import save_sheet, sheet, tiles_of

PAIRS = 64
"""Losses are means over at least this many pairs of an image and a level."""

PICTURES = 8
"""Images in the pictures of samples/."""

DECODED = 64
"""Images decoded from z_sem alone, which is most of the work."""

SHARE = 32
"""Images, or pairs, computed at once; several processes take turns with them."""


class _Calls:
    """Counts network calls as a share of about so many in all."""

    def __init__(self, update: Update, expected: int) -> None:
        self.update, self.expected, self.done = update, expected, 0

    def __call__(self, *_: object) -> None:
        self.update(min(100 * self.done // self.expected, 99))
        self.done += 1


class Validation:
    """The held-out images with fixed noise and levels, so that validations are comparable."""

    def __init__(self, images: UInt[np.ndarray, "n h w c"], model: ModelConfig, seed: int, samples: Path) -> None:
        self.samples = samples
        self.images = to_tensor(images)
        generator = torch.Generator().manual_seed(seed)
        self.x_T = torch.randn((len(images), *model.latent_shape), generator=generator)
        # images take turns; the levels are spread evenly over 1..T
        self.rows = torch.arange(len(images)).repeat(-(-PAIRS // len(images)))
        self.t = torch.linspace(1, model.diffusion.levels, len(self.rows)).round().long()
        self.t = self.t[torch.randperm(len(self.rows), generator=generator)]
        self.eps = torch.randn((len(self.rows), *model.latent_shape), generator=generator)

    @torch.inference_mode()
    def measure(self, model: DiffusionAutoencoder, images_seen: int, update: Update) -> dict[str, float]:
        """Metrics of a model; losses are in terms of eps even where it predicts v, so that settings are comparable.

        Several processes share the work: each calls this with the same model, and the first writes the pictures.

        Args:
            model: what is measured.
            images_seen: in training so far, for the name of the picture.
            update: called with the share done, 0 to 100.

        Returns:
            val_loss: mean of ||eps_hat - eps||^2 (Eq. 6).
            val_loss_shuffled: the same with another image's z_sem; the gap is the contribution of z_sem.
            val_mse_semantic: squared error of `DECODED` images decoded from z_sem and random x_T, images in [0, 1].
        """
        model.eval()
        steps = Sampling().steps
        calls = _Calls(update, steps + 8 if model.encoder is None else 3 * steps + 16)
        x_0 = self._of_all(lambda rows: model.to_latents(self.images[rows].to(model.device)))
        if model.encoder is None:
            if is_main():
                drawn = model.decode(x_T=self.x_T[:PICTURES], callback=calls)
                self._save(images_seen, {"from random x_T": drawn.cpu()})
            return {"val_loss": self._loss(model, x_0, None, calls)}
        z_sem = self._of_all(lambda rows: model.encode_semantic(self.images[rows]))

        def decoded(rows: Tensor) -> Tensor:
            return model.decode(z_sem=z_sem[rows], x_T=self.x_T[rows], callback=calls)

        from_z = self._of_all(decoded, DECODED)
        if is_main():
            some, explicit = self.images[:PICTURES], Sampling(inversion="explicit")
            back = model.decode(model.encode(some, explicit), sampling=explicit, callback=calls)
            pictures = {"image": some, "from z_sem": from_z[:PICTURES], "from z_sem and x_T": back.cpu()}
            self._save(images_seen, pictures)
        return {
            "val_loss": self._loss(model, x_0, z_sem, calls),
            "val_loss_shuffled": self._loss(model, x_0, z_sem.roll(1, 0), calls),
            "val_mse_semantic": (to_unit(from_z) - to_unit(self.images[:DECODED])).square().mean().item(),
        }

    def _of_all(self, compute: Callable[[Tensor], Tensor], count: int | None = None) -> Tensor:
        """`compute(rows)` of all images or of the first `count`, on the CPU."""
        rows = torch.arange(len(self.images))[:count].split(SHARE)
        return torch.cat([*divided(rows, lambda part: compute(part).cpu(), everywhere=True)])

    def _loss(self, model: DiffusionAutoencoder, x_0: Tensor, z_sem: Tensor | None, calls: _Calls) -> float:
        def total(pairs: Tensor) -> float:
            calls()
            rows, t = self.rows[pairs], self.t[pairs]
            x_t = model.process.scales(t, dims=4).add_noise(x_0[rows], self.eps[pairs])
            given = None if z_sem is None else z_sem[rows].to(model.device)
            eps_hat = model.predict_noise(x_t.to(model.device), t.to(model.device), given).cpu()
            return (eps_hat - self.eps[pairs]).square().mean(dim=(1, 2, 3)).sum().item()

        parts = torch.arange(len(self.t)).split(SHARE)
        return sum(divided(parts, total, everywhere=True)) / len(self.t)

    def _save(self, images_seen: int, rows: dict[str, Float[Tensor, "n c h w"]]) -> None:
        page = sheet([tiles_of(x) for x in rows.values()], list(rows))
        save_sheet(self.samples / f"{images_seen:09d}.png", page)
