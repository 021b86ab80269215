"""Baselines: PCA against its definition, networks that learn, and autoencoders of diffusers."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import images, normal
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from diffae.config import ModelConfig
from diffae.errors import DataError
from diffae.evaluation.baselines import (
    Baseline,
    PlainAutoencoder,
    open_diffusers,
    pca,
    plain,
    plain_decoder,
    plain_encoder,
)
from diffae.networks.settings import UNetEncoderConfig
from diffae.training.settings import TrainingConfig

ENCODER = UNetEncoderConfig(6, 8, (1, 2, 2), res_blocks=1, attention_resolutions=(8,))
SHAPE = (3, 16, 16)
MODEL = ModelConfig(16, encoder=ENCODER)


def test_pca_projects_on_the_singular_vectors() -> None:
    x = (normal(40, 1, 4, 4) @ normal(4, 4, seed=2) / 4).clamp(-1, 1)
    back, size = pca(x, 5).reconstruct(x)
    pixels = x.flatten(1).double().numpy()
    centred = pixels - pixels.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = centred @ axes[:5].T @ axes[:5] + pixels.mean(0)
    np.testing.assert_allclose(back.flatten(1).numpy(), expected, atol=1e-4)
    assert size == 5
    assert pca(x[:3], 100).codes(x).shape == (40, 3)  # no more components than images


@pytest.mark.parametrize("variational", [False, True])
def test_plain_autoencoders_are_trained_once(tmp_path: Path, variational: bool) -> None:
    config = TrainingConfig(images=16, batch_size=8, precision="float32")
    x = images(8)
    made = [plain(x, MODEL, config, tmp_path, "key", variational=variational) for _ in "ab"]
    torch.testing.assert_close(made[1].codes(x), made[0].codes(x))  # loaded, not trained again
    assert made[0].reconstruct(x)[1] == 6
    assert made[0].name == ("VAE" if variational else "autoencoder")
    other = plain(x, MODEL, config, tmp_path, "other", variational=variational)
    assert other.codes(x).shape == (8, 6)


def test_a_plain_autoencoder_learns(tmp_path: Path) -> None:
    model = ModelConfig(8, encoder=UNetEncoderConfig(6, 16, (1, 2), res_blocks=1, attention_resolutions=()))
    x = F.interpolate(normal(8, 3, 2, 2) / 2, (8, 8), mode="bilinear").clamp(-1, 1)
    config = TrainingConfig(images=1200, batch_size=8, learning_rate=5e-3, ema_decay=0.5, flip=False, val_images=2)
    learnt = plain(x, model, config, tmp_path, "key", variational=False)
    assert (learnt.reconstruct(x)[0] - x).square().mean() < 0.7 * x.var(0).mean()


def test_the_loss_of_a_vae_is_its_evidence_bound() -> None:
    """With the decoder's variance at its optimum, the mean squared error, up to a constant."""
    torch.manual_seed(0)
    vae, x = PlainAutoencoder(ENCODER, SHAPE, variational=True), images(4)
    torch.manual_seed(1)
    loss = vae(x)
    mean, log_variance = vae.encoder(x).chunk(2, dim=1)
    posterior = Normal(mean, (log_variance / 2).exp())
    torch.manual_seed(1)
    error = (vae.decoder(mean + posterior.stddev * torch.randn_like(mean)) - x).square().mean()
    likelihood = Normal(0.0, error.sqrt()).log_prob(error.sqrt()) + 0.5 * math.log(2 * math.pi) + 0.5
    divergence = kl_divergence(posterior, Normal(torch.zeros_like(mean), torch.ones_like(mean))).sum(1).mean()
    torch.testing.assert_close(loss, -likelihood + divergence / x[0].numel())


def test_the_decoder_mirrors_the_encoder() -> None:
    assert plain_decoder(ENCODER, SHAPE)(normal(2, 6)).shape == (2, 3, 16, 16)
    variational = PlainAutoencoder(ENCODER, SHAPE, variational=True)
    assert variational.encode(images(2)).shape == (2, 6)


def test_a_model_with_another_encoder_is_compared_with_the_papers() -> None:
    class Other:
        z_sem_channels = 7

        def build(self, shape: tuple[int, int, int]) -> None: ...

    assert plain_encoder(ModelConfig(encoder=ENCODER)) == ENCODER
    assert plain_encoder(ModelConfig(encoder=Other())).z_sem_channels == 7  # pyright: ignore[reportArgumentType]


def test_any_pair_of_functions_is_a_baseline() -> None:
    half = Baseline("half", lambda x: x[..., ::2, ::2], lambda z: z.repeat_interleave(2, -1).repeat_interleave(2, -2))
    back, size = half.reconstruct(images(3))
    assert (back.shape, size) == ((3, 3, 16, 16), 3 * 8 * 8)
    assert half.codes(images(3)).shape == (3, 192)


def test_a_baseline_for_other_images_is_refused() -> None:
    def fails(x: Tensor) -> Tensor:
        raise RuntimeError("size mismatch\nand more")

    with pytest.raises(DataError, match=r"small returns images of shape \(3, 8, 8\) for \(3, 16, 16\)"):
        Baseline("small", lambda x: x, lambda z: z[..., ::2, ::2]).reconstruct(images(2))
    with pytest.raises(DataError, match=r"other fails on images .* size mismatch") as error:
        Baseline("other", fails, fails).reconstruct(images(2))
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match=r"other fails on images .* size mismatch"):
        Baseline("other", fails, fails).codes(images(2))


@pytest.mark.parametrize("kind", ["AutoencoderKL", "VQModel"])
def test_autoencoders_of_diffusers_are_read(tmp_path: Path, kind: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    settings = {"block_out_channels": (8,), "latent_channels": 2, "norm_num_groups": 4}
    model = getattr(diffusers, kind)(**settings, **({"num_vq_embeddings": 8} if kind == "VQModel" else {})).eval()
    model.save_pretrained(tmp_path / "theirs")
    baseline = open_diffusers(tmp_path / "theirs")
    back, size = baseline.reconstruct(images(2))
    assert (baseline.name, size, baseline.codes(images(2)).shape) == ("theirs", 512, (2, 512))
    with torch.no_grad():
        expected = model(images(2)).sample
    torch.testing.assert_close(back, expected)
    with pytest.raises(DataError, match="theirs fails on images"):
        baseline.codes(images(2)[:, :1])


def test_a_folder_that_is_not_of_diffusers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="must be a diffusers folder"):
        open_diffusers(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "diffusers.models.auto_model", None)
    with pytest.raises(DataError, match=r"pip install diffae\[diffusers\]"):
        open_diffusers(tmp_path)
