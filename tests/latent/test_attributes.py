"""Attribute directions: fitting, edits of z_sem, the file, bad input."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fingerprints import mark
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from diffae.checkpoint import read_tensors, write_tensors
from diffae.data.labels import LabelTable
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.latent.attributes import ATTRIBUTES, AttributeDirections
from diffae.latent.codes import Code
from diffae.latent.probes import fit_plane

N, D = 600, 8
RNG = np.random.default_rng(0)
# codes that lie mostly in a subspace of 3 dimensions, with other means and scales
HIDDEN = RNG.standard_normal((N, 3))
Z = (HIDDEN @ RNG.standard_normal((3, D)) + 0.1 * RNG.standard_normal((N, D))) * RNG.uniform(0.2, 5, D) + 3
LABELS: dict[str, Any] = {
    "smiling": (HIDDEN[:, 0] + 0.3 * RNG.standard_normal(N) > 0).astype(float),
    "young": (HIDDEN[:, 0] + HIDDEN[:, 1] + 0.3 * RNG.standard_normal(N) > 0.5).astype(float),
    "age": 40 + 10 * HIDDEN[:, 2] + 5 * HIDDEN[:, 1] + RNG.standard_normal(N),
    "hair": np.array(["red", "brown", "white"])[np.digitize(HIDDEN[:, 1], [-0.5, 0.7])],
}


@pytest.fixture(scope="module")
def fitted() -> AttributeDirections:
    return AttributeDirections().fit(Z, LABELS)


def test_the_manners_of_an_estimator(fitted: AttributeDirections) -> None:
    fresh: Any = clone(fitted)
    assert not hasattr(fresh, "mean_")
    with pytest.raises(NotFittedError, match="this AttributeDirections is not fitted: call `fit`"):
        fresh.read(Z)
    with pytest.raises(NotFittedError):
        fresh.edit(Code(torch.zeros(1, D)), "age", 3.0)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted)).read(Z), fitted.read(Z))


@pytest.fixture
def code() -> Code:
    return Code(torch.from_numpy(Z[:3]).float(), torch.randn((3, 1, 4, 4), generator=torch.Generator().manual_seed(0)))


def readings(fitted: AttributeDirections, code: Code) -> dict[str, np.ndarray]:
    assert code.z_sem is not None
    return dict(zip(fitted.names_, fitted.read(code.z_sem).T, strict=True))


def norm_of(fitted: AttributeDirections, code: Code) -> np.ndarray:
    assert code.z_sem is not None
    return fitted.normalise(code.z_sem.numpy())


# ---------------------------------------------------------------------- fitting


def test_every_column_has_its_directions(fitted: AttributeDirections) -> None:
    assert fitted.names_ == ("smiling", "young", "age", "hair:brown", "hair:red", "hair:white")
    assert fitted.kinds_["smiling"] == "binary"
    assert fitted.kinds_["age"] == "number"
    assert fitted.kinds_["hair:red"] == "class"
    for name, about in fitted.attributes_.items():
        values = LABELS[about.column]
        wanted = values == name.partition(":")[2] if about.kind == "class" else values
        assert about.n == N
        assert about.positives == (None if name == "age" else int(wanted.sum()))
        assert about.score.held_out == pytest.approx(N / 5, abs=1)
        assert about.score.low < about.score.value < about.score.high
        if name != "hair:brown":  # brown lies between the others: no plane separates it
            assert about.score.value > 0.9
    np.testing.assert_allclose(fitted.normalise(Z).mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(fitted.normalise(Z).std(axis=0), 1)


def test_a_table_is_fitted_as_plain_values(fitted: AttributeDirections) -> None:
    words = ("brown", "red", "white")
    columns = [LABELS["smiling"], LABELS["young"], LABELS["age"], [words.index(word) for word in LABELS["hair"]]]
    kinds = {"smiling": "binary", "young": "binary", "age": "number", "hair": "class"}
    names = tuple(f"{row}.png" for row in range(N))
    table = LabelTable(names, tuple(kinds), np.stack(columns, axis=1), kinds, {"hair": words})
    again = AttributeDirections().fit(torch.from_numpy(Z), table)
    np.testing.assert_allclose(again.weights_, fitted.weights_)
    assert again.attributes_ == fitted.attributes_
    signs = AttributeDirections().fit(Z, {"smiling": LABELS["smiling"] * 2 - 1, "young": LABELS["young"] == 1})
    np.testing.assert_allclose(signs.weights_, fitted.weights_[:2])


def test_unknown_values_are_left_out() -> None:
    known = np.arange(N) % 3 > 0
    values = np.where(known, LABELS["smiling"], np.nan)
    one = AttributeDirections().fit(Z, {"smiling": values})
    plane, score = fit_plane(one.normalise(Z)[known], values[known], binary=True)
    np.testing.assert_allclose(one.weights_[0], plane.weight)
    assert one.attributes_["smiling"].n == known.sum()
    assert one.attributes_["smiling"].score == score


def test_progress_counts_attributes() -> None:
    seen: list[int] = []
    AttributeDirections().fit(Z, {name: LABELS[name] for name in ("smiling", "age")}, progress=seen.append)
    assert seen == [1, 2]


def test_a_constant_dimension_is_left_unchanged() -> None:
    z = np.concatenate([Z, np.full((N, 1), 7.0)], axis=1)
    found = AttributeDirections().fit(z, {"smiling": LABELS["smiling"]})
    moved = found.edit(Code(torch.from_numpy(z[:1])), "smiling", 0.5)
    assert moved.z_sem is not None
    assert moved.z_sem[0, -1] == 7


# ---------------------------------------------------------------------- editing


def test_the_published_step(fitted: AttributeDirections, code: Code) -> None:
    """z_norm + 0.3 sqrt(d) w / |w|, as in the authors' notebook; x_T is kept."""
    edited = fitted.edit(code, "young", 0.3, published=True)
    weight = fitted.weights_[1]
    expected = norm_of(fitted, code) + 0.3 * math.sqrt(D) * weight / np.linalg.norm(weight)
    np.testing.assert_allclose(norm_of(fitted, edited), expected, atol=1e-4)
    assert edited.x_T is code.x_T


def test_the_default_direction_is_that_of_the_covariance(fitted: AttributeDirections, code: Code) -> None:
    """Parallel to the regression of z_norm on the logit, of the published length."""
    z_norm, reading = fitted.normalise(Z), fitted.read(Z)[:, fitted.index("young")]
    slopes = np.polyfit(reading, z_norm, 1)[0]
    moved = norm_of(fitted, fitted.edit(code, "young", -0.2)) - norm_of(fitted, code)
    np.testing.assert_allclose(moved, np.tile(-0.2 * math.sqrt(D) * slopes / np.linalg.norm(slopes), (3, 1)), atol=1e-4)


@pytest.mark.parametrize("published", [False, True])
def test_goals_are_reached(fitted: AttributeDirections, code: Code, published: bool) -> None:
    logits = fitted.read(Z[LABELS["smiling"] == 1])[:, 0]
    median = readings(fitted, fitted.edit(code, "smiling", "median", published=published))["smiling"]
    np.testing.assert_allclose(median, np.median(logits), atol=1e-3)  # Eq. 11
    p = readings(fitted, fitted.edit(code, "hair:red", "p=0.9", published=published))["hair:red"]
    np.testing.assert_allclose(1 / (1 + np.exp(-p)), 0.9, atol=1e-3)
    age = readings(fitted, fitted.edit(code, "age", 60, published=published))["age"]
    np.testing.assert_allclose(age, 60, atol=1e-3)


def test_several_goals_are_reached_at_once_and_steps_add_up(fitted: AttributeDirections, code: Code) -> None:
    changes: Mapping[str, Any] = {"smiling": "p=0.2", "age": "30", "young": "median"}
    found = readings(fitted, fitted.edit_all(code, changes))
    np.testing.assert_allclose(found["age"], 30, atol=1e-3)
    np.testing.assert_allclose(found["smiling"], math.log(0.2 / 0.8), atol=1e-3)
    np.testing.assert_allclose(found["young"], fitted.medians_[1], atol=1e-3)
    both = fitted.edit_all(code, {"smiling": 0.1, "young": "+0.2"})
    one_by_one = fitted.edit(fitted.edit(code, "young", 0.2), "smiling", "0.1")
    np.testing.assert_allclose(norm_of(fitted, both), norm_of(fitted, one_by_one), atol=1e-4)


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("strength", [0.4, "median"])
def test_held_attributes_do_not_change(fitted: AttributeDirections, code: Code, strength: Any, published: bool) -> None:
    before, plain = readings(fitted, code), readings(fitted, fitted.edit(code, "young", strength, published=published))
    held = readings(fitted, fitted.edit(code, "young", strength, hold=("smiling", "age"), published=published))
    for name in ("smiling", "age"):
        np.testing.assert_allclose(held[name], before[name], atol=1e-3)
    assert np.abs(plain["smiling"] - before["smiling"]).min() > 0.05
    assert np.abs(held["young"] - before["young"]).min() > 0.05
    if strength == "median":
        np.testing.assert_allclose(held["young"], fitted.medians_[1], atol=1e-3)


def test_the_others_of_an_attribute(fitted: AttributeDirections) -> None:
    assert fitted.others(["age", "smiling"]) == ("young", "hair:brown", "hair:red", "hair:white")
    assert fitted.others(["hair:red"]) == ("smiling", "young", "age")  # without the other colours, which must change


def test_equal_directions_cannot_be_separated(code: Code) -> None:
    twins = AttributeDirections().fit(Z, {"a": LABELS["smiling"], "b": LABELS["smiling"]})
    three = AttributeDirections().fit(Z, {"a": LABELS["smiling"], "b": LABELS["smiling"], "age": LABELS["age"]})
    older = three.edit(code, "age", 60, hold=["a", "b"])
    np.testing.assert_allclose(readings(three, older)["a"], readings(three, code)["a"], atol=1e-3)
    with pytest.raises(DataError, match="direction 'a': nothing is left of it when b must stay"):
        twins.edit(code, "a", 0.3, hold=["b"])


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(N), "attribute 'x' has one class: 600 of 600 images have it"),
        (np.arange(N) < 4, "attribute 'x': 4 of 600 images have it, at least 5 with and without"),
        (np.arange(N) > 3, "attribute 'x': 596 of 600 images have it, at least 5"),
        (np.full(N, np.nan), "attribute 'x': no value is known"),
        (np.full(N, 7.5), "attribute 'x': all 600 values are 7.5"),
        (np.where(np.arange(N) < 9, np.arange(N), np.nan), "attribute 'x': 9 values are known, 10 are needed"),
        (np.where(np.arange(N) < 9, np.inf, 1.0), "attribute 'x': a value is infinite"),
        (np.ones(N - 1), "attribute 'x' has 599 values for 600 images"),
        (np.ones((N, 2)), "attribute 'x' has values of shape (600, 2): must be one for each image"),
        ([{}] * N, "attribute 'x' must hold either numbers or words"),
    ],
)
def test_labels_that_cannot_be_fitted(values: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        AttributeDirections().fit(Z, {"x": values})
    assert message in str(caught.value)


def test_codes_that_cannot_be_fitted() -> None:
    spoilt = Z.copy()
    spoilt[3, 2] = np.nan
    for z in (spoilt, Z[0], Z[:0]):
        with pytest.raises(DataError, match=r"z_sem has shape .* must be \(images, d\) and finite"):
            AttributeDirections().fit(z, {"smiling": LABELS["smiling"]})
    with pytest.raises(DataError, match="labels have no column"):
        AttributeDirections().fit(Z, {})


@pytest.mark.parametrize(
    ("name", "strength", "message"),
    [
        ("Smilling", 0.3, "attribute 'Smilling' is not among the fitted ones; did you mean 'smiling'?"),
        ("beard", 0.3, "attribute 'beard' is not among the fitted ones; choose from smiling, young, age"),
        ("smiling", math.nan, "strength of smiling is nan: must be finite"),
        ("age", "-inf", "strength of age is '-inf': must be finite"),
        (
            "smiling",
            "much",
            "strength of smiling is 'much': must be a number, or for binary attributes median or p=0.9",
        ),
        ("smiling", "p=1", "strength of smiling is 'p=1': a probability must lie between 0 and 1"),
        ("smiling", "p=nan", "strength of smiling is 'p=nan': a probability must lie between 0 and 1"),
        ("age", "median", "strength of age is 'median': must be a number"),
        ("age", "p=0.5", "strength of age is 'p=0.5': must be a number"),
    ],
)
def test_edits_that_cannot_be_made(
    fitted: AttributeDirections, code: Code, name: str, strength: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        fitted.edit(code, name, strength)
    assert message in str(caught.value)


def test_codes_that_cannot_be_edited(fitted: AttributeDirections, code: Code) -> None:
    with pytest.raises(ConfigError, match="attribute 'age' is both changed and held"):
        fitted.edit(code, "age", 30, hold=["age"])
    with pytest.raises(DataError, match="the code has no z_sem"):
        fitted.edit(Code(None, code.x_T), "age", 30)
    with pytest.raises(DataError, match=r"z_sem has shape \(1, 9\): these attributes are of codes \(images, 8\)"):
        fitted.edit(Code(torch.zeros(1, 9)), "age", 30)


# ---------------------------------------------------------------------- on disk


def test_saving_and_loading(fitted: AttributeDirections, tmp_path: Path) -> None:
    fitted.save(tmp_path, "abc")
    again = AttributeDirections.load(tmp_path, mark("abc"))
    assert again.attributes_ == fitted.attributes_
    for name in ("mean_", "std_", "weights_", "moves_", "intercepts_", "medians_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))
    with pytest.raises(CheckpointError, match=r"belongs to a model with fingerprint abc, this one's is def: fit"):
        AttributeDirections.load(tmp_path, mark("def"))


def test_damaged_files(fitted: AttributeDirections, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no attributes yet: fit some with `diffae attributes fit"):
        AttributeDirections.load(tmp_path)
    fitted.save(tmp_path, "abc")
    path = tmp_path / ATTRIBUTES
    tensors, texts = read_tensors(path)
    for kept, about in (
        ({**tensors}, {**texts, "attributes": "[{}]"}),
        ({**tensors}, {}),
        ({name: tensors[name] for name in ("mean", "std")}, texts),
        ({**tensors, "weights": tensors["weights"][:2]}, texts),
    ):
        write_tensors(path, kept, about)
        with pytest.raises(
            CheckpointError, match=r"attributes.safetensors is damaged \(.*\); fit the attributes again"
        ):
            AttributeDirections.load(tmp_path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(CheckpointError, match="is damaged"):
        AttributeDirections.load(tmp_path)
