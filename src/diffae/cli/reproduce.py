"""`diffae reproduce`: from a folder of images to the paper's tables and figures, in one command."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from diffae.cli import common
from diffae.cli.evaluate import Evaluate, tell_end
from diffae.cli.options import by_preset, optional
from diffae.cli.prior import TrainPrior
from diffae.cli.terminal import note, print_table
from diffae.cli.train import Preset, Train
from diffae.config import ModelConfig
from diffae.data.cache import cache_folder
from diffae.errors import CheckpointError, DataError
from diffae.evaluation.protocol import Protocol
from diffae.presets import Recipe, presets, prior_presets
from diffae.training.settings import TrainingConfig

if TYPE_CHECKING:
    from diffae.data.labels import LabelTable
    from diffae.evaluation.costs import Scale, Speeds
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.results import Outcome
    from diffae.evaluation.study import Lengths, Study

PLAN = "plan.json"
_MOST_UNSEEN = 2_000  # images held out where no labels say which
_PATIENCE = (0.5, 4.0)  # the least and the most that tasks may have taken of what was estimated, to go by it


@dataclass(frozen=True)
class Reproduce:
    """Train everything the paper compares, and write its tables and figures for your images.

    Autoencoder, DDIM baseline, latent prior, autoencoders to compare with, and the whole report. The same command
    continues what was interrupted.
    """

    photos: Annotated[Path, Positional, arg(metavar="PHOTOS")]
    """Images, as for `diffae train`."""
    out: Path
    """Folder for the runs (model, ddim) and the report."""
    labels: Annotated[Path | None, optional] = None
    """CSV with a column of 0 and 1 for each attribute, and perhaps a column "split" of train and test. Without it, one
    image in ten is held out, but at most 2,000."""
    preset: Preset = "small32"
    """Named settings of the networks."""
    recipe: Recipe = "default"
    """Training recipe, as for `diffae train`."""
    budget: Annotated[str | None, optional] = None
    """Time for everything, for instance 2h or 90min: lengths and counts are chosen to fit. Without it, training is as
    long as the preset says, and counts are the full ones."""
    image_size: Annotated[int | None, by_preset] = None
    """Height and width of the square images in pixels."""
    channels: Annotated[int | None, by_preset] = None
    """1 for grey, 3 for colour."""
    attributes: Annotated[tuple[str, ...], optional] = ()
    """As for `diffae evaluate`, like the next four."""
    features: Annotated[str | None, optional] = None
    """Network for distances between sets of images."""
    perceptual: Annotated[str | None, optional] = None
    """Network for the distance between two images."""
    identity: Annotated[str | None, optional] = None
    """Network that compares faces."""
    protocol: Protocol = "default"
    """Whose choices to follow where the paper's differ."""
    seed: int = 0
    """Seed of every random number."""
    cache: Annotated[Path | None, arg(help_behavior_hint="(default: ~/.cache/diffae/packs)")] = None
    """Folder for the decoded images."""

    def run(self) -> int:
        """Plan, train and evaluate; 130 or 143 when interrupted."""
        from diffae.data.locks import in_use
        from diffae.evaluation.study import seconds_in

        budget = seconds_in(self.budget) if self.budget else None
        if self.out.exists() and not self.out.is_dir():
            raise DataError(f"cannot write {self.out}: it is a file; choose another --out, for a folder")
        common.make_folder(self.out)
        with in_use(self.out):
            return _Carried(self, budget).run()

    def settings(self) -> tuple[ModelConfig, TrainingConfig]:
        """Of the autoencoder."""
        model, training = presets(self.recipe)[self.preset]
        shape = {"image_size": self.image_size, "image_channels": self.channels}
        given = {name: value for name, value in shape.items() if value is not None}
        return replace(model, **given), replace(training, seed=self.seed)

    @property
    def packs(self) -> tuple[Path, Path]:
        """Of the training images, and of the unseen ones."""
        return self.out / "images" / "train.pack", self.out / "images" / "test.pack"

    def asked(self) -> dict[str, Any]:
        """What must stay the same when a reproduction is continued."""
        names = ("photos", "labels", "preset", "recipe", "image_size", "channels", "protocol", "seed")
        return {name: None if (value := getattr(self, name)) is None else str(value) for name in names}

    def training(self, images: int, photos: Path, *, encoder: bool) -> Train:
        """The command that trains the autoencoder, or the DDIM baseline."""
        return Train(
            photos,
            self.out / ("model" if encoder else "ddim"),
            preset=self.preset,
            recipe=self.recipe,
            image_size=self.image_size,
            channels=self.channels,
            no_encoder=not encoder,
            images=images,
            seed=self.seed,
            cache=self.cache,
            resume=True,
        )

    def training_of_prior(self, codes: int, photos: Path) -> TrainPrior:
        """The command that trains the latent prior."""
        return TrainPrior(str(self.out / "model"), photos, codes=codes, seed=self.seed, resume=True)

    def evaluation(self, train: Path, test: Path) -> Evaluate:
        """The command that evaluates."""
        return Evaluate(
            str(self.out / "model"), (), self.out / "report", images=train, unseen=test, labels=self.labels,
            attributes=self.attributes, features=self.features, perceptual=self.perceptual, identity=self.identity,
            ddim=str(self.out / "ddim"), protocol=self.protocol, seed=self.seed,
        )  # fmt: skip


@dataclass
class _Record:
    """plan.json: what was decided, so that a continued reproduction decides the same."""

    asked: dict[str, Any]
    images: int
    codes: int
    speeds: dict[str, float]
    spent: float = 0.0
    """Seconds, up to the end of the last stage."""
    done: list[str] = field(default_factory=list)
    """Stages of training that are finished."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of the tasks that were begun; see `diffae.evaluation.study.Study`."""


@dataclass(frozen=True, eq=False)
class _Carried:
    """A reproduction that is being carried out."""

    command: Reproduce
    budget: float | None
    begun: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Every stage in turn; the exit code of the first that does not succeed."""
        command, (train, test) = self.command, self._packs()
        record = self._record()
        lengths = _lengths(record)
        stages: tuple[tuple[str, Callable[[], int]], ...] = (
            ("autoencoder", command.training(lengths.images, train, encoder=True).run),
            ("DDIM baseline", command.training(lengths.images, train, encoder=False).run),
            ("latent prior", command.training_of_prior(lengths.codes, train).run),
        )
        for name, carry_out in stages:
            if name in record.done:
                continue
            note(f"{name} ...")
            if code := carry_out():
                return code
            record.done.append(name)
            self._spend(record)
        return self._evaluate(record, train, test)

    # ------------------------------------------------------------------ images

    def _packs(self) -> tuple[Path, Path]:
        """Packs of the training and of the unseen images."""
        from diffae.data.build import build_pack
        from diffae.evaluation.material import divided

        command, paths = self.command, self.command.packs
        if not all(path.exists() for path in paths):
            model, _ = command.settings()
            size, channels = model.image_size, model.image_channels
            cache = command.cache or cache_folder()
            pack = build_pack(command.photos, cache, size=size, channels=channels, at_least=20, progress=True)
            common.warn_skipped(pack.skipped)
            for images, path in zip(divided(pack, self._labels, _MOST_UNSEEN), paths, strict=True):
                images.to_pack(path)
        return paths

    @cached_property
    def _labels(self) -> LabelTable | None:
        from diffae.data.labels import LabelTable

        return LabelTable.read(self.command.labels) if self.command.labels else None

    def _scale(self) -> Scale:
        from diffae.data.pack import Pack
        from diffae.evaluation.costs import Scale

        table = self._labels
        binary = sum(kind == "binary" for kind in table.kinds.values()) if table else 0
        train, test = (len(Pack.open(path)) for path in self.command.packs)
        return Scale(train, test, binary, self.command.settings()[0].diffusion.levels)

    # ------------------------------------------------------------------ the plan

    def _record(self) -> _Record:
        """The plan of an earlier call, or a new one, which is told."""
        path, asked = self.command.out / PLAN, self.command.asked()
        if path.is_file():
            record = _read(path)
            for name, value in asked.items():
                if record.asked.get(name) != value:
                    was = f"was begun with {name} = {record.asked.get(name)}, not {value}"
                    raise CheckpointError(f"{self.command.out} {was}: choose another --out")
            note(f"continuing: {record.spent / 60:.0f} min of work are recorded in {path}")
            return record
        study, speeds = self._planned()
        self._tell(study)
        record = _Record(asked, study.lengths.images, study.lengths.codes, asdict(speeds))
        self._write(record)
        return record

    def _planned(self) -> tuple[Study, Speeds]:
        from diffae.evaluation import study
        from diffae.evaluation.costs import measure_speeds

        (model, training), prior = self.command.settings(), prior_presets()[self.command.preset]
        most = study.Lengths(training.images, prior[1].images)
        note("measuring the speed of this machine ...")
        speeds = measure_speeds(model, training, prior, self._features)
        if self.budget is None:
            return study.unlimited(most, self.command.protocol), speeds
        return study.plan(most, self._scale(), speeds, self._left(0.0), self.command.protocol), speeds

    @cached_property
    def _features(self) -> FeatureNetwork | None:
        from diffae.evaluation.features import FeatureNetwork

        return FeatureNetwork.open(self.command.features) if self.command.features else None

    def _tell(self, study: Study) -> None:
        from diffae.evaluation.results import listed
        from diffae.evaluation.study import about_length, in_words, outlook
        from diffae.evaluation.task import described
        from diffae.evaluation.tasks import TASK_NAMES

        counts, lengths = study.counts, study.lengths
        if study.seconds is not None and self.budget is not None:
            note(f"planned: {in_words(study.seconds)} of {in_words(self.budget)}")
        note(f"autoencoder and DDIM baseline: {lengths.images:,} images seen each; prior: {lengths.codes:,} codes")
        note(f"counts: {described(counts)}")
        if left_out := [name for name in TASK_NAMES if name not in counts]:
            note(f"left out, if this machine does not turn out to be faster: {listed(left_out)}")
        note(about_length(lengths))
        rows = outlook(study, self._scale(), features=self._features is not None)
        print_table(("", "claim", "can be decided?"), [(str(n), said, what) for n, said, what in rows], left=3)

    def _left(self, spent: float) -> float:
        """Seconds of the budget that are left."""
        assert self.budget is not None
        return self.budget - spent - (time.monotonic() - self.begun)

    def _spend(self, record: _Record) -> None:
        """Note the time since the last stage."""
        now = time.monotonic()
        record.spent += now - self.begun
        object.__setattr__(self, "begun", now)
        self._write(record)

    def _write(self, record: _Record) -> None:
        from diffae.checkpoint import written_beside

        with written_beside(self.command.out / PLAN) as temporary:
            temporary.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")

    # ------------------------------------------------------------------ evaluation

    def _evaluate(self, record: _Record, train: Path, test: Path) -> int:
        from diffae.cli import FAILED
        from diffae.evaluation.study import counts_at
        from diffae.evaluation.tasks import built_in

        tasks, lengths, protocol = built_in(), _lengths(record), self.command.protocol
        evaluation = self.command.evaluation(train, test).open(counts_at(1.0, lengths, protocol))
        outcomes: dict[str, Outcome] = {}
        left_out = {}
        for name, task in tasks.items():
            share = self._share(name, record, outcomes)
            if share is None:
                left_out[name] = "the budget is spent; give more by --budget"
                continue
            record.shares[name] = share
            self._write(record)
            counts = {other: counts_at(record.shares.get(other, share), lengths, protocol)[other] for other in tasks}
            outcomes = evaluation.run([task], counts)
            self._spend(record)
            if reason := outcomes[name].skipped:
                left_out[name] = reason
        tell_end(self.command.out / "report", outcomes, left_out)
        return FAILED if left_out else 0

    def _share(self, name: str, record: _Record, outcomes: dict[str, Outcome]) -> float | None:
        """How far to raise the counts of a task, so that those after it can be carried out, too; None if there is no
        time left for it."""
        from diffae.evaluation.costs import Speeds, seconds_of
        from diffae.evaluation.study import affordable, counts_at, share_within
        from diffae.evaluation.task import BaselineCounts
        from diffae.evaluation.tasks import TASK_NAMES

        if self.budget is None or name in record.shares:
            return record.shares.get(name, 1.0)
        scale, speeds, lengths = self._scale(), Speeds(**record.speeds), _lengths(record)
        protocol, done = self.command.protocol, [one for one in record.shares if one in outcomes]
        counted = {one: counts_at(record.shares[one], lengths, protocol)[one] for one in done}
        estimated = sum(seconds_of(counted, scale, speeds).values())
        scale = replace(scale, baselines=any(isinstance(own, BaselineCounts) for own in counted.values()))
        taken = sum(outcomes[one].seconds for one in done)
        slower = min(max(taken / estimated, _PATIENCE[0]), _PATIENCE[1]) if estimated else 1.0
        left, coming = self._left(record.spent) / slower, list(TASK_NAMES[TASK_NAMES.index(name) :])
        fitting = affordable(left, coming, lengths, scale, speeds, protocol)
        return share_within(left, fitting, lengths, scale, speeds, protocol) if name in fitting else None


def _lengths(record: _Record) -> Lengths:
    from diffae.evaluation.study import Lengths

    return Lengths(record.images, record.codes)


def _read(path: Path) -> _Record:
    try:
        return _Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): choose another --out") from error
