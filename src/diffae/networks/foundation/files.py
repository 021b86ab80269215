"""Networks in files, ONNX or TorchScript, which map a batch of images to one or several outputs."""

# The libraries that open networks are not typed.
# pyright: standard

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from diffae.errors import DataError

Outputs = Callable[[Tensor], Mapping[str, Tensor]]
"""Maps images (b, 3, h, w) in the network's own range, on the CPU, to its outputs by name."""

RANGES = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "symmetric": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation: a network takes (RGB in [0, 1] - mean) / std."""


def vectors_in(outputs: Mapping[str, Tensor]) -> list[Tensor]:
    """The feature vectors among a network's outputs: the one called `pooled`, else those of two dimensions."""
    return [outputs["pooled"]] if "pooled" in outputs else [x for x in outputs.values() if x.dim() == 2]


def open_onnx(path: Path) -> Outputs:
    """Load an ONNX network; images are resized to the size it takes, if that is fixed.

    Raises:
        DataError: onnxruntime is not installed, the file is no ONNX network, or it does not take batches of RGB images.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DataError(f"{path} needs onnxruntime: install it with `pip install diffae[features]`") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors only
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class
        raise DataError(f"{path} is not an ONNX network ({str(error).splitlines()[0]}); check the file") from None
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    takes = ", ".join(f"{one.name} {one.shape} {one.type}" for one in inputs)
    takes_rgb = len(shape) == 4 and (shape[1] == 3 or not isinstance(shape[1], int))
    if not takes_rgb or inputs[0].type != "tensor(float)":
        raise DataError(f"{path} takes {takes}: it must take one float32 batch of images, (b, 3, h, w)")
    if isinstance(shape[0], int) and shape[0] != 1:
        raise DataError(f"{path} takes batches of {shape[0]} images only: export it with a free batch dimension")
    names = [output.name for output in session.get_outputs()]
    fixed = [size for size in shape[2:] if isinstance(size, int)]

    def run(x: Tensor) -> dict[str, Tensor]:
        if len(fixed) == 2:
            x = nn.functional.interpolate(x, fixed, mode="bilinear", antialias=True)
        parts = x.split(1) if shape[0] == 1 else [x]
        try:
            found = [session.run(names, {inputs[0].name: part.contiguous().numpy()}) for part in parts]
        except Exception as error:  # onnxruntime's errors share no class
            raise _failure(path, x, str(error)) from None
        return {name: torch.from_numpy(np.concatenate(values)) for name, *values in zip(names, *found, strict=True)}

    return run


def open_torchscript(path: Path) -> Outputs:
    """Load a TorchScript network.

    Raises:
        DataError: the file is no TorchScript network.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, but such files exist
            network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} is neither an ONNX nor a TorchScript network ({reason}); check the file") from None

    def run(x: Tensor) -> Mapping[str, Tensor]:
        try:
            found = network(x)
        except (RuntimeError, torch.jit.Error) as error:
            raise _failure(path, x, str(error).strip().splitlines()[-1]) from None
        several = found if isinstance(found, (tuple, list)) else [found]
        outputs = found if isinstance(found, dict) else {f"output{i}": value for i, value in enumerate(several)}
        if not all(isinstance(value, Tensor) for value in outputs.values()):
            raise DataError(f"{path} gives outputs that are not tensors: it must give one, or several by name or place")
        return outputs

    return run


def _failure(path: Path, x: Tensor, reason: str) -> DataError:
    reason = " ".join(reason.split())
    return DataError(f"{path} fails on images {tuple(x.shape)} ({reason}): it must take (b, 3, h, w)")
