"""Training of the autoencoder: resuming, several processes, interruption, divergence, and files on disk."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from torch import Tensor, nn
from training_run import BASELINE, DRY, MODEL, TRAINING

from diffae import checkpoint
from diffae.config import ModelConfig, UNetConfig
from diffae.data.batches import BatchStream
from diffae.data.pack import Pack
from diffae.errors import CheckpointError, ConfigError, DataError, TrainingError
from diffae.model import DiffusionAutoencoder, DiffusionModule
from diffae.training import trainer as loop
from diffae.training.autoencoder import AutoencoderTask, train_autoencoder
from diffae.training.held_out import held_out
from diffae.training.metrics import z_sem_unused
from diffae.training.settings import TrainingConfig
from diffae.training.state import Position, load_state, save_state

Start = Callable[..., BaseProcess]


@pytest.fixture(autouse=True)
def every_step_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOG_EVERY", 1)


def lines(run: Path) -> list[dict[str, Any]]:
    """metrics.jsonl, without the speed."""
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in found]


def losses(run: Path) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in lines(run) if "loss" in line}


def weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "model.safetensors")


def assert_same_weights(a: Path, b: Path) -> None:
    first, second = weights(a), weights(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def assert_same_training(a: Path, b: Path) -> None:
    """Equal except for the order of summation. Weights are not compared: where a gradient is exactly zero, as of a
    bias before a normalisation, Adam turns its rounding error into a step of full size."""
    assert losses(a) == pytest.approx(losses(b), rel=1e-4)
    last = [json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) for run in (a, b)]
    assert last[0]["val_loss"] == pytest.approx(last[1]["val_loss"], rel=1e-4)
    assert last[0]["val_mse_semantic"] == pytest.approx(last[1]["val_mse_semantic"], rel=1e-3)


def test_run_folder(uninterrupted: Path) -> None:
    assert len(losses(uninterrupted)) == TRAINING.steps == 12
    assert {path.name for path in uninterrupted.iterdir()} == {
        ".lock",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "report.html",
        "samples",
        "training",
    }
    assert len(list((uninterrupted / "samples").glob("*.png"))) == 2
    assert [p.name for p in (uninterrupted / "training").iterdir()] == ["state.safetensors"]
    assert DiffusionAutoencoder.from_pretrained(uninterrupted, "cpu").config == MODEL


def finished(process: BaseProcess) -> int | None:
    process.join(240)
    return process.exitcode


@pytest.fixture(scope="module")
def coarse(start: Start, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with a log line every 4 steps."""
    run = tmp_path_factory.mktemp("runs") / "coarse"
    assert finished(start(run, "log=4")) == 0
    return run


@pytest.mark.parametrize(
    ("how", "reported"),
    [
        ("kill=take_step:7", [4, 6]),  # saved after steps 4, 8 and 12; validated after 6 and 12
        ("kill=validate:6", [4]),
        ("kill=export:8", [4, 6, 8]),
        ("kill=export:12", [4, 6, 8, 12, 12]),  # trained to the end and validated, but not exported
        ("term=5", [4]),  # its validation was interrupted, too
    ],
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    start: Start, coarse: Path, tmp_path: Path, how: str, reported: list[int]
) -> None:
    """Line by line in metrics.jsonl, although some are means over steps before and after, and weight by weight."""
    run = tmp_path / "run"
    stopped = finished(start(run, "log=4", how))
    assert stopped == (-signal.SIGKILL if how.startswith("kill") else 1)  # 1: saved and returned False
    assert [line["step"] for line in lines(run)] == reported
    if how == "kill=export:12":
        assert load_file(run / "training" / "state.safetensors")
        (run / "model.safetensors").unlink()
    assert finished(start(run, "log=4", "resume")) == 0
    assert lines(run) == lines(coarse)
    assert_same_weights(run, coarse)


def test_how_often_is_logged_changes_no_training(uninterrupted: Path, coarse: Path) -> None:
    assert_same_weights(uninterrupted, coarse)
    every, few = losses(uninterrupted), losses(coarse)
    assert few == pytest.approx({end: sum(every[s] for s in range(end - 3, end + 1)) / 4 for end in (4, 8, 12)})


def test_a_finished_run_exports_again_when_resumed(pack: Pack, tmp_path: Path) -> None:
    run, short = tmp_path / "run", dataclasses.replace(TRAINING, images=16)
    assert train_autoencoder(pack, run, MODEL, short)
    before, logged = (run / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()
    (run / "model.safetensors").unlink()
    assert train_autoencoder(pack, run, MODEL, short, resume=True)
    assert (run / "model.safetensors").read_bytes() == before
    assert (run / "metrics.jsonl").read_bytes() == logged


@pytest.fixture(scope="module")
def dry(pack: Pack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run without dropout in one process, whose batches are not split."""
    run = tmp_path_factory.mktemp("runs") / "dry"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "LOG_EVERY", 1)
        train_autoencoder(pack, run, DRY, TRAINING)
    return run


def test_two_processes_train_as_one(start: Start, dry: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = ({**shared, "RANK": rank, "LOCAL_RANK": rank} for rank in ("0", "1"))  # what torchrun sets
    both = [start(tmp_path / "two", "dry", environment=environment) for environment in ranks]
    assert [finished(process) for process in both] == [0, 0]
    assert_same_training(dry, tmp_path / "two")


def test_accumulation_changes_nothing(pack: Pack, dry: Path, tmp_path: Path) -> None:
    train_autoencoder(pack, tmp_path / "parts", DRY, dataclasses.replace(TRAINING, accumulation=4))
    assert_same_training(dry, tmp_path / "parts")


def test_seed_reproduces_and_another_differs(pack: Pack, tmp_path: Path) -> None:
    short = dataclasses.replace(TRAINING, images=24)
    train_autoencoder(pack, tmp_path / "a", MODEL, short)
    train_autoencoder(pack, tmp_path / "b", MODEL, short)
    train_autoencoder(pack, tmp_path / "c", MODEL, dataclasses.replace(short, seed=1))
    assert losses(tmp_path / "a") == losses(tmp_path / "b") != losses(tmp_path / "c")
    assert_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interruption_saves_and_resumes(
    pack: Pack, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run, take_step = tmp_path / "run", loop.Trainer.take_step
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]

    def interrupt(self: loop.Trainer, batch: object) -> Tensor:
        if self.step == 5:
            os.kill(os.getpid(), number)
        return take_step(self, batch)

    monkeypatch.setattr(loop.Trainer, "take_step", interrupt)
    assert train_autoencoder(pack, run, MODEL, TRAINING) is False
    assert max(losses(run)) == 6
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers
    monkeypatch.undo()
    monkeypatch.setattr(loop, "LOG_EVERY", 1)
    assert train_autoencoder(pack, run, MODEL, TRAINING, resume=True) is True
    assert lines(run) == lines(uninterrupted)
    assert_same_weights(run, uninterrupted)


def test_a_second_control_c_interrupts_at_once(pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = list[int]()

    def interrupt_twice(self: loop.Trainer, batch: object) -> Tensor:
        taken.append(self.step)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(loop.Trainer, "take_step", interrupt_twice)
    with pytest.raises(KeyboardInterrupt):
        train_autoencoder(pack, tmp_path / "run", MODEL, TRAINING)
    assert taken == [0]


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
    save_state(tmp_path, layer, copy.deepcopy(layer), adam, Position(3, [0.5, 0.25], True))
    other, fresh = trained()
    assert load_state(tmp_path, other, copy.deepcopy(other), fresh) == (3, [0.5, 0.25], True)
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
        seen.append(self.task.networks.state_dict()["decoder.out.bias"].clone())
        return loss

    torch.manual_seed(config.seed)
    average = DiffusionModule(MODEL).state_dict()["decoder.out.bias"]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Trainer, "take_step", remember)
        train_autoencoder(pack, tmp_path / "run", MODEL, config)
    for step, value in enumerate(seen):
        decay = min(0.5, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * value
    torch.testing.assert_close(weights(tmp_path / "run")["decoder.out.bias"], average)


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
    train_autoencoder(pack, tmp_path / "ddim", BASELINE, dataclasses.replace(TRAINING, images=16))
    assert not any(name.startswith("encoder") for name in weights(tmp_path / "ddim"))
    last = lines(tmp_path / "ddim")[-1]
    assert "val_loss" in last
    assert "val_loss_shuffled" not in last


def test_unused_z_sem_is_noticed() -> None:
    assert z_sem_unused({"val_loss": 0.5, "val_loss_shuffled": 0.5})
    assert not z_sem_unused({"val_loss": 0.5, "val_loss_shuffled": 0.6})
    assert not z_sem_unused({"val_loss": 0.5})


def refused_batch(pack: Pack, out: Path) -> None:
    train_autoencoder(pack, out, MODEL, dataclasses.replace(TRAINING, accumulation=3))


def refused_size(pack: Pack, out: Path) -> None:
    other = dataclasses.replace(MODEL, image_size=32)
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
    wider = dataclasses.replace(MODEL, decoder=UNetConfig(16, (1, 2), 1, (8,), time_channels=16))
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


def test_training_loss_is_equation_6(pack: Pack, tmp_path: Path) -> None:
    """Of what the batch, the levels and the noise are: recomputed from the seed and the step."""
    model = DiffusionAutoencoder(DRY)
    task = AutoencoderTask(model, TRAINING, pack, tmp_path, {}, Console(quiet=True))
    seen: list[tuple[Tensor, Tensor, Tensor]] = []

    class Zero(nn.Module):
        def forward(self, x_t: Tensor, time: Tensor, images: Tensor, given: None) -> Tensor:
            assert given is None  # no features were stored
            seen.append((x_t, time, images))
            return torch.zeros_like(x_t)

    batch = next(task.batches(3, 0, 1))
    [loss] = task.losses(Zero(), batch, 3, torch.device("cpu"), 1)
    [(x_t, time, images)] = seen
    a = torch.from_numpy(model.alpha_bar)[time + 1].float().view(-1, 1, 1, 1)
    eps = (x_t - a.sqrt() * images) / (1 - a).sqrt()
    v = a.sqrt() * eps - (1 - a).sqrt() * images
    torch.testing.assert_close(loss, v.square().mean(), rtol=1e-3, atol=0)
    assert eps.std().item() == pytest.approx(1, abs=0.05)


def test_training_images_are_mirrored_half_of_the_time(pack: Pack) -> None:
    rows = np.arange(40)
    plain, flipped = (BatchStream(pack, rows, 40, 0, flip).batch(2) for flip in (False, True))
    assert np.array_equal(plain.indices, flipped.indices)
    mirrored = [torch.equal(b, a.flip(2)) for a, b in zip(plain.images, flipped.images, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(plain.images, flipped.images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True))
    assert 10 < sum(mirrored) < 30
