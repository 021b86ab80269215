"""What a context records as read, and what changes the keys of its parts."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest

from diffae.config import Sampling
from diffae.evaluation.baselines import Baseline
from diffae.evaluation.context import PARTS, EvaluationContext
from diffae.training.settings import TrainingConfig


def test_what_is_read_is_recorded(context: EvaluationContext) -> None:
    view = context.recording()
    assert view.reads == set()
    assert view.explicit.inversion == "explicit"
    assert view.reads == {"sampling", "protocol"}
    assert len(view.train.first(3).at(np.array([0, 2]))) == 2
    assert view.reads == {"sampling", "protocol", "train"}
    view.train.first(3).having("red", 1)
    assert view.reads == {"sampling", "protocol", "train", "labels"}
    assert view.recording().reads == set()
    assert context.recording().prior is not None
    assert view.out.name == "report"
    assert view.reads == {"sampling", "protocol", "train", "labels"}  # where a report is written changes no result


def test_a_value_computed_once_counts_as_read_by_all_that_use_it(context: EvaluationContext) -> None:
    one, other = context.recording(), context.recording()
    assert one.directions(60) is other.directions(60)
    assert one.reads == other.reads >= {"train", "labels", "model"}
    assert "seed" not in one.reads
    assert replace(context, test=context.test.first(20)).directions(60) is not one.directions(60)


def test_the_key_of_a_part_changes_with_its_content(context: EvaluationContext) -> None:
    keys = {part: context.key(part) for part in PARTS}
    train = context.train
    prior = copy.deepcopy(context.model.prior)
    assert prior is not None
    prior.mean = prior.mean + 1
    model = copy.deepcopy(context.model)
    model.prior = prior
    red = {"red": 1 - train.known["red"]}
    changes = {
        "sampling": replace(context, sampling=Sampling(3)),
        "seed": replace(context, seed=1),
        "ddim": replace(context, ddim=None),
        "features": replace(context, features=None),
        "trained": replace(context, trained=TrainingConfig(images=7)),
        "others": replace(context, others=(Baseline("mine", lambda x: x, lambda x: x),)),
        "capacity": replace(context, capacity=(("small", context.model),)),
        "out_of_distribution": replace(context, out_of_distribution=train.pack),
        "labels": replace(context, train=replace(train, known=red)),
        "prior": replace(context, model=model),
    }
    for part, other in changes.items():
        assert {name for name in PARTS if other.key(name) != keys[name]} == {part}
    fewer = replace(context, train=train.first(9))
    assert {name for name in PARTS if fewer.key(name) != keys[name]} == {"train", "labels"}


def test_generators_depend_on_seed_purpose_and_draw_alone(context: EvaluationContext) -> None:
    def first(context: EvaluationContext, purpose: str, draw: int = 0) -> int:
        return context.generator(purpose, draw).initial_seed()

    assert first(context, "a") == first(replace(context, ddim=None), "a") == first(replace(context, seed=-1), "a", 1)
    assert len({first(context, "a"), first(context, "b"), first(context, "a", 1)}) == 3


@pytest.mark.parametrize("count", [5, 600])
def test_blocks_are_all_images_in_order(context: EvaluationContext, count: int) -> None:
    images = context.train.at(np.arange(count) % 120)
    parts = list(context.blocks(images, "blocks"))
    assert [len(part) for part in parts] == ([5] if count == 5 else [512, 88])
    assert sum(map(len, parts)) == count
    assert bool((parts[0][:3] == images.tensor(3)).all())
