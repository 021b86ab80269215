"""The training loop: resuming, several processes, accumulation, interruption, divergence, what it leaves on disk."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from training_run import MODEL, TRAINING

from diffae import checkpoint
from diffae.config import ConfigError, ModelConfig, TrainingConfig
from diffae.data.pack import Pack
from diffae.errors import CheckpointError, DataError, TrainingError
from diffae.model import DiffusionAutoencoder
from diffae.networks.autoencoder import AutoencoderNetworks
from diffae.training import trainer as loop
from diffae.training.autoencoder import AutoencoderTask, held_out, train_autoencoder
from diffae.training.state import load_state, save_state
from diffae.training.validation import z_sem_unused

SCRIPT = Path(__file__).parents[1] / "helpers" / "training_run.py"


@pytest.fixture(autouse=True)
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """And on one thread, as the runs in other processes: the order of summation depends on their number."""
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    return Pack.from_arrays([images], tmp_path_factory.mktemp("data") / "noise.pack")


def losses(run: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def assert_same_training(a: Path, b: Path) -> None:
    """Equal but for the order of summation. Weights are not compared: Adam turns the rounding error of a gradient
    that is exactly zero (a bias before a normalisation) into steps of full size."""
    assert losses(a) == pytest.approx(losses(b), rel=1e-4)
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (a, b)]
    assert last[0]["val_loss"] == pytest.approx(last[1]["val_loss"], rel=1e-4)
    assert last[0]["val_mse_semantic"] == pytest.approx(last[1]["val_mse_semantic"], rel=1e-3)


def in_new_process(*arguments: object, launcher: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)


@pytest.fixture(scope="module")
def uninterrupted(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "whole"
    finished = in_new_process(pack.path, run)
    assert finished.returncode == 0, finished.stderr
    return run


def test_run_folder(uninterrupted: Path) -> None:
    assert len(losses(uninterrupted)) == TRAINING.steps == 12
    assert {path.name for path in uninterrupted.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "samples",
        "training",
    }
    assert len(list((uninterrupted / "samples").glob("*.png"))) == 2
    assert [p.name for p in (uninterrupted / "training").iterdir()] == ["state.safetensors"]
    assert DiffusionAutoencoder.from_pretrained(uninterrupted, "cpu").config == MODEL


def test_resuming_after_kill_gives_the_same_numbers(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    killed = in_new_process(pack.path, run, "kill", 7)  # saved after step 4, reported up to step 7
    assert killed.returncode == -signal.SIGKILL
    assert max(losses(run)) == 7
    resumed = in_new_process(pack.path, run, "resume")
    assert resumed.returncode == 0, resumed.stderr
    assert losses(run) == losses(uninterrupted)
    assert_same_weights(run, uninterrupted)


def test_two_processes_train_as_one(pack: Pack, tmp_path: Path) -> None:
    dry = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, dropout=0.0))
    train_autoencoder(pack, tmp_path / "one", dry, TRAINING)
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29611")
    finished = in_new_process(pack.path, tmp_path / "two", "dry", launcher=launcher)
    assert finished.returncode == 0, finished.stderr
    assert_same_training(tmp_path / "one", tmp_path / "two")


def test_accumulation_changes_nothing(pack: Pack, tmp_path: Path) -> None:
    dry = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, dropout=0.0))
    train_autoencoder(pack, tmp_path / "whole", dry, TRAINING)
    train_autoencoder(pack, tmp_path / "parts", dry, dataclasses.replace(TRAINING, accumulation=4))
    assert_same_training(tmp_path / "whole", tmp_path / "parts")


def test_seed_reproduces_and_another_differs(pack: Pack, tmp_path: Path) -> None:
    short = dataclasses.replace(TRAINING, images=24)
    train_autoencoder(pack, tmp_path / "a", MODEL, short)
    train_autoencoder(pack, tmp_path / "b", MODEL, short)
    train_autoencoder(pack, tmp_path / "c", MODEL, dataclasses.replace(short, seed=1))
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_interruption_saves_and_resumes(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, take_step = tmp_path / "run", loop.Trainer.take_step

    def press_control_c(self: loop.Trainer, batch: object) -> Tensor:
        if self.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return take_step(self, batch)

    monkeypatch.setattr(loop.Trainer, "take_step", press_control_c)
    assert train_autoencoder(pack, run, MODEL, TRAINING) is False
    assert max(losses(run)) == 6
    monkeypatch.undo()
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    assert train_autoencoder(pack, run, MODEL, TRAINING, resume=True) is True
    assert losses(run) == losses(uninterrupted)
    assert_same_weights(run, uninterrupted)


def test_divergence_stops_and_keeps_the_last_good_state(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AutoencoderTask.losses

    def poisoned(
        self: AutoencoderTask, networks: nn.Module, batch: object, step: int, device: torch.device, parts: int
    ) -> Iterator[Tensor]:
        for loss in honest(self, networks, batch, step, device, parts):  # pyright: ignore[reportArgumentType]
            yield loss * (float("nan") if step == 6 else 1.0)

    monkeypatch.setattr(AutoencoderTask, "losses", poisoned)
    monkeypatch.setattr(loop, "LOG_EVERY", 3)
    with pytest.raises(TrainingError, match="loss nan and gradient norm nan in step 7: training diverged; resume with"):
        train_autoencoder(pack, tmp_path / "run", MODEL, TRAINING)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(tmp_path / "run").values())
    assert load_file(tmp_path / "run" / "training" / "state.safetensors")


def test_a_gradient_that_is_not_finite_is_never_saved(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step_of = loop.Trainer.take_step

    def poison_gradient(self: loop.Trainer, batch: object) -> Tensor:
        if self.step == 3:  # the step after which a save is due
            bias = next(iter(self.task.networks.parameters()))
            bias.register_hook(lambda gradient: gradient * float("nan"))
        return step_of(self, batch)

    monkeypatch.setattr(loop.Trainer, "take_step", poison_gradient)
    monkeypatch.setattr(loop, "LOG_EVERY", 100)
    with pytest.raises(TrainingError, match="gradient norm nan in step 4: training diverged; start again"):
        train_autoencoder(pack, tmp_path / "run", MODEL, TRAINING)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_moments_are_resumed_in_the_layout_of_their_weights(tmp_path: Path) -> None:
    def trained() -> tuple[nn.Module, torch.optim.Adam]:
        layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        adam = torch.optim.Adam(layer.parameters(), lr=0.1)
        layer(torch.ones(1, 3, 5, 5)).sum().backward()
        adam.step()
        return layer, adam

    layer, adam = trained()
    save_state(tmp_path, layer, copy.deepcopy(layer), adam, 3)
    other, fresh = trained()
    assert load_state(tmp_path, other, copy.deepcopy(other), fresh) == 3
    for before, after in zip(adam.state.values(), fresh.state.values(), strict=True):
        assert torch.equal(before["exp_avg"], after["exp_avg"])
    for weight, state in fresh.state.items():
        assert state["exp_avg"].stride() == state["exp_avg_sq"].stride() == weight.stride()


def test_two_of_few_images_are_held_out(tmp_path: Path) -> None:
    for count in (10, 29, 30, 200):
        images = np.random.default_rng(count).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
        few = Pack.from_arrays([images], tmp_path / f"{count}.pack")
        train_rows, val_rows = held_out(few, TrainingConfig())
        assert 2 <= len(val_rows) <= max(2, count // 5)
        assert sorted([*train_rows, *val_rows]) == list(range(count))


def test_ema_follows_the_definition(pack: Pack, tmp_path: Path) -> None:
    config = dataclasses.replace(TRAINING, images=24, ema_decay=0.5)
    seen: list[Tensor] = []
    take_step = loop.Trainer.take_step

    def remember(self: loop.Trainer, batch: object) -> Tensor:
        loss = take_step(self, batch)
        seen.append(self.task.networks.state_dict()["unet.out.bias"].clone())
        return loss

    torch.manual_seed(config.seed)
    average = AutoencoderNetworks(MODEL.network).state_dict()["unet.out.bias"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "take_step", remember)
        train_autoencoder(pack, tmp_path / "run", MODEL, config)
    for step, value in enumerate(seen):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(weights(tmp_path / "run")["unet.out.bias"], average)


def test_learning_rate_rises_stays_and_falls(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(TRAINING, images=80, learning_rate=1.0, warmup_images=24, cooldown=0.4)
    used: list[float] = []

    def remember(self: loop.Trainer, batch: object) -> Tensor:
        used.append(self.learning_rate)
        self.step += 1
        return torch.zeros(2)

    monkeypatch.setattr(loop.Trainer, "take_step", remember)
    train_autoencoder(pack, tmp_path / "run", MODEL, config)
    assert used == pytest.approx([1 / 3, 2 / 3, 1, 1, 1, 1, 1, 3 / 4, 2 / 4, 1 / 4])  # ten steps, four of cooldown


def test_ddim_baseline_trains(pack: Pack, tmp_path: Path) -> None:
    baseline = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, z_sem_channels=0))
    train_autoencoder(pack, tmp_path / "ddim", baseline, dataclasses.replace(TRAINING, images=16))
    assert not any(name.startswith("encoder") for name in weights(tmp_path / "ddim"))
    lines = [json.loads(line) for line in (tmp_path / "ddim" / "metrics.jsonl").read_text().splitlines()]
    assert "val_loss" in lines[-1]
    assert "val_loss_shuffled" not in lines[-1]


def test_z_sem_monitor() -> None:
    assert z_sem_unused({"val_loss": 0.5, "val_loss_shuffled": 0.5})
    assert not z_sem_unused({"val_loss": 0.5, "val_loss_shuffled": 0.6})
    assert not z_sem_unused({"val_loss": 0.5})


def refused_batch(pack: Pack, out: Path) -> None:
    train_autoencoder(pack, out, MODEL, dataclasses.replace(TRAINING, accumulation=3))


def refused_size(pack: Pack, out: Path) -> None:
    other = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, image_size=32))
    train_autoencoder(pack, out, other, TRAINING)


def refused_existing(pack: Pack, out: Path) -> None:
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    train_autoencoder(pack, out, MODEL, TRAINING, overwrite=True)


def refused_resuming(pack: Pack, out: Path) -> None:
    checkpoint.write_config(out, MODEL)  # as `save_pretrained` does
    train_autoencoder(pack, out, MODEL, TRAINING, resume=True)


@pytest.mark.parametrize(
    ("act", "error", "message"),
    [
        (refused_batch, ConfigError, "batch_size is 8"),
        (refused_size, DataError, "16 pixels"),
        (refused_existing, CheckpointError, "not a run folder"),
        (refused_resuming, CheckpointError, "has no 'training': no run to resume"),
    ],
)
def test_refusals(
    pack: Pack, tmp_path: Path, act: Callable[[Pack, Path], None], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        act(pack, tmp_path / "run")
    assert not list(tmp_path.rglob("*.safetensors"))


def test_resuming_with_other_settings_is_refused(pack: Pack, uninterrupted: Path) -> None:
    def resume(model: ModelConfig = MODEL, training: TrainingConfig = TRAINING) -> None:
        train_autoencoder(pack, uninterrupted, model, training, resume=True)

    with pytest.raises(CheckpointError, match="batch_size = 8, not 4"):
        resume(training=dataclasses.replace(TRAINING, batch_size=4))
    wider = dataclasses.replace(MODEL, network=dataclasses.replace(MODEL.network, model_channels=16))
    with pytest.raises(CheckpointError, match="model_channels = 8, not 16"):
        resume(model=wider)
    with pytest.raises(CheckpointError, match="exists already"):
        train_autoencoder(pack, uninterrupted, MODEL, TRAINING)


def test_damaged_state_is_named(pack: Pack, uninterrupted: Path, tmp_path: Path) -> None:
    state = uninterrupted / "training" / "state.safetensors"
    whole = state.read_bytes()
    try:
        state.write_bytes(whole[: len(whole) // 2])
        settings = (uninterrupted / "config.json").read_text()
        with pytest.raises(CheckpointError, match=r"state\.safetensors is damaged"):
            train_autoencoder(pack, uninterrupted, MODEL, dataclasses.replace(TRAINING, images=960), resume=True)
        assert (uninterrupted / "config.json").read_text() == settings
    finally:
        state.write_bytes(whole)


def test_too_few_images(tmp_path: Path) -> None:
    few = Pack.from_arrays([np.zeros((3, 16, 16, 3), np.uint8)], tmp_path / "few.pack")
    with pytest.raises(DataError, match="3 images are too few"):
        train_autoencoder(few, tmp_path / "run", MODEL, TRAINING)
    assert not (tmp_path / "run").exists()
