"""The full state of a training run as one safetensors file: weights, EMA weights, the optimiser's moments, the step.

Every random number of training is a function of the seed and the step, so no generator's state needs keeping.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from diffae import checkpoint
from diffae.errors import CheckpointError

STATE = Path("training") / "state.safetensors"


def save_state(folder: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Write the state after `step` optimiser steps, beside the old one, and rename it into place."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": value for name, value in moments.items()}
    checkpoint.write_tensors(folder / STATE, tensors, {"step": str(step)})


def load_state(folder: Path, model: nn.Module, ema: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Put the state back and return the step it was saved after.

    Raises:
        CheckpointError: there is none, it is damaged, or it belongs to another configuration.
    """
    path = folder / STATE
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist: this run saved no state; start again with --overwrite")
    tensors, metadata = checkpoint.read_tensors(path)
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "ema": {}, "adam": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    checkpoint.load_weights(model, parts["model"], path)
    checkpoint.load_weights(ema, parts["ema"], path)
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in parts["adam"].items():
        index, _, kind = name.partition(".")
        moments.setdefault(int(index), {})[kind] = value
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, kinds in moments.items():
        for kind, value in kinds.items():  # in the layout of their parameter, as a fused Adam demands
            if value.shape == parameters[index].shape:
                kinds[kind] = torch.empty_like(parameters[index]).copy_(value)
    settings = optimizer.state_dict()
    optimizer.load_state_dict({"state": moments, "param_groups": settings["param_groups"]})
    try:
        return int(metadata["step"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say its step: it was not written by diffae") from error
