"""The diffusion autoencoder: images <-> (z_sem, x_T).

Shapes: b images of c channels and size x size pixels, d = z_sem's size. Images as tensors are float32 in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float
from PIL.Image import Image
from torch import Tensor

from diffae.config import PRIOR_STEPS, Sampling
from diffae.data.images import OutputType, as_batch, as_output
from diffae.deprecation import renamed
from diffae.diffusion import sampling as trajectories
from diffae.diffusion import solvers
from diffae.errors import ConfigError, require
from diffae.latent.codes import Code, Generators
from diffae.latent.prior import LatentPrior
from diffae.model.runtime import Runtime
from diffae.model.stored import StoredModule
from diffae.model.student import Student
from diffae.workers import each

BATCH = 64
"""Images that go through the networks at once; larger batches are split, which bounds memory."""


def parts(count: int) -> Iterator[slice]:
    """Slices of at most BATCH images; one empty slice for none."""
    return (slice(start, start + BATCH) for start in range(0, max(count, 1), BATCH))


class DiffusionAutoencoder(StoredModule):
    """Encodes images to (z_sem, x_T), decodes codes, and samples (paper Section 3).

    Load one with `from_pretrained` or `from_official`, or build an untrained one from a `ModelConfig`.
    """

    # ------------------------------------------------------------------ image -> code

    @torch.no_grad()
    def encode_semantic(self, images: Any) -> Float[Tensor, "b d"]:
        """z_sem of images: one network call.

        Args:
            images: PIL image, path, uint8 or uint16 array, float tensor in [-1, 1], or a list of these.

        Raises:
            ConfigError: this model has no encoder.
            DataError: the images cannot be used (says which and why).
        """
        self.require_encoder()
        batch = self._batch(images)
        found = each(self, "_encode_semantic_part", (batch[rows] for rows in parts(len(batch))))
        return torch.cat([z_sem.to(self.device) for z_sem in found])

    @torch.no_grad()
    def _encode_semantic_part(self, images: Tensor) -> Tensor:
        with trajectories.ieee_float32():
            return self.call_encoder(self.seen_of(images.to(self.device)))

    @torch.no_grad()
    def encode(
        self, images: Any, sampling: Sampling | None = None, *, progress: Callable[[int], None] | None = None
    ) -> Code:
        """(z_sem, x_T) of images; `decode` with the same sampling returns the images.

        Args:
            images: as for `encode_semantic`.
            sampling: steps, timestep spacing and inversion; exact inversion by default.
            progress: called with the number of images done so far.

        Raises:
            ConfigError: settings that decode but cannot encode, or more steps than levels.
            DataError: the images cannot be used (says which and why).
        """
        sampling = sampling or Sampling()
        trajectories.require_inverse(sampling)
        batch, codes, done = self._batch(images), list[Code](), 0
        for code in each(self, "_encode_part", (batch[rows] for rows in parts(len(batch))), sampling):
            codes.append(code.to(self.device))
            done += len(code)
            if progress:
                progress(done)
        return Code.join(codes)

    def _encode_part(self, images: Tensor, sampling: Sampling) -> Code:
        model = self._as(sampling)
        with torch.inference_mode(), trajectories.ieee_float32():
            return model._encode_batch(images.to(self.device), sampling)

    def _encode_batch(self, images: Tensor, sampling: Sampling) -> Code:
        images = images.to(self.dtype)
        x_0 = self.to_latents(images)
        z_sem = None if self.encoder is None else self.call_encoder(self.seen_of(images, x_0))
        x_0 = x_0 if self.dtype == torch.float64 else x_0.float()

        def predict(x: Tensor, t: int, rows: Tensor) -> Tensor:
            return self.predict_noise(x, t, None if z_sem is None else z_sem[rows])

        found = trajectories.encode(predict, x_0, self.alpha_bar, sampling)
        z_sem = None if z_sem is None else z_sem.to(x_0.dtype)
        return Code(z_sem, found.x_T, found.residual, found.calls, found.x_below)

    # ------------------------------------------------------------------ code -> image

    @overload
    def decode(
        self,
        code: Code | None = None,
        *,
        z_sem: Tensor | None = None,
        x_T: Tensor | None = None,
        sampling: Sampling | None = None,
        generator: Generators = None,
        callback: solvers.StepCallback | None = None,
        output_type: Literal["pt"] = "pt",
    ) -> Tensor: ...

    @overload
    def decode(self, code: Code | None = None, *, output_type: Literal["np"], **how: Any) -> np.ndarray: ...

    @overload
    def decode(self, code: Code | None = None, *, output_type: Literal["pil"], **how: Any) -> list[Image]: ...

    @renamed(watch="callback")
    @torch.no_grad()
    def decode(  # pyright: ignore[reportInconsistentOverload]
        self,
        code: Code | None = None,
        *,
        z_sem: Float[Tensor, "b d"] | None = None,
        x_T: Float[Tensor, "b c h w"] | None = None,
        sampling: Sampling | None = None,
        generator: Generators = None,
        callback: solvers.StepCallback | None = None,
        output_type: OutputType = "pt",
    ) -> Tensor | np.ndarray | list[Image]:
        """Images from a `Code`, or from z_sem and x_T.

        Args:
            code: both codes together, with BDIA's second state where there is one; or
            z_sem: semantic codes (b, d), and
            x_T: stochastic codes, as the latents or the images; drawn from N(0, I) with `generator` where absent.
            sampling: steps, timestep spacing and clipping; those the code was made with, to return to the image.
            generator: source of random x_T, on the CPU, or one for each image.
            callback: called with (t, x0_hat before clipping) at every step (paper Fig. 6), for each 64 images in turn.
            output_type: see below.

        Returns:
            By `output_type`: "pt", a float32 tensor (b, k, H, W) near [-1, 1]; "np", a float32 array (b, H, W, k) in
            [0, 1]; "pil", a list of 8-bit Pillow images.

        Raises:
            DataError: codes of the wrong shape, not finite, or made with another mode of inversion.
            ConfigError: more steps than levels.
        """
        sampling = sampling or Sampling()
        code = code if code is not None else Code(z_sem, x_T)
        code = code.complete(self.config.latent_shape, self.config.z_sem_channels, generator).to(self.device)
        batches = (code[rows] for rows in parts(len(code)))
        if callback:
            decoded = (self._decode_part(batch, sampling, callback) for batch in batches)
        else:
            decoded = each(self, "_decode_part", batches, sampling)
        # outside inference mode: an ordinary tensor, which autograd accepts
        return as_output(torch.cat([images.to(self.device) for images in decoded]), output_type)

    def _decode_part(
        self, code: Code, sampling: Sampling, callback: solvers.StepCallback | None = None
    ) -> Float[Tensor, "b k H W"]:
        model = self
        if sampling.solver == "student":
            student = self.require_student()
            model, sampling = student.model, student.sampling(sampling)
        model = model._as(sampling)
        with torch.inference_mode():
            return model._decode_batch(code.to(self.device), sampling, callback)

    def _decode_batch(self, code: Code, sampling: Sampling, callback: solvers.StepCallback | None) -> Tensor:
        z_sem = None if code.z_sem is None else code.z_sem.to(self.dtype)
        dtype = torch.float64 if self.dtype == torch.float64 else torch.float32
        assert code.x_T is not None
        x_T, x_below = code.x_T.to(dtype), None if code.x_below is None else code.x_below.to(dtype)

        def predict(x: Tensor, t: int) -> Tensor:
            return self.predict_noise(x, t, z_sem)

        x_0 = trajectories.decode(predict, x_T, x_below, self.alpha_bar, sampling, callback)
        return self.from_latents(x_0.to(self.dtype) if self.first_stage is not None else x_0).float()

    def interpolate(
        self, a: Code, b: Code, frames: int, sampling: Sampling | None = None
    ) -> Float[Tensor, "frames c h w"]:
        """Images on the way from code a to code b (one image each): lerp on z_sem, slerp on x_T (Section 5.2).

        Raises:
            ConfigError: fewer than 2 frames.
            DataError: codes of more than one image, or without x_T.
        """
        return self.decode(Code.between(a, b, frames), sampling=sampling)

    @torch.no_grad()
    def sample(
        self,
        count: int,
        *,
        sampling: Sampling | None = None,
        prior_steps: int = PRIOR_STEPS,
        truncation: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "count c h w"]:
        """New images (Section 4): z_sem from the latent prior, x_T ~ N(0, I), decoded.

        A model without an encoder, the paper's DDIM baseline, decodes x_T alone and needs no prior.

        Args:
            count: how many.
            sampling: steps, timestep spacing and clipping of the decoder.
            prior_steps, truncation: see `LatentPrior.sample`.
            generator: source of z_T and x_T, on the CPU.

        Raises:
            ConfigError: no prior yet, or a value that is not allowed.
        """
        require(count >= 1, "count", count, "must be at least 1")
        z_sem = None
        if self.config.has_encoder:
            prior = self.require_prior()
            z_sem = prior.sample(count, steps=prior_steps, truncation=truncation, generator=generator)
        x_T = torch.randn((count, *self.config.latent_shape), generator=generator)
        return self.decode(z_sem=z_sem, x_T=x_T, sampling=sampling)

    def require_prior(self) -> LatentPrior:
        """The prior, on this model's device; `ConfigError` where there is none."""
        if self.prior is None:
            raise ConfigError("this model has no latent prior to sample from: make one with `diffae train-prior`")
        return self.prior.to(self.device)

    def require_encoder(self) -> DiffusionAutoencoder:
        """The model itself; `ConfigError` if it has no encoder."""
        if self.encoder is None:
            raise ConfigError("encoder is None: this model has no encoder; train one without --no-encoder")
        return self

    def require_student(self) -> Student:
        """The student, on this model's device; `ConfigError` where there is none."""
        if self.student is None:
            raise ConfigError("this model has no student to decode by: make one with `diffae distill`")
        if self.student.model.device != self.device:
            self.student.model.to(self.device)
        return self.student

    # ------------------------------------------------------------------ helpers

    def __repr__(self) -> str:
        config = self.config
        numbers = {"decoder": self.decoder, "encoder": self.encoder}
        sizes = [f"{k} {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M" for k, part in numbers.items() if part]
        images = f"{config.image_size} x {config.image_size} x {config.image_channels} images"
        z_sem = f"z_sem of {config.z_sem_channels}" if config.has_encoder else "no z_sem"
        where = f", from {str(self.folder)!r}" if self.folder else ""
        return f"DiffusionAutoencoder({images}, {z_sem}, {' + '.join(sizes)} parameters, on {self.device}{where})"

    def _batch(self, images: Any) -> Tensor:
        channels, size, _ = self.image_shape
        given = self.config.input
        batch = as_batch(images, size, channels, crop=given.crop, background=given.background, window=given.window)
        return batch.to(self.device)

    @cached_property
    def _runtime(self) -> Runtime[DiffusionAutoencoder]:
        return Runtime(partial(DiffusionAutoencoder, self.config))

    def _as(self, sampling: Sampling) -> DiffusionAutoencoder:
        """This model with its networks in the precision of `sampling`, and compiled if it says so."""
        dtype, backend = getattr(torch, sampling.precision), sampling.backend
        if dtype == self.dtype and backend is None:
            return self
        return self._runtime.of(self, dtype, backend)
