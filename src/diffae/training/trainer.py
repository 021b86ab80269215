"""The training loop, for every network; a `Task` says what is trained, and on what.

AdamW or Muon with clipped gradients, an exponential moving average of the weights, data-parallel through accelerate.
No step waits for the device: losses are collected there and read every LOG_EVERY steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from diffae.console import Update
from diffae.data.locks import in_use
from diffae.devices import default_device
from diffae.errors import TrainingError, require
from diffae.interrupts import deferred
from diffae.model.runtime import supports_bfloat16, warn_if_emulated
from diffae.training.ema import EMA
from diffae.training.logger import Logger
from diffae.training.muon import Muon
from diffae.training.settings import TrainingConfig
from diffae.training.state import STATE, Position, load_state, save_state

SAVE_SECONDS = 600.0
"""The state is saved at least this often, so that a crash never costs more."""

LOG_EVERY = 20
"""Steps between two lines of metrics.jsonl, and between two readings of the losses on the device."""


class Task(Protocol):
    """What is trained, on which data, and with which loss."""

    @property
    def networks(self) -> nn.Module:
        """What is trained."""
        ...

    def batches(self, start: int, rank: int, world_size: int) -> Iterator[Any]:
        """This process's share of the batches of steps `start`, `start + 1`, ..., without end."""
        ...

    def losses(self, networks: nn.Module, batch: Any, step: int, device: torch.device, parts: int) -> Iterator[Tensor]:
        """The mean loss of each of `parts` equal parts of the batch."""
        ...

    def validate(self, networks: nn.Module, images: int, update: Update) -> dict[str, float]:
        """Metrics of the averaged networks; may also write pictures.

        Every process calls it, and calls `update` with the share done, 0 to 100.
        """
        ...

    def validated(self) -> None:
        """Called in the first process after the metrics were logged."""
        ...

    def export(self, networks: nn.Module) -> None:
        """Write the averaged networks for inference."""
        ...


def use_bfloat16(config: TrainingConfig, device: torch.device) -> bool:
    """Whether to compute in bfloat16: as stated, or for "auto" where the hardware supports it."""
    if config.precision == "bfloat16":
        warn_if_emulated(device)
    return config.precision == "bfloat16" or (config.precision == "auto" and supports_bfloat16(device))


def require_even_shares(config: TrainingConfig, processes: int) -> None:
    """Raise `ConfigError` unless the batch divides evenly among processes and accumulation steps."""
    share = processes * config.accumulation
    rule = f"must be divisible by processes x accumulation, {share}"
    require(config.batch_size % share == 0, "batch_size", config.batch_size, rule)


class _Interrupted(Exception):
    """Raised in a validation that is interrupted."""


class _Clock:
    """Time spent training, without validations and saving, and since the state was saved."""

    def __init__(self, images: int) -> None:
        self.first, self.start, self.aside = images, time.monotonic(), 0.0
        self.saved()

    def saved(self) -> None:
        self._saved = time.monotonic()

    def since_saved(self) -> float:
        return time.monotonic() - self._saved

    def rate(self, images: int) -> float:
        """Images per second."""
        return (images - self.first) / max(time.monotonic() - self.start - self.aside, 1e-9)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        begin = time.monotonic()
        yield
        self.aside += time.monotonic() - begin


class Trainer:
    """A run in progress: networks, their average, the optimiser, and how many steps were taken."""

    def __init__(self, task: Task, config: TrainingConfig, folder: Path, logger: Logger, accelerator: Accelerator):
        self.task, self.config, self.folder, self.logger, self.accelerator = task, config, folder, logger, accelerator
        require_even_shares(config, accelerator.num_processes)
        device = accelerator.device
        # on CPUs channels-last slows group normalisation down more than it speeds convolutions up
        layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        task.networks.to(device=device, memory_format=layout)  # pyright: ignore[reportCallIssue]
        self.bfloat16 = use_bfloat16(config, device)
        self.step = 0
        self.unreported: list[float] = []
        """Losses of the steps since the last line of metrics.jsonl."""
        self.unvalidated = False
        """Whether the validation of this step was interrupted."""
        self.clock = _Clock(0)
        task.networks.train()
        for part in task.networks.modules():
            if getattr(part, "frozen", False):
                part.eval()
        self._trained = [parameter for parameter in task.networks.parameters() if parameter.requires_grad]
        self._ema = EMA(task.networks, config.ema_decay, warmup=config.ema_warmup)
        self.ema = self._ema.averaged
        settings = {"lr": config.learning_rate, "weight_decay": config.weight_decay, "fused": device.type != "mps"}
        if config.optimizer == "muon":
            optimizer = Muon(task.networks, **settings)
        else:
            optimizer = torch.optim.AdamW(self._trained, **settings)
        self.networks, self.optimizer = accelerator.prepare(task.networks, optimizer)

    @property
    def images(self) -> int:
        """Images seen so far."""
        return min(self.step * self.config.batch_size, self.config.images)

    @property
    def learning_rate(self) -> float:
        """Of the next step: rises over the warm-up, stays constant, falls over the cooldown."""
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
        norm = self.accelerator.clip_grad_norm_(self._trained, self.config.clip_norm)
        assert norm is not None
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._ema.update(self.step)
        self.step += 1
        return torch.stack([total, norm])

    def check(self, steps: list[Tensor]) -> list[float]:
        """Losses of the latest steps (the results of `take_step`), means over all processes.

        Raises:
            TrainingError: a loss or a gradient is not finite. Raised before these steps are saved, so that the run
                folder keeps the last good state.
        """
        every = self.accelerator.reduce(torch.stack(steps), reduction="mean").tolist()  # type: ignore[union-attr]
        for step, (loss, norm) in enumerate(every, start=self.step - len(every) + 1):
            if not (math.isfinite(loss) and math.isfinite(norm)):
                what = f"loss {loss:.4g} and gradient norm {norm:.4g} in step {step}: training diverged"
                start = "resume" if (self.folder / STATE).exists() else "start again"
                raise TrainingError(f"{what}; {start} with a lower --learning-rate, or with --precision float32")
        return [loss for loss, _ in every]

    def save(self) -> None:
        """Write the state for resuming, and the averaged networks for use."""
        if self.accelerator.is_main_process:
            networks = self.accelerator.unwrap_model(self.networks)
            position = Position(self.step, self.unreported, self.unvalidated)
            save_state(self.folder, networks, self.ema, self.optimizer, position)
            self.task.export(self.ema)
        self.clock.saved()

    def validate(self, stop: Sequence[bool]) -> bool:
        """Measure the averaged networks, on all processes; the first reports.

        Returns:
            False if `stop` came true before the end, which breaks off the validation of a single process.
        """
        alone = self.accelerator.num_processes == 1
        try:
            with self.logger.validating() as shown:

                def update(done: int, note: str = "") -> None:
                    if stop[0] and alone:
                        raise _Interrupted
                    shown(done, note)

                metrics = self.task.validate(self.ema, self.images, update)
        except _Interrupted:
            self.unvalidated = True
            return False
        self.unvalidated = False
        if self.accelerator.is_main_process:
            self.logger.report(self.step, self.images, **metrics)
            self.logger.picture(self.images)
            self.task.validated()
        self.accelerator.wait_for_everyone()
        return True

    def due(self, every: int) -> bool:
        """Whether the latest step passed a multiple of `every` images."""
        batch = self.config.batch_size
        return self.step * batch // every > (self.step - 1) * batch // every

    def agreed(self, flag: bool) -> bool:
        """Whether a flag is true in any process; several processes ask each other only every LOG_EVERY steps."""
        if self.accelerator.num_processes == 1:
            return flag
        if self.step % LOG_EVERY:
            return False
        votes = self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device))
        return bool(votes > 0)  # type: ignore[operator]

    def run(self) -> bool:
        """Train to the end; returns False when interrupted (the state is saved in both cases).

        A step is validated before it is saved: what a kill interrupts is done again by the run that resumes. A
        validation that was interrupted is noted in the state.
        """
        batches = self.task.batches(self.step, self.accelerator.process_index, self.accelerator.num_processes)
        latest: list[Tensor] = []
        with deferred() as stop:
            if self.unvalidated:
                validated = self.validate(stop)
                self.save()
                if not validated:
                    return False
            self.clock = _Clock(self.images)
            while self.step < self.config.steps:
                latest.append(self.take_step(next(batches)))
                self.logger.show(self.images)
                last = self.step == self.config.steps
                interrupted = not last and self.agreed(stop[0])
                late = self.agreed(self.clock.since_saved() > SAVE_SECONDS)
                save = last or interrupted or late or self.due(self.config.save_every)
                validate = last or self.due(self.config.validate_every)
                if save or validate or self.step % LOG_EVERY == 0:
                    self.unreported += self.check(latest)
                    latest = []
                if last or self.step % LOG_EVERY == 0:
                    self._report()
                with self.clock.stopped():
                    if validate:
                        interrupted = not self.validate(stop) or interrupted
                    if save or interrupted:
                        self.save()
                if interrupted:
                    return False
        return True

    def _report(self) -> None:
        loss = sum(self.unreported) / len(self.unreported)
        self.unreported = []
        self.logger.show(self.images, loss)
        if self.accelerator.is_main_process:
            rate = self.clock.rate(self.images)
            values = {"loss": loss, "images_per_second": rate, "learning_rate": self.learning_rate}
            self.logger.report(self.step, self.images, **values)

    def resume(self) -> None:
        """Restore the state last saved, and drop what was logged after it."""
        self.step, self.unreported, self.unvalidated = load_state(
            self.folder, self.task.networks, self.ema, self.optimizer
        )
        if self.accelerator.is_main_process:
            if self.step >= self.config.steps:
                self.task.export(self.ema)  # the run may have been killed between saving and exporting
            self.logger.drop_after(self.step)
            self.logger.resume_at(self.images)
        self.accelerator.wait_for_everyone()


def train(task: Task, config: TrainingConfig, folder: Path, logger: Logger, *, resume: bool) -> bool:
    """Train a task's networks in a run folder; returns True at the end, False if interrupted and saved.

    Raises:
        ConfigError: a batch that the processes cannot share evenly.
        CheckpointError: nothing to resume from, a state of another configuration, or a folder that another process
            is training in.
        TrainingError: the loss is not finite, or the disk is full.
    """
    # `take_step` sets the precision: accelerate's own setting can be made only once in a process
    accelerator = Accelerator(cpu=default_device().type == "cpu", mixed_precision="no")
    with in_use(folder) if accelerator.is_main_process else nullcontext():
        trainer = Trainer(task, config, folder, logger, accelerator)
        if resume:
            trainer.resume()
        with logger:
            return trainer.run()
