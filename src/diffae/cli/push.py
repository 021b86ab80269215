"""`diffae push`: upload a run to the Hugging Face Hub."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from diffae.cli import models
from diffae.cli.options import optional
from diffae.cli.terminal import say


@dataclass(frozen=True)
class Push:
    """Upload a run to the Hugging Face Hub.

    The model goes there with its prior, attributes and student, and a model card; the path of the images does not. Log
    in first with `hf auth login`.
    """

    model: Annotated[Path, Positional, arg(metavar="RUN", help_behavior_hint="(required)")]
    """Run folder made by `diffae train`."""
    repo_id: Annotated[str, Positional, arg(metavar="OWNER/NAME", help_behavior_hint="(required)")]
    """Name of the repository; it is made if it does not exist."""
    private: bool = False
    """Make the repository private."""
    license: Annotated[str | None, optional] = None
    """Licence for the model card, such as cc-by-4.0."""

    def run(self) -> int:
        """Upload; print the address."""
        from diffae import hub
        from diffae.training.card import CARD, last_sheet, model_card

        model = models.open_model(str(self.model))
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            card = model_card(self.model, self.repo_id, self.license)
            Path(folder, CARD).write_text(card, encoding="utf-8")
            if (sheet := last_sheet(self.model)) is not None:
                shutil.copyfile(sheet, Path(folder, "samples.png"))
            address = hub.upload(Path(folder), self.repo_id, private=self.private, token=None)
        say(f"The model is at {address}.")
        return 0
