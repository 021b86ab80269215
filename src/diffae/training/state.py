"""The full state of a training run as one safetensors file: weights, EMA weights, the optimiser's moments, the step.

Every random number of training is a function of the seed and the step, so no generator state is stored.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from diffae import checkpoint
from diffae.errors import CheckpointError, reading

STATE = Path("training") / "state.safetensors"


class Position(NamedTuple):
    """Where a run is."""

    step: int
    """Optimiser steps taken."""
    unreported: list[float]
    """Losses that are not in metrics.jsonl yet."""
    unvalidated: bool = False
    """Whether this step is still to be validated: its validation was interrupted."""


def save_state(
    folder: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, position: Position
) -> None:
    """Write the state atomically."""
    tensors = {f"model.{name}": value for name, value in checkpoint.own_state(model).items()}
    tensors |= {f"ema.{name}": value for name, value in checkpoint.own_state(ema).items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
    metadata = {name: json.dumps(value) for name, value in position._asdict().items()}
    checkpoint.write_tensors(folder / STATE, tensors, metadata)


def load_state(folder: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Restore the state; returns where the run was when it was saved.

    Raises:
        CheckpointError: there is none, it is damaged, or it belongs to another configuration.
    """
    path = folder / STATE
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: this run saved no state; start again with --overwrite")
    tensors, metadata = checkpoint.read_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "adam": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    checkpoint.load_weights(model, parts["model"], path)
    checkpoint.load_weights(ema, parts["ema"], path)
    with reading(path, "start again with --overwrite", CheckpointError, "has no step or no moments of this run"):
        _load_moments(optimizer, parts["adam"])
        losses = [float(loss) for loss in json.loads(metadata.get("unreported", "[]"))]
        return Position(int(metadata["step"]), losses, json.loads(metadata.get("unvalidated", "false")) is True)


def _load_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, _, kind = name.partition(".")
        moments.setdefault(int(index), {})[kind] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, kinds in moments.items():
        for kind, value in kinds.items():  # in the memory layout of their parameter, which a fused Adam requires
            if value.shape == parameters[index].shape:
                kinds[kind] = torch.empty_like(parameters[index]).copy_(value)
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": moments, "param_groups": groups})
