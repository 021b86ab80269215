"""Differences of distances, and features that need not fit into memory."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
import torch

from diffae.evaluation import distances
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import kernel
from diffae.evaluation.statistics import jackknife
from diffae.evaluation.stored_features import stored_features
from diffae.evaluation.tasks.shared import kernel_estimate, nearer


def test_what_is_nearer_is_the_jackknife_of_the_difference() -> None:
    rng = np.random.default_rng(0)
    real, near, far = (rng.standard_normal((n, 4)) + shift for n, shift in ((40, 0), (33, 0.1), (50, 1)))
    expected = jackknife(lambda a, b, c: kernel(a, c) - kernel(a, b), (real, near, far), 3)
    assert dataclasses.astuple(nearer(real, near, far, 3)) == pytest.approx(dataclasses.astuple(expected))
    alone = jackknife(kernel, (real, far), 3)
    assert dataclasses.astuple(kernel_estimate(real, far, 3)) == pytest.approx(dataclasses.astuple(alone))


def test_features_are_those_of_all_images_at_once_and_one_batch_is_in_memory(context: EvaluationContext) -> None:
    features, images = context.need_features(), context.train.tensor()
    with stored_features(features, context.work) as see:
        found, first = see(iter(images.split(7)))
        assert np.array_equal(found, features.vectors(images))
        assert torch.equal(first, images[:7])
        files = list(context.work.rglob("*.npy"))
        assert len(files) == 1
    assert not list(context.work.rglob("*.npy"))


def test_distances_of_many_images_need_little_more_memory_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "KERNEL_BLOCK", 64)
    real, near, far = (np.random.default_rng(n).standard_normal((2_000, 16), dtype=np.float32) for n in range(3))
    tracemalloc.start()
    nearer(real, near, far)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 8 * real.nbytes < 2_000 * 2_000  # the kernel matrix has 32 MB
