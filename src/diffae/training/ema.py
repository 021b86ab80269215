"""Exponential moving average of a module's weights and buffers."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA:
    """A copy of a module whose floating-point parameters and buffers follow the module's on average.

    Frozen parts (submodules with a true attribute `frozen`) are shared with the module, not copied. Buffers that are
    not floating point are copied at every update.

    Args:
        module: what is averaged; `averaged` starts as a copy of it.
        decay: of the average, per step.
        warmup: let the decay grow as (1 + n) / (10 + n) with the step n.
    """

    def __init__(self, module: nn.Module, decay: float, *, warmup: bool) -> None:
        frozen = [part for part in module.modules() if getattr(part, "frozen", False)]
        self.averaged = copy.deepcopy(module, {id(part): part for part in frozen}).requires_grad_(False).eval()
        self.decay, self.warmup = decay, warmup
        # listed once: walking through the modules at every step costs small networks time
        kept = {id(tensor) for part in frozen for tensor in (*part.parameters(), *part.buffers())}
        pairs = [
            pair
            for old, new in (
                (self.averaged.parameters(), module.parameters()),
                (self.averaged.buffers(), module.buffers()),
            )
            for pair in zip(old, new, strict=True)
            if id(pair[1]) not in kept
        ]
        self._averaged, self._current = _columns([pair for pair in pairs if pair[0].is_floating_point()])
        self._copied = [pair for pair in pairs if not pair[0].is_floating_point()]

    def update(self, step: int) -> None:
        """averaged <- decay averaged + (1 - decay) current."""
        warm = (1 + step) / (10 + step) if self.warmup else 1.0
        get_ema_multi_avg_fn(min(self.decay, warm))(self._averaged, self._current, None)
        for averaged, current in self._copied:
            averaged.copy_(current)


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [averaged for averaged, _ in pairs], [current for _, current in pairs]
