"""`diffae nearest`: are samples new, or copies of training images? (paper Appendix C)"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import OmitArgPrefixes, arg

from diffae.cli.attributes import codes_of
from diffae.cli.common import (
    RunArgument,
    SamplingOptions,
    images,
    make_folder,
    open_model,
    progress,
    say,
    seeded,
    training_pack,
)
from diffae.cli.sample import decode_all
from diffae.config import TrainingConfig, from_dict
from diffae.errors import require
from diffae.presets import PRIOR_STEPS

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image
    from torch import Tensor

    from diffae.config import Sampling
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.memorisation import Comparison
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

SHOWN, NEAREST_SHOWN = 16, 3
_BLOCK = 512  # training images compared at once


@dataclass(frozen=True)
class Nearest:
    """Look for copies: the nearest training images of samples, beside those of held-out images, and a test."""

    model: RunArgument
    out: Path
    """Folder for the pictures and the table."""
    samples: int = 64
    """Samples to make and to test; the first 16 are shown."""
    images: Annotated[Path | None, arg(help_behavior_hint="(default: those of the run's training)")] = None
    """The images the run was trained on: a folder, .zip, .npy, .npz or .pack."""
    features: Annotated[str | None, arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """A network for a third distance, that of its features: an .onnx or TorchScript file, or a known name."""
    prior_steps: int = PRIOR_STEPS
    """Solver steps of the prior, 1 to 1000."""
    seed: int = 0
    """Of every random number."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the pictures and the table, print the verdict."""
        from diffae import checkpoint
        from diffae.data.images import to_tensor
        from diffae.evaluation.features import FeatureNetwork
        from diffae.training.autoencoder import held_out

        require(self.samples >= 2, "samples", self.samples, "must be at least 2")
        sampling = self.sampling.sampling()
        network = FeatureNetwork.open(self.features) if self.features else None
        model = open_model(self.model)
        assert model.folder is not None  # it was read from there
        noted = checkpoint.read_config(model.folder)
        training = from_dict(TrainingConfig, noted.get("training", {}))
        x = self._made(model, sampling)
        pack = training_pack(model, self.images)
        rows, val_rows = held_out(pack, training)
        make_folder(self.out)
        measures = _measures(model, pack, rows, network)
        x_val = to_tensor(pack.fetch(val_rows))
        found = {m.name: _compare(m, x, x_val, len(rows), mirror=training.flip) for m in measures}
        _write(self.out, found, pack, rows, x)
        _print_verdict(found, len(val_rows))
        say(f"Pictures and nearest.csv are in {self.out}.")
        return 0

    def _made(self, model: DiffusionAutoencoder, sampling: Sampling) -> Tensor:
        """The samples, in [-1, 1]."""
        import torch

        generator, z_sem = seeded(self.seed), None
        if model.config.network.has_encoder:
            z_sem = model.require_prior().sample(self.samples, steps=self.prior_steps, generator=generator)
        x_T = torch.randn((self.samples, *model.image_shape), generator=generator)
        return decode_all(model, z_sem, x_T, sampling).clamp(-1, 1)


class _Measure(NamedTuple):
    """A way to tell how far images are apart: the mean squared difference of vectors made of them."""

    name: str
    vectors: Callable[[Tensor], Tensor]
    """Images (b, c, h, w) in [-1, 1] => (b, p)."""
    training: Callable[[], Iterator[Tensor]]
    """Those of the training images, in blocks."""


def _measures(
    model: DiffusionAutoencoder, pack: Pack, rows: np.ndarray, network: FeatureNetwork | None
) -> list[_Measure]:
    """Pixels in [0, 1]; normalised z_sem, where the model has it; features, where a network is given."""
    import numpy as np
    import torch

    from diffae.data.images import to_tensor, to_unit

    def of_images(vectors: Callable[[Tensor], Tensor]) -> Callable[[], Iterator[Tensor]]:
        starts = range(0, len(rows), _BLOCK)
        return lambda: (vectors(to_tensor(pack.fetch(rows[start : start + _BLOCK]))) for start in starts)

    def pixels(x: Tensor) -> Tensor:
        return to_unit(x).flatten(1)

    found = [_Measure("pixels", pixels, of_images(pixels))]
    if model.config.network.has_encoder:
        assert model.folder is not None
        codes = codes_of(model, pack, rows, model.folder)
        mean, std = codes.mean(axis=0), codes.std(axis=0).clip(1e-6)

        def z_norm(x: Tensor) -> Tensor:
            return (model.encode_semantic(x).cpu() - torch.from_numpy(mean)) / torch.from_numpy(std)

        blocks = range(0, len(codes), _BLOCK)
        stored = lambda: (torch.from_numpy((np.array(codes[b : b + _BLOCK]) - mean) / std) for b in blocks)  # noqa: E731
        found.append(_Measure("z_sem", z_norm, stored))
    if network is not None:

        def features(x: Tensor) -> Tensor:
            return torch.from_numpy(network.vectors(x))

        found.append(_Measure(f"{network.name} features", features, of_images(features)))
    return found


def _compare(measure: _Measure, x: Tensor, x_val: Tensor, count: int, *, mirror: bool) -> Comparison:
    """Samples and held-out images against the training set, in one pass over it."""
    from diffae.evaluation.memorisation import Comparison

    with progress(f"comparing by {measure.name}", count) as done:

        def parts() -> Iterator[Tensor]:
            seen = 0
            for part in measure.training():
                yield part
                seen += len(part)
                done(seen)

        return Comparison.of(x, x_val, measure.vectors, parts(), mirror=mirror)


def _write(out: Path, found: dict[str, Comparison], pack: Pack, rows: np.ndarray, x: Tensor) -> None:
    """nearest.png, the table nearest.csv, and the distributions of distances.png."""
    from diffae.checkpoint import written_beside
    from diffae.plotting import save_sheet, sheet

    save_sheet(out / "nearest.png", sheet([_row(i, found, pack, rows, x) for i in range(min(SHOWN, len(x)))]))
    with written_beside(out / "nearest.csv") as temporary, temporary.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("sample", "distance by", "rank", "training image", "distance", "nearest over others"))
        for name, comparison in found.items():
            near = comparison.samples
            for i, relative in enumerate(near.relative):
                for rank in range(min(NEAREST_SHOWN, near.rows.shape[1])):
                    image = pack.names[int(rows[near.rows[i, rank]])]
                    distance = f"{near.distances[i, rank]:.6g}"
                    table.writerow((i, name, rank + 1, image, distance, f"{relative:.4f}" if rank == 0 else ""))
    save_sheet(out / "distances.png", _charts(found))


def _charts(found: dict[str, Comparison]) -> Image.Image:
    """Two histograms for each measure, side by side: nearest distances, and these over the others'."""
    from PIL import Image

    from diffae.plotting_figures import histograms

    rows = []
    for name, one in found.items():
        two = {"samples": one.samples, "held-out images": one.held_out}
        nearest = {whose: near.distances[:, 0].tolist() for whose, near in two.items()}
        relative = {whose: near.relative.tolist() for whose, near in two.items()}
        left = histograms(nearest, f"distance to the nearest training image, by {name}")
        rows.append((left, histograms(relative, "the same over the mean of the next 49")))
    wide, tall = rows[0][0].size
    page = Image.new("RGB", (2 * wide, tall * len(rows)), "white")
    for index, pair in enumerate(rows):
        for column, chart in enumerate(pair):
            page.paste(chart, (column * wide, index * tall), chart)
    return page


def _row(index: int, found: dict[str, Comparison], pack: Pack, rows: np.ndarray, x: Tensor) -> list[Tile]:
    """A sample and its nearest training images by each measure."""
    from diffae.data.images import to_tensor
    from diffae.plotting import tiles_of

    tiles = tiles_of(x[index : index + 1], "sample")
    for name, comparison in found.items():
        near = comparison.samples
        shown = slice(NEAREST_SHOWN)
        captions = [f"{name}\n{distance:.3g}" for distance in near.distances[index, shown]]
        tiles += tiles_of(to_tensor(pack.fetch(rows[near.rows[index, shown]])), captions)
    return tiles


def _print_verdict(found: dict[str, Comparison], held_out: int) -> None:
    """The table of measures, and what it means in a sentence."""
    from rich.console import Console
    from rich.table import Table

    from diffae.evaluation.memorisation import SIGNIFICANT, copying

    table = Table(box=None, pad_edge=False)
    table.add_column("distance by")
    for heading in ("nearest, samples", "nearest, held out", "over others, samples", "held out", "nearer", "p"):
        table.add_column(heading, justify="right")
    for name, one in found.items():
        pairs = [
            (f"{_median(n.distances[:, 0]):.3g}", f"{_median(n.relative):.3f}") for n in (one.samples, one.held_out)
        ]
        table.add_row(
            name, pairs[0][0], pairs[1][0], pairs[0][1], pairs[1][1], f"{one.nearer:.2f}", f"{one.p_value:.2g}"
        )
    Console(highlight=False).print(table)
    p = copying(found.values())
    copies = max(one.closest for one in found.values())
    sign = "Samples are copies, or nearly" if p < SIGNIFICANT else "No sign of copying"
    say(
        f"{sign}: against {images(held_out)} held out, p = {p:.2g} (one-sided Mann-Whitney U test of nearest over "
        f"others, corrected for {len(found)} distances). {copies} of the samples are nearer than every held-out image."
    )


def _median(values: np.ndarray) -> float:
    import numpy as np

    return float(np.median(values))
