"""What is timed is a step of the recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result
from diffae.training.muon import Muon
from diffae.training.settings import ContrastiveConfig, DistillationConfig, TrainingConfig
from diffae.training.trainer import Trainer


def test_a_step_of_the_recipe_is_timed(
    context: EvaluationContext, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain step of Adam on the loss alone, of 32 images, used to be timed for every recipe."""
    seen: list[tuple[bool, int, bool]] = []
    own = Trainer.take_step

    def step(self: Trainer, batch: Any) -> Any:
        optimizer = getattr(self.optimizer, "optimizer", self.optimizer)
        seen.append((isinstance(optimizer, Muon), self.config.batch_size, getattr(self.task, "needs_view", False)))
        return own(self, batch)

    monkeypatch.setattr(Trainer, "take_step", step)
    losses = (ContrastiveConfig(0.1), DistillationConfig(0.3))
    recipe = TrainingConfig(batch_size=8, optimizer="muon", precision="float32", auxiliary_losses=losses)
    found = run("throughput", replace(context, trained=recipe))
    assert seen == [(True, 8, True)] * 2 + [(True, 8, False)] * 2  # warm-up and one round; without an encoder no view
    assert "batches of 8, muon" in found.tables[0].note
    assert "auxiliary losses (with an encoder): Contrastive." in found.tables[0].note
