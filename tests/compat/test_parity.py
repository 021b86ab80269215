"""Networks and samplers against numbers computed by the published implementation (folder parity/ in DIFFAE_SHARED).

Weights and inputs are made by the rule in that folder's README, written out as a published checkpoint, and read back
through `DiffusionAutoencoder.from_official`, or imported by a command and used by commands: so reading is tested, too.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from solving import decode
from torch import Tensor

from diffae.cli import main
from diffae.compat.original.names import autoencoder_names
from diffae.config import DiffusionConfig, ModelConfig, Sampling, UNetConfig, UNetEncoderConfig
from diffae.diffusion.process import Scales
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.timesteps import levels_of
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.model import DiffusionAutoencoder

ONE_CALL = 1e-4
TRAJECTORY = 1e-3

IMAGE_CASES = ["tiny", "tiny2", "ddim_tiny", "ddim_ffhq64", "ffhq64", "ffhq128", "ffhq256"]
LATENT_CASES = ["latent_tiny", "latent10", "latent20"]


def parameter(name: str, shape: list[int]) -> np.ndarray:
    """The rule by which both sides make their weights."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    v = rng.standard_normal(shape, dtype=np.float32)
    if len(shape) >= 2:
        return v / np.sqrt(np.prod(shape[1:]), dtype=np.float32)
    if name.endswith("weight"):
        return 1 + np.float32(0.1) * v
    return np.float32(0.1) * v


class Case:
    """One NAME.json with NAME.npz."""

    def __init__(self, folder: Path, name: str) -> None:
        self.about: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
        self.config: dict[str, Any] = self.about["config"]
        self.expected = np.load(folder / f"{name}.npz")

    def weights(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(parameter(name, shape)) for name, shape in self.about["parameters"].items()}

    def images(self, seed: int) -> Tensor:
        shape = (self.about["batch"], 3, self.config["image_size"], self.config["image_size"])
        rng = np.random.default_rng(seed)
        x = rng.uniform(-1, 1, shape) if seed == 1 else rng.standard_normal(shape)
        return torch.from_numpy(x.astype(np.float32))

    def check(self, key: str, output: Tensor, tolerance: float) -> None:
        stride = self.about["stride"] if output.dim() == 4 else 1
        got = output[..., ::stride, ::stride].numpy() if output.dim() == 4 else output.numpy()
        expected = self.expected[key]
        assert got.shape == expected.shape
        assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max(), key


def published_checkpoint(case: Case, path: Path) -> Path:
    """A file in the published format with these weights as its EMA weights."""
    size = case.config["image_size"]
    state = {f"ema_model.{name}": tensor for name, tensor in case.weights().items()}
    state["model.time_embed.0.weight"] = torch.zeros(1)  # raw weights are there too, and not read
    state["x_T"] = torch.zeros(1, 3, size, size)
    torch.save({"state_dict": state, "global_step": 7}, path)
    return path


def slow(names: list[str], quick: set[str]) -> list[Any]:
    """The cases; those that take long are marked."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slow(IMAGE_CASES, {"tiny", "ddim_tiny"}))
@torch.inference_mode()
def test_images(shared: Path, tmp_path: Path, name: str) -> None:
    case = Case(shared / "parity", name)
    path = published_checkpoint(case, tmp_path / "last.ckpt")
    model = DiffusionAutoencoder.from_official(path, num_heads=case.config.get("num_heads", 1)).to("cpu")
    path.unlink()
    check_numbers(case, model)


def check_numbers(case: Case, model: DiffusionAutoencoder) -> None:
    """Check all numbers of an autoencoder or DDIM."""
    x_0, noise = case.images(1), case.images(2)
    z_sem = None
    if model.encoder is not None:
        z_sem = model.encode_semantic(x_0)
        case.check("z_sem", z_sem, ONE_CALL)
    t = torch.from_numpy(case.expected["t"]).long().expand(len(x_0)) + 1  # the network's index 0..999 is our level - 1
    eps_hat = model.predict_noise(Scales.at(model.alpha_bar, t, 4).add_noise(x_0, noise), t, z_sem)
    case.check("eps", eps_hat, ONE_CALL)
    np.testing.assert_allclose(eps_hat.abs().max(), case.expected["eps_absmax"], rtol=ONE_CALL)
    if "loss" in case.expected:
        loss = (eps_hat - noise).square().mean(dim=(1, 2, 3))
        np.testing.assert_allclose(loss, case.expected["loss"], rtol=ONE_CALL)
    check_trajectories(case, model, x_0, noise, z_sem)


def check_trajectories(
    case: Case, model: DiffusionAutoencoder, x_0: Tensor, noise: Tensor, z_sem: Tensor | None
) -> None:
    for steps in (10, 20):
        official = Sampling.official(steps)
        if f"invert_T{steps}" in case.expected:
            code = model.encode(x_0, official)
            assert code.x_T is not None
            case.check(f"invert_T{steps}", code.x_T, TRAJECTORY)
            case.check(f"decode_inverted_T{steps}", model.decode(code, sampling=official), TRAJECTORY)
        if f"decode_noise_T{steps}" in case.expected:
            decoded = model.decode(z_sem=z_sem, x_T=noise, sampling=official)
            case.check(f"decode_noise_T{steps}", decoded, TRAJECTORY)


@pytest.mark.parametrize("name", slow(IMAGE_CASES, {"tiny2"}))
@torch.inference_mode()
def test_images_through_commands(shared: Path, tmp_path: Path, name: str) -> None:
    """The published file to a run folder, whose numbers and whose commands' results are the published code's."""
    case, run = Case(shared / "parity", name), tmp_path / "run"
    path = published_checkpoint(case, tmp_path / "last.ckpt")
    call("import", path, "--out", run, "--heads", case.config.get("num_heads", 1))
    model = DiffusionAutoencoder.from_pretrained(run, "cpu")
    check_numbers(case, model)
    if model.encoder is not None:
        check_encode(case, run, tmp_path)
    if "decode_noise_T10" in case.expected:  # for the largest networks there is only one call
        check_decode(case, run, model, tmp_path)
    call("export", run, "--out", tmp_path / "exported")
    back = torch.load(tmp_path / "exported" / "last.ckpt", weights_only=True, mmap=True)["state_dict"]
    for parameter, tensor in case.weights().items():
        assert torch.equal(back[f"ema_model.{parameter}"], tensor), parameter


def check_encode(case: Case, run: Path, folder: Path) -> None:
    """`diffae encode` of the images, which a file holds in 16 bits: up to their rounding, the numbers."""
    sixteen = ((case.images(1) + 1) * 32767.5).round().clamp(0, 65535).to(torch.uint16)
    np.save(folder / "x.npy", sixteen.permute(0, 2, 3, 1).numpy())
    call("encode", run, folder / "x.npy", "--out", folder / "codes.safetensors")
    z_sem = load_codes(folder / "codes.safetensors").z_sem
    assert z_sem is not None
    case.check("z_sem", z_sem, 2 * ONE_CALL)


def check_decode(case: Case, run: Path, model: DiffusionAutoencoder, folder: Path) -> None:
    """`diffae decode` of the noise, whose pictures have 8 bits."""
    noise = case.images(2)
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
    case, run = Case(shared / "parity", name), tmp_path / "run"
    config, batch = case.config, case.about["batch"]
    d = config["z_sem_channels"]
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
    z_T = torch.from_numpy(np.random.default_rng(3).standard_normal((batch, d)).astype(np.float32))
    if "eps" in case.expected:
        t = torch.from_numpy(case.expected["t"]).long().expand(batch)
        case.check("eps", prior.network(z_T, t), ONE_CALL)
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
