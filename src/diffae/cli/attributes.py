"""`diffae attributes fit`, `show` and `predict`: directions of z_sem from labels, and what they read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diffae.cli import models
from diffae.cli.options import RunArgument, TrainingImages, optional
from diffae.cli.terminal import counted, print_table, say, warn
from diffae.console import progress
from diffae.errors import CheckpointError, DataError
from diffae.workers import lead

if TYPE_CHECKING:
    import numpy as np

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.data.tables import Column
    from diffae.latent.attribute_labels import Target
    from diffae.latent.attributes import AttributeDirections
    from diffae.latent.encoding import Shard
    from diffae.latent.probes import Score
    from diffae.model import DiffusionAutoencoder

_HEADINGS = ("attribute", "kind", "images", "with it", "held out", "on these", "95 %")


@dataclass(frozen=True)
class FitAttributes:
    """Learn directions of z_sem from labels.

    Labels are 0/1, numbers or classes. `diffae edit` moves along the directions.
    """

    model: RunArgument
    labels: Annotated[Path | None, optional] = None
    """A .csv or .parquet with a column of file names, or CelebA's text file; every other column is an attribute. Left
    out: the labels that come with the images, else the folders in which they lie."""
    images: TrainingImages = None

    def run(self) -> int:
        """Fit, store, and print the table."""
        if not Path(self.model).is_dir():
            raise CheckpointError(f"{self.model} is not a folder: attributes are stored in a run folder; name one")
        model = models.open_model(self.model, z_sem_for="to find attributes in; train one without --no-encoder")
        lead(lambda: self._fit(model), model)
        return 0

    def _fit(self, model: DiffusionAutoencoder) -> None:
        from diffae.data.labels import LabelTable
        from diffae.latent.attributes import ATTRIBUTES, AttributeDirections

        folder, table = Path(self.model), LabelTable.read(self.labels) if self.labels else None
        pack = models.training_pack(model, self.images)
        wanted = _usable(table or _own_labels(pack), pack, self.labels or pack.path)
        labelled = _labelled(wanted)
        z_sem = models.z_sem_of(model, pack, labelled, folder)
        with progress("fitting", len(wanted), "attributes") as done:
            found = AttributeDirections().fit(z_sem, [one.of(labelled) for one in wanted], progress=done)
        found.save(self.model, model.fingerprint())
        print_attributes(found)
        what = f"{counted(len(wanted), 'attribute')}, from {counted(len(labelled))}"
        say(f"{what}, written to {folder / ATTRIBUTES}.")


@dataclass(frozen=True)
class ShowAttributes:
    """List the attributes of a run, with held-out scores."""

    model: Annotated[Path, Positional, arg(metavar="RUN")]
    """Run folder, after `diffae attributes fit`."""

    def run(self) -> int:
        """Print the table."""
        from diffae.latent.attributes import AttributeDirections

        print_attributes(AttributeDirections.load(self.model))
        return 0


@dataclass(frozen=True)
class PredictAttributes:
    """Write the read-outs of images as a table.

    Each attribute has a column: a probability, or for numbers the value.
    """

    model: RunArgument
    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images: a folder, .zip, .npy, .npz, .pack, WebDataset shards, hf://owner/name, or one image file."""
    out: Path
    """File to write, .csv or .parquet."""

    def run(self) -> int:
        """Encode, read, and write."""
        from diffae.cli.edit import open_attributes
        from diffae.data.tables import check_table

        check_table(self.out, (".csv", ".parquet"))
        model = models.open_model(self.model, z_sem_for="to read attributes from; train one without --no-encoder")
        found = open_attributes(model)
        source = models.open_photos(self.photos, model)
        count = models.write_table(
            self.out, model, source, lambda shard: {"name": shard.names, **read_outs(found, shard)}
        )
        say(f"Read-outs of {counted(count)} written to {self.out}.")
        return 0


def read_outs(found: AttributeDirections, shard: Shard) -> dict[str, np.ndarray]:
    """What each attribute reads: a probability (classes equally frequent), or for numbers the value."""
    from scipy.special import expit

    assert shard.code.z_sem is not None
    read = found.read(shard.code.z_sem).T
    binary = [attribute.binary for attribute in found.attributes_.values()]
    return {
        name: expit(row) if is_binary else row for name, row, is_binary in zip(found.names_, read, binary, strict=True)
    }


class Columns:
    """Columns that a table of codes has beside them: labels, and with `readouts` what attributes read.

    Args:
        model: whose attributes read.
        labels: a file of labels, if any.
        readouts: whether to read; the columns are called read_NAME.

    Raises:
        DataError: labels that cannot be used, or a column whose name is taken.
        CheckpointError: the run has no attributes.
    """

    def __init__(self, model: DiffusionAutoencoder, labels: Path | None, *, readouts: bool) -> None:
        from diffae.cli.edit import open_attributes
        from diffae.data.labels import LabelTable
        from diffae.latent.attributes import ATTRIBUTES

        self._labels = LabelTable.read(labels) if labels else None
        self._row_of = self._labels.finder() if self._labels else None
        self._found = open_attributes(model) if readouts else None
        own = self._labels.columns if self._labels else ()
        self.names = (*own, *(f"read_{name}" for name in (self._found.names_ if self._found else ())))
        files = [labels] if labels else []
        files += [model.folder / ATTRIBUTES] if readouts and model.folder else []
        self.key = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        """Changes with the labels and the attributes."""
        taken = [name for name in self.names if name in ("name", "z_sem", "metadata") or self.names.count(name) > 1]
        if taken:
            raise DataError(f"labels {labels}: the column {taken[0]!r} is in the table already; rename it")

    def __call__(self, shard: Shard) -> dict[str, Column]:
        """The columns of a shard."""
        read = read_outs(self._found, shard) if self._found else {}
        return {**self._labels_of(shard.names), **{f"read_{name}": values for name, values in read.items()}}

    def _labels_of(self, names: list[str]) -> dict[str, Column]:
        import numpy as np

        table = self._labels
        if table is None or self._row_of is None:
            return {}
        rows = [self._row_of(name) for name in names]
        empty = np.full(len(table.columns), np.nan)
        values = np.array([empty if row is None else table.values[row] for row in rows]).reshape(-1, len(table.columns))
        return {
            name: [None if code != code else table.classes[name][int(code)] for code in column.tolist()]
            if table.kinds[name] == "class"
            else column
            for name, column in zip(table.columns, values.T, strict=True)
        }


def _own_labels(pack: Pack) -> LabelTable:
    """The labels that come with images, else those of their folders.

    Raises:
        DataError: they have neither.
    """
    from diffae.latent.attribute_labels import folder_labels

    found = pack.labels or folder_labels(pack.names)
    if found is None:
        raise DataError("labels are missing: name a table by --labels, or put the images of each class into a folder")
    return found


def _usable(table: LabelTable, pack: Pack, path: Path) -> list[Target]:
    """Columns that can be fitted; warns of labels and columns that cannot be used.

    Raises:
        DataError: no column can.
    """
    from diffae.latent.attribute_labels import split_columns

    others = table.strangers(pack.names)
    wanted = split_columns(table.for_images(pack.names))
    problems = [problem for one in wanted if (problem := one.problem())]
    if len(problems) == len(wanted):
        raise DataError(f"labels {path}: {problems[0] if problems else 'have no column; add one'}")
    if others:
        named = f"{len(others)} of {len(table)} labels name files that are not among the {counted(len(pack))}"
        warn(f"left out: {named}, such as {others[0]}")
    for problem in problems:
        warn(f"left out: {problem}")
    return [one for one in wanted if one.problem() is None]


def _labelled(wanted: list[Target]) -> np.ndarray:
    """Images with at least one known label."""
    import numpy as np

    return np.flatnonzero(np.any([~np.isnan(one.values) for one in wanted], axis=0))


def print_attributes(found: AttributeDirections) -> None:
    """Print the table of attributes."""
    rows = []
    for name, about in found.attributes_.items():
        positives = "–" if about.positives is None else f"{about.positives:,}"
        rows.append((name, about.kind, f"{about.n:,}", positives, f"{about.score.held_out:,}", *described(about.score)))
    print_table(_HEADINGS, rows, left=2)


def described(score: Score) -> tuple[str, str]:
    """A score and its 95 % interval as text; dashes where unknown, as for imported attributes."""
    if not score.held_out:
        return "–", "–"
    measure = "R²" if score.measure == "R2" else score.measure
    return f"{measure} {score.value:.3f}", f"{score.low:.3f}–{score.high:.3f}"
