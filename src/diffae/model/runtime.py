"""What inference computes with: the networks in another precision, or compiled; each is made once and kept."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from diffae.errors import ConfigError

PARTS = ("decoder", "encoder", "first_stage")
"""The modules of a `DiffusionModule`; the last two may be None."""

COMPILED = ("decoder", "encoder")
"""Those that are compiled: a first stage has no `forward`."""

Parts = dict[str, nn.Module | None]

Model = TypeVar("Model", bound=nn.Module)

log = logging.getLogger(__name__)

_COMPILERS = ("torch._dynamo", "torch._inductor")
"""Where the errors of `torch.compile` are defined."""


def supports_bfloat16(device: torch.device) -> bool:
    """Whether the hardware computes in bfloat16, not only emulates it, which takes longer than float32."""
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        # oneDNN, which computes it, may be kept from using what the hardware has (ONEDNN_MAX_CPU_ISA)
        return any(map(capabilities.get, ("avx512_bf16", "amx_bf16"))) and _onednn_has_bfloat16()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _onednn_has_bfloat16() -> bool:
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def warn_if_emulated(device: torch.device) -> None:
    """Warn where bfloat16 was asked of hardware that only emulates it."""
    if not supports_bfloat16(device):
        log.warning("bfloat16 is emulated by this %s: float32 is faster and exact", device.type.upper())


class Compiled(nn.Module):
    """A module compiled by `torch.compile` as one graph, when it is first called.

    Args:
        module: what is compiled; its weights are shared.
        backend: of `torch.compile`.
        name: what messages call the module.
    """

    def __init__(self, module: nn.Module, backend: str, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name
        compiled = torch.compile(module, fullgraph=True, backend=backend)  # pyright: ignore[reportUnknownMemberType]
        self._call = cast(Callable[..., Tensor], compiled)

    def forward(self, *inputs: Tensor | None) -> Tensor:
        try:
            return self._call(*inputs)
        except RuntimeError as error:
            if not type(error).__module__.startswith(_COMPILERS):
                raise
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(f"compile: the {self.name} cannot be compiled ({reason}); set compile=False") from error


class Runtime(Generic[Model]):
    """One model in other precisions, and compiled. Converted models follow the weights of the first.

    Args:
        build: makes a model of decoder, encoder and first stage.
    """

    def __init__(self, build: Callable[..., Model]) -> None:
        self._build = build
        self._converted: dict[torch.dtype, tuple[object, Model]] = {}
        self._compiled: dict[tuple[torch.dtype, str], tuple[Parts, Model]] = {}

    def of(self, model: Model, dtype: torch.dtype, backend: str | None) -> Model:
        """The model with networks that compute in `dtype`, compiled by `backend` if one is named."""
        if dtype != next(model.parameters()).dtype:
            model = self._convert(_parts(model), dtype)
        return model if backend is None else self._compile(_parts(model), dtype, backend)

    def _convert(self, parts: Parts, dtype: torch.dtype) -> Model:
        weights = _version(parts)
        if dtype not in self._converted or self._converted[dtype][0] != weights:
            converted = self._build(**copy.deepcopy(parts)).to(dtype)
            if dtype == torch.bfloat16:
                warn_if_emulated(next(converted.parameters()).device)
            self._converted[dtype] = weights, converted
        return self._converted[dtype][1]

    def _compile(self, parts: Parts, dtype: torch.dtype, backend: str) -> Model:
        key = dtype, backend
        if key not in self._compiled or self._compiled[key][0] != parts:
            compiled = {name: Compiled(part, backend, name) for name in COMPILED if (part := parts[name]) is not None}
            self._compiled[key] = parts, self._build(**parts | compiled)
        return self._compiled[key][1]


def _parts(model: nn.Module) -> Parts:
    return {name: getattr(model, name) for name in PARTS}


def _version(parts: Parts) -> object:
    """Changes whenever a weight is written to, moved or replaced."""
    modules = [part for part in parts.values() if part is not None]
    tensors = [tensor for part in modules for tensor in (*part.parameters(), *part.buffers())]
    # tensors made in inference mode count no writes
    return [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]  # pyright: ignore[reportPrivateUsage]
