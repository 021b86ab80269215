"""What the studio serves: one run, its data set and its visitors."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from diffae.checkpoint import CONFIG, WEIGHTS
from diffae.config import Sampling
from diffae.errors import CheckpointError, ConfigError
from diffae.hub import locate
from diffae.latent.attributes import ATTRIBUTES, AttributeDirections
from diffae.model import DiffusionAutoencoder
from diffae.studio.attributes import joined
from diffae.studio.engine import Busy, Cancelled, Engine, Ticket
from diffae.studio.gallery import Gallery, NotReady, Opened
from diffae.studio.sessions import Session, Sessions
from diffae.studio.shared_model import Operations, SharedModel
from diffae.training.metrics import METRICS

DRAFT_STEPS = 6
"""Solver steps while a slider is dragged; the exact image follows when it rests."""
STUDENT_STEPS = 2
"""The same where the run has a student."""


@dataclass
class Studio:
    """One run, opened for visitors. Make one with `open_studio`."""

    folder: Path
    run: str
    """How commands name the run."""
    model: DiffusionAutoencoder | None
    """None while a run has no weights yet."""
    attributes: AttributeDirections | None
    gallery: Gallery
    may_save: bool
    """Whether visitors may write attributes into the run."""
    engine: Engine = field(default_factory=Engine)
    sessions: Sessions = field(default_factory=Sessions)
    exact: Sampling = field(default_factory=Sampling)
    draft: Sampling = field(default_factory=lambda: Sampling(steps=DRAFT_STEPS))
    operations: Operations | None = None

    @property
    def has_student(self) -> bool:
        """Whether a distilled model draws while a slider is dragged."""
        return self.draft.solver == "student"

    def require_model(self) -> DiffusionAutoencoder:
        """The model.

        Raises:
            NotReady: the run has no weights yet.
        """
        if self.model is None:
            raise NotReady(f"{self.run} has no weights yet: training saves the first soon; see the room Training")
        return self.model

    def shared(self, ticket: Ticket, images: int = 0) -> SharedModel:
        """The model for one request; see `SharedModel`."""
        self.require_model()
        assert self.operations is not None
        return SharedModel(self.engine, self.operations, ticket, images)

    def attributes_of(self, session: Session) -> AttributeDirections:
        """The run's attributes and the visitor's own.

        Raises:
            ConfigError: there are none.
        """
        known = [one for one in (self.attributes, session.attributes) if one is not None]
        if not known:
            raise ConfigError(f"there are no attributes yet: {self.hint('attributes')}")
        return known[0] if len(known) == 1 else joined(*known)

    def hint(self, what: str) -> str:
        """The command that makes what is missing."""
        run = shlex.quote(self.run)
        return {
            "attributes": f"learn some with `diffae attributes fit {run} --labels labels.csv`",
            "prior": f"make one with `diffae train-prior {run}`",
            "images": f"name some with `diffae studio {run} --images PHOTOS`",
            "metrics": f"`diffae train` writes {METRICS} into {run}",
        }[what]

    def missing(self) -> dict[str, str]:
        """For each room that cannot be entered the reason, and what helps."""
        found: dict[str, str] = {}
        if self.model is None:
            waiting = "This run has no weights yet. Training saves the first soon, and this page looks again by itself."
            found |= dict.fromkeys(("edit", "blend", "vary", "sample", "map", "directions"), waiting)
        elif not self.model.config.has_encoder:
            none = "This model has no encoder, so images have no z_sem. Train one without `--no-encoder`."
            found |= dict.fromkeys(("edit", "blend", "vary", "map", "directions"), none)
        elif self.model.prior is None:
            found["sample"] = f"This model has no prior to draw new z_sem from: {self.hint('prior')}."
        if self.gallery.problem:
            found |= {room: self.gallery.problem for room in ("map", "directions") if room not in found}
        if not (self.folder / METRICS).is_file():
            found["training"] = f"This folder has no record of a training: {self.hint('metrics')}."
        return found

    def start(self) -> None:
        """Open the data set, and make the networks ready, in the background."""
        if self.model is not None:
            self.gallery.start()
            threading.Thread(target=self._warm_up, name="warm-up", daemon=True).start()

    def _warm_up(self) -> None:
        """Encode and decode once: the first calls of the networks take longest."""
        shared = self.shared(Ticket("warm-up"))
        with suppress(Cancelled, Busy):
            code = shared.encode(torch.zeros(1, *shared.image_shape), self.exact)
            shared.decode(code, sampling=self.draft)

    def close(self) -> None:
        """Stop the work."""
        self.engine.close()

    def reload(self) -> None:
        """Read the model of a run that has saved its first weights since."""
        if self.model is None and (self.folder / WEIGHTS).is_file():
            self.adopt(DiffusionAutoencoder.from_pretrained(self.folder))
            self.start()

    def adopt(self, model: DiffusionAutoencoder) -> None:
        """Use this model."""
        self.model, self.operations = model, Operations(model)
        if model.student is not None:
            self.draft = Sampling.student(STUDENT_STEPS)
        self.gallery.use(self.shared(Ticket("gallery")))


def open_studio(
    run: str | Path,
    open_images: Callable[[DiffusionAutoencoder], Opened],
    *,
    name: str = "",
    may_save: bool = False,
    trust_code: bool = False,
) -> Studio:
    """Open a run, which may be in training still.

    Args:
        run: folder or Hub id.
        open_images: opens the data set for the model; called in a thread.
        name: how commands name the run; by default `run`.
        may_save: whether visitors may write attributes into the run.
        trust_code: see `DiffusionAutoencoder.from_pretrained`.
    Raises:
        CheckpointError: no such run, or damaged files.
    """
    folder = locate(run)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder} is not a run folder: it has no {CONFIG}; make one with `diffae train`")
    studio = Studio(folder, name or str(run), None, None, Gallery(open_images), may_save)
    if (folder / WEIGHTS).is_file():
        model = DiffusionAutoencoder.from_pretrained(folder, trust_code=trust_code)
        studio.adopt(model)
        if (folder / ATTRIBUTES).is_file():
            studio.attributes = AttributeDirections.load(folder, model.fingerprint())
    return studio
