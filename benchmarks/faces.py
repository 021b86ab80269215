"""The benchmark set of faces (faces64), scaled to 32x32 or as it is: its images, splits and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from diffae.data.build import build_pack
from diffae.data.images import to_tensor
from diffae.data.labels import LabelTable
from diffae.data.pack import Pack

ATTRIBUTES = ("Male", "Young", "Child")


@dataclass(frozen=True)
class Faces:
    """All images, and what labels.csv says of each."""

    pack: Pack
    table: LabelTable
    """A row for each image of the pack."""
    folder: Path
    """Where packs are kept."""

    def label(self, name: str) -> np.ndarray:
        """A column of labels.csv, for all images."""
        return self.table.column(name)

    def rows(self, *splits: str) -> np.ndarray:
        """Indices of the images of "train", "val" or "test", or of several of these."""
        known = self.table.classes["split"]
        return np.flatnonzero(np.isin(self.label("split"), [known.index(split) for split in splits]))

    def images(self, rows: np.ndarray) -> Float[Tensor, "n c h w"]:
        """Images in [-1, 1]."""
        return to_tensor(self.pack.fetch(rows))

    def training_pack(self) -> Pack:
        """The images of the train split, alone."""
        path = self.folder / f"faces64-{self.pack.size}-train.pack"
        if path.exists():
            return Pack.open(path)
        rows = self.rows("train")
        return Pack.from_arrays([self.pack.fetch(rows)], path, [self.pack.names[int(row)] for row in rows])


def open_faces(folder: Path, packs: Path, size: int = 32) -> Faces:
    """The set in `folder` (images.zip, labels.csv), decoded once into a pack in `packs`, of `size` pixels up to 64."""
    pack = build_pack(folder / "images.zip", packs, size=size)
    return Faces(pack, LabelTable.read(folder / "labels.csv").for_images(pack.names), packs)
