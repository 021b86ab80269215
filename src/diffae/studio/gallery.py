"""The images of a data set and their z_sem, opened and encoded in the background while the page is used."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from diffae.data.feature_cache import encode_pack
from diffae.data.images import to_tensor
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack
from diffae.errors import DiffaeError
from diffae.evaluation.tasks.memorisation import Nearest, nearest
from diffae.model import DiffusionAutoencoder
from diffae.studio.engine import Busy, Cancelled
from diffae.studio.projection import pca, umap
from diffae.studio.shared_model import SharedModel

Result = TypeVar("Result")

_BLOCK = 4096


class NotReady(DiffaeError):
    """The data set is not there, or not yet."""


@dataclass(frozen=True)
class Opened:
    """A data set that the studio shows."""

    pack: Pack
    labels: LabelTable | None
    """One row for each image."""
    cache: Path
    """Folder for what can be made again."""


class Gallery:
    """The data set; `start` opens and encodes it in a thread.

    Args:
        open_images: opens the data set for a model, which may take long.
    """

    def __init__(self, open_images: Callable[[DiffusionAutoencoder], Opened]) -> None:
        self._open = open_images
        self._model: SharedModel | None = None
        self._opened: Opened | None = None
        self._z_sem: Float32[np.ndarray, "n d"] | None = None
        self._started = False
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.RLock] = {}
        self.problem = ""
        """Why there is no data set; "" if there is one, or may still be."""
        self.encoded = 0
        """Images encoded so far."""

    def use(self, model: SharedModel) -> None:
        """Encode with this model."""
        self._model = model

    def start(self) -> None:
        """Open and encode in the background, once there is a model."""
        if self._model is not None and not self._started:
            self._started = True
            threading.Thread(target=self.prepare, args=(self._model,), name="gallery", daemon=True).start()

    def prepare(self, model: SharedModel) -> None:
        """Open and encode; what hinders it becomes `problem`."""
        try:
            self._opened = opened = self._open(model.whole_model)
            if model.config.has_encoder:
                rows = np.arange(len(opened.pack))
                z_sem = encode_pack(model, opened.pack, rows, opened.cache, self._count)
                self._z_sem, self.encoded = np.asarray(z_sem), len(rows)
        except DiffaeError as error:
            self.problem = str(error)
        except (Busy, Cancelled):
            self.problem = "the studio was stopped: start it again"

    def _count(self, done: int) -> None:
        self.encoded = done

    # ------------------------------------------------------------------ images

    @property
    def count(self) -> int:
        """Number of images; 0 while none is open."""
        return len(self._opened.pack) if self._opened else 0

    @property
    def opened(self) -> Opened:
        """The open data set.

        Raises:
            NotReady: it is not there, or not yet.
        """
        if self._opened is None:
            raise NotReady(self.problem or "the images are still being opened: wait a moment")
        return self._opened

    @property
    def ready(self) -> bool:
        """Whether all images are encoded."""
        return self._z_sem is not None

    @property
    def z_sem(self) -> Float32[np.ndarray, "n d"]:
        """z_sem of all images.

        Raises:
            NotReady: they are not encoded, or not yet.
        """
        if self._z_sem is None:
            total = len(self.opened.pack)
            raise NotReady(self.problem or f"{self.encoded:,} of {total:,} images are encoded: wait a moment")
        return self._z_sem

    def images(self, rows: list[int]) -> Float[Tensor, "k c h w"]:
        """Some images in [-1, 1].

        Raises:
            NotReady: no such image.
        """
        pack = self.opened.pack
        if not rows or min(rows) < 0 or max(rows) >= len(pack):
            raise NotReady(f"rows are {rows[:4]}: must lie in 0..{len(pack) - 1}; choose others")
        return to_tensor(pack.fetch(np.asarray(rows)))

    # ------------------------------------------------------------------ distances

    def normalised(self, z_sem: Float[np.ndarray, "k d"]) -> Float[np.ndarray, "k d"]:
        """z_sem with zero mean and unit variance over the data set."""
        known = self.z_sem
        mean, std = self.once("moments", lambda: (known.mean(axis=0), known.std(axis=0)))
        return (z_sem - mean) / np.where(std > 0, std, 1)

    def neighbours(self, z_sem: Float[np.ndarray, "k d"], count: int) -> Nearest:
        """The nearest images by normalised z_sem."""
        views = torch.from_numpy(self.normalised(z_sem)).float()[None]
        return nearest(views, torch.from_numpy(self._z_norm()).split(_BLOCK), count)

    def points(self, layout: str) -> Float32[np.ndarray, "n 2"]:
        """The places of all images on the map."""
        if layout == "pca":
            return self.once("pca", lambda: pca(self._z_norm()))
        return self.once(layout, lambda: umap(self._z_norm(), self.opened.cache))

    def _z_norm(self) -> Float32[np.ndarray, "n d"]:
        return self.once("z_norm", lambda: self.normalised(self.z_sem).astype(np.float32))

    def once(self, name: str, make: Callable[[], Result]) -> Result:
        """What `make` returns, made the first time; others who ask meanwhile wait."""
        with self._locks.setdefault(name, threading.RLock()):
            if name not in self._made:
                self._made[name] = make()
            return self._made[name]

    def nearest_images(self, x: Float[Tensor, "k c h w"], progress: Callable[[float], None]) -> Nearest:
        """The nearest images by their pixels, mirrored or not."""
        views = torch.stack([x.flatten(1), x.flip(3).flatten(1)])
        pack = self.opened.pack
        blocks = math.ceil(len(pack) / _BLOCK)

        def images():
            for block in range(blocks):
                rows = np.arange(block * _BLOCK, min((block + 1) * _BLOCK, len(pack)))
                yield to_tensor(pack.fetch(rows)).flatten(1)
                progress((block + 1) / blocks)

        return nearest(views, images())
