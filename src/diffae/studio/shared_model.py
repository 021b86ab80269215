"""A model as one request sees it: its network calls are batched with those of other visitors, and can be cancelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder
from diffae.studio.engine import Engine, Operation, Ticket

_DECODED, _ENCODED, _SEMANTIC = 16, 8, 64  # items of a batch, by how long each takes


class Operations:
    """The operations of one model; the engine batches those that are the same object."""

    def __init__(self, model: DiffusionAutoencoder) -> None:
        self.model = model
        self.semantic = Operation(self._semantic, _SEMANTIC)
        self.decoding = lru_cache(maxsize=16)(self._decoding)
        self.encoding = lru_cache(maxsize=16)(self._encoding)

    def _semantic(self, images: Sequence[Tensor]) -> list[Tensor]:
        return list(self.model.encode_semantic(torch.stack(list(images))).cpu())

    def _decoding(self, sampling: Sampling) -> Operation:
        def run(codes: Sequence[Code]) -> list[Tensor]:
            return list(self.model.decode(Code.join(codes), sampling=sampling).cpu())

        return Operation(run, _DECODED)

    def _encoding(self, sampling: Sampling) -> Operation:
        def run(images: Sequence[Tensor]) -> list[Code]:
            code = self.model.encode(torch.stack(list(images)), sampling).to("cpu")
            return [code[row] for row in range(len(code))]

        return Operation(run, _ENCODED)


class SharedModel:
    """Encodes and decodes by an engine, as `diffae.DiffusionAutoencoder` does, for one request.

    Args:
        engine: runs the networks.
        operations: of the model.
        ticket: the request; it hears of progress if `images` are to be decoded in all.
        images: how many the request decodes; 0 where that is not known.
    """

    def __init__(self, engine: Engine, operations: Operations, ticket: Ticket, images: int = 0) -> None:
        self._engine, self._operations, self._ticket = engine, operations, ticket
        self._images, self._done = images, 0
        self.whole_model = model = operations.model
        self.config, self.image_shape, self.fingerprint = model.config, model.image_shape, model.fingerprint

    def encode_semantic(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """z_sem of images in [-1, 1], on the CPU."""
        return torch.stack(self._engine.map(self._operations.semantic, list(images), self._ticket))

    def encode(self, images: Float[Tensor, "b c h w"], sampling: Sampling | None = None) -> Code:
        """(z_sem, x_T) of images in [-1, 1], on the CPU."""
        operation = self._operations.encoding(sampling or Sampling())
        return Code.join(self._engine.map(operation, list(images), self._ticket))

    def decode(
        self,
        code: Code | None = None,
        *,
        z_sem: Float[Tensor, "b d"] | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b c h w"]:
        """Images of codes, on the CPU; see `DiffusionAutoencoder.decode`."""
        code = code if code is not None else Code(z_sem)
        code = code.complete(self.config.latent_shape, self.config.z_sem_channels, generator)
        code = Code(code.z_sem, code.x_T)  # without residuals, which codes of other visitors may lack
        rows = [code[row] for row in range(len(code))]
        operation = self._operations.decoding(sampling or Sampling())
        images = self._engine.map(operation, rows, self._ticket, self._progress())
        self._done += len(rows)
        return torch.stack(images)

    def _progress(self) -> Callable[[int], None] | None:
        before = self._done
        return (lambda done: self._ticket.report((before + done) / self._images)) if self._images else None
