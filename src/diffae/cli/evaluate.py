"""`diffae evaluate`: the paper's tables and figures for a trained model, as a report."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli.common import RunArgument, error_console, make_folder, open_model, progress, say, training_pack, warn
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.evaluation.tasks import TASK_NAMES

if TYPE_CHECKING:
    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.evaluation.baselines import Baseline
    from diffae.evaluation.context import EvaluationContext
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.material import Images
    from diffae.evaluation.results import Outcome
    from diffae.model import DiffusionAutoencoder
    from diffae.training.settings import TrainingConfig


@dataclass(frozen=True)
class Evaluate:
    """Measure a model as the paper does: tables, figures, verdicts and a report in one HTML file.

    What an earlier evaluation into the same folder found, of the same model and images, is not computed again.
    """

    model: RunArgument
    tasks: Annotated[
        tuple[str, ...], Positional, arg(metavar="[TASK ...]", help=f"All, or some of: {', '.join(TASK_NAMES)}.")
    ]
    out: Path
    """Folder for index.html, results.json, CSVs and PNGs."""
    quick: bool = False
    """Small counts: minutes instead of hours, with wide intervals. Every table says so."""
    counts: tuple[str, ...] = ()
    """How much is measured, where it should be another number: NAME=NUMBER, for instance detected=500; the names and
    their meaning are in docs/evaluation.md."""
    images: Path | None = None
    """The images of training; by default those that config.json names, or for drawn faces, drawn again."""
    unseen: Path | None = None
    """Images to test on; by default those of --images whose label "split" is "test", or that training held out."""
    labels: Path | None = None
    """CSV with a column of 0 and 1 for each attribute."""
    features: str | None = None
    """Network for distances between sets of images: an ONNX or TorchScript file, or inception (FID)."""
    perceptual: str | None = None
    """Network for the distance of one image from another: a file, or lpips-alex, lpips-vgg, lpips-squeeze; by default
    that of --features, where it gives one."""
    identity: str | None = None
    """Network that tells faces: a file, or arcface."""
    ddim: str | None = None
    """Run trained with --no-encoder: the paper's DDIM baseline."""
    capacity: tuple[str, ...] = ()
    """Runs with z_sem of other sizes; by default such are trained."""
    autoencoder: tuple[Path, ...] = ()
    """Other autoencoders to compare with: diffusers folders, AutoencoderKL or VQModel."""
    foreign: Path | None = None
    """Images of another kind, for out-of-distribution."""
    seed: int = 0
    """Of every random number."""
    keep_going: bool = False
    """Exit with 0 also where a task was left out because something it needs is missing."""

    def run(self) -> int:
        """Measure, write the report; 2 where a task was left out, unless --keep-going."""
        from diffae.cli import FAILED
        from diffae.evaluation.report import PAGE, Heading, write_page
        from diffae.evaluation.runner import evaluate
        from diffae.evaluation.task import counts_of
        from diffae.evaluation.tasks import built_in

        self._check()
        make_folder(self.out)
        counts = counts_of(built_in().values(), quick=self.quick, changes=self.counts)
        context, facts = self._context(counts)
        tasks = [task for name, task in built_in().items() if name in self.tasks or not self.tasks]
        about = {"command": " ".join(["diffae", *map(shlex.quote, sys.argv[1:])]), "quick": self.quick, **dict(facts)}
        console = error_console()
        lead = f"{dict(facts)['network']}; measured on {len(context.test):,} unseen images."
        shown = [*facts, ("command", f"`{about['command']}`")]

        def write(found: Mapping[str, Outcome]) -> None:
            write_page(self.out, Heading(f"Evaluation of {self.model}", lead, shown, self.quick), found)

        def log(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        outcomes = evaluate(context, tasks, counts=counts, about=about, log=log, on_write=write)
        left_out = {task.name: outcomes[task.name].skipped for task in tasks if outcomes[task.name].skipped}
        _tell(outcomes, left_out)
        say(f"The report is in {self.out / PAGE}: open it in a browser.")
        return FAILED if left_out and not self.keep_going else 0

    def _check(self) -> None:
        unknown = [name for name in self.tasks if name not in TASK_NAMES]
        if unknown:
            import difflib

            near = difflib.get_close_matches(unknown[0], TASK_NAMES, 1, 0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(TASK_NAMES)}"
            raise ConfigError(f"task {unknown[0]!r} does not exist; {remedy}")
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"cannot write {self.out}: it is a file; choose another --out, for a folder")

    def _context(self, counts: Mapping[str, Any]) -> tuple[EvaluationContext, list[tuple[str, str]]]:
        """What the tasks work on, and the facts about it for the report."""
        from diffae.evaluation.context import EvaluationContext
        from diffae.evaluation.task import described
        from diffae.evaluation.tasks.throughput import machine

        model = open_model(self.model)
        if not model.config.has_encoder:
            raise ConfigError(f"{self.model} has no encoder (z_sem_channels is 0): name it by --ddim, beside a model")
        features, perceptual, identity = self._networks(model)
        train, test, chosen = self._images(model, counts)
        ddim = self._ddim(model)
        context = EvaluationContext(
            model, train, test, self.out, self.model, progress,
            features=features,
            perceptual=perceptual,
            identity=identity,
            trained=_training(model),
            ddim=ddim,
            others=self._others(),
            capacity=tuple((name, open_model(name)) for name in self.capacity),
            out_of_distribution=training_pack(model, self.foreign) if self.foreign else None,
            seed=self.seed,
        )  # fmt: skip
        facts = [
            ("model", f"{self.model}, fingerprint {model.fingerprint()}"),
            ("network", _network_facts(model)),
            ("images of training", _told(train)),
            ("unseen images", f"{_told(test)}, {chosen}"),
            ("binary labels", ", ".join(test.labels) or "none"),
            ("feature network", features.name if features else "none"),
            ("perceptual distance", perceptual.distance_name if perceptual else "none"),
            ("identity network", identity.name if identity else "none"),
            ("DDIM baseline", f"{self.ddim}: {_network_facts(ddim)}" if ddim else "none"),
            ("seed", str(self.seed)),
            ("machine", machine()),
            ("counts", described(counts)),
        ]
        return context, facts

    def _images(self, model: DiffusionAutoencoder, counts: Mapping[str, Any]) -> tuple[Images, Images, str]:
        """Images of training, unseen ones, and how these were chosen."""
        from diffae.data.labels import LabelTable
        from diffae.evaluation.material import drawn, drawn_source, given
        from diffae.evaluation.task import images_needed

        noted = _config(model).get("data", {}).get("source", "")
        source = drawn_source(noted)
        if source and not (self.images or self.unseen or self.labels):
            size = model.image_shape[1]
            with progress("drawing faces", 1, "sets") as done:
                needed = images_needed(counts, "train"), images_needed(counts, "test")
                found = drawn(self.out / "work", size, source, *needed)
                done(1)
            return *found, "drawn with another seed"
        labels = LabelTable.read(self.labels) if self.labels else None
        pack = training_pack(model, self.images)
        unseen = training_pack(model, self.unseen) if self.unseen else None
        return *given(pack, unseen, labels, _training(model)), self._chosen(model, pack, labels)

    def _chosen(self, model: DiffusionAutoencoder, pack: Pack, labels: LabelTable | None) -> str:
        """Which images count as unseen, and how far that is known."""
        if self.unseen:
            return "given, none of them among the images of training"
        if labels and "split" in labels.columns:
            return "those of the split “test”"
        noted = _config(model).get("data", {}).get("key")
        if noted and noted == pack.index["key"]:
            return "held out in training"
        warn("these are not the images that config.json names: some that count as unseen may have been trained on")
        return "held out by their names, of images that config.json does not name: some may have been trained on"

    def _networks(self, model: DiffusionAutoencoder) -> tuple[FeatureNetwork | None, ...]:
        """Those of distances between sets, of distances between images, and of identity."""
        features = _network(model, self.features)
        size = model.image_shape[-1]
        gives = features.gives(size) if features else frozenset()
        if features and "vectors" not in gives:
            raise DataError(f"{features.name} gives no feature vectors: name it by --perceptual, another by --features")
        perceptual = _network(model, self.perceptual) or (features if "distance" in gives else None)
        if perceptual and "distance" not in perceptual.gives(size):
            raise DataError(f"{perceptual.name} gives no feature maps to compare: name another network by --perceptual")
        identity = _network(model, self.identity)
        if identity and "vectors" not in identity.gives(size):
            raise DataError(f"{identity.name} gives no feature vectors: name another network by --identity")
        teacher = _config(model).get("data", {}).get("teacher_key")
        for name in {
            network.name for network in (features, perceptual, identity) if network and network.key == teacher
        }:
            warn(f"{name} taught this model, so its numbers flatter it: name another network")
        return features, perceptual, identity

    def _others(self) -> tuple[Baseline, ...]:
        from diffae.evaluation.baselines import open_diffusers

        found = tuple(open_diffusers(folder) for folder in self.autoencoder)
        names = [other.name for other in found]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ConfigError(f"two autoencoders are in folders called {twice!r}: rename one, tables name them so")
        return found

    def _ddim(self, model: DiffusionAutoencoder) -> DiffusionAutoencoder | None:
        if self.ddim is None:
            return None
        ddim = open_model(self.ddim)
        if ddim.config.has_encoder:
            raise DataError(f"baseline {self.ddim} has an encoder: --ddim takes a run trained with --no-encoder")
        if ddim.image_shape != model.image_shape:
            made = f"is for images of shape {ddim.image_shape}, the model's are {model.image_shape}"
            raise DataError(f"baseline {self.ddim} {made}: train one for the same images")
        return ddim


def _network(model: DiffusionAutoencoder, source: str | None) -> FeatureNetwork | None:
    """A feature network, if one is named, that can see the model's images."""
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.known_features import check_channels

    if source is None:
        return None
    check_channels(model.image_shape)
    return FeatureNetwork.open(source)


def _told(images: Images) -> str:
    source = images.pack.index["source"]  # a name of what the user gave, where the pack was made of that
    return f"{len(images):,} of {images.pack.path.name if source == 'arrays' else source}"


def _network_facts(model: DiffusionAutoencoder) -> str:
    network = model.config
    million = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    seen = _config(model).get("training", {}).get("images")
    trained = f", trained on {seen:,} images seen" if seen else ""
    size = f"{network.image_size} × {network.image_size} pixels"
    return f"{size}, z_sem of {network.z_sem_channels} numbers, {million:.2f} million parameters{trained}"


def _config(model: DiffusionAutoencoder) -> Mapping[str, Any]:
    from diffae import checkpoint

    return checkpoint.read_config(model.folder) if model.folder else {}


def _training(model: DiffusionAutoencoder) -> TrainingConfig:
    """How the model was trained: it says which images were held out."""
    from diffae.config import from_dict
    from diffae.training.settings import TrainingConfig

    try:
        return from_dict(TrainingConfig, _config(model).get("training", {}))
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{model.folder}: {error}") from error


def _tell(outcomes: Mapping[str, Outcome], left_out: Mapping[str, str | None]) -> None:
    """The verdicts, and what was left out and why."""
    from rich.console import Console
    from rich.table import Table

    from diffae.evaluation.report import CLAIM_HEADER, claim_rows

    shown = Table(*CLAIM_HEADER[:-1])
    for row in claim_rows(outcomes):
        shown.add_row(*row[:-1])
    Console().print(shown)
    for name, reason in left_out.items():
        warn(f"{name} was left out: {reason}")
