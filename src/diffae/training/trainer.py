"""The training loop: one for every network; what is trained, and on what, is a `Task`.

Adam (AdamW where weights decay) or Muon, gradients clipped, an exponential moving average of the weights,
data-parallel through accelerate. Nothing in a step waits for the device: losses are collected there and read every
LOG_EVERY steps.
"""

from __future__ import annotations

import copy
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from diffae.config import TrainingConfig
from diffae.device import default_device
from diffae.errors import TrainingError, require
from diffae.training.logger import Journal
from diffae.training.muon import Muon
from diffae.training.state import STATE, load_state, save_state

LOG_EVERY = 20
"""Steps between two lines of metrics.jsonl, and between two looks at the losses on the device."""


class Task(Protocol):
    """What differs between one trained network and another."""

    @property
    def networks(self) -> nn.Module:
        """What is trained."""
        ...

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Any]:
        """This process's share of the batches of steps `start`, `start + 1`, and so on, without end."""
        ...

    def losses(self, networks: nn.Module, batch: Any, step: int, device: torch.device, parts: int) -> Iterator[Tensor]:
        """The mean loss of each of `parts` equal parts of the batch."""
        ...

    def validate(self, networks: nn.Module, images: int) -> dict[str, float]:
        """Metrics of the averaged networks; draws pictures where it has some."""
        ...

    def export(self, networks: nn.Module) -> None:
        """Write the averaged networks for inference."""
        ...


def use_bfloat16(config: TrainingConfig, device: torch.device) -> bool:
    """Whether to compute in bfloat16: where stated, or where the machine has arithmetic for it."""
    if config.precision != "auto":
        return config.precision == "bfloat16"
    if device.type == "cpu":
        capabilities = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


@contextmanager
def interruptible() -> Iterator[list[bool]]:
    """Ctrl-C only sets the flag, so that a step is finished and saved; a second one interrupts at once."""
    stop = [False]

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop[0] = True

    if threading.current_thread() is not threading.main_thread():
        yield stop  # only the main thread hears signals
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def require_even_shares(config: TrainingConfig, processes: int) -> None:
    """Raise `ConfigError` unless every process gets as many images of a batch, in as many equal parts."""
    share = processes * config.accumulation
    rule = f"must be divisible by processes x accumulation, {share}"
    require(config.batch_size % share == 0, "batch_size", config.batch_size, rule)


class Trainer:
    """A run in progress: networks, their average, the optimiser, and how many steps were taken."""

    def __init__(self, task: Task, config: TrainingConfig, folder: Path, journal: Journal, accelerator: Accelerator):
        self.task, self.config, self.folder, self.journal, self.accelerator = task, config, folder, journal, accelerator
        require_even_shares(config, accelerator.num_processes)
        device = accelerator.device
        # on CPUs group normalisation is slow in channels-last, which costs more than its convolutions gain
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        task.networks.to(device=device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.bfloat16 = use_bfloat16(config, device)
        self.step = 0
        self.ema = copy.deepcopy(task.networks).requires_grad_(False).eval()
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": device.type != "mps"}
        if config.optimizer == "muon":
            optimizer = Muon(task.networks, **settings)
        else:
            optimizer = torch.optim.AdamW(task.networks.parameters(), **settings)
        self.networks, self.optimizer = accelerator.prepare(task.networks, optimizer)
        # listed once: walking through the modules at every step costs small networks time
        self._current: list[Tensor] = list(task.networks.parameters())
        self._averaged: list[Tensor] = list(self.ema.parameters())

    def _average(self) -> None:
        """EMA: averaged <- decay averaged + (1 - decay) current, with a decay that grows while the run is young."""
        warm = (1 + self.step) / (10 + self.step) if self.config.ema_warmup else 1.0
        get_ema_multi_avg_fn(min(self.config.ema_decay, warm))(self._averaged, self._current, None)

    @property
    def images(self) -> int:
        """Images seen so far."""
        return min(self.step * self.config.batch_size, self.config.images)

    @property
    def learning_rate(self) -> float:
        """That of the next step: it rises over the warm-up, stays, and falls over the cooldown."""
        warmup = max(self.config.warmup_images / self.config.batch_size, 1)
        cooldown = max(self.config.cooldown * self.config.steps, 1)
        risen, left = (self.step + 1) / warmup, (self.config.steps - self.step) / cooldown
        return self.config.learning_rate * min(1.0, risen, left)

    def take_step(self, batch: Any) -> Tensor:
        """One optimiser step; returns this process's mean loss and the gradient's norm, still on the device."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        parts = self.config.accumulation
        total = torch.zeros((), device=self.accelerator.device)
        losses = self.task.losses(self.networks, batch, self.step, self.accelerator.device, parts)
        for part in range(parts):
            last = part == parts - 1
            with nullcontext() if last else self.accelerator.no_sync(self.networks):
                with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bfloat16):
                    loss = next(losses)
                self.accelerator.backward(loss / parts)
            total += loss.detach() / parts
        norm = self.accelerator.clip_grad_norm_(self._current, self.config.clip_norm)
        assert norm is not None
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._average()
        self.step += 1
        return torch.stack([total, norm])

    def check(self, steps: list[Tensor]) -> float:
        """Mean of the losses of the latest steps (what `take_step` returned), over all processes.

        Raises:
            TrainingError: a loss or a gradient is not finite. It comes before anything of these steps is saved, so the
                run folder keeps the last good state.
        """
        every = self.accelerator.reduce(torch.stack(steps), reduction="mean").tolist()  # type: ignore[union-attr]
        for step, (loss, norm) in enumerate(every, start=self.step - len(every) + 1):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"loss {loss:.4g} and gradient norm {norm:.4g} in step {step}: training diverged"
                start = "resume" if (self.folder / STATE).exists() else "start again"
                raise TrainingError(f"{what}; {start} with a lower --learning-rate, or with --precision float32")
        return sum(loss for loss, _ in every) / len(every)

    def save(self) -> None:
        """Write the state for resuming, and the averaged networks for use."""
        if self.accelerator.is_main_process:
            networks = self.accelerator.unwrap_model(self.networks)
            save_state(self.folder, networks, self.ema, self.optimizer, self.step)
            self.task.export(self.ema)

    def validate(self) -> None:
        """Measure the averaged networks, on the main process."""
        if self.accelerator.is_main_process:
            self.journal.report(self.step, self.images, **self.task.validate(self.ema, self.images))
        self.accelerator.wait_for_everyone()

    def due(self, every: int) -> bool:
        """Whether the latest step passed a multiple of `every` images."""
        batch = self.config.batch_size
        return self.step * batch // every > (self.step - 1) * batch // every

    def stopping(self, flag: bool) -> bool:
        """Whether any process was interrupted. Several agree only when they meet for logging, to stop together."""
        if self.accelerator.num_processes == 1:
            return flag
        if self.step % LOG_EVERY:
            return False
        votes = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device))
        return bool(votes > 0)  # type: ignore[operator]

    def run(self) -> bool:
        """Train to the end; returns False when interrupted (the state is saved either way)."""
        latest: list[Tensor] = []
        start, first = time.monotonic(), self.images
        batches = self.task.batches(self.step, self.accelerator.process_index, self.accelerator.num_processes)
        with interruptible() as stop:
            while self.step < self.config.steps:
                latest.append(self.take_step(next(batches)))
                last = self.step == self.config.steps
                interrupted = not last and self.stopping(stop[0])
                save = last or interrupted or self.due(self.config.save_every)
                validate = last or self.due(self.config.validate_every)
                if save or validate or self.step % LOG_EVERY == 0:
                    self._tell(self.check(latest), (self.images - first) / (time.monotonic() - start))
                    latest = []
                if save:
                    self.save()
                if validate:
                    self.validate()
                if interrupted:
                    return False
        return True

    def _tell(self, loss: float, rate: float) -> None:
        if self.accelerator.is_main_process:
            values = {"loss": loss, "images_per_second": rate, "learning_rate": self.learning_rate}
            self.journal.report(self.step, self.images, **values)
            self.journal.show(self.images, loss, rate)

    def resume(self) -> None:
        """Go back to the state last saved, and forget what was reported after it."""
        self.step = load_state(self.folder, self.task.networks, self.ema, self.optimizer)
        if self.accelerator.is_main_process:
            self.journal.forget_after(self.step)
            self.journal.resume_at(self.images)
        self.accelerator.wait_for_everyone()


def train(task: Task, config: TrainingConfig, folder: Path, journal: Journal, *, resume: bool) -> bool:
    """Train a task's networks in a run folder; returns whether it reached its end (False: interrupted and saved).

    Raises:
        ConfigError: a batch that the processes cannot share evenly.
        CheckpointError: nothing to resume from, or a state of another configuration.
        TrainingError: the loss is not finite, or the disk is full.
    """
    # precision is `take_step`'s business: accelerate's own setting can be made only once in a process
    accelerator = Accelerator(cpu=default_device().type == "cpu", mixed_precision="no")
    trainer = Trainer(task, config, folder, journal, accelerator)
    if resume:
        trainer.resume()
    with journal:
        return trainer.run()
