"""The error of x0_hat along the path, compared with what `decode` reports."""

from __future__ import annotations

import pytest
import torch
from tiny import images, tiny_config, tiny_model
from torch import Tensor

from diffae.config import Sampling
from diffae.errors import DataError
from diffae.evaluation.tasks.denoising import denoising_path
from diffae.model import autoencoder


def test_errors_are_those_of_the_decoders_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, sampling = tiny_model(), images(5), Sampling(4, inversion="explicit")
    code = model.encode(x, sampling)
    seen: list[tuple[int, Tensor]] = []
    model.decode(code, sampling=sampling, callback=lambda t, x0_hat: seen.append((t, x0_hat)))
    monkeypatch.setattr(autoencoder, "BATCH", 2)
    found = denoising_path(model, x, code, sampling, shown=1)
    assert found.levels == tuple(t for t, _ in seen[:4])
    assert list(found.levels) == sorted(found.levels, reverse=True)
    for step, (_, x0_hat) in enumerate(seen):
        error = ((x0_hat.clamp(-1, 1) - x) / 2).square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(found.mse[:, step], error, atol=1e-6, rtol=1e-4)
    assert found.shown.shape == (1, 4, 3, 16, 16)


def test_the_ddim_baseline_has_a_path_too() -> None:
    model, sampling = tiny_model(tiny_config(z_sem_channels=0)), Sampling(3, inversion="explicit")
    x = images(2)
    assert denoising_path(model, x, model.encode(x, sampling), sampling).mse.shape == (2, 3)


def test_codes_of_other_images_are_refused() -> None:
    model = tiny_model()
    with pytest.raises(DataError, match="codes of 1 images for 2"):
        denoising_path(model, images(2), model.encode(images(1), Sampling(2, inversion="explicit")))
