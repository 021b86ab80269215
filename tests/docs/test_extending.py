"""Every example of docs/extending.md works: what it adds is trained, saved, refused, read back and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from analytic import Mixture
from auxiliary_loss import ThumbnailConfig
from awake import awake
from block_cosines import BlockCosinesConfig
from blocks import ROOT, blocks
from dit import DiT, DiTConfig
from encoder import ConvEncoder, ConvEncoderConfig
from heun import Heun
from safetensors.torch import load_file, save_file
from source import IDXSource
from task import SHIFTS, TASK
from torch import Tensor, nn
from torch.utils.data import Dataset

import diffae
from diffae import checkpoint
from diffae.config import DiffusionConfig, ModelConfig, Sampling
from diffae.data import build_pack
from diffae.data.images import to_tensor
from diffae.data.pack import Pack
from diffae.diffusion.schedules import alpha_bar_of
from diffae.diffusion.settings import Solver
from diffae.diffusion.solvers import DDIM, x0_hat
from diffae.diffusion.timesteps import levels_of
from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.evaluation.context import EvaluationContext
from diffae.evaluation.material import Images
from diffae.evaluation.runner import evaluate
from diffae.evaluation.statistics import Estimate
from diffae.evaluation.task import counts_of
from diffae.latent.codes import StoredCodes, load_codes, save_codes
from diffae.model import DiffusionAutoencoder
from diffae.networks.settings import UNetConfig, UNetEncoderConfig
from diffae.training.auxiliary_losses.base import AuxiliaryBatch
from diffae.training.ema import EMA
from diffae.training.muon import parameter_groups
from diffae.training.settings import TrainingConfig
from sketchfaces import sketch_faces

EXAMPLES = ROOT / "docs" / "examples" / "extending"
SIZE = 16
UNET = UNetConfig(8, (1, 2), res_blocks=1, attention_resolutions=(8,), time_channels=16)
ENCODER = UNetEncoderConfig(8, 8, (1, 2), res_blocks=1, attention_resolutions=(8,))
DIT = DiTConfig(patch_size=4, width=16, depth=2, heads=2)
CONV = ConvEncoderConfig(z_sem_channels=8, width=8, levels=2)
BASE = ModelConfig(SIZE, decoder=UNET, encoder=ENCODER, diffusion=DiffusionConfig(prediction="v"))
TRAINING = TrainingConfig(
    images=32, batch_size=8, learning_rate=1e-3, precision="float32", val_images=2, validate_every=32, save_every=32
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    """Drawn faces."""
    return Pack.from_arrays([sketch_faces(20, SIZE, seed=0).images], tmp_path_factory.mktemp("faces") / "faces.pack")


@pytest.fixture(scope="module")
def x(pack: Pack) -> Tensor:
    """Some of them, in [-1, 1]."""
    return to_tensor(pack.fetch(np.arange(3)))


def train(pack: Any, run: Path, config: ModelConfig, training: TrainingConfig = TRAINING) -> DiffusionAutoencoder:
    """Train a few steps; checks that the loss is finite and that all weights that can learn have moved."""
    torch.manual_seed(0)
    model = DiffusionAutoencoder(config)
    before = {name: parameter.detach().clone() for name, parameter in model.decoder.named_parameters()}
    assert diffae.train_autoencoder(pack, run, model, training)
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in metrics if "loss" in line]
    assert losses
    assert np.isfinite(losses).all()
    after = dict(model.decoder.named_parameters())
    moved = [name for name, values in before.items() if not torch.equal(values, after[name].detach().cpu())]
    assert len(moved) > len(before) / 2
    return model.eval()


def read_back(run: Path, part: str, kind: str) -> DiffusionAutoencoder:
    """The model of a run, which names a part by its import path and is read only when its code is trusted."""
    settings = json.loads((run / "config.json").read_text())["model"]
    assert settings[part]["kind"] == kind
    with pytest.raises(CheckpointError) as refused:
        DiffusionAutoencoder.from_pretrained(run, "cpu")
    assert f"{part} is '{kind}': is code outside diffae" in str(refused.value)
    assert "trust_code=True" in str(refused.value)
    assert "\n" not in str(refused.value)
    return DiffusionAutoencoder.from_pretrained(run, "cpu", trust_code=True)


def awake_model(config: ModelConfig) -> DiffusionAutoencoder:
    """A model whose zero-initialised layers have weights, with a decoder whose steps can be inverted."""
    model = awake(DiffusionAutoencoder(config))
    with torch.no_grad():
        model.decoder.get_parameter("out.weight").mul_(0.3)
    return model.to("cpu")


def round_trip_error(model: DiffusionAutoencoder, x: Tensor) -> float:
    """Mean squared error of images that are encoded exactly and decoded."""
    sampling = Sampling(6)
    code = model.encode(x, sampling)
    assert code.residual is not None
    assert code.residual.max() < sampling.tolerance
    return (model.decode(code, sampling=sampling) - x).square().mean().item()


# ---------------------------------------------------------------------- the page


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_page_shows_the_file(file: Path) -> None:
    shown = [block.code.strip() for block in blocks() if block.page == "docs/extending.md"]
    code = file.read_text(encoding="utf-8").strip()
    assert code in shown
    assert 30 <= len(code.splitlines()) <= 92


# ---------------------------------------------------------------------- a decoder


def test_decoder_is_trained_and_read_back(pack: Pack, x: Tensor, tmp_path: Path) -> None:
    train(pack, tmp_path / "run", replace(BASE, decoder=DIT), replace(TRAINING, optimizer="muon"))
    model = read_back(tmp_path / "run", "decoder", "dit:DiTConfig")
    assert isinstance(model.decoder, DiT)
    assert model.config.decoder == DIT
    model.save_pretrained(tmp_path / "again")
    again = DiffusionAutoencoder.from_pretrained(tmp_path / "again", "cpu", trust_code=True)
    code = model.encode(x, Sampling(4, inversion="explicit"))
    assert torch.equal(model.decode(code, sampling=Sampling(4)), again.decode(code, sampling=Sampling(4)))
    assert model.fingerprint() == again.fingerprint()


def test_decoder_is_inverted_exactly(x: Tensor) -> None:
    assert round_trip_error(awake_model(replace(BASE, decoder=DIT)), x) < 1e-6


@pytest.mark.parametrize("encoder", [ENCODER, None])
def test_decoder_starts_at_zero_and_depends_on_all_inputs(encoder: Any) -> None:
    config = replace(BASE, decoder=DIT, encoder=encoder)
    x_t, time = torch.randn(2, 3, SIZE, SIZE), torch.tensor([3, 700])
    z_sem = torch.randn(2, 8) if encoder else None
    assert torch.equal(DiffusionAutoencoder(config).decoder(x_t, time, z_sem), torch.zeros_like(x_t))
    decoder = awake(DiffusionAutoencoder(config).decoder)
    output = decoder(x_t, time, z_sem)
    assert not torch.allclose(output, decoder(x_t, time + 100, z_sem), atol=1e-3)
    assert not torch.allclose(output, decoder(x_t.roll(4, 3), time, z_sem).roll(-4, 3), atol=1e-3)  # knows positions
    if z_sem is not None:
        assert not torch.allclose(output, decoder(x_t, time, z_sem + 1), atol=1e-3)


def test_decoder_puts_patches_back_where_they_were() -> None:
    """With an embedding that is the identity, and nothing else, the decoder returns its input, normalised by patch."""
    decoder = DiT(DiTConfig(patch_size=4, width=48, depth=0, heads=1), (3, SIZE, SIZE), 0)
    with torch.no_grad():
        for layer in (decoder.patchify, decoder.out):
            layer.get_parameter("weight").copy_(torch.eye(48).view(layer.get_parameter("weight").shape))
            layer.get_parameter("bias").zero_()
        decoder.position.zero_()
    x_t = torch.randn(2, 3, SIZE, SIZE)
    patches = F.pixel_unshuffle(x_t, 4).movedim(1, -1)
    wanted = F.pixel_shuffle(F.layer_norm(patches, (48,)).movedim(-1, 1), 4)
    torch.testing.assert_close(decoder(x_t, torch.zeros(2).long(), None), wanted)


def test_decoder_leaves_its_modulation_to_adam() -> None:
    decoder = DIT.build((3, SIZE, SIZE), 8)
    matrices, others = (set(map(id, group)) for group in parameter_groups(decoder))
    assert {id(p) for name, p in decoder.named_parameters() if "modulation" in name} <= others
    assert id(decoder.get_parameter("blocks.0.qkv.weight")) in matrices


def test_decoder_refuses_sizes_that_do_not_fit() -> None:
    with pytest.raises(ConfigError, match="patch_size is 5: must divide the side, 16"):
        replace(BASE, decoder=replace(DIT, patch_size=5))
    with pytest.raises(ConfigError, match="heads is 3: must divide the width, 16"):
        replace(BASE, decoder=replace(DIT, heads=3))


# ---------------------------------------------------------------------- an encoder


def test_encoder_is_trained_and_read_back(pack: Pack, x: Tensor, tmp_path: Path) -> None:
    trained = train(pack, tmp_path / "run", replace(BASE, encoder=CONV))
    model = read_back(tmp_path / "run", "encoder", "encoder:ConvEncoderConfig")
    assert isinstance(model.encoder, ConvEncoder)
    assert any(name.startswith("encoder.") for name in load_file(tmp_path / "run" / "model.safetensors"))
    untrained = DiffusionAutoencoder(model.config)
    assert all(p.requires_grad for p in trained.parameters())
    assert model.encode_semantic(x).shape == (3, 8)
    assert not torch.allclose(model.encode_semantic(x), untrained.encode_semantic(x))


def test_encoder_with_exact_inversion(x: Tensor) -> None:
    assert round_trip_error(awake_model(replace(BASE, encoder=CONV)), x) < 1e-6


@pytest.fixture
def frozen(tmp_path: Path) -> ModelConfig:
    """A model with an encoder that was trained before."""
    path = tmp_path / "encoder.safetensors"
    save_file(awake(CONV.build((3, SIZE, SIZE))).state_dict(), path)
    return replace(BASE, encoder=replace(CONV, weights=str(path)))


def test_frozen_encoder_is_neither_trained_nor_saved(
    pack: Pack, x: Tensor, frozen: ModelConfig, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = train(pack, run, frozen)
    assert isinstance(frozen.encoder, ConvEncoderConfig)
    weights = load_file(str(frozen.encoder.weights))
    assert trained.encoder is not None
    for name, values in trained.encoder.state_dict().items():
        assert torch.equal(values.cpu(), weights[name])
    for file in (run / "model.safetensors", run / "training" / "state.safetensors"):
        assert not [name for name in load_file(file) if "encoder." in name]
    model = read_back(run, "encoder", "encoder:ConvEncoderConfig")
    assert torch.equal(model.encode_semantic(x), trained.to("cpu").encode_semantic(x))


def test_frozen_encoder_is_shared_by_the_average_and_not_hashed(frozen: ModelConfig) -> None:
    model = DiffusionAutoencoder(frozen)
    assert isinstance(model.encoder, nn.Module)
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert all(parameter.requires_grad for parameter in model.decoder.parameters())
    assert EMA(model, 0.9, warmup=False).averaged.get_submodule("encoder") is model.encoder
    before = model.fingerprint()
    with torch.no_grad():
        model.encoder.get_parameter("out.bias").add_(1)
    assert model.fingerprint() == before
    with torch.no_grad():
        model.decoder.get_parameter("out.bias").add_(1)
    assert model.fingerprint() != before


# ---------------------------------------------------------------------- a solver


def order(solver: Solver) -> float:
    """The observed order of convergence on Gaussian data, whose ODE has a closed solution.

    Compared at level 1: the step from there to the clean image is Euler's in every solver here.
    """
    alpha_bar = alpha_bar_of(DiffusionConfig("cosine", levels=20_000))
    mixture = Mixture(torch.full((1, 2, 3), 0.4, dtype=torch.float64), 0.5, alpha_bar)
    top = 16_000
    x_T = torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x_1 = mixture.flow(x_T, top, 1)
    exact = x0_hat(x_1, mixture.eps(x_1, 1), alpha_bar[1])
    errors = []
    for steps in (40, 80):
        levels = levels_of(steps, "quadratic", top)
        errors.append((solver.decode(mixture.eps, x_T, levels, alpha_bar) - exact).abs().max().item())
    return float(np.log2(errors[0] / errors[1]))


def test_solver_is_of_second_order() -> None:
    assert order(DDIM()) == pytest.approx(1, abs=0.15)
    assert order(Heun()) == pytest.approx(2, abs=0.2)


def test_solver_decodes_and_does_not_encode(x: Tensor) -> None:
    model = awake_model(BASE)
    z_sem, x_T = model.encode_semantic(x), torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    calls: list[Tensor] = []
    model.decoder.register_forward_hook(lambda module, given, output: calls.append(given[1]))
    seen: list[int] = []
    sampling = Sampling(8, solver=Heun())
    decoded = model.decode(z_sem=z_sem, x_T=x_T, sampling=sampling, callback=lambda t, _: seen.append(t))
    assert len(seen) == 8
    assert len(calls) == 15  # two of each step, one of the last
    assert not torch.allclose(decoded, model.decode(z_sem=z_sem, x_T=x_T, sampling=Sampling(8)), atol=1e-2)
    clipped = model.decode(
        z_sem=z_sem, x_T=x_T, sampling=Sampling(8, solver=Heun(), inversion="explicit", clip_x0=True)
    )
    assert clipped.abs().max() <= 1 + 1e-6
    with pytest.raises(ConfigError, match=r"^solver is Heun\(\): has no inverse, .*; encode with solver=\"ddim\".*$"):
        model.encode(x, Sampling(8, solver=Heun()))


def test_solver_in_a_codes_file(tmp_path: Path) -> None:
    path, sampling = tmp_path / "codes.safetensors", Sampling(8, solver=Heun())
    save_codes(path, StoredCodes(["a", "b"], "0123", sampling, torch.zeros(2, 8)))
    with pytest.raises(CheckpointError, match=r"solver is 'heun:Heun': is code outside diffae; .* trust_code=True$"):
        load_codes(path)
    assert load_codes(path, trust_code=True).sampling == sampling


# ---------------------------------------------------------------------- an evaluation task


def test_task_runs_and_is_cached(pack: Pack, tmp_path: Path) -> None:
    images = Images(pack, np.arange(len(pack)))
    context = EvaluationContext(awake_model(BASE), images, images, tmp_path / "report")
    lines: list[str] = []
    counts = counts_of([TASK], changes=["shifted=12"])
    found = evaluate(context, [TASK], counts=counts, log=lines.append)["shift"]
    assert lines[-1] != "[1/1] shift: there already"
    (table,) = found.result.tables
    assert [row[0] for row in table.rows] == list(SHIFTS)
    distances = [row[1] for row in table.rows]
    for distance in distances:
        assert isinstance(distance, Estimate)
        assert 0 < distance.low <= distance.value <= distance.high
        assert distance.count == 12
    assert {"model", "test", "seed", "counts.shifted"} <= set(found.parts)
    assert "train" not in found.parts
    assert (tmp_path / "report" / "shift-distance.csv").is_file()
    assert evaluate(context, [TASK], counts=counts, log=lines.append)["shift"].result == found.result
    assert lines[-1] == "[1/1] shift: there already"
    evaluate(context, [TASK], counts=counts_of([TASK], changes=["shifted=13"]), log=lines.append)
    assert lines[-1] != "[1/1] shift: there already"


# ---------------------------------------------------------------------- a data source


def write_idx(path: Path, values: np.ndarray) -> Path:
    """An IDX file, as MNIST's authors define it."""
    header = bytes([0, 0, 8, values.ndim]) + b"".join(side.to_bytes(4, "big") for side in values.shape)
    path.write_bytes(header + values.astype(np.uint8).tobytes())
    return path


def test_source_becomes_a_pack(tmp_path: Path) -> None:
    gray = sketch_faces(37, SIZE, seed=1).images[..., 1]
    classes = np.arange(37) % 10
    source = IDXSource(write_idx(tmp_path / "images", gray), write_idx(tmp_path / "classes", classes))
    assert source.count == 37
    pack = build_pack(source, tmp_path / "cache", size=SIZE, channels=1, workers=2)
    np.testing.assert_array_equal(pack.fetch(np.arange(37))[..., 0], gray)
    assert pack.labels is not None
    assert tuple(pack.labels.columns) == ("class",)
    np.testing.assert_array_equal(pack.labels.values[:, 0], classes)
    assert build_pack(source, tmp_path / "cache", size=SIZE, channels=1).path == pack.path
    larger = build_pack(source, tmp_path / "cache", size=2 * SIZE, channels=3)
    assert larger.shape == (37, 2 * SIZE, 2 * SIZE, 3)


def test_source_refuses_other_files(tmp_path: Path) -> None:
    three, two = (write_idx(tmp_path / f"{count}", np.zeros((count, 4, 4))) for count in (3, 2))
    (tmp_path / "packed.gz").write_bytes(b"\x1f\x8b")
    with pytest.raises(DataError, match="is no IDX file"):
        IDXSource(tmp_path / "packed.gz", three)
    with pytest.raises(DataError, match=r"has 3 images, .* has 2 classes"):
        IDXSource(three, two)


# ---------------------------------------------------------------------- an auxiliary loss


def test_auxiliary_loss_is_trained_resumed_and_not_saved(pack: Pack, x: Tensor, tmp_path: Path) -> None:
    run, training = tmp_path / "run", replace(TRAINING, auxiliary_losses=(ThumbnailConfig(weight=2.0),))
    train(pack, run, BASE, replace(training, images=24))
    losses = json.loads((run / "config.json").read_text())["training"]["auxiliary_losses"]
    assert losses == [{"kind": "auxiliary_loss:ThumbnailConfig", "weight": 2.0, "side": 4}]
    weights = load_file(run / "model.safetensors")
    assert weights.keys() == checkpoint.own_state(DiffusionAutoencoder(BASE)).keys()
    layer, name = "model.losses.0.linear.weight", run / "training" / "state.safetensors"
    before = load_file(name)[layer]
    assert diffae.train_autoencoder(pack, run, BASE, training, resume=True)
    assert not torch.equal(load_file(name)[layer], before)
    assert DiffusionAutoencoder.from_pretrained(run, "cpu").encode_semantic(x).shape == (3, 8)  # needs no other code


def test_auxiliary_loss_is_that_of_the_thumbnail() -> None:
    loss = ThumbnailConfig(side=2).build(BASE, 0)
    images = torch.rand(3, 3, SIZE, SIZE)
    with torch.no_grad():
        loss.get_parameter("linear.weight").zero_()
        loss.get_parameter("linear.bias").zero_()
    thumbnails = images.unflatten(3, (2, 8)).unflatten(2, (2, 8)).mean(dim=(3, 5))
    torch.testing.assert_close(loss(torch.randn(3, 8), AuxiliaryBatch(images, None)), thumbnails.square().mean())


# ---------------------------------------------------------------------- a first stage


STAGED = replace(BASE, first_stage=BlockCosinesConfig(2), decoder=replace(UNET, channel_mult=(1, 2)))


def test_first_stage_is_trained_and_read_back(pack: Pack, tmp_path: Path) -> None:
    train(pack, tmp_path / "run", STAGED)
    model = read_back(tmp_path / "run", "first_stage", "block_cosines:BlockCosinesConfig")
    assert model.config.latent_shape == (12, SIZE // 2, SIZE // 2)


def test_first_stage_is_exact(x: Tensor) -> None:
    model = awake_model(STAGED)
    latents = model.to_latents(x)
    torch.testing.assert_close(model.from_latents(latents), x, atol=1e-6, rtol=0)
    assert latents.norm() == pytest.approx(x.norm())
    block = x[:, :, 2:4, 4:6]
    torch.testing.assert_close(latents[:, :3, 1, 2], block.sum(dim=(2, 3)) / 2)  # frequency 0 of all channels
    torch.testing.assert_close(latents[:, 3, 1, 2], (block[:, 0, :, 0] - block[:, 0, :, 1]).sum(dim=1) / 2)
    assert model.encode(x, Sampling(4)).x_T.shape == latents.shape  # pyright: ignore[reportOptionalMemberAccess]
    assert round_trip_error(model, x) < 1e-7
    with pytest.raises(ConfigError, match="block is 3: must divide the side of the images, 16"):
        replace(BASE, first_stage=BlockCosinesConfig(3))


# ---------------------------------------------------------------------- a torch Dataset


class Faces(Dataset):
    """Drawn faces as float tensors with a label, as torchvision's datasets yield them."""

    def __init__(self, count: int) -> None:
        self.images = to_tensor(sketch_faces(count, SIZE, seed=2).images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.images[index], index % 2


def test_torch_dataset_is_training_data(tmp_path: Path) -> None:
    train(Faces(20), tmp_path / "run", BASE)
    model = DiffusionAutoencoder.from_pretrained(tmp_path / "run", "cpu")
    assert model.encode_semantic(Faces(2).images).shape == (2, 8)
    with pytest.raises(DataError, match="images are 3 x 16 pixels"):
        diffae.train_autoencoder(Faces(20), tmp_path / "other", replace(BASE, image_channels=1), TRAINING)
