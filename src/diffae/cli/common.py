"""What the commands share: sampling options, models and images from the command line, and how results are said."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from diffae.config import Arithmetic, Grid, Inversion, Sampling, Solver
from diffae.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Generator, Tensor

    from diffae.data.images import Origin
    from diffae.data.pack import Pack
    from diffae.model import DiffusionAutoencoder

RunArgument = Annotated[
    str, Positional, arg(metavar="RUN", help="Run folder made by `diffae train`, or a Hub id (owner/name).")
]
ImageArgument = Annotated[Path, Positional, arg(metavar="IMAGE", help="Image file.")]


@dataclass(frozen=True)
class SamplingOptions:
    """How the decoder's ODE is solved."""

    steps: int = Sampling.steps
    """Solver steps, 1 to 1000."""
    inversion: Inversion = Sampling.inversion
    """How x_T is found: "exact" inverts the decoder, "explicit" is textbook reverse DDIM, "official" the published;
    "pair" is exact and cheaper, with a stochastic code of two states, twice the size."""
    grid: Grid = Sampling.grid
    """Where the levels lie: "quadratic" from 1 to T, denser near the image, which loses least when inverted; "squares"
    the same for few steps; "leading" evenly from 1, as published; "trailing" evenly up to T."""
    solver: Solver = Sampling.solver
    """How decoding steps: "ddim"; or "dpm++2m" for random x_T, which with --grid squares does as well in 10 steps as
    DDIM in 50, and cannot encode."""
    precision: Arithmetic = Sampling.precision
    """What the networks compute in: "bfloat16" is the fastest and not exact, "float64" the most exact."""
    official: bool = False
    """As published: leading grid, official inversion, clipped x_0."""

    def sampling(self) -> Sampling:
        """The settings these options mean.

        Raises:
            ConfigError: a value its rule forbids, or --official with options that it decides itself.
        """
        if not self.official:
            return Sampling(self.steps, self.grid, self.inversion, solver=self.solver, precision=self.precision)
        official = replace(Sampling.official(self.steps), precision=self.precision)
        for name in ("inversion", "grid", "solver"):
            if getattr(self, name) not in (getattr(Sampling, name), getattr(official, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}: --official sets its own; drop one of the two")
        return official


def open_model(run: str) -> DiffusionAutoencoder:
    """The model of a run folder or Hub id, on the best device."""
    from diffae.model import DiffusionAutoencoder

    return DiffusionAutoencoder.from_pretrained(run)


def read_images(paths: Sequence[Path], model: DiffusionAutoencoder) -> Tensor:
    """Image files as the batch in [-1, 1] that the model makes of them; any that cannot be read is an error.

    Raises:
        DataError: an image that cannot be used, or none.
    """
    from diffae.data.images import as_batch

    if not paths:
        raise DataError("no images given, at least one is needed; name image files after the run folder")
    channels, size, _ = model.image_shape
    given = model.config.input
    settings = {"crop": given.crop, "background": given.background, "window": given.window}
    return as_batch(list(paths), size, channels, **settings)


def back_suffix(model: DiffusionAutoencoder, origin: Origin | None) -> str:
    """Of the file that `write_back` writes a decoded image to."""
    from diffae.data.images import suffix_for

    return suffix_for(model.image_shape[0], _type_of(model, origin), origin)


def write_back(path: Path, x: Tensor, model: DiffusionAutoencoder, origin: Origin | None) -> None:
    """Write a decoded image (1, c, h, w) in the type, range and description of the file it came from.

    Where nothing is known of that file, the type is that of the model's training images.

    Raises:
        DataError: the file cannot be written.
    """
    from diffae.data.images import save_image, to_samples

    given = model.config.input
    fitted = origin and origin.fitted(given.box, model.image_shape[1])
    save_image(path, to_samples(x, given, _type_of(model, origin))[0], fitted)


def _type_of(model: DiffusionAutoencoder, origin: Origin | None) -> str:
    return model.config.input.dtype if origin is None else origin.dtype


def keep_inputs(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise `DataError` where a file to write is one of those that are read."""
    kept = {path.resolve() for path in inputs}
    for path in outputs:
        if path.resolve() in kept:
            raise DataError(f"cannot write {path}: it is one of the files given to this command; choose another --out")


def seeded(seed: int) -> Generator:
    """A generator for the random x_T of a command."""
    import torch

    return torch.Generator().manual_seed(seed)


def output_names(names: Sequence[str], suffix: str = ".png") -> list[PurePosixPath]:
    """A file name for each image, below the output folder whatever the names say, and all different.

    "a/b.jpg" becomes "a/b.png"; where "a/b.webp" is there too, both keep their suffix: "a/b.jpg.png".
    """
    safe = [PurePosixPath(*(part for part in PurePosixPath(name).parts if part not in ("/", ".."))) for name in names]
    stems = [path.with_suffix("").as_posix() for path in safe]
    counts = Counter(stems)
    chosen: dict[str, None] = {}  # a set in order
    for path, stem in zip(safe, stems, strict=True):
        first = name = stem if counts[stem] == 1 else path.as_posix()
        number = 1
        while name in chosen:
            number += 1
            name = f"{first}-{number}"
        chosen[name] = None
    return [PurePosixPath(name + suffix) for name in chosen]


def images(count: int) -> str:
    """The number of images in words: "1 image", "2 images"."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def say(text: str) -> None:
    """Print a line as it is, however long: paths and commands can be copied from it."""
    print(text, flush=True)


def warn(text: str) -> None:
    """Print a warning on standard error."""
    error_console().print(f"diffae: warning: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def error_console() -> Console:
    """The terminal, for progress and warnings."""
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def progress(what: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """A progress bar on the terminal (nothing in a log); the function yielded takes how many are done."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    console = error_console()
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)


def tell_skipped(skipped: Sequence[tuple[str, str]], where: str = "") -> None:
    """Warn of images that could not be read: how many, and the first ten with their reasons."""
    if not skipped:
        return
    shown = "".join(f"\n  {reason}" for _, reason in skipped[:10])
    more = f"\n  ... and {len(skipped) - 10} more" if len(skipped) > 10 else ""
    warn(f"left out {images(len(skipped))} that cannot be read{where}:{shown}{more}")


def tell_residuals(residual: Tensor | None, sampling: Sampling) -> None:
    """Warn of images whose exact inversion did not reach its tolerance."""
    if residual is None:
        return
    worse = residual[residual > sampling.tolerance]
    if len(worse):
        what = f"inversion of {len(worse)} of {images(len(residual))} stopped at a residual of up to {worse.max():.2g}"
        warn(f"{what}, above {sampling.tolerance:g}: their x_T is the best one found; more --steps bring it closer")


def make_folder(path: Path) -> None:
    """Make a folder, with those above it, where it is not there yet.

    Raises:
        DataError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror}; choose another --out") from error


def cache_folder() -> Path:
    """Where decoded images are kept when no --cache is given."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "diffae" / "packs"


def training_pack(model: DiffusionAutoencoder, images: Path | None) -> Pack:
    """The images that a run was trained on, as config.json tells, or others, made into what its model takes.

    Raises:
        ConfigError: config.json does not tell.
        DataError: the images are not there any more, or cannot be used.
    """
    from diffae import checkpoint
    from diffae.data.build import build_pack
    from diffae.data.sources.streams import is_there

    folder = model.folder
    noted = checkpoint.read_config(folder).get("data", {}) if folder and images is None else {}
    source = images or Path(noted.get("source", ""))
    if images is None and not ("key" in noted and is_there(source)):
        told = f"were {str(source)!r}, which is not there" if "source" in noted else "are not named in config.json"
        raise ConfigError(f"no images are given, and those that {folder} was trained on {told}; name some by --images")
    channels, size, _ = model.image_shape
    cut = model.config.input
    settings = {"crop": cut.crop, "background": cut.background, "window": cut.window}
    pack = build_pack(source, cache_folder(), size=size, channels=channels, **settings, progress=True)
    if noted and noted["key"] != pack.index["key"]:
        warn(f"{source} has changed since the run was trained: the images there are now are used")
    return pack


def images_seen(folder: Path) -> int:
    """Images that a run has been trained on, by the state it saved; 0 where there is none.

    Raises:
        CheckpointError: the state is damaged.
    """
    from safetensors import SafetensorError, safe_open

    from diffae import checkpoint

    path = folder / "training" / "state.safetensors"
    if not path.is_file():
        return 0
    training = checkpoint.read_config(folder)["training"]
    try:
        with safe_open(path, "np") as file:
            steps = int(file.metadata()["step"])
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): start again with --overwrite") from error
    return min(steps * training["batch_size"], training["images"])


def last_validation(folder: Path) -> dict[str, float]:
    """The figures of a run's last validation; empty before the first."""
    path = folder / "metrics.jsonl"
    figures = {}
    for line in path.read_text().splitlines() if path.is_file() else []:
        with suppress(ValueError):  # a line cut short by a crash
            entry = json.loads(line)
            figures = entry if "val_loss" in entry else figures
    return figures


def describe_validation(figures: dict[str, float]) -> str:
    """The figures of a validation in words."""
    text = f"loss {figures['val_loss']:.4f}"
    if "val_loss_shuffled" in figures:
        gap = figures["val_loss_shuffled"] / figures["val_loss"] - 1
        text += f" with the right z_sem, {figures['val_loss_shuffled']:.4f} with another image's ({gap:+.1%})"
    if "val_mse_semantic" in figures:
        text += f"; MSE of decoding z_sem alone {figures['val_mse_semantic']:.4f}"
    return text
