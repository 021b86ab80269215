"""Whether samples are new, or copies of training images (paper Appendix C): `diffae sample --nearest`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from diffae import checkpoint
from diffae.cli import common, models
from diffae.cli.terminal import counted, print_table, say
from diffae.config import from_dict
from diffae.console import progress
from diffae.data.images import to_tensor, to_unit
from diffae.data.pack import Pack
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.tasks.memorisation import SIGNIFICANT, Comparison, copying
from diffae.model import DiffusionAutoencoder
from diffae.plotting import Tile, chart_tile, histograms, save_sheet, sheet, tiles_of
from diffae.training.held_out import held_out
from diffae.training.settings import TrainingConfig

SHOWN, NEAREST_SHOWN = 16, 3
_BLOCK = 512  # training images compared at once
_HEADER = ("sample", "distance by", "rank", "training image", "distance", "nearest over others")


class _Measure(NamedTuple):
    """A distance between images: the mean squared difference of vectors."""

    name: str
    vectors: Callable[[Tensor], Tensor]
    """Images (b, c, h, w) in [-1, 1] => (b, p)."""
    training: Callable[[slice], Tensor]
    """Vectors of some of the training images."""


def open_comparison(
    model: DiffusionAutoencoder, images: Path | None, features: str | None
) -> Callable[[Tensor, Path], None]:
    """A function that compares samples with training images and held-out ones, and writes the result to a folder.

    Raises:
        ConfigError: the training images are not known.
        DataError: they cannot be used, or the feature network cannot be read.
    """
    network = FeatureNetwork.open(features) if features else None
    noted = checkpoint.read_config(model.folder) if model.folder else {}
    training = from_dict(TrainingConfig, noted.get("training", {}), trust_code=common.trust_code)
    pack = models.training_pack(model, images)
    rows, val_rows = held_out(pack, training)
    return _Against(model, pack, rows, val_rows, network, mirror=training.flip)


@dataclass(frozen=True)
class _Against:
    """The training images of a model, and those held out."""

    model: DiffusionAutoencoder
    pack: Pack
    rows: np.ndarray
    val_rows: np.ndarray
    network: FeatureNetwork | None
    mirror: bool
    """Whether an image counts as the same as its mirror image."""

    def __call__(self, x: Tensor, out: Path) -> None:
        """Write nearest.png, nearest.csv and distances.png, and print the verdict."""
        common.make_folder(out)
        x, x_val = x.clamp(-1, 1), self._images(self.val_rows)
        found = {one.name: self._compare(one, x, x_val) for one in self._measures()}
        save_sheet(out / "nearest.png", sheet([self._tiles(i, found, x) for i in range(min(SHOWN, len(x)))]))
        common.write_csv(out / "nearest.csv", _HEADER, self._table(found))
        save_sheet(out / "distances.png", sheet([_charts(name, one) for name, one in found.items()]))
        _print_verdict(found, len(self.val_rows))
        say(f"Pictures and nearest.csv are in {out}.")

    def _images(self, rows: np.ndarray) -> Tensor:
        return to_tensor(self.pack.fetch(rows))

    def _measures(self) -> Iterator[_Measure]:
        """Pixels in [0, 1]; normalised z_sem, if the model has it; features, if a network is given."""

        def of_images(name: str, vectors: Callable[[Tensor], Tensor]) -> _Measure:
            return _Measure(name, vectors, lambda part: vectors(self._images(self.rows[part])))

        model, network = self.model, self.network
        yield of_images("pixels", lambda x: to_unit(x).flatten(1))
        if model.config.has_encoder:
            assert model.folder is not None
            codes = models.z_sem_of(model, self.pack, self.rows, model.folder)
            mean, std = torch.from_numpy(codes.mean(axis=0)), torch.from_numpy(codes.std(axis=0).clip(1e-6))
            yield _Measure(
                "z_sem",
                lambda x: (model.encode_semantic(x).cpu() - mean) / std,
                lambda part: (torch.from_numpy(np.array(codes[part])) - mean) / std,
            )
        if network is not None:
            yield of_images(f"{network.name} features", lambda x: torch.from_numpy(network.vectors(x)))

    def _compare(self, measure: _Measure, x: Tensor, x_val: Tensor) -> Comparison:
        """Compare samples and held-out images with the training set, in one pass over it."""
        with progress(f"comparing by {measure.name}", len(self.rows)) as done:

            def parts() -> Iterator[Tensor]:
                for start in range(0, len(self.rows), _BLOCK):
                    yield measure.training(slice(start, start + _BLOCK))
                    done(min(start + _BLOCK, len(self.rows)))

            return Comparison.of(x, x_val, measure.vectors, parts(), mirror=self.mirror)

    def _tiles(self, index: int, found: dict[str, Comparison], x: Tensor) -> list[Tile]:
        """A sample and its nearest training images by each measure."""
        tiles, shown = tiles_of(x[index : index + 1], "sample"), slice(NEAREST_SHOWN)
        for name, comparison in found.items():
            near = comparison.samples
            captions = [f"{name}\n{distance:.3g}" for distance in near.distances[index, shown]]
            tiles += tiles_of(self._images(self.rows[near.rows[index, shown]]), captions)
        return tiles

    def _table(self, found: dict[str, Comparison]) -> Iterator[tuple[object, ...]]:
        for name, comparison in found.items():
            near = comparison.samples
            for i, relative in enumerate(near.relative):
                for rank in range(min(NEAREST_SHOWN, near.rows.shape[1])):
                    image = self.pack.names[int(self.rows[near.rows[i, rank]])]
                    over_others = f"{relative:.4f}" if rank == 0 else ""
                    yield i, name, rank + 1, image, f"{near.distances[i, rank]:.6g}", over_others


def _charts(name: str, one: Comparison) -> list[Tile]:
    """Histograms of the nearest distances, and of the same over the mean of the others'."""
    two = {"samples": one.samples, "held-out images": one.held_out}
    nearest = {whose: near.distances[:, 0].tolist() for whose, near in two.items()}
    relative = {whose: near.relative.tolist() for whose, near in two.items()}
    labels = (f"distance to the nearest training image, by {name}", "the same over the mean of the next 49")
    return [chart_tile(histograms(values, label)) for values, label in zip((nearest, relative), labels, strict=True)]


def _print_verdict(found: dict[str, Comparison], held_out: int) -> None:
    """Print the table of measures, and its conclusion."""
    headings = ("distance by", "nearest, samples", "held out", "over others, samples", "held out", "nearer", "p")
    rows = []
    for name, one in found.items():
        both = (one.samples, one.held_out)
        nearest = [f"{np.median(near.distances[:, 0]):.3g}" for near in both]
        relative = [f"{np.median(near.relative):.3f}" for near in both]
        rows.append((name, *nearest, *relative, f"{one.nearer:.2f}", f"{one.p_value:.2g}"))
    print_table(headings, rows)
    p = copying(found.values())
    copies = max(one.closest for one in found.values())
    sign = "Samples are copies, or nearly" if p < SIGNIFICANT else "No sign of copying"
    say(
        f"{sign}: against {counted(held_out)} held out, p = {p:.2g} (one-sided Mann-Whitney U test of nearest over "
        f"others, corrected for {len(found)} distances). {copies} of the samples are nearer than every held-out image."
    )
