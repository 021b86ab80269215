"""Edits reach their targets in what the edited image reads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from torch import Tensor

from diffae.config import Sampling
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code
from diffae.latent.editing import NEAR, distance, edit_images

D = 4


class Reluctant:
    """A model whose images follow a change of z_sem by a share only; an image is z_sem / 100, drawn as pixels."""

    def __init__(self, z_sem: Tensor, share: float) -> None:
        self.z_sem, self.share, self.calls = z_sem, share, 0

    def decode(self, code: Code, *, sampling: Sampling | None = None) -> Tensor:
        assert code.z_sem is not None
        self.calls += 1
        followed = self.z_sem + self.share * (code.z_sem - self.z_sem)
        return (followed / 100)[:, None, None, :]

    def encode_semantic(self, images: Tensor) -> Tensor:
        return images.flatten(1) * 100


@pytest.fixture(scope="module")
def attributes() -> AttributeDirections:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, D))
    young = (z[:, 0] + 0.5 * rng.normal(size=400) > 0).astype(float)
    return AttributeDirections().fit(z.astype(np.float32), {"young": young, "age": 40 + 10 * z[:, 1]})


@pytest.fixture
def code() -> Code:
    return Code(torch.tensor([[-0.5, 0.2, 0.1, -0.3]]), torch.zeros(1, 1, 1, D))


def test_targets_are_reached_in_the_image(attributes: AttributeDirections, code: Code) -> None:
    assert code.z_sem is not None
    model, steps = Reluctant(code.z_sem, 0.5), [{"young": "p=0.9"}, {"age": 60.0}, {"young": "median", "age": 30.0}]
    edits = edit_images(model, attributes, code, steps, rounds=6)
    young, age = attributes.index("young"), attributes.index("age")
    np.testing.assert_allclose(expit(edits.asked[0, young]), 0.9, atol=1e-4)
    np.testing.assert_allclose(expit(edits.read[0, young]), 0.9, atol=NEAR)
    assert abs(edits.read[1, age] - 60) <= NEAR * abs(60 - edits.before[age])
    assert abs(edits.read[2, age] - 30) <= NEAR * abs(30 - edits.before[age])
    assert abs(expit(edits.read[2, young]) - expit(attributes.medians_[young])) <= NEAR
    np.testing.assert_allclose(edits.read, attributes.read(model.encode_semantic(edits.images)), atol=1e-4)


def test_without_rounds_nothing_is_corrected(attributes: AttributeDirections, code: Code) -> None:
    assert code.z_sem is not None
    model, young = Reluctant(code.z_sem, 0.5), attributes.index("young")
    edits = edit_images(model, attributes, code, [{"young": "p=0.9"}], rounds=0)
    half = (edits.before[young] + logit(0.9)) / 2
    np.testing.assert_allclose(edits.read[0, young], half, atol=1e-3)
    assert model.calls == 1


def test_steps_are_taken_as_they_are(attributes: AttributeDirections, code: Code) -> None:
    assert code.z_sem is not None
    model = Reluctant(code.z_sem, 0.5)
    edits = edit_images(model, attributes, code, [{"young": 0.3}])
    assert model.calls == 1
    young = attributes.index("young")
    assert edits.before[young] < edits.read[0, young] < edits.asked[0, young]


def test_what_cannot_be_reached_stops_at_the_closest(attributes: AttributeDirections, code: Code) -> None:
    """Corrections stay within three times the change, and the closest image is kept."""
    assert code.z_sem is not None
    model, young = Reluctant(code.z_sem, 0.05), attributes.index("young")
    edits = edit_images(model, attributes, code, [{"young": "p=0.99"}], rounds=5)
    assert model.calls == 6
    goal = float(logit(0.99))
    assert distance(attributes, "young", edits.read[0], goal, edits.before) > NEAR
    once = edit_images(model, attributes, code, [{"young": "p=0.99"}], rounds=0)
    assert once.read[0, young] < edits.read[0, young] < goal
    backwards = Reluctant(code.z_sem, -0.5)  # every correction makes it worse: the first image is kept
    worse = edit_images(backwards, attributes, code, [{"young": "p=0.9"}])
    once = edit_images(backwards, attributes, code, [{"young": "p=0.9"}], rounds=0)
    np.testing.assert_array_equal(worse.read, once.read)


def test_distances(attributes: AttributeDirections) -> None:
    readings, before = np.zeros(2), np.zeros(2)
    readings[attributes.index("age")], before[attributes.index("age")] = 55, 50
    assert distance(attributes, "age", readings, 60, before) == pytest.approx(0.5)
    assert distance(attributes, "young", readings, float(logit(0.9)), before) == pytest.approx(0.4)
