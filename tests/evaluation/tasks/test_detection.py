"""Detectors of their own for each kind and T, and a verdict only from enough images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.detectors import Backbone
from diffae.evaluation.results import Result
from diffae.evaluation.statistics import Estimate, proportion
from diffae.evaluation.tasks import detection


def test_each_kind_and_t_has_detectors_of_its_own(
    context: EvaluationContext, counts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One detector used to be trained on generated images of all T, and tested on edits it had never seen."""
    trained: list[tuple[int, Tensor]] = []

    def train(real: Tensor, fake: Tensor, *settings: Any) -> Callable[[Tensor], np.ndarray]:
        trained.append((len(real), fake))
        return lambda images: np.full(len(images), 1.0)

    monkeypatch.setattr(detection, "convolutional_detector", train)
    monkeypatch.setattr(detection, "backbone_detector", lambda backbone, *how: train(*how))
    network = Backbone("Pretrained", "", context.features)
    few = replace(counts["detection"], detected_steps=(1, 2, 2_000))
    found = detection.detection(replace(context, backbone=network), few)
    places = [(kind, t) for kind in ("generated", "edited") for t in (1, 2)]
    assert [row[:2] for row in found.tables[0].rows] == places  # the model has no 2,000 levels
    assert found.tables[0].header[2:] == ("Pretrained", "convolutional", "frequencies alone")
    assert [len(fake) for _, fake in trained] == [16] * 8
    assert len({float(fake.sum()) for _, fake in trained}) == 4
    assert "accuracy, Pretrained: generated at T = 1 50.0%" in found.claims[0].evidence


def test_without_labels_nothing_is_edited(context: EvaluationContext, run: Callable[..., Result]) -> None:
    found = run("detection", replace(context, train=replace(context.train, known={})))
    assert {row[0] for row in found.tables[0].rows} == {"generated"}
    assert "Images are not edited: no binary labels are given (--labels)." in found.notes[0]


def test_few_images_decide_nothing_against_the_claim() -> None:
    """A detector trained on 64 images used to show that generated images cannot be detected."""
    good, bad = Estimate(0.97, 0.95, 0.99, 400), Estimate(0.6, 0.55, 0.65, 400)

    def verdict(one: Estimate, known: int) -> str:
        return detection._claim({("generated", 100): one}, "Net", known).verdict

    assert [verdict(one, known) for known in (64, 7_000) for one in (good, bad)] == [
        "shown", "not decided", "shown", "not shown",
    ]  # fmt: skip


def test_a_dozen_right_answers_do_not_show_it_either() -> None:
    """The bootstrap's interval of twelve right answers of twelve has no width."""
    assert proportion(np.ones(12)).above(0.9) is None
    assert proportion(np.ones(120)).above(0.9) is True
    low, high = proportion(np.repeat([0.0, 1.0], 50)).low, proportion(np.repeat([0.0, 1.0], 50)).high
    assert (low, high) == pytest.approx((0.4038, 0.5962), abs=1e-4)  # Wilson (1927)
