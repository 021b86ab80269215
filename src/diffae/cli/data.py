"""`diffae data`: packs of images made from the data sets of the paper, or any images, and looked into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from tyro.conf import OmitArgPrefixes, Positional, arg, subcommand

from diffae.cli.common import cache_folder, images, say, tell_skipped, warn
from diffae.cli.inputs import crop_of, tell_values, window_of
from diffae.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float64, Int64, UInt

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack

Name = Literal["ffhq", "celeba", "celebahq", "lsun-horse", "lsun-bedroom", "images"]
PackArgument = Annotated[Path, Positional, arg(metavar="PACK", help="Pack made by `diffae data prepare` or `train`.")]
_LISTED = 12  # classes of a label named


@dataclass(frozen=True)
class Prepare:
    """Decode a data set once, checked, into a pack that training reads. Interrupted, it goes on where it stopped."""

    name: Annotated[Name, Positional, arg(metavar="{" + ",".join(get_args(Name)) + "}")]
    """One of the paper's data sets, with its crop and labels; or "images": any images, as they are."""
    source: Annotated[Path, Positional, arg(metavar="SOURCE")]
    """The folder it was unpacked in, its folder or archive of images, an LMDB, WebDataset shards, or hf://owner/name."""
    size: int
    """Side of the square images in pixels."""
    out: Path
    """The pack to make, a folder."""
    channels: int = 3
    """1 gray, 3 colour, or as many as the files have."""
    crop: Annotated[str | None, arg(help_behavior_hint="(of images only)")] = None
    """What to cut out of each image first: left,top,right,bottom in pixels, or celeba."""
    window: Annotated[str | None, arg(help_behavior_hint="(of images only)")] = None
    """Values of the files that become black and white: auto, percentile, or stated, as --window=LOW,HIGH, for all
    channels or one pair after the other. Other types than uint8 and uint16 need one."""
    incomplete: bool = False
    """Take what there is where images are missing or damaged."""
    workers: Annotated[int | None, arg(help_behavior_hint="(default: one for each CPU)")] = None
    """Threads that decode."""

    def run(self) -> int:
        """Make the pack; what was done before an interruption is kept."""
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}: must be at least 1; leave it out for one for each CPU")
        pack = self._images() if self.name == "images" else self._data_set()
        tell_skipped(pack.skipped, f" (all are listed in {pack.path / 'index.json'})")
        tell_values(pack)
        say(f"{images(len(pack))} of {pack.size} x {pack.size} x {pack.channels} are in {pack.path}.")
        if pack.labels is not None:
            say(f"Labels of each: {_named(pack.labels.columns)}.")
        elif self.name in ("celeba", "celebahq"):
            warn("no labels: put the attribute file that comes with the data set beside the images and prepare again")
        say(f"Look at them:\n    diffae data browse {pack.path} --out {pack.path.stem}.png")
        return 0

    def _data_set(self) -> Pack:
        from diffae.data.build import Building
        from diffae.data.datasets import prepare

        for name in ("crop", "window"):
            if (given := getattr(self, name)) is not None:
                rule = f"must be left out for {self.name}, which is read as in the paper"
                raise ConfigError(f"{name} is {given!r}: {rule}; drop it, or prepare images")
        building = Building(self.workers, True, strict=not self.incomplete)
        return prepare(self.name, self.source, self.out, size=self.size, channels=self.channels, building=building)

    def _images(self) -> Pack:
        from diffae.data.build import Building, prepare_pack
        from diffae.data.build.windows import find_window
        from diffae.data.images import ImageSpec
        from diffae.data.sources import open_source

        spec = ImageSpec(self.channels, self.size, crop_of(self.crop))
        window, found = window_of(self.window, self.channels), open_source(self.source, self.channels)
        building = Building(self.workers, True, strict=not self.incomplete)
        if isinstance(window, str):
            window = find_window(found, spec, window, cache_folder(), building)
        spec = replace(spec, window=window)
        return prepare_pack(found, self.out, spec, source=self.source.name, building=building)


@dataclass(frozen=True)
class PackInfo:
    """Show what a pack holds: images, where they come from, labels."""

    pack: PackArgument

    def run(self) -> int:
        """Print it."""
        from rich.console import Console
        from rich.table import Table

        from diffae.data.pack import Pack

        pack = Pack.open(self.pack)
        table = Table.grid(padding=(0, 3))
        table.add_column(style="bold")
        table.add_column(overflow="fold")
        for name, value in [*_about_images(pack), *_about_labels(pack.labels)]:
            table.add_row(name, value)
        Console(highlight=False).print(table)
        return 0


@dataclass(frozen=True)
class Browse:
    """Draw images of a pack on one sheet, with their names, evenly spread over it."""

    pack: PackArgument
    out: Path
    """The sheet, a .png or another still picture."""
    count: int = 48
    """How many images."""
    columns: int = 8
    """Images side by side."""
    label: Annotated[str | None, arg(help_behavior_hint="(optional)")] = None
    """A label written below each image instead of its name."""

    def run(self) -> int:
        """Draw it."""
        for name in ("count", "columns"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: must be at least 1; use for instance 8")
        import numpy as np

        from diffae.data.pack import Pack
        from diffae.plotting import STILL, Tile, check_suffix, in_rows, save_sheet, sheet

        check_suffix(self.out, STILL)
        pack = Pack.open(self.pack)
        rows = np.linspace(0, len(pack) - 1, min(self.count, len(pack))).round().astype(np.int64)
        captions = _values(pack, self.label, rows) if self.label else [str(pack.names[row]) for row in rows.tolist()]
        tiles = [Tile(pixels, text) for pixels, text in zip(_shown(pack, rows), captions, strict=True)]
        save_sheet(self.out, sheet(in_rows(tiles, self.columns)))
        say(f"{len(rows)} of {images(len(pack))} drawn on {self.out}.")
        return 0


@dataclass(frozen=True)
class Data:
    """Packs of images: make them from the paper's data sets or any images, and look into them."""

    command: OmitArgPrefixes[
        Annotated[Prepare, subcommand("prepare", prefix_name=False)]
        | Annotated[PackInfo, subcommand("info", prefix_name=False)]
        | Annotated[Browse, subcommand("browse", prefix_name=False)]
    ]

    def run(self) -> int:
        """Run the command given."""
        return self.command.run()


def _named(columns: Sequence[str]) -> str:
    """Names, the later ones of many left out."""
    shown = ", ".join(columns[:_LISTED])
    return shown if len(columns) <= _LISTED else f"{shown} and {len(columns) - _LISTED} more"


def _about_images(pack: Pack) -> list[tuple[str, str]]:
    index = pack.index
    held_out = len(pack.split()[1])
    crop, background = index.get("crop"), index.get("background")
    cut = crop if isinstance(crop, str) else ", ".join(map(str, crop)) if crop else "none"
    window = ", ".join(f"{low:g} to {high:g}" for low, high in pack.window or ())
    size = sum(part.stat().st_size for part in pack.path.iterdir())
    return [
        ("pack", str(pack.path)),
        ("images", f"{images(len(pack))} of {pack.size} x {pack.size} x {pack.channels}, {pack.dtype}"),
        ("names", f"{pack.names[0]} to {pack.names[-1]}"),
        ("source", str(index["source"])),
        ("crop", cut),
        *([("window", window)] if window else []),
        *([("background", "red {}, green {}, blue {}".format(*background))] if background else []),
        ("held out", f"{images(held_out)} in training, by their names"),
        ("left out", f"{images(len(pack.skipped))} that could not be read"),
        ("size", f"{size / 1e6:,.1f} MB"),
    ]


def _about_labels(labels: LabelTable | None) -> list[tuple[str, str]]:
    """A line for each column of labels: how often a binary is true, the range of a number, the sizes of classes."""
    import numpy as np

    if labels is None:
        return [("labels", "none")]
    rows = [("labels", f"{len(labels.columns)} for each image")]
    for column in labels.columns:
        known = labels.column(column)
        known = known[~np.isnan(known)]
        unknown = f", unknown for {images(len(labels) - len(known))}" if len(known) < len(labels) else ""
        rows.append((f"  {column}", _spread(labels, column, known) + unknown))
    return rows


def _spread(labels: LabelTable, column: str, known: Float64[np.ndarray, " n"]) -> str:
    if not len(known):
        return labels.kinds[column]
    if labels.kinds[column] == "binary":
        return f"binary, true for {known.mean():.1%}"
    if labels.kinds[column] == "number":
        return f"number, {known.min():g} to {known.max():g}, mean {known.mean():g}"
    counts = [(int((known == code).sum()), name) for code, name in enumerate(labels.classes[column])]
    return f"class: {_named([f'{name} {count:,}' for count, name in sorted(counts, reverse=True)])}"


def _values(pack: Pack, label: str, rows: Int64[np.ndarray, " k"]) -> list[str]:
    """The label of each of these rows."""
    labels = pack.labels
    if labels is None:
        raise DataError(f"pack {pack.path}: has no labels to write below the images; leave out --label")
    labels.column(label)  # says so where there is none
    place = labels.columns.index(label)
    return [f"{label} {labels.cells(labels.values[row].tolist())[place] or 'unknown'}" for row in rows]


def _shown(pack: Pack, rows: Int64[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w 3"]:
    """These images as they can be shown: uint8, three channels."""
    from diffae.data.images import to_rgb

    shown = to_rgb(pack.fetch(rows))
    return shown if shown.dtype == "uint8" else (shown >> 8).astype("uint8")  # uint16 [0, 65535] => uint8 [0, 255]
