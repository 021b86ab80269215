"""Networks for other runtimes: as programs of `torch.export`, and as ONNX files.

`encoder`: images (b, c, h, w) in [-1, 1] -> z_sem (b, d).
`decoder`, `student`: x_t (b, c, h, w), its level t (b,), the next level s (b,), z_sem (b, d) -> x_s and x0_hat.

Without an encoder there is no z_sem. settings.json has the levels to run down, from x_T ~ N(0, I) at the last.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffae.compat.original.folders import folder_beside
from diffae.config import Sampling
from diffae.diffusion.process import Scales
from diffae.diffusion.settings import Prediction
from diffae.diffusion.timesteps import levels_of
from diffae.errors import CheckpointError, ConfigError
from diffae.model.autoencoder import DiffusionAutoencoder
from diffae.model.module import DiffusionModule
from diffae.model.student import STEPS, path

OPSET = 20
"""Version of the ONNX operators."""

SETTINGS = "settings.json"

AGREES = 1e-3
"""Largest difference between an ONNX file and PyTorch that is accepted, in standard deviations of the output."""


class DecoderStep(nn.Module):
    """One DDIM step of a decoder, with the schedule inside (Eq. 1).

    Args:
        module: whose decoder it is.
    """

    signal: Tensor
    noise: Tensor

    def __init__(self, module: DiffusionModule) -> None:
        super().__init__()
        self.decoder = module.decoder
        self.prediction: Prediction = module.process.prediction
        self.register_buffer("signal", torch.as_tensor(np.sqrt(module.alpha_bar)).float())
        self.register_buffer("noise", torch.as_tensor(np.sqrt(1 - module.alpha_bar)).float())

    def forward(
        self,
        x_t: Float[Tensor, "b c h w"],
        t: Int[Tensor, " b"],
        s: Int[Tensor, " b"],
        z_sem: Float[Tensor, "b d"] | None = None,
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """x_s and x0_hat from x_t."""
        output = self.decoder(x_t, t - 1, z_sem)
        here, there = self._scales(t), self._scales(s)
        eps_hat = here.eps_from_output(self.prediction, output, x_t)
        x_0 = (x_t - here.noise * eps_hat) / here.signal
        return there.add_noise(x_0, eps_hat), x_0

    def _scales(self, t: Tensor) -> Scales:
        return Scales(self.signal[t][:, None, None, None], self.noise[t][:, None, None, None])


@dataclass(frozen=True)
class Part:
    """A network to export, with an example of its inputs and the names of inputs and outputs."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names: tuple[str, ...]
    outputs: tuple[str, ...]

    def program(self) -> torch.export.ExportedProgram:
        """The network as a program of `torch.export`, for any number of images."""
        batch = torch.export.Dim("batch")
        shapes = tuple({0: batch} for _ in self.inputs)
        with torch.no_grad():
            return torch.export.export(self.module.eval(), self.inputs, dynamic_shapes=shapes)


def parts_of(model: DiffusionAutoencoder) -> dict[str, Part]:
    """The networks of a model that can be exported: encoder, decoder, and student, as far as there are.

    Raises:
        ConfigError: a model of latents, whose first stage is not exported.
    """
    if model.first_stage is not None:
        kind = type(model.first_stage).__name__
        raise ConfigError(f"first_stage is {kind}: only models of pixels are exported; run this one by PyTorch")
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(model.device)

    d, shape = model.config.z_sem_channels, model.config.latent_shape
    levels = (torch.tensor([model.process.levels, 2]), torch.tensor([1, 0]))
    inputs = (normal(2, *shape), *(level.to(model.device) for level in levels), *([normal(2, d)] if d else []))
    names = ("x_t", "t", "s", "z_sem")[: len(inputs)]
    found = {"decoder": Part(DecoderStep(model), inputs, names, ("x_s", "x_0"))}
    if model.encoder is not None:
        found["encoder"] = Part(model.encoder, (normal(2, *model.image_shape),), ("images",), ("z_sem",))
    if model.student is not None:
        found["student"] = Part(DecoderStep(model.require_student().model), inputs, names, ("x_s", "x_0"))
    return found


def export_onnx(model: DiffusionAutoencoder, folder: str | Path) -> dict[str, float]:
    """Write a file NAME.onnx of each network, verified in ONNX Runtime, and settings.json.

    Args:
        model: of pixels.
        folder: to be made.

    Returns:
        For each network the largest difference from PyTorch, in standard deviations of the output.

    Raises:
        CheckpointError: the folder exists, or a file does not compute what PyTorch computes.
        ConfigError: a model that cannot be exported, or missing packages.
    """
    folder, found = Path(folder), dict[str, float]()
    if folder.exists():
        raise CheckpointError(f"{folder} exists already: choose another folder, or remove it")
    _require_packages()
    parts = parts_of(model)
    with folder_beside(folder) as made:
        for name, part in parts.items():
            _write(part, made / f"{name}.onnx")
            found[name] = difference(part, made / f"{name}.onnx")
            if not found[name] <= AGREES:
                what = f"differs from PyTorch by {found[name]:.2g} standard deviations"
                raise CheckpointError(f"the {name}'s ONNX file {what}: export with other versions of torch and onnx")
        (made / SETTINGS).write_text(json.dumps(_settings(model), indent=2) + "\n")
    return found


def _settings(model: DiffusionAutoencoder) -> dict[str, Any]:
    """Shapes, and the levels of the decoder and of the student."""
    top, sampling = model.process.levels, Sampling()
    levels = {"decoder": levels_of(min(sampling.steps, top), sampling.spacing, top)}
    if model.student is not None:
        levels |= {f"student, {steps}": path(model.student.levels, steps) for steps in STEPS}
    about = {"opset": OPSET, "image_shape": model.image_shape, "z_sem_channels": model.config.z_sem_channels}
    return about | {"model": model.fingerprint(), "levels": levels, "alpha_bar": model.alpha_bar.tolist()}


def _require_packages() -> None:
    """Raise `ConfigError` where a package is missing."""
    for name in ("onnxscript", "onnxruntime"):
        if find_spec(name) is None:
            raise ConfigError(f"package {name} is missing: install it with `pip install diffae[onnx]`")


def _write(part: Part, file: Path) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it misses torchvision, which is not used
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's use of its own deprecated names
        export = cast(Any, torch.onnx.export)  # pyright: ignore[reportUnknownMemberType]
        names = {"input_names": part.names, "output_names": part.outputs}
        export(part.program(), dynamo=True, opset_version=OPSET, verbose=False, **names).save(file)


def difference(part: Part, file: Path) -> float:
    """The largest difference of a file's outputs from PyTorch's, in standard deviations, for one image and for two."""
    session = import_module("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    worst = 0.0
    for rows in (slice(0, 2), slice(1, 2)):
        given = tuple(x[rows] for x in part.inputs)
        with torch.no_grad():
            wanted: Tensor | tuple[Tensor, ...] = part.module(*given)
        wanted = (wanted,) if isinstance(wanted, Tensor) else wanted
        got: list[np.ndarray] = session.run(
            None, {name: x.cpu().numpy() for name, x in zip(part.names, given, strict=True)}
        )
        for a, b in zip(wanted, got, strict=True):
            away = (a.cpu() - torch.as_tensor(b)).abs().max() / a.std()
            worst = max(worst, away.item())
    return worst
