"""`DiffusionAutoencoder`: images to codes and back, on a tiny network with random weights."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
import torch
from custom_parts import FrozenConfig, FrozenEncoder, HalvesConfig, MeanConfig, ThinConfig
from PIL import Image
from safetensors.torch import load_file
from tiny import images, normal, tiny_config, tiny_model
from torch import Tensor

from diffae.config import DiffusionConfig, ModelConfig, Sampling
from diffae.data.images import to_tensor
from diffae.diffusion.interpolation import lerp, slerp
from diffae.diffusion.process import Scales
from diffae.diffusion.settings import InversionName, Prediction, SolverName, Spacing
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.latent.directions import with_z_sem
from diffae.model import Code, DiffusionAutoencoder, DiffusionModule, autoencoder

EXACT = Sampling(steps=5, spacing="leading", tolerance=1e-6, max_iterations=60)
QUICK = Sampling(steps=3, spacing="leading", inversion="explicit")
SOLVERS: tuple[SolverName, ...] = ("ddim", "dpm++2m")


@pytest.fixture(scope="module")
def model() -> DiffusionAutoencoder:
    return tiny_model()


@pytest.fixture(scope="module")
def ddim() -> DiffusionAutoencoder:
    return tiny_model(tiny_config(z_sem_channels=0))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Annotations are not checked, as outside the tests: for a user's bad input."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def x_T_of(code: Code) -> Tensor:
    assert code.x_T is not None
    return code.x_T


# ------------------------------------------------------------------ round trip


@pytest.mark.parametrize("spacing", ["quadratic", "leading", "trailing"])
def test_decoding_a_code_returns_the_image(model: DiffusionAutoencoder, spacing: Spacing) -> None:
    x_0 = images(3)
    sampling = replace(EXACT, spacing=spacing)
    code = model.encode(x_0, sampling)
    assert code.residual is not None
    assert code.calls is not None
    assert code.residual.max() <= 1e-6
    assert (code.calls >= 5).all()
    back = model.decode(code, sampling=sampling)
    torch.testing.assert_close(back, x_0, atol=1e-4, rtol=0)
    explicit = replace(sampling, inversion="explicit")
    assert (model.decode(model.encode(x_0, explicit), sampling=explicit) - x_0).abs().max() > 0.01


def test_default_sampling_is_exact(model: DiffusionAutoencoder) -> None:
    x_0 = images(2)
    code = model.encode(x_0)
    assert code.residual is not None
    assert code.residual.max() <= Sampling().tolerance
    torch.testing.assert_close(model.decode(code), x_0, atol=0.02, rtol=0)


def test_every_image_is_inverted_with_its_own_z_sem(model: DiffusionAutoencoder) -> None:
    x_0 = images(3)
    whole = model.encode(x_0, EXACT)
    for i in range(3):
        alone = model.encode(x_0[i], EXACT)
        torch.testing.assert_close(x_T_of(alone), x_T_of(whole[i : i + 1]), atol=1e-4, rtol=0)


def test_explicit_codes_have_calls_and_no_residual(model: DiffusionAutoencoder) -> None:
    for sampling in (QUICK, Sampling.official(3)):
        code = model.encode(images(2), sampling)
        assert code.residual is None
        assert code.calls is not None
        assert code.calls.tolist() == [3, 3]


def test_each_setting_of_sampling_has_its_effect(model: DiffusionAutoencoder) -> None:
    x_0 = images(2)
    settings = [
        QUICK,
        replace(QUICK, steps=4),
        replace(QUICK, spacing="trailing"),
        replace(QUICK, spacing="quadratic"),
        replace(QUICK, clip_x0=True),
        replace(QUICK, inversion="official"),
        Sampling.official(3),
        replace(QUICK, inversion="exact"),
    ]
    codes = [x_T_of(model.encode(x_0, sampling)) for sampling in settings]
    decoded = [model.decode(x_T=codes[0], z_sem=model.encode_semantic(x_0), sampling=s) for s in settings[:5]]
    for results in (codes, decoded):
        for i, a in enumerate(results):
            assert all((a - b).abs().max() > 1e-3 for b in results[:i])


@pytest.mark.parametrize("steps", [1001, 10**6])
def test_more_steps_than_levels(model: DiffusionAutoencoder, steps: int) -> None:
    with pytest.raises(ConfigError, match=f"steps is {steps}: must be between 1 and the 1000 levels"):
        model.encode(images(1), Sampling(steps=steps))
    with pytest.raises(ConfigError, match=f"steps is {steps}"):
        model.decode(z_sem=normal(1, 6), sampling=Sampling(steps=steps))


# ------------------------------------------------------------------ two states, other solvers, other precisions

BDIA = Sampling(steps=6, inversion="bdia")


def test_bdia_is_exact_at_one_call_per_step(model: DiffusionAutoencoder) -> None:
    x_0 = images(3)
    code = model.encode(x_0, BDIA)
    assert code.x_below is not None
    assert code.residual is None
    assert code.calls is not None
    assert code.calls.tolist() == [6, 6, 6]
    torch.testing.assert_close(model.decode(code, sampling=BDIA), x_0, atol=1e-4, rtol=0)
    torch.testing.assert_close(model.decode(code[1:2], sampling=BDIA), x_0[1:2], atol=1e-4, rtol=0)
    halved = replace(code, x_below=None)  # x_T alone decodes to another image
    assert (model.decode(halved, sampling=BDIA) - x_0).abs().max() > 0.01


def test_both_states_are_interpolated_and_edited_together(model: DiffusionAutoencoder) -> None:
    x_0 = images(2)
    code = model.encode(x_0, BDIA)
    frames = model.interpolate(code[:1], code[1:], 3, BDIA)
    torch.testing.assert_close(frames[[0, 2]], x_0, atol=1e-3, rtol=0)
    assert code.z_sem is not None
    edited = with_z_sem(code[:1], code.z_sem)
    assert edited.x_below is not None
    assert edited.x_below.shape == (2, 3, 16, 16)
    decoded = model.decode(edited, sampling=BDIA)
    torch.testing.assert_close(decoded[:1], x_0[:1], atol=1e-4, rtol=0)
    assert (decoded[1] - decoded[0]).abs().max() > 0.01


@pytest.mark.usefixtures("unchecked")
def test_two_states_that_cannot_be_used(model: DiffusionAutoencoder) -> None:
    code = model.encode(images(2), BDIA)
    assert code.x_below is not None
    with pytest.raises(DataError, match="x_below is given, inversion is 'exact': the code was made with"):
        model.decode(code, sampling=replace(BDIA, inversion="exact"))
    with pytest.raises(DataError, match=r"x_below has shape \(2, 3, 16\): this model's is"):
        model.decode(replace(code, x_below=code.x_below[..., 0]), sampling=BDIA)
    with pytest.raises(DataError, match="x_below of 1 images: must be finite, and one for each of 2 x_T"):
        model.decode(replace(code, x_below=code.x_below[:1]), sampling=BDIA)
    with pytest.raises(ConfigError, match="steps is 1: BDIA needs at least 2"):
        model.encode(images(1), replace(BDIA, steps=1))


def test_float64_inverts_further_than_float32(model: DiffusionAutoencoder) -> None:
    x_0 = images(2)
    sampling = Sampling(steps=5, precision="float64", tolerance=1e-10, max_iterations=60)
    code = model.encode(x_0, sampling)
    assert code.residual is not None
    assert code.residual.max() <= 1e-10
    assert x_T_of(code).dtype == torch.float64
    back = model.decode(code, sampling=sampling)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, x_0, atol=1e-6, rtol=0)
    assert model.dtype == torch.float32  # the model itself is unchanged


def test_bfloat16_decodes_to_within_a_hundredth(model: DiffusionAutoencoder) -> None:
    z_sem, x_T = normal(4, 6), normal(4, 3, 16, 16)
    for solver in SOLVERS:
        sampling = Sampling(steps=5, solver=solver)
        exact = model.decode(z_sem=z_sem, x_T=x_T, sampling=sampling)
        fast = model.decode(z_sem=z_sem, x_T=x_T, sampling=replace(sampling, precision="bfloat16"))
        assert fast.dtype == torch.float32
        error = (fast - exact).square().mean().sqrt() / exact.std()
        assert 1e-5 < error < 0.02
    assert model.dtype == torch.float32


def test_on_its_device_the_model_is_the_same_in_another_layout(model: DiffusionAutoencoder) -> None:
    moved = copy.deepcopy(model).to("cpu")
    kernels = [p for p in moved.parameters() if p.dim() == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous() for p in kernels)
    assert moved.fingerprint() == model.fingerprint()
    x_0 = images(3)
    torch.testing.assert_close(moved.encode_semantic(x_0), model.encode_semantic(x_0), atol=1e-5, rtol=1e-4)
    code = moved.encode(x_0, EXACT)
    assert code.residual is not None
    assert code.residual.max() <= 1e-6
    for decoder in (moved, model):
        back = decoder.decode(code, sampling=EXACT)
        assert back.is_contiguous()
        torch.testing.assert_close(back, x_0, atol=1e-4, rtol=0)
    fast = moved.decode(code, sampling=replace(EXACT, precision="bfloat16"))
    assert 1e-5 < (fast - x_0).square().mean().sqrt() / x_0.std() < 0.02


@pytest.mark.parametrize("inversion", ["exact", "bdia"])
def test_settings_without_inverse_are_refused(model: DiffusionAutoencoder, inversion: InversionName) -> None:
    with pytest.raises(ConfigError, match=r"solver is 'dpm\+\+2m': has no inverse"):
        model.encode(images(1), Sampling(3, inversion=inversion, solver="dpm++2m"))
    with pytest.raises(ConfigError, match=f"precision is 'bfloat16': too coarse for inversion='{inversion}'"):
        model.encode(images(1), Sampling(3, inversion=inversion, precision="bfloat16"))


def test_each_solver_is_its_own(model: DiffusionAutoencoder) -> None:
    z_sem, x_T = normal(2, 6), normal(2, 3, 16, 16)
    ddim, other = (model.decode(z_sem=z_sem, x_T=x_T, sampling=replace(QUICK, solver=s)) for s in SOLVERS)
    assert (ddim - other).abs().max() > 1e-3


def test_float32_is_never_rounded_to_tf32(model: DiffusionAutoencoder) -> None:
    backends = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # pyright: ignore[reportAttributeAccessIssue]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "tf32"
    seen = set()
    encoder = model.encoder
    assert encoder is not None
    hooks = [
        network.register_forward_pre_hook(
            lambda _module, _inputs: seen.add(tuple(backend.fp32_precision for backend in backends))
        )
        for network in (model.decoder, encoder)
    ]
    model.decode(model.encode(images(1), QUICK), sampling=QUICK)
    model.encode_semantic(images(1))
    for hook in hooks:
        hook.remove()
    after = [backend.fp32_precision for backend in backends]
    for backend, precision in zip(backends, before, strict=True):
        backend.fp32_precision = precision
    assert seen == {("ieee", "ieee")}
    assert after == ["tf32", "tf32"]


# ------------------------------------------------------------------ randomness and batches


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_random_x_T_comes_from_the_generator(model: DiffusionAutoencoder) -> None:
    z_sem = normal(2, 6)
    first, same, other = (model.decode(z_sem=z_sem, sampling=QUICK, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, same)
    assert (first - other).abs().max() > 0.1
    x_T = torch.randn(2, 3, 16, 16, generator=seeded(0))
    assert torch.equal(first, model.decode(z_sem=z_sem, x_T=x_T, sampling=QUICK))


def test_a_generator_leaves_the_global_state_alone(model: DiffusionAutoencoder) -> None:
    before = torch.get_rng_state()
    code = model.encode(images(1), EXACT)
    model.decode(code, sampling=EXACT)
    model.decode(z_sem=code.z_sem, sampling=QUICK, generator=seeded(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_parts_equal_the_whole(model: DiffusionAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    x_0, noise, done = images(5), normal(5, 3, 16, 16), list[int]()
    whole = [model.encode(x_0, sampling) for sampling in (EXACT, QUICK)]
    z_sem = model.encode_semantic(x_0)
    decoded = model.decode(z_sem=z_sem, x_T=noise, sampling=QUICK)
    monkeypatch.setattr(autoencoder, "BATCH", 2)
    for sampling, expected in zip((EXACT, QUICK), whole, strict=True):
        code = model.encode(x_0, sampling, progress=done.append)
        assert len(code) == 5
        torch.testing.assert_close(code.z_sem, expected.z_sem)
        torch.testing.assert_close(code.x_T, expected.x_T, atol=1e-4, rtol=1e-4)
        assert (code.residual is None) == (expected.residual is None)
        assert code.calls is not None
        assert code.calls.shape == (5,)
    assert done == [2, 4, 5, 2, 4, 5]
    torch.testing.assert_close(model.encode_semantic(x_0), z_sem)
    got = model.decode(z_sem=z_sem, x_T=noise, sampling=QUICK)
    torch.testing.assert_close(got, decoded, atol=1e-5, rtol=1e-5)


def test_no_batch_is_larger_than_stated(model: DiffusionAutoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(autoencoder, "BATCH", 2)
    hook = model.decoder.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    model.decode(model.encode(images(5), QUICK), sampling=QUICK)
    hook.remove()
    assert sizes == [2, 2, 2, 2, 2, 2, 1, 1, 1] * 2


# ------------------------------------------------------------------ codes


def test_code_is_cut_by_rows(model: DiffusionAutoencoder) -> None:
    code = model.encode(images(3), EXACT)
    part = code[1:]
    assert len(part) == 2
    for name in ("z_sem", "x_T", "residual", "calls"):
        assert torch.equal(getattr(part, name), getattr(code, name)[1:])
    assert len(Code(None)) == 0
    assert len(Code(None, normal(2, 3, 16, 16))[:1]) == 1
    assert Code(normal(2, 6))[:1].x_T is None


def test_interpolation_starts_and_ends_at_the_codes(model: DiffusionAutoencoder) -> None:
    code = model.encode(images(2), QUICK)
    frames = model.interpolate(code[:1], code[1:], 4, QUICK)
    assert frames.shape == (4, 3, 16, 16)
    ends = model.decode(code, sampling=QUICK)
    torch.testing.assert_close(frames[[0, -1]], ends, atol=1e-4, rtol=1e-4)
    assert code.z_sem is not None
    third = torch.tensor([2 / 3])
    x_T = slerp(x_T_of(code)[:1], x_T_of(code)[1:], third)
    expected = model.decode(z_sem=lerp(code.z_sem[:1], code.z_sem[1:], third), x_T=x_T, sampling=QUICK)
    torch.testing.assert_close(frames[2:3], expected, atol=1e-4, rtol=1e-4)


def test_interpolation_refuses(model: DiffusionAutoencoder) -> None:
    code = model.encode(images(2), QUICK)
    with pytest.raises(ConfigError, match="frames is 1: must be at least 2"):
        model.interpolate(code[:1], code[1:], 1)
    with pytest.raises(DataError, match="codes of 2 and 1 images"):
        model.interpolate(code, code[1:], 3)
    with pytest.raises(DataError, match="with its x_T"):
        model.interpolate(Code(code.z_sem[:1] if code.z_sem is not None else None), code[1:], 3)


def test_the_callback_gets_every_step(model: DiffusionAutoencoder) -> None:
    seen: list[tuple[int, Tensor]] = []
    noise, z_sem = normal(2, 3, 16, 16), normal(2, 6)
    out = model.decode(z_sem=z_sem, x_T=noise, sampling=QUICK, callback=lambda t, x: seen.append((t, x)))
    assert [t for t, _ in seen] == [667, 334, 1]
    with torch.inference_mode():
        torch.testing.assert_close(seen[0][1], model.predict_x0(noise, 667, z_sem))
    torch.testing.assert_close(seen[-1][1], out)


# ------------------------------------------------------------------ what goes in


def test_all_kinds_of_images_are_the_same(model: DiffusionAutoencoder, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, one in zip(paths, pixels, strict=True):
        Image.fromarray(one).save(path)
    expected = model.encode_semantic(to_tensor(pixels))
    assert expected.shape == (2, 6)
    kinds: list[Any] = [
        pixels,
        list(pixels),
        [Image.open(path) for path in paths],
        paths,
        [str(path) for path in paths],
        [to_tensor(pixels)[0], paths[1]],
        pixels.astype(np.uint16) * 257,
    ]
    for kind in kinds:
        torch.testing.assert_close(model.encode_semantic(kind), expected, atol=1e-5, rtol=1e-5)
    single: list[Any] = [pixels[0], Image.open(paths[0]), paths[0], to_tensor(pixels)[0]]
    for kind in single:
        torch.testing.assert_close(model.encode_semantic(kind), expected[:1], atol=1e-5, rtol=1e-5)
    assert len(model.encode(paths, QUICK)) == 2


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 3, 8, 8), r"must have shape \(b, 3, 16, 16\)"),
        (torch.zeros(2, 1, 16, 16), r"must have shape \(b, 3, 16, 16\)"),
        (torch.full((1, 3, 16, 16), 2.0), r"must lie in \[-1, 1\]"),
        (torch.full((1, 3, 16, 16), torch.nan), r"must lie in \[-1, 1\]"),
        ([], "the list of images is empty"),
        ("nowhere.png", r"nowhere\.png"),
    ],
)
def test_images_that_cannot_be_used(model: DiffusionAutoencoder, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.encode_semantic(bad)
    with pytest.raises(DataError, match=message):
        model.encode(bad)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "z_sem is absent: this model decodes with z_sem of size 6"),
        ({"x_T": normal(2, 3, 16, 16)}, "z_sem is absent"),
        ({"z_sem": normal(2, 7)}, r"z_sem has shape \(2, 7\): this model's is \(images, 6\)"),
        ({"z_sem": normal(6)}, r"z_sem has shape \(6,\)"),
        ({"z_sem": normal(2, 6), "x_T": normal(2, 3, 8, 8)}, r"x_T has shape \(2, 3, 8, 8\)"),
        ({"z_sem": normal(2, 6), "x_T": normal(3, 16, 16)}, r"x_T has shape \(3, 16, 16\)"),
        ({"z_sem": normal(3, 6), "x_T": normal(2, 3, 16, 16)}, "z_sem of 3 images"),
        ({"z_sem": torch.full((2, 6), torch.nan)}, "z_sem of 2 images: must be finite"),
        ({"z_sem": normal(2, 6), "x_T": torch.full((2, 3, 16, 16), torch.inf)}, "x_T of 2 images: must be finite"),
    ],
)
def test_codes_that_cannot_be_used(model: DiffusionAutoencoder, given: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.decode(**given, sampling=QUICK)
    with pytest.raises(DataError, match=message):
        model.decode(Code(given.get("z_sem"), given.get("x_T")), sampling=QUICK)


# ------------------------------------------------------------------ the network


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_predict_noise_takes_the_level_as_number_or_tensor(prediction: Prediction) -> None:
    model, x_t, z_sem = tiny_model(prediction=prediction), normal(2, 3, 16, 16), normal(2, 6)
    with torch.inference_mode():
        for t in (1, 500, 1000):
            as_tensor = model.predict_noise(x_t, torch.tensor([t, t]), z_sem)
            torch.testing.assert_close(model.predict_noise(x_t, t, z_sem), as_tensor)
        mixed = model.predict_noise(x_t, torch.tensor([1, 1000]), z_sem)
        for i, t in enumerate((1, 1000)):
            torch.testing.assert_close(mixed[i : i + 1], model.predict_noise(x_t[i : i + 1], t, z_sem[i : i + 1]))


def test_the_time_index_is_the_level_less_one() -> None:
    model = tiny_model(prediction="eps")
    x_t, z_sem = normal(2, 3, 16, 16), normal(2, 6)
    with torch.inference_mode():
        expected = model.decoder(x_t, torch.tensor([0, 999]), z_sem)
        assert torch.equal(model.predict_noise(x_t, torch.tensor([1, 1000]), z_sem), expected)


def test_v_eps_and_x0_are_consistent() -> None:
    model = tiny_model(prediction="v")
    x_t, z_sem, t = normal(2, 3, 16, 16), normal(2, 6), 400
    signal, noise = np.sqrt(model.alpha_bar[t]), np.sqrt(1 - model.alpha_bar[t])
    with torch.inference_mode():
        v = model.decoder(x_t, torch.full((2,), t - 1), z_sem)
        eps, x_0 = model.predict_noise(x_t, t, z_sem), model.predict_x0(x_t, t, z_sem)
    torch.testing.assert_close(signal * eps - noise * x_0, v, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(signal * x_0 + noise * eps, x_t, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_predict_x0_is_equation_5(prediction: Prediction) -> None:
    model, x_0, z_sem = tiny_model(prediction=prediction), images(2), normal(2, 6)
    scales = Scales.at(model.alpha_bar, torch.tensor([300, 300]), 4)
    x_t = scales.add_noise(x_0, normal(2, 3, 16, 16))
    with torch.inference_mode():
        expected = (x_t - scales.noise * model.predict_noise(x_t, 300, z_sem)) / scales.signal
        torch.testing.assert_close(model.predict_x0(x_t, 300, z_sem), expected)


def test_predict_noise_can_be_trained_through(model: DiffusionAutoencoder) -> None:
    z_sem = normal(1, 6).requires_grad_()
    model.predict_noise(normal(1, 3, 16, 16), 500, z_sem).square().sum().backward()
    assert z_sem.grad is not None
    assert z_sem.grad.abs().max() > 0


def test_networks_are_in_evaluation_mode() -> None:
    fresh = DiffusionAutoencoder(tiny_config(dropout=0.5))
    assert not any(module.training for module in fresh.modules())
    assert fresh.device == torch.device("cpu")
    assert fresh.image_shape == (3, 16, 16)


# ------------------------------------------------------------------ without an encoder: the DDIM baseline


def test_ddim_codes_are_x_T_alone(ddim: DiffusionAutoencoder) -> None:
    x_0 = images(3)
    code = ddim.encode(x_0, EXACT)
    assert code.z_sem is None
    assert len(code) == 3
    torch.testing.assert_close(ddim.decode(code, sampling=EXACT), x_0, atol=1e-4, rtol=0)
    frames = ddim.interpolate(code[:1], code[1:2], 3, EXACT)
    torch.testing.assert_close(frames[[0, 2]], x_0[:2], atol=1e-3, rtol=0)


def test_ddim_refuses_z_sem(ddim: DiffusionAutoencoder) -> None:
    with pytest.raises(ConfigError, match="this model has no encoder"):
        ddim.encode_semantic(images(1))
    with pytest.raises(DataError, match="z_sem is given: this model decodes with z_sem of size 0"):
        ddim.decode(z_sem=normal(2, 6), x_T=normal(2, 3, 16, 16))
    with pytest.raises(DataError, match="x_T is absent: give x_T"):
        ddim.decode()


# ------------------------------------------------------------------ on disk


@pytest.mark.parametrize("z_sem_channels", [0, 6])
def test_saved_and_read_back(tmp_path: Path, z_sem_channels: int) -> None:
    model = tiny_model(tiny_config(z_sem_channels=z_sem_channels, image_channels=2), "v").to(
        "cpu"
    )  # the layout read back
    model.save_pretrained(tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["config.json", "model.safetensors"]
    again = DiffusionAutoencoder.from_pretrained(tmp_path / "run", device="cpu")
    assert again.config == model.config
    assert again.fingerprint() == model.fingerprint()
    assert not again.training
    x_t, z_sem = normal(2, 2, 16, 16), normal(2, 6) if z_sem_channels else None
    with torch.inference_mode():
        assert torch.equal(again.predict_noise(x_t, 500, z_sem), model.predict_noise(x_t, 500, z_sem))


def test_folders_that_cannot_be_read(tmp_path: Path, model: DiffusionAutoencoder) -> None:
    with pytest.raises(CheckpointError, match="is not a run folder"):
        DiffusionAutoencoder.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is not a run folder"):
        DiffusionAutoencoder.from_pretrained("nowhere")
    with pytest.raises(CheckpointError, match="'runs-of/nobody' is not a folder and cannot be loaded from the Hub"):
        DiffusionAutoencoder.from_pretrained("runs-of/nobody")
    model.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not exist"):
        DiffusionAutoencoder.from_pretrained(tmp_path)
    tiny_model(tiny_config(z_sem_channels=5)).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").rename(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="belongs to a model of another configuration"):
        DiffusionAutoencoder.from_pretrained(tmp_path)


def test_attributes_go_along(tmp_path: Path, model: DiffusionAutoencoder) -> None:
    model.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "attributes.safetensors").write_bytes(b"directions")
    DiffusionAutoencoder.from_pretrained(tmp_path / "a", "cpu").save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "attributes.safetensors").read_bytes() == b"directions"


def test_options_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: DiffusionAutoencoder) -> None:
    model.save_pretrained(tmp_path / "models" / "faces")
    said: dict[str, Any] = {}

    def snapshot_download(repo_id: str, **how: Any) -> str:
        said.update(how, repo_id=repo_id)
        return str(tmp_path / "models")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    again = DiffusionAutoencoder.from_pretrained(
        "me/models", "cpu", dtype=torch.float64, subfolder="faces", revision="v1", local_files_only=True
    )
    assert again.dtype == torch.float64
    assert again.float().fingerprint() == model.fingerprint()
    del said["allow_patterns"]
    assert said == {"repo_id": "me/models", "revision": "v1", "local_files_only": True}


def test_types_of_output(model: DiffusionAutoencoder, ddim: DiffusionAutoencoder) -> None:
    code = model.encode(images(2), QUICK)
    x = model.decode(code, sampling=QUICK)
    array = model.decode(code, sampling=QUICK, output_type="np")
    np.testing.assert_allclose(array, ((x + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).numpy(), atol=1e-6)
    pictures = model.decode(code, sampling=QUICK, output_type="pil")
    assert [picture.size for picture in pictures] == [(16, 16)] * 2
    np.testing.assert_allclose(np.asarray(pictures[0]) / 255, array[0], atol=0.5 / 255 + 1e-6)


def test_one_generator_for_each_image(model: DiffusionAutoencoder) -> None:
    z_sem = normal(2, model.config.z_sem_channels)

    def seeds() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (5, 6)]

    both = model.decode(z_sem=z_sem, sampling=QUICK, generator=seeds())
    second = model.decode(z_sem=z_sem[1:], sampling=QUICK, generator=seeds()[1:])
    torch.testing.assert_close(both[1:], second)
    with pytest.raises(ConfigError, match="generator is a list of 2: must have one for each of 1 images"):
        model.decode(z_sem=z_sem[1:], sampling=QUICK, generator=seeds())


def test_short_descriptions(model: DiffusionAutoencoder) -> None:
    code = model.encode(images(2), QUICK)
    assert repr(code) == f"Code(2 images, z_sem (2, {model.config.z_sem_channels}), x_T (2, 3, 16, 16))"
    assert repr(model).startswith("DiffusionAutoencoder(16 x 16 x 3 images, z_sem of ")
    assert len(repr(model)) < 200


def test_integer_tensors_and_a_hint(model: DiffusionAutoencoder, caplog: pytest.LogCaptureFixture) -> None:
    pixels = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(model.encode_semantic(pixels), model.encode_semantic(pixels.float() / 127.5 - 1))
    assert not caplog.records
    model.encode_semantic(pixels.float() / 255)
    assert "lies in [0, 1], but is read as [-1, 1]" in caplog.text


def test_fingerprint_is_of_the_weights() -> None:
    model = tiny_model()
    first = model.fingerprint()
    assert first == tiny_model().fingerprint()
    assert len(first) == 16
    assert first != tiny_model(seed=1).fingerprint()
    with torch.no_grad():
        model.decoder.get_parameter("out.bias")[0] += 1e-6
    assert model.fingerprint() != first


def test_push_to_hub(monkeypatch: pytest.MonkeyPatch, model: DiffusionAutoencoder) -> None:
    said: dict[str, Any] = {}

    class Hub:
        def __init__(self, token: str | None = None) -> None:
            said["token"] = token

        def create_repo(self, repo_id: str, **how: object) -> None:
            said["created"] = repo_id, how

        def upload_folder(self, repo_id: str, folder_path: Path) -> str:
            said["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            said["model"] = DiffusionAutoencoder.from_pretrained(folder_path, device="cpu")
            said["folder"] = Path(folder_path)
            return f"https://hub/{repo_id}"

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert model.push_to_hub("me/faces", private=True, token="secret") == "https://hub/me/faces"
    assert said["token"] == "secret"
    assert said["created"] == ("me/faces", {"private": True, "exist_ok": True})
    assert said["files"] == ["config.json", "model.safetensors"]
    assert said["model"].fingerprint() == model.fingerprint()
    assert not said["folder"].exists()  # the temporary folder is removed


def test_results_can_be_trained_on(model: DiffusionAutoencoder) -> None:
    """Codes and images are ordinary tensors, although they are made in inference mode."""
    code = model.encode(images(2), QUICK)
    weight = torch.ones((), requires_grad=True)
    for value in (code.z_sem, code.x_T, model.decode(code, sampling=QUICK)):
        assert value is not None
        (weight * value).square().sum().backward()
    assert weight.grad is not None


# ------------------------------------------------------------------ other parts


def custom(extra_out: int = 0, extra_z: int = 0, first_stage: HalvesConfig | None = None) -> ModelConfig:
    decoder, encoder = ThinConfig(extra_out), MeanConfig(4, extra_z)
    return ModelConfig(16, decoder=decoder, encoder=encoder, first_stage=first_stage)


def test_parts_outside_the_package(tmp_path: Path) -> None:
    model = DiffusionAutoencoder(custom())
    code = model.encode(images(2), QUICK)
    assert code.z_sem is not None
    assert code.z_sem.shape == (2, 4)
    assert model.decode(code, sampling=QUICK).shape == (2, 3, 16, 16)
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"is code outside diffae; .* trust_code=True"):
        DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")
    again = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu", trust_code=True)
    assert again.fingerprint() == model.fingerprint()
    assert not again.fingerprint().matches("0123456789abcdef")  # version 0.1 had no such parts
    torch.testing.assert_close(again.encode_semantic(images(2)), model.encode_semantic(images(2)))


@pytest.mark.usefixtures("unchecked")
def test_outputs_of_a_wrong_shape_are_named() -> None:
    decoder, encoder = DiffusionAutoencoder(custom(extra_out=1)), DiffusionAutoencoder(custom(extra_z=2))
    message = r"decoder returned shape \(2, 4, 16, 16\): must be \(2, 3, 16, 16\); correct its `forward`"
    with pytest.raises(ConfigError, match=message):
        decoder.decode(z_sem=normal(2, 4), sampling=QUICK)
    with pytest.raises(ConfigError, match=r"encoder returned shape \(2, 6\): must be \(2, 4\); correct its"):
        encoder.encode_semantic(images(2))
    with pytest.raises(ConfigError, match="encoder is None: this model has no encoder"):
        DiffusionModule(ModelConfig(16, decoder=ThinConfig(), encoder=None)).call_encoder(images(2))


def test_modules_in_place_of_those_that_the_settings_build() -> None:
    given = {"decoder": tiny_model(seed=3).decoder, "encoder": tiny_model(seed=3).encoder}
    model = DiffusionAutoencoder(tiny_model().config, **given)
    assert model.fingerprint() == tiny_model(seed=3).fingerprint()
    assert model.decoder is given["decoder"]


def test_latents_of_a_first_stage_are_diffused(tmp_path: Path) -> None:
    config = replace(custom(first_stage=HalvesConfig()), diffusion=DiffusionConfig(prediction="v"))
    model, x_0 = DiffusionAutoencoder(config), images(2)
    with torch.no_grad():
        model.decoder.get_parameter("conv.weight").mul_(0.1)
    assert torch.equal(model.from_latents(model.to_latents(x_0)), x_0)
    code = model.encode(x_0, EXACT)
    assert x_T_of(code).shape == (2, 12, 8, 8)
    torch.testing.assert_close(model.decode(code, sampling=EXACT), x_0, atol=1e-4, rtol=0)
    assert model.decode(z_sem=code.z_sem, sampling=QUICK, generator=seeded(0)).shape == (2, 3, 16, 16)
    with pytest.raises(DataError, match=r"x_T has shape \(2, 3, 16, 16\): this model's is \(images, \(12, 8, 8\)\)"):
        model.decode(z_sem=code.z_sem, x_T=normal(2, 3, 16, 16))


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_networks_of_other_widths_than_the_weights_are_never_built(tmp_path: Path, part: str) -> None:
    """These would take terabytes."""
    tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["model"][part] |= {"model_channels": 2**18, "channel_mult": [1, 1]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="belongs to a model of another configuration"):
        DiffusionAutoencoder.from_pretrained(tmp_path, "cpu")


def test_frozen_encoders_are_not_saved(tmp_path: Path) -> None:
    model = DiffusionAutoencoder(ModelConfig(16, decoder=ThinConfig(), encoder=FrozenConfig()))
    assert isinstance(model.encoder, FrozenEncoder)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    assert sorted(weights) == ["decoder.conv.bias", "decoder.conv.weight", "decoder.z.bias", "decoder.z.weight"]
    again = DiffusionAutoencoder.from_pretrained(tmp_path, "cpu", trust_code=True)
    assert again.fingerprint() == model.fingerprint()
    torch.testing.assert_close(again.encode_semantic(images(2)), model.encode_semantic(images(2)))
