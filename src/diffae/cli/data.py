"""`diffae data`: make packs from the paper's data sets or any images, and look into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

from tyro.conf import Positional, arg

from diffae.cli import common
from diffae.cli.options import crop_of, optional, window_of
from diffae.cli.terminal import counted, print_facts, say, warn
from diffae.data.cache import cache_folder
from diffae.errors import DataError, require

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float64, Int64, UInt

    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack

Name = Literal["ffhq", "celeba", "celebahq", "lsun-horse", "lsun-bedroom", "images"]
PackArgument = Annotated[Path, Positional, arg(metavar="PACK", help="Pack made by `diffae data prepare` or `train`.")]
_images_only = arg(help_behavior_hint="(for images only)")
_LISTED = 12  # names shown of many


@dataclass(frozen=True)
class Prepare:
    """Decode a data set once into a pack.

    Training reads the pack. Every image is checked; if interrupted, it continues where it stopped.
    """

    name: Annotated[Name, Positional, arg(metavar="{" + ",".join(get_args(Name)) + "}")]
    """One of the paper's data sets, with its crop and labels; or "images": any images, as they are."""
    source: Annotated[Path, Positional, arg(metavar="SOURCE")]
    """The folder it was unpacked in, its folder or archive of images, an LMDB, WebDataset shards, or hf://owner/name."""
    size: int
    """Height and width of the square images in pixels."""
    out: Path
    """The pack to make, a folder."""
    channels: int = 3
    """1 for grey, 3 for colour, or as many as the files have."""
    crop: Annotated[str | None, _images_only] = None
    """Region to cut out of each image first: left,top,right,bottom in pixels, or celeba."""
    window: Annotated[str | None, _images_only] = None
    """Values of the files that become black and white: auto, percentile, or --window=LOW,HIGH for all channels or one
    pair after the other. Types other than uint8 and uint16 need one."""
    incomplete: bool = False
    """Accept missing or damaged images."""
    workers: Annotated[int | None, arg(help_behavior_hint="(default: one for each CPU)")] = None
    """Threads that decode."""

    def run(self) -> int:
        """Make the pack."""
        rule = "must be at least 1; leave it out for one for each CPU"
        require(self.workers is None or self.workers >= 1, "workers", self.workers, rule)
        pack = self._images() if self.name == "images" else self._data_set()
        common.warn_skipped(pack.skipped, f" (all are listed in {pack.path / 'index.json'})")
        common.tell_values(pack)
        say(f"{counted(len(pack))} of {pack.size} x {pack.size} x {pack.channels} are in {pack.path}.")
        if pack.labels is not None:
            say(f"Labels of each: {_named(pack.labels.columns)}.")
        elif self.name in ("celeba", "celebahq"):
            warn("no labels: put the attribute file that comes with the data set beside the images and prepare again")
        say("Look at them:", f"    diffae data browse {pack.path} --out {pack.path.stem}.png")
        return 0

    def _data_set(self) -> Pack:
        from diffae.data.build import Building
        from diffae.data.datasets import prepare

        for name in ("crop", "window"):
            rule = f"must be left out for {self.name}, which is read as in the paper; drop it, or prepare images"
            require(getattr(self, name) is None, name, getattr(self, name), rule)
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
    """Describe a pack: images, source, labels."""

    pack: PackArgument

    def run(self) -> int:
        """Print the facts."""
        from diffae.data.pack import Pack

        pack = Pack.open(self.pack)
        print_facts([*_about_images(pack), *_about_labels(pack.labels)])
        return 0


@dataclass(frozen=True)
class Browse:
    """Draw images of a pack on one sheet.

    They are evenly spread over the pack, with their names or a label below.
    """

    pack: PackArgument
    out: Path
    """The sheet, a .png or another still picture."""
    count: int = 48
    """Number of images."""
    columns: int = 8
    """Images in a row."""
    label: Annotated[str | None, optional] = None
    """Label to write below each image instead of its name."""

    def run(self) -> int:
        """Draw the sheet."""
        for name in ("count", "columns"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1; use for instance 8")
        import numpy as np

        from diffae.data.pack import Pack
        from diffae.plotting import Tile

        common.check_picture(self.out)
        pack = Pack.open(self.pack)
        rows = np.linspace(0, len(pack) - 1, min(self.count, len(pack))).round().astype(np.int64)
        captions = _values(pack, self.label, rows) if self.label else [str(pack.names[row]) for row in rows.tolist()]
        tiles = [Tile(pixels, text) for pixels, text in zip(_shown(pack, rows), captions, strict=True)]
        common.write_sheet(self.out, tiles, self.columns)
        say(f"{len(rows)} of {counted(len(pack))} drawn on {self.out}.")
        return 0


def _named(names: Sequence[str]) -> str:
    """The first names of many."""
    shown = ", ".join(names[:_LISTED])
    return shown if len(names) <= _LISTED else f"{shown} and {len(names) - _LISTED} more"


def _about_images(pack: Pack) -> list[tuple[str, str]]:
    index = pack.index
    crop, background = index.get("crop"), index.get("background")
    cut = crop if isinstance(crop, str) else ", ".join(map(str, crop)) if crop else "none"
    window = ", ".join(f"{low:g} to {high:g}" for low, high in pack.window or ())
    size = sum(part.stat().st_size for part in pack.path.iterdir())
    return [
        ("pack", str(pack.path)),
        ("images", f"{counted(len(pack))} of {pack.size} x {pack.size} x {pack.channels}, {pack.dtype}"),
        ("names", f"{pack.names[0]} to {pack.names[-1]}"),
        ("source", str(index["source"])),
        ("crop", cut),
        *([("window", window)] if window else []),
        *([("background", "red {}, green {}, blue {}".format(*background))] if background else []),
        ("held out", f"{counted(len(pack.split()[1]))} in training, by their names"),
        ("left out", f"{counted(len(pack.skipped))} that could not be read"),
        ("size", f"{size / 1e6:,.1f} MB"),
    ]


def _about_labels(labels: LabelTable | None) -> list[tuple[str, str]]:
    """A line for each column of labels."""
    import numpy as np

    if labels is None:
        return [("labels", "none")]
    rows = [("labels", f"{len(labels.columns)} for each image")]
    for column in labels.columns:
        known = labels.column(column)
        known = known[~np.isnan(known)]
        unknown = f", unknown for {counted(len(labels) - len(known))}" if len(known) < len(labels) else ""
        rows.append((f"  {column}", _distribution(labels, column, known) + unknown))
    return rows


def _distribution(labels: LabelTable, column: str, known: Float64[np.ndarray, " n"]) -> str:
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
    labels.column(label)  # raises for an unknown column
    place = labels.columns.index(label)
    return [f"{label} {labels.cells(labels.values[row].tolist())[place] or 'unknown'}" for row in rows]


def _shown(pack: Pack, rows: Int64[np.ndarray, " k"]) -> UInt[np.ndarray, "k h w 3"]:
    """Images as uint8 RGB."""
    from diffae.data.images import to_rgb

    shown = to_rgb(pack.fetch(rows))
    return shown if shown.dtype == "uint8" else (shown >> 8).astype("uint8")  # uint16 [0, 65535] => uint8 [0, 255]
