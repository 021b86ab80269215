"""Encoding in batches for engines that start workers of their own, such as Ray and Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from diffae.data.images import ImageSpec, as_batch, decode_image, read_ready, to_tensor
from diffae.errors import DataError
from diffae.latent.encoding import Encodes


class Pretrained(Encodes, Protocol):
    """A model that can be loaded, such as `diffae.DiffusionAutoencoder`."""

    @classmethod
    def from_pretrained(cls, source: str, device: str | None = None, /) -> Encodes: ...


def batch_encoder(
    models: type[Pretrained], source: str, device: str | None = None, *, column: str = "image", output: str = "z_sem"
) -> BatchEncoder:
    """A function of batches of images that adds their z_sem, to be sent to other processes.

    Each process loads the model once, at its first batch:

        encode = batch_encoder(diffae.DiffusionAutoencoder, "runs/faces")
        ray.data.read_images("photos").map_batches(encode)

    Args:
        models: the class of the model.
        source: run folder or Hub id, where every process finds it.
        device: where to put the model; None chooses as `from_pretrained` does.
        column: name of the images in a batch.
        output: name of z_sem in what is returned.
    """
    return BatchEncoder(models, source, device, column, output)


@dataclass(frozen=True)
class BatchEncoder:
    """What `batch_encoder` returns; holds no model, so it is small when pickled."""

    models: type[Pretrained]
    source: str
    device: str | None
    column: str
    output: str

    def __call__(self, batch: Any) -> Any:
        """Encode a batch.

        Args:
            batch: a dict of arrays, a DataFrame, or a Series of the images alone. Images are arrays (h, w, c) of uint8
                or uint16, the bytes of image files, paths, or as in Parquet files of the Hub {"bytes", "path"}.
        Returns:
            The batch with z_sem as another column; for a Series, a Series of z_sem.
        Raises:
            DataError: the column is missing, or an image cannot be used (says which and why).
        """
        if isinstance(batch, Mapping):
            return {**batch, self.output: self._encode(self._images(batch))}
        import pandas

        if isinstance(batch, pandas.Series):
            return pandas.Series(list(self._encode(batch)), batch.index, dtype=object, name=self.output)
        return batch.assign(**{self.output: list(self._encode(self._images(batch)))})

    def _images(self, batch: Any) -> Any:
        if self.column not in batch:
            raise DataError(f"batch has no column {self.column!r}: name one of {', '.join(map(str, batch))} as column=")
        return batch[self.column]

    def _encode(self, images: Any) -> Float32[np.ndarray, "b d"]:
        model = _loaded(self.models, self.source, self.device)
        if not len(images):
            return np.empty((0, model.config.z_sem_channels), np.float32)
        spec = ImageSpec.of_model(model.config)
        x = torch.cat([_to_batch(image, spec) for image in images])
        return model.encode_semantic(x).float().cpu().numpy()


@lru_cache(maxsize=1)
def _loaded(models: type[Pretrained], source: str, device: str | None) -> Encodes:
    """The model of this process."""
    return models.from_pretrained(source, device)


def _to_batch(image: Any, spec: ImageSpec) -> Tensor:
    """One image as a batch in [-1, 1]."""
    if isinstance(image, Mapping):
        image = image["path"] if image.get("bytes") is None else image["bytes"]
    if isinstance(image, bytes):
        return to_tensor(read_ready(partial(decode_image, image, "of the batch"), spec))
    assert spec.size is not None
    return as_batch(image, spec.size, spec.channels, crop=spec.crop, background=spec.background, window=spec.window)
