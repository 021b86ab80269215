"""What an edit changes, on a model whose images show each dimension of z_sem in its own stripe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.distances import frechet
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.linear_probe import PaperDirections
from diffae.evaluation.protocol import Protocol
from diffae.evaluation.results import Result
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.tasks import manipulation
from diffae.evaluation.tasks.manipulation import EditEffect, ImageProbe, edit_effects, pixels
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code

N = 500
RNG = np.random.default_rng(0)
A = RNG.standard_normal(N)
Z = np.stack([A, 0.7 * A + 0.7 * RNG.standard_normal(N), RNG.standard_normal(N)], axis=1)
LABELS = {"first": (Z[:, 0] > 0).astype(float), "second": (Z[:, 1] > 0).astype(float), "third": Z[:, 2]}


class Stripes:
    """Images of 8 x 24 pixels, three stripes as bright as z_sem's three numbers, times 0.2; x_T is not seen."""

    def encode(self, images: Tensor, sampling: Any = None) -> Code:
        return Code(images.mean(dim=(1, 2)).view(-1, 3, 8).mean(dim=2) / 0.2, torch.zeros(len(images), 1, 8, 24))

    def decode(self, code: Code, sampling: Any = None) -> Tensor:
        assert code.z_sem is not None
        return (0.2 * code.z_sem).repeat_interleave(8, dim=1)[:, None, None, :].expand(-1, 1, 8, -1)


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Tensor, AttributeDirections, ImageProbe]:
    model = Stripes()
    images = model.decode(Code(torch.from_numpy(Z).float()))
    probe = ImageProbe(lambda x: pixels(x, 6)).fit(
        images[:300], {name: values[:300] for name, values in LABELS.items()}
    )
    return model, images, AttributeDirections().fit(Z, LABELS), probe


def test_the_effect_of_an_edit(parts: tuple[Any, Tensor, AttributeDirections, ImageProbe]) -> None:
    model, images, attributes, probe = parts
    same = lambda a, b: np.full(len(a), 0.5)  # noqa: E731
    x = images[300:320]
    back, none, forth = edit_effects(model, x, attributes, probe, "first", (-0.4, 0, 0.4), same=same)
    assert none.target == pytest.approx(0, abs=1e-5)
    assert none.pixels == pytest.approx(0, abs=1e-6)
    assert forth.target == pytest.approx(-back.target, rel=1e-3)
    assert forth.target > 0.5
    assert forth.strength == 0.4
    assert forth.identity == 0.5
    assert set(forth.others) == {"second", "third"}
    # z_norm moves by 0.4 sqrt(3), whatever the direction; a stripe by 0.2 std, half of that in [0, 1]
    step = attributes.direction("first")
    moved = 0.4 * 3**0.5 * step / np.linalg.norm(step) * Z.std(axis=0)
    assert forth.pixels == pytest.approx(np.sqrt(np.mean((0.1 * moved) ** 2)), rel=1e-3)


def test_holding_the_others_is_cleaner(parts: tuple[Any, Tensor, AttributeDirections, ImageProbe]) -> None:
    model, images, attributes, probe = parts
    ways = {"plain": {}, "only": {"hold": attributes.others(["first"])}}
    plain, only = (
        edit_effects(model, images[300:320], attributes, probe, "first", [0.3], **how)[0] for how in ways.values()
    )
    assert plain.others["second"] > 0.2  # it goes with the first, among the images
    assert abs(only.others["second"]) < 0.1
    assert only.target > 0.2
    assert only.leak < plain.leak / 3
    assert only.identity is None


def test_the_leak_is_the_others_change_per_change() -> None:
    effect = EditEffect(0.3, -2.0, {"a": 0.6, "b": -0.8}, 0.1, None)
    assert effect.leak == pytest.approx(0.5 * 0.5**0.5)
    assert replace(effect, others={}).leak == 0


def test_pixels_are_averaged_down() -> None:
    x = torch.arange(32.0 * 32).view(1, 1, 32, 32)
    seen = pixels(x)
    assert seen.shape == (1, 256)
    assert seen[0, 0] == pytest.approx((0 + 1 + 32 + 33) / 4)
    assert pixels(x[..., :8, :8]).shape == (1, 64)


def test_edits_are_not_compared_with_the_images_they_came_from(
    context: EvaluationContext, counts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distance of a set from itself is below 0: an edit that does nothing would look nearer than near."""
    given: list[Tensor] = []
    monkeypatch.setattr(manipulation, "edit", lambda context, x, *how: given.append(x) or [x, x])
    seen: list[Tensor] = []
    monkeypatch.setattr(FeatureNetwork, "vectors", lambda self, x: seen.append(x) or x.mean((2, 3)).numpy())
    manipulation._compare(context, context.need_features(), counts["manipulation"], "red")
    _, others, made, _ = seen
    assert made is given[0]
    assert not any(torch.equal(one, other) for one in made for other in others)


def test_an_edit_that_does_nothing_does_not_show_the_claim(
    context: EvaluationContext, counts: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    sets = {"with": rng.normal(2, 1, (64, 4)), "without": rng.normal(0, 1, (64, 4)), "idle": rng.normal(0, 1, (64, 4)),
            "moved": rng.normal(1, 1, (64, 4))}  # fmt: skip
    monkeypatch.setattr(manipulation, "edit", lambda context, x, *how: [x, x])
    found = {}
    for made in ("idle", "moved"):
        vectors = iter([sets["with"], sets["without"], sets[made], sets[made]])
        monkeypatch.setattr(FeatureNetwork, "vectors", lambda self, x, vectors=vectors: next(vectors))
        found[made], _ = manipulation._compare(context, context.need_features(), counts["manipulation"], "red")
    assert (found["idle"].holds, found["moved"].holds) == (None, True)
    claim = manipulation._claim(list(found.values()))
    assert claim.verdict == "partly shown"
    assert claim.evidence == "red perhaps toward and near; red toward and near"
    assert claim.reason.startswith("red: nearer by")


def test_both_distances_of_images_with_and_without_are_in_the_table(
    context: EvaluationContext, run: Callable[..., Result]
) -> None:
    """The Frechet distance between them, which says what an edit could reach, used to be left out."""
    table = run("manipulation").tables[0]
    pairs = ("with and without", "edited and with", "edited and without")
    assert table.header[2:] == tuple(f"{kind}-colours, {pair}" for kind in ("KD", "FD") for pair in pairs)
    row, _ = table.rows
    with_, without = (context.test.having("red", value).tensor() for value in (1, 0))
    network = context.need_features()
    expected = frechet(network.vectors(with_[:12]), network.vectors(without[1::2]))
    assert isinstance(row[5], Estimate)
    assert row[5].value == pytest.approx(expected)


@pytest.mark.parametrize("protocol", ["default", "paper"])
def test_the_papers_edit_along_w_stands_beside_the_default_one(
    context: EvaluationContext, run: Callable[..., Result], protocol: Protocol
) -> None:
    """Tables 9 and 10 used to have edits along C w only, which are not the paper's."""
    context = replace(context, protocol=protocol, sampling=context.at(2))
    ways = ["along C w (default)", "along w (paper)"]
    found = run("manipulation", context)
    for table in found.tables:
        assert [row[:2] for row in table.rows] == [("red", way) for way in (ways[::-1] if context.papers else ways)]
    directions = context.directions(60)
    assert isinstance(directions, PaperDirections) == context.papers
    x = context.test.tensor(3)
    along_w, along_cw = manipulation.edit(context, x, "red", 60, (True, False))
    code = context.model.encode(x, context.explicit)
    expected = context.model.decode(
        directions.edit(code, "red", "median", published=True), sampling=context.explicit
    ).clamp(-1, 1)  # fmt: skip
    torch.testing.assert_close(along_w, expected)
    assert not torch.allclose(along_w, along_cw)


def test_attributes_may_be_named(context: EvaluationContext, run: Callable[..., Result]) -> None:
    known = {"blue": context.train.known["red"][::-1], **context.train.known}
    train = replace(context.train, known=known)
    test = replace(context.test, known={"blue": context.test.known["red"][::-1], **context.test.known})
    rows = run("manipulation", replace(context, train=train, test=test, attributes=("red",))).tables[0].rows
    assert {row[0] for row in rows} == {"red"}
