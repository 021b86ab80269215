"""What the commands share: sampling options, models and images from the command line, and how results are said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.config import Grid, Inversion, Sampling
from diffae.errors import CheckpointError, ConfigError, DataError

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Generator, Tensor

    from diffae.autoencoder import DiffusionAutoencoder
    from diffae.images import ImageSpec

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
    """How x_T is found: "exact" inverts the decoder, "explicit" is textbook reverse DDIM, "official" the published."""
    grid: Grid = Sampling.grid
    """Where the levels lie: "trailing" ends at T, "leading" starts at 1."""
    official: bool = False
    """As published: leading grid, official inversion, clipped x_0."""

    def sampling(self) -> Sampling:
        """The settings these options mean.

        Raises:
            ConfigError: a value its rule forbids, or --official with options that it decides itself.
        """
        if not self.official:
            return Sampling(self.steps, self.grid, self.inversion)
        official = Sampling.official(self.steps)
        for name in ("inversion", "grid"):
            if getattr(self, name) not in (getattr(Sampling, name), getattr(official, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}: --official sets its own; drop one of the two")
        return official


def open_model(run: str) -> DiffusionAutoencoder:
    """The model of a run folder or Hub id, on the best device."""
    from diffae.autoencoder import DiffusionAutoencoder

    return DiffusionAutoencoder.from_pretrained(run)


def image_spec(run: str, model: DiffusionAutoencoder) -> ImageSpec:
    """What images are made into for this model: its size and channels, with the crop and background of its training."""
    from diffae import checkpoint
    from diffae.images import WHITE, ImageSpec

    channels, size, _ = model.image_shape
    data = checkpoint.read_config(Path(run)).get("data", {}) if Path(run).is_dir() else {}
    crop = data.get("crop")
    return ImageSpec(
        channels, size, tuple(crop) if isinstance(crop, list) else crop, tuple(data.get("background", WHITE))
    )


def read_image(path: Path, spec: ImageSpec) -> Tensor:
    """One image file as (1, c, size, size) in [-1, 1].

    An image too small for the crop of the training data that has the model's size already is taken as it is.
    """
    from diffae.images import load_image, to_tensor

    def load(crop: Any) -> Any:
        return load_image(path, spec.channels, spec.size, crop=crop, background=spec.background)

    try:
        return to_tensor(load(spec.crop))
    except DataError:
        if spec.crop is None or load_image(path, spec.channels).shape[:2] != (spec.size, spec.size):
            raise
        return to_tensor(load(None))


def read_images(paths: Sequence[Path], spec: ImageSpec) -> Tensor:
    """Image files as a batch in [-1, 1]; any that cannot be read is an error.

    Raises:
        DataError: an image that cannot be used, or none.
    """
    import torch

    if not paths:
        raise DataError("no images given, at least one is needed; name image files after the run folder")
    return torch.cat([read_image(path, spec) for path in paths])


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
    taken: dict[str, int] = {}
    chosen = []
    for path, stem in zip(safe, stems, strict=True):
        name = stem if stems.count(stem) == 1 else path.as_posix()
        taken[name] = taken.get(name, 0) + 1
        chosen.append(PurePosixPath(name + (f"-{taken[name]}" if taken[name] > 1 else "") + suffix))
    return chosen


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


def check_space(path: Path, needed: int) -> None:
    """Raise `DataError` unless the disk that `path` is to be on has room for so many bytes."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if needed > free:
        have = f"{folder} has {free / 1e9:.2f} GB free of the {needed / 1e9:.2f} GB needed"
        raise DataError(f"cannot write {path}: {have}; free some space or choose another disk")


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
