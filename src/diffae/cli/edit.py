"""`diffae edit`: change what a person has a name for, in a picture of one's own."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from diffae.cli.common import (
    ImageArgument,
    RunArgument,
    SamplingOptions,
    back_suffix,
    keep_inputs,
    open_model,
    read_images,
    say,
    tell_residuals,
    write_back,
)
from diffae.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from diffae.latent.attributes import AttributeDirections, Strength
    from diffae.model import DiffusionAutoencoder
    from diffae.plotting import Tile

    Changes = Mapping[str, Strength]

_COLUMNS = 10  # tiles in a row
DIFFERENCE_GAIN = 3.0
"""Difference maps show |before - after| times this, images in [0, 1]: edits change more than reconstructions do."""
_optional = arg(help_behavior_hint="(optional)")


@dataclass(frozen=True)
class Edit:
    """Edit an image by attributes, keeping x_T and all else: before | after | difference, or with --sweep a strip."""

    model: RunArgument
    image: ImageArgument
    out: Path
    """Picture to write. Without --sweep, the edited image alone is written beside it as OUT-image, with the type, range
    and description of the file's."""
    set: Annotated[
        UseAppendAction[tuple[str, ...]], arg(metavar="NAME=STRENGTH", help_behavior_hint="(repeatable)")
    ] = ()
    """Smiling=+0.3, a step along its direction; Smiling=median, as much of it as images that have it; Smiling=p=0.9,
    until its probability is 0.9; of a number the value to reach, age=60."""
    sweep: Annotated[tuple[str, float, float, int] | None, arg(metavar="NAME FROM TO COUNT"), _optional] = None
    """A strip of COUNT images, with the strengths (of a number: values) between FROM and TO."""
    only: Annotated[tuple[str, ...] | None, arg(metavar="[NAME ...]"), _optional] = None
    """Keep the readings of these other attributes as they are; of all others when none is named."""
    published: bool = False
    """Move along the weight vector itself, as published; by default along what goes with it among images."""
    sampling: OmitArgPrefixes[SamplingOptions] = field(default_factory=SamplingOptions)

    def run(self) -> int:
        """Write the picture and print what was changed."""
        import torch

        from diffae.data.images import origin_of
        from diffae.latent.directions import with_z_sem
        from diffae.plotting import STILL, check_suffix, in_rows, save_sheet, sheet

        check_suffix(self.out, STILL)
        keep_inputs([self.out], [self.image])
        sampling = self.sampling.sampling()
        steps = self._steps()
        model = open_model(self.model)
        attributes = open_attributes(model)
        hold = self._held(attributes, steps[0])
        origin = origin_of(self.image)
        alone = None if self.sweep else self.out.with_name(f"{self.out.stem}-image{back_suffix(model, origin)}")
        keep_inputs([alone] if alone else [], [self.image])
        x = read_images([self.image], model)
        z_sem = model.encode_semantic(x)
        moved = moved_codes(attributes, z_sem, steps, hold=hold, published=self.published)
        code = model.encode(x, sampling)
        y = model.decode(with_z_sem(code, moved), sampling=sampling).cpu()
        captions = [_caption(attributes, changes) for changes in steps]
        tiles = sweep_tiles(x, y, captions) if self.sweep else edit_tiles(x, y, captions[0])
        save_sheet(self.out, sheet(in_rows(tiles, _COLUMNS)))
        if alone:
            write_back(alone, y, model, origin)
        tell_residuals(code.residual, sampling)
        _print_readings(attributes, torch.cat([z_sem, moved]), [*steps[0], *hold])
        say(f"{self.image.name}, edited, written to {self.out}{f'; alone to {alone}' if alone else ''}.")
        return 0

    def _steps(self) -> list[Changes]:
        """What is changed in each picture to be made.

        Raises:
            ConfigError: nothing to do, or not NAME=STRENGTH.
        """
        fixed = dict(_split(text) for text in self.set)
        if self.sweep is None:
            if not fixed:
                raise ConfigError("set is empty: say what to change, for instance --set Smiling=+0.3")
            return [fixed]
        name, start, stop, count = self.sweep
        if count < 2:
            raise ConfigError(f"sweep has {count} image{'' if count == 1 else 's'}: must be at least 2, the two ends")
        if not (math.isfinite(start) and math.isfinite(stop)):
            raise ConfigError(f"sweep is from {start} to {stop}: must be finite, for instance -0.5 0.5")
        if name in fixed:
            raise ConfigError(f"attribute {name!r} is in both --set and --sweep; drop one of the two")
        return [fixed | {name: start + (stop - start) * index / (count - 1)} for index in range(count)]

    def _held(self, attributes: AttributeDirections, changes: Changes) -> tuple[str, ...]:
        """The attributes that --only keeps."""
        if self.only is None or self.only:
            return self.only or ()
        for name in changes:
            attributes.index(name)  # a misspelt one is told of as such
        others = attributes.others(changes)
        if not others:
            raise ConfigError("only is given, but no other attribute is known: drop it, or fit more attributes")
        return others


def open_attributes(model: DiffusionAutoencoder) -> AttributeDirections:
    """The attributes in the folder that a model was read from.

    Raises:
        CheckpointError: none there, or of another model.
    """
    from diffae.latent.attributes import AttributeDirections

    if model.folder is None:
        raise CheckpointError("this model was not read from a run folder: it has no attributes; fit some")
    return AttributeDirections.load(model.folder, model.fingerprint())


def moved_codes(
    attributes: AttributeDirections,
    z_sem: Tensor,
    steps: Sequence[Changes],
    *,
    hold: Collection[str] = (),
    published: bool = False,
) -> Tensor:
    """What the z_sem of one image, (1, d), becomes by each of several edits: (edits, d)."""
    import torch

    from diffae.latent.codes import Code

    codes = (attributes.edit_all(Code(z_sem), changes, hold=hold, published=published) for changes in steps)
    return torch.cat([code.z_sem for code in codes if code.z_sem is not None])


def edit_tiles(x: Tensor, y: Tensor, caption: str) -> list[Tile]:
    """Before, after and difference of one image."""
    from diffae.data.images import to_unit
    from diffae.plotting import heat_tile, tiles_of

    change = (to_unit(x) - to_unit(y)).abs().mean(dim=(0, 1))
    difference = heat_tile(change * DIFFERENCE_GAIN, f"difference ×{DIFFERENCE_GAIN:g}")
    return [*tiles_of(x, "before"), *tiles_of(y, caption), difference]


def sweep_tiles(x: Tensor, y: Tensor, captions: Sequence[str]) -> list[Tile]:
    """One image and what it becomes at several strengths."""
    from diffae.plotting import tiles_of

    return [*tiles_of(x, "before"), *tiles_of(y, captions)]


def _split(text: str) -> tuple[str, Strength]:
    """NAME=STRENGTH; the strength may be p=0.9."""
    name, equals, strength = text.rpartition("=")
    if name.endswith("=p"):
        name, strength = name.removesuffix("=p"), f"p={strength}"
    if not equals or not name:
        raise ConfigError(f"set is {text!r}: must be NAME=STRENGTH, for instance Smiling=+0.3 or Young=median")
    return name, strength


def _caption(attributes: AttributeDirections, changes: Changes) -> str:
    """What was changed, a line for each attribute."""

    def worded(name: str, strength: Strength) -> str:
        if isinstance(strength, str):
            return strength
        return f"{strength:.3g}" if attributes.kinds_[name] == "number" else f"{strength:+.2f}"

    return "\n".join(f"{name} {worded(name, strength)}" for name, strength in changes.items())


def _print_readings(attributes: AttributeDirections, z_sem: Tensor, names: Sequence[str]) -> None:
    """How the attributes read in z_sem before, and after; of a sweep at both its ends."""
    from rich.console import Console
    from rich.table import Table
    from scipy.special import expit

    rows = [("before", 0), ("after", 1)] if len(z_sem) == 2 else [("before", 0), ("first", 1), ("last", len(z_sem) - 1)]
    table = Table(box=None, pad_edge=False)
    table.add_column("read from z_sem", overflow="fold")
    for heading, _ in rows:
        table.add_column(heading, justify="right")
    readings = attributes.read(z_sem)
    for name in names:
        column = attributes.index(name)
        values = [readings[row, column] for _, row in rows]
        if attributes.attributes_[name].binary:
            cells = [f"{expit(value):.1%}" for value in values]
        else:
            cells = [f"{value:.4g}" for value in values]
        table.add_row(name, *cells)
    Console(highlight=False).print(table)
