"""Path length, which has a closed form for a linear decoder."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from tiny import images, normal, tiny_model
from torch import Tensor

from diffae.config import Sampling
from diffae.errors import ConfigError, DataError
from diffae.evaluation.tasks.interpolation import path_length, squared_error
from diffae.model import Code, DiffusionAutoencoder


class LinearDecoder:
    """Decodes (z_sem, x_T) to z_sem's linear image plus a multiple of x_T."""

    def __init__(self, matrix: Tensor, share: float) -> None:
        self.matrix, self.share = matrix, share

    def decode(self, code: Code, *, sampling: Sampling | None = None) -> Tensor:
        assert code.x_T is not None
        from_z = 0 if code.z_sem is None else (code.z_sem.double() @ self.matrix).view(code.x_T.shape)
        return from_z + self.share * code.x_T.double()


def linear(share: float) -> DiffusionAutoencoder:
    return cast(DiffusionAutoencoder, LinearDecoder(normal(4, 3 * 2 * 2, seed=5).double(), share))


def test_of_a_linear_decoder_it_is_the_squared_distance_of_the_ends() -> None:
    a, b = (Code(normal(6, 4, seed=s), normal(6, 3, 2, 2, seed=s + 10)) for s in (0, 1))
    model = linear(0.0)
    found = path_length(model, a, b, squared_error, generator=torch.Generator().manual_seed(0))
    expected = squared_error(model.decode(a), model.decode(b))
    # epsilon 1e-4 of float32 codes: a few of ten thousand steps between neighbouring numbers
    np.testing.assert_allclose(found, expected, rtol=0.02)


def test_along_the_great_arc_of_x_T_it_is_the_squared_angle() -> None:
    """Two x_T of length r at an angle w: the arc's speed is r w everywhere."""
    r, w = 5.0, 0.7
    a, b = torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    a[0, 0, 0, 0] = r
    b[0, 0, 0, 0], b[0, 1, 0, 0] = r * np.cos(w), r * np.sin(w)
    found = path_length(
        linear(1.0), Code(None, a), Code(None, b), squared_error, generator=torch.Generator().manual_seed(0)
    )
    np.testing.assert_allclose(found, (r * w) ** 2 / 12 / 4, rtol=0.02)  # mean over 12 values, in [0, 1]


def test_of_a_network_it_hardly_depends_on_epsilon() -> None:
    model = tiny_model()
    code = model.encode(images(2), Sampling(5, inversion="explicit"))
    lengths = [
        path_length(
            model, code[:1], code[1:], squared_error, generator=torch.Generator().manual_seed(0),
            sampling=Sampling(5), epsilon=epsilon,
        )
        for epsilon in (1e-2, 1e-3)
    ]  # fmt: skip
    np.testing.assert_allclose(*lengths, rtol=0.3)
    assert (lengths[0] > 0).all()


def test_bad_codes_are_refused() -> None:
    a, b = Code(normal(2, 4), normal(2, 3, 2, 2)), Code(normal(3, 4), normal(3, 3, 2, 2))
    generator = torch.Generator()
    with pytest.raises(DataError, match="as many of each"):
        path_length(linear(0.0), a, b, squared_error, generator=generator)
    with pytest.raises(DataError, match="with their x_T"):
        path_length(linear(0.0), Code(normal(2, 4)), a, squared_error, generator=generator)
    with pytest.raises(ConfigError, match="epsilon"):
        path_length(linear(0.0), a, a, squared_error, generator=generator, epsilon=0)
