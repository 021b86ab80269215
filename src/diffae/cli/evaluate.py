"""`diffae evaluate`: the paper's tables and figures for a trained model, as a report."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli import common, models
from diffae.cli.compared import Networks, open_autoencoders, open_networks
from diffae.cli.options import RunArgument, optional
from diffae.cli.terminal import note, print_table, say, warn
from diffae.console import progress
from diffae.data.cache import cache_folder
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.evaluation.protocol import ABOUT, Protocol
from diffae.evaluation.tasks import TASK_NAMES
from diffae.workers import lead

if TYPE_CHECKING:
    from diffae.config import Sampling
    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.evaluation.context import EvaluationContext
    from diffae.evaluation.material import Images
    from diffae.evaluation.results import Outcome
    from diffae.evaluation.task import Task
    from diffae.model import DiffusionAutoencoder
    from diffae.training.settings import TrainingConfig


@dataclass(frozen=True)
class Evaluate:
    """Evaluate a model as in the paper, and write a report.

    Tables, figures and verdicts in one HTML file. Results of an earlier evaluation of the same model and images into
    the same folder are reused.
    """

    model: RunArgument
    tasks: Annotated[
        tuple[str, ...], Positional, arg(metavar="[TASK ...]", help=f"All, or some of: {', '.join(TASK_NAMES)}.")
    ]
    out: Path
    """Folder for index.html, results.json, CSVs and PNGs."""
    quick: bool = False
    """Small counts: minutes instead of hours, with wide intervals. Every table says so."""
    counts: Annotated[tuple[str, ...], optional] = ()
    """Other numbers of what is measured: NAME=NUMBER, for instance detected=500 (see docs/evaluation.md)."""
    images: Annotated[Path | None, optional] = None
    """Training images; by default those that config.json names, or for drawn faces, drawn again."""
    unseen: Annotated[Path | None, optional] = None
    """Test images; by default those of --images whose label "split" is "test", or that training held out."""
    labels: Annotated[Path | None, optional] = None
    """CSV with a column of 0 and 1 for each attribute."""
    attributes: Annotated[tuple[str, ...], optional] = ()
    """Attributes to edit, and to sample with and without, for instance Male,Blond_Hair; by default the first ones."""
    features: Annotated[str | None, optional] = None
    """Network for distances between sets of images: an ONNX or TorchScript file, or inception (FID)."""
    perceptual: Annotated[str | None, optional] = None
    """Network for the distance between two images: a file, or lpips-alex, lpips-vgg, lpips-squeeze; by default that of
    --features, if it can measure one."""
    identity: Annotated[str | None, optional] = None
    """Network that compares faces: a file, or arcface."""
    backbone: Annotated[str | None, optional] = None
    """ImageNet-pretrained network of the task detection: a file whose features a linear layer classifies, or
    timm:resnet50, which is trained further."""
    ddim: Annotated[str | None, optional] = None
    """Run trained with --no-encoder: the paper's DDIM baseline."""
    capacity: Annotated[tuple[str, ...], optional] = ()
    """Runs with other sizes of z_sem; by default such are trained."""
    autoencoder: Annotated[tuple[Path, ...], optional] = ()
    """Further autoencoders to compare with: diffusers folders, AutoencoderKL or VQModel."""
    samples: Annotated[tuple[str, ...], optional] = ()
    """NAME=DIR: new images of another system, to compare with."""
    edits: Annotated[tuple[str, ...], optional] = ()
    """NAME=DIR: unseen images edited by another system, in a folder for each attribute, under their own names."""
    reconstructions: Annotated[tuple[str, ...], optional] = ()
    """NAME=DIR: unseen images reconstructed by another system, under their own names."""
    out_of_distribution: Annotated[Path | None, optional] = None
    """Images of another kind, for the task out-of-distribution."""
    protocol: Protocol = "default"
    """Whose choices to follow where the paper's differ from what is recommended here: sampler, inversion, T of the
    prior, real images, direction of edits, classifiers, counts (see docs/evaluation.md). Every table says which."""
    seed: int = 0
    """Seed of every random number."""
    keep_going: bool = False
    """Exit with 0 even if a task was left out because something it needs is missing."""

    def run(self) -> int:
        """Evaluate and write the report; 2 if a task was left out, unless --keep-going."""
        self._check()
        networks = open_networks(self)
        return lead(lambda: self._evaluate(networks), *networks.all()) or 0

    def _evaluate(self, networks: Networks) -> int:
        from diffae.cli import FAILED
        from diffae.data.locks import in_use
        from diffae.evaluation.task import counts_of
        from diffae.evaluation.tasks import built_in

        tasks = [task for name, task in built_in().items() if name in self.tasks or not self.tasks]
        counts = counts_of(built_in().values(), quick=self.quick, changes=self.counts, protocol=self.protocol)
        common.make_folder(self.out)
        with in_use(self.out):
            outcomes = self.open(counts, networks).run(tasks, counts)
        left_out = {task.name: reason for task in tasks if (reason := outcomes[task.name].skipped)}
        tell_end(self.out, outcomes, left_out)
        return FAILED if left_out and not self.keep_going else 0

    def open(self, counts: Mapping[str, Any], networks: Networks | None = None) -> Evaluation:
        """The evaluation, with everything that tasks with these counts work on; by default networks are opened."""
        context, facts = self._context(counts, networks or open_networks(self))
        return Evaluation(context, facts, f"Evaluation of {self.model}", self.quick)

    def _check(self) -> None:
        unknown = [name for name in self.tasks if name not in TASK_NAMES]
        if unknown:
            near = difflib.get_close_matches(unknown[0], TASK_NAMES, 1, 0.5)
            remedy = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(TASK_NAMES)}"
            raise ConfigError(f"task {unknown[0]!r} does not exist; {remedy}")
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"cannot write {self.out}: it is a file; choose another --out, for a folder")

    def _context(self, counts: Mapping[str, Any], networks: Networks) -> tuple[EvaluationContext, dict[str, str]]:
        """What the tasks work on, and facts about it for the report."""
        from diffae.evaluation.context import EvaluationContext
        from diffae.evaluation.detectors import Backbone
        from diffae.evaluation.material import check_attributes
        from diffae.evaluation.other_systems import open_systems

        model = networks.model
        train, test, chosen = self._images(model, counts)
        attributes = tuple(name for part in self.attributes for name in part.split(",") if name)
        check_attributes(attributes, train, test)
        context = EvaluationContext(
            model, train, test, self.out, self.model, progress,
            features=networks.features,
            perceptual=networks.perceptual,
            identity=networks.identity,
            backbone=Backbone.open(self.backbone) if self.backbone else None,
            trained=_training(model),
            ddim=networks.ddim,
            others=open_autoencoders(self.autoencoder),
            systems=open_systems(
                self.samples, self.edits, self.reconstructions, model.image_shape, cache_folder()
            ),
            capacity=networks.capacity,
            out_of_distribution=models.training_pack(model, others) if (others := self.out_of_distribution) else None,
            seed=self.seed,
            sampling=self._sampling(model),
            protocol=self.protocol,
            attributes=attributes,
        )  # fmt: skip
        return context, self._facts(context, chosen)

    def _facts(self, context: EvaluationContext, chosen: str) -> dict[str, str]:
        """What was measured on what, and how the unseen images were chosen, for the report."""
        from diffae.evaluation.tasks.throughput import machine

        model, ddim = context.model, context.ddim
        features, perceptual, identity = context.features, context.perceptual, context.identity
        return {
            "model": f"{self.model}, fingerprint {model.fingerprint()}",
            "network": _describe(model),
            "protocol": ABOUT[self.protocol].removeprefix("Protocol: ").removesuffix("."),
            "images of training": _counted(context.train),
            "unseen images": f"{_counted(context.test)}, {chosen}",
            "binary labels": ", ".join(context.test.labels) or "none",
            "attributes": ", ".join(context.attributes) or "the first ones",
            "feature network": features.name if features else "none",
            "perceptual distance": perceptual.distance_name if perceptual else "none",
            "identity network": identity.name if identity else "none",
            "backbone of the detector": context.backbone.name if context.backbone else "none",
            "DDIM baseline": f"{self.ddim}: {_describe(ddim)}" if ddim else "none",
            "seed": str(self.seed),
            "machine": machine(),
        }

    def _sampling(self, model: DiffusionAutoencoder) -> Sampling:
        """For encoding and decoding where a task does not vary it: T = 100, as published, by the paper's protocol."""
        from diffae.config import Sampling

        return Sampling.official(min(100, model.config.diffusion.levels)) if self.protocol == "paper" else Sampling()

    def _images(self, model: DiffusionAutoencoder, counts: Mapping[str, Any]) -> tuple[Images, Images, str]:
        """Training images, unseen ones, and how these were chosen."""
        from diffae.data.labels import LabelTable
        from diffae.evaluation.material import drawn, drawn_source, given
        from diffae.evaluation.task import images_needed

        needed = images_needed(counts, "train"), images_needed(counts, "test")
        source = drawn_source(models.settings_of(model).get("data", {}).get("source", ""))
        if source and not (self.images or self.unseen or self.labels):
            with common.drawing_faces(), progress("drawing faces", 1, "sets") as done:
                found = drawn(self.out / "work", model.image_shape[1], source, *needed)
                done(1)
            return *found, "drawn with another seed"
        labels = LabelTable.read(self.labels) if self.labels else None
        pack = models.training_pack(model, self.images)
        unseen = models.training_pack(model, self.unseen) if self.unseen else None
        trained_on = models.settings_of(model).get("data", {}).get("key")
        found = given(pack, unseen, labels, _training(model), trained_on)
        return *found, self._chosen(pack, labels, trained_on, len(found[1]))

    def _chosen(self, pack: Pack, labels: LabelTable | None, trained_on: str | None, count: int) -> str:
        """Which images, `count` of them, are taken for unseen, and how certain that is."""
        if self.unseen:
            return "given, none of them among the images of training"
        own = trained_on is not None and trained_on == pack.index["key"]
        if labels and "split" in labels.columns:
            table = labels.for_images(pack.names)
            tested = int((table.column("split") == table.classes["split"].index("test")).sum())
            if count < tested:
                what = f"{tested - count:,} of {tested:,} images of “test” were trained on"
                warn(f"label column 'split' contradicts training: {what}, and are left out")
            return "those of the split “test”" + (" that training held out" if own else "")
        if own:
            return "held out in training"
        warn("these are not the images that config.json names: some that count as unseen may have been trained on")
        return "held out by their names, of images that config.json does not name: some may have been trained on"


@dataclass(frozen=True)
class Evaluation:
    """What tasks work on, and what the report says about it."""

    context: EvaluationContext
    facts: dict[str, str]
    title: str
    quick: bool

    def run(self, tasks: Sequence[Task], counts: Mapping[str, Any]) -> dict[str, Outcome]:
        """Run tasks, and write the report after each; returns the outcomes of all that the report holds."""
        from diffae.evaluation.report import Heading, write_page
        from diffae.evaluation.runner import evaluate
        from diffae.evaluation.task import described

        facts = {**self.facts, "counts": described(counts)}
        about = {"command": shlex.join(["diffae", *sys.argv[1:]]), "quick": self.quick, **facts}
        lead = f"{facts['network']}; measured on {len(self.context.test):,} unseen images."
        heading = Heading(self.title, lead, [*facts.items(), ("command", f"`{about['command']}`")], self.quick)

        def write(found: Mapping[str, Outcome]) -> None:
            write_page(self.context.out, heading, found)

        return evaluate(self.context, tasks, counts=counts, about=about, log=note, on_write=write)


def _counted(images: Images) -> str:
    source = images.pack.index["source"]
    return f"{len(images):,} of {images.pack.path.name if source == 'arrays' else source}"


def _describe(model: DiffusionAutoencoder) -> str:
    seen, size = models.settings_of(model).get("training", {}).get("images"), model.image_shape[1]
    trained = f", trained on {seen:,} images seen" if seen else ""
    million = models.parameter_count(model) / 1e6
    numbers = model.config.z_sem_channels
    return f"{size} × {size} pixels, z_sem of {numbers} numbers, {million:.2f} million parameters{trained}"


def _training(model: DiffusionAutoencoder) -> TrainingConfig:
    """How the model was trained; it decides which images were held out."""
    from diffae.config import from_dict
    from diffae.training.settings import TrainingConfig

    try:
        return from_dict(TrainingConfig, models.settings_of(model).get("training", {}), trust_code=common.trust_code)
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"{model.folder}: {error}") from error


def tell_end(out: Path, outcomes: Mapping[str, Outcome], left_out: Mapping[str, str]) -> None:
    """Print a summary, the claims that were measured, what was left out, and where the report is."""
    from diffae.evaluation.report import CLAIM_HEADER, PAGE, measured_claims, summary_of

    measured, others = measured_claims(outcomes)
    say(*summary_of(outcomes))
    if measured:
        print_table(CLAIM_HEADER[:-1], [row[:-1] for row in measured], left=len(CLAIM_HEADER))
    if others:
        say(others)
    for name, reason in left_out.items():
        warn(f"{name} was left out: {reason}")
    say(f"The report is in {out / PAGE}: open it in a browser.")
