"""Networks and samplers against numbers computed by the published implementation (folder parity/ in DIFFAE_SHARED).

Weights and inputs are made by the rule in that folder's README, written out as a published checkpoint, and read back
through `DiffusionAutoencoder.from_official`, or imported by a command and used by commands: so reading is tested, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from parity_cases import (
    ONE_CALL,
    TRAJECTORY,
    ParityCase,
    check_calls,
    check_trajectories,
    parameter,
    write_published,
)
from PIL import Image
from solving import decode

from diffae.cli import main
from diffae.compat.original.names import autoencoder_names
from diffae.config import DiffusionConfig, ModelConfig, Sampling, UNetConfig, UNetEncoderConfig
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.timesteps import levels_of
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.model import DiffusionAutoencoder

IMAGE_CASES = ["tiny", "tiny2", "ddim_tiny", "ddim_ffhq64", "ffhq64", "ffhq128", "ffhq256"]
LATENT_CASES = ["latent_tiny", "latent10", "latent20"]


def read(folder: Path, name: str) -> ParityCase:
    """One NAME.json with NAME.npz."""
    return ParityCase(json.loads((folder / f"{name}.json").read_text()), np.load(folder / f"{name}.npz"))


def slow(names: list[str], quick: set[str]) -> list[Any]:
    """The cases; those that take long are marked."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow(IMAGE_CASES, {"tiny", "ddim_tiny"}))
@torch.inference_mode()
def test_images(shared: Path, tmp_path: Path, name: str) -> None:
    case = read(shared / "parity", name)
    path = write_published(case, tmp_path / "last.ckpt")
    model = DiffusionAutoencoder.from_official(path, num_heads=case.about["config"].get("num_heads", 1)).to("cpu")
    path.unlink()
    check_numbers(case, model)


def check_numbers(case: ParityCase, model: DiffusionAutoencoder) -> None:
    """Check all numbers of an autoencoder or DDIM."""
    check_trajectories(case, model, check_calls(case, model))


@pytest.mark.parametrize("name", slow(IMAGE_CASES, {"tiny2"}))
@torch.inference_mode()
def test_images_through_commands(shared: Path, tmp_path: Path, name: str) -> None:
    """The published file to a run folder, whose numbers and whose commands' results are the published code's."""
    case, run = read(shared / "parity", name), tmp_path / "run"
    path = write_published(case, tmp_path / "last.ckpt")
    call("import", path, "--out", run, "--heads", case.about["config"].get("num_heads", 1))
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    check_numbers(case, model)
    if model.encoder is not None:
        check_encode(case, run, tmp_path)
    if "decode_noise_T10" in case.expected:  # for the largest networks there is only one call
        check_decode(case, run, model, tmp_path)
    call("export", run, "--out", tmp_path / "exported")
    back = torch.load(tmp_path / "exported" / "last.ckpt", weights_only=True, mmap=True)["state_dict"]
    for there, tensor in case.weights().items():
        assert torch.equal(back[f"ema_model.{there}"], tensor), there


def check_encode(case: ParityCase, run: Path, folder: Path) -> None:
    """`diffae encode` of the images, which a file holds in 16 bits: up to their rounding, the numbers."""
    sixteen = ((case.images() + 1) * 32767.5).round().clamp(0, 65535).to(torch.uint16)
    np.save(folder / "x.npy", sixteen.permute(0, 2, 3, 1).numpy())
    call("encode", run, folder / "x.npy", "--out", folder / "codes.safetensors")
    z_sem = load_codes(folder / "codes.safetensors").z_sem
    assert z_sem is not None
    case.check("z_sem", z_sem, 2 * ONE_CALL)


def check_decode(case: ParityCase, run: Path, model: DiffusionAutoencoder, folder: Path) -> None:
    """`diffae decode` of the noise, whose pictures have 8 bits."""
    noise = case.noise()
    z_sem = torch.from_numpy(case.expected["z_sem"]) if "z_sem" in case.expected else None
    names = [f"{row}.png" for row in range(len(noise))]
    codes = StoredCodes(names, model.fingerprint(), Sampling.official(10), z_sem, noise)
    save_codes(folder / "noise.safetensors", codes)
    call("decode", run, folder / "noise.safetensors", "--out", folder / "decoded")
    pictures = np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "decoded").iterdir())])
    got = pictures.transpose(0, 3, 1, 2)[..., :: case.about["stride"], :: case.about["stride"]]
    expected = (case.expected["decode_noise_T10"].clip(-1, 1) + 1) * 127.5
    assert np.abs(got - expected).max() < 0.5 + 127.5 * TRAJECTORY


def call(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def small_config(z_sem_channels: int) -> ModelConfig:
    """A small autoencoder beside a latent net."""
    shared: dict[str, Any] = {"model_channels": 32, "channel_mult": (1,)}
    return ModelConfig(16, decoder=UNetConfig(**shared), encoder=UNetEncoderConfig(z_sem_channels, **shared))


@pytest.mark.parametrize("name", slow(LATENT_CASES, {"latent_tiny"}))
@torch.inference_mode()
def test_latent(shared: Path, tmp_path: Path, name: str) -> None:
    """A latent net beside a small autoencoder in one published file, made a run folder."""
    case, run = read(shared / "parity", name), tmp_path / "run"
    d = case.about["config"]["z_sem_channels"]
    small = autoencoder_names(small_config(d))
    tensors = {there: torch.from_numpy(parameter(there, list(here.published_shape))) for there, here in small.items()}
    tensors |= {f"latent_net.{there}": tensor for there, tensor in case.weights().items()}
    state = {f"ema_model.{there}": tensor for there, tensor in tensors.items()}
    buffers = {
        "x_T": torch.zeros(1, 3, 16, 16),
        "conds_mean": torch.full((1, d), 0.1),
        "conds_std": 2 * torch.ones(1, d),
    }
    torch.save({"state_dict": state | buffers}, tmp_path / "latent.ckpt")
    call("import", tmp_path / "latent.ckpt", "--out", run)
    prior = DiffusionAutoencoder.from_pretrained(run, "cpu").require_prior()
    z_T = case.z_T()
    if "eps" in case.expected:
        case.check("eps", prior.network(z_T, case.levels() - 1), ONE_CALL)
    z_0 = decode(prior.predict_noise, z_T, levels_of(10, "leading", 1000), prior.process.alpha_bar)
    case.check("decode_T10", z_0, TRAJECTORY)
    assert torch.equal(prior.denormalise(z_0), 2 * z_0 + 0.1)


def test_schedules(shared: Path) -> None:
    expected = np.load(shared / "parity" / "schedules.npz")
    found = 0
    for key in expected.files:
        if not key.startswith("ddim_timesteps_"):
            continue
        steps = int(key.removeprefix("ddim_timesteps_"))
        assert [t - 1 for t in levels_of(steps, "leading", 1000)[1:]] == sorted(expected[key].tolist())
        found += 1
    for schedule in ("linear", "cosine", "constant"):
        for levels in (1000, 100):
            keys = [k for k in expected.files if k.startswith(schedule[:5]) and k.endswith(f"_{levels}_alpha_bar")]
            assert len(keys) == 1, expected.files
            alpha_bar = alpha_bar_of(DiffusionConfig(schedule=schedule, levels=levels))
            np.testing.assert_allclose(alpha_bar[1:], expected[keys[0]], rtol=1e-10)
            found += 1
    assert found > 6
