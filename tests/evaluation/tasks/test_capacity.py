"""Models with z_sem of several sizes, trained for the table or read from an earlier evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from diffae.config import ModelConfig
from diffae.data.pack import Pack
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.results import Result
from diffae.evaluation.tasks import capacity
from diffae.training.settings import DistillationConfig, TrainingConfig


def test_capacity_trains_anew_on_other_images(
    context: EvaluationContext, counts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[int] = []

    def train(pack: Pack, folder: Path, config: ModelConfig, *_: object, **__: object) -> bool:
        trained_on.append(len(pack))
        tiny_model(config).save_pretrained(folder)
        return True

    monkeypatch.setattr(capacity, "train_autoencoder", train)
    for images in (context.train, context.train.first(100)):
        list(capacity._trained(replace(context, train=images), counts["capacity"]))
    assert trained_on == [120, 120, 100, 100]  # two sizes each


def test_models_are_trained_for_a_model_with_distillation_too(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    """Its features are not at hand: training without them used to be refused."""
    trained = TrainingConfig(auxiliary_losses=(DistillationConfig(0.1),))
    found = run("capacity", replace(context, trained=trained))
    again = run("capacity", replace(context, trained=trained))  # read, not trained
    assert again.tables == found.tables
    assert [row[1] for row in found.tables[0].rows] == [2, 4]
    assert "but without distillation" in found.notes[0]
