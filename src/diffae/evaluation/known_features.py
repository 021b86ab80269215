"""The feature networks of the literature, by name: Inception for FID, LPIPS, ArcFace; their weights checked by hash.

Inception and LPIPS come through torchmetrics, which takes them from torch-fidelity and torchvision; these fetch the
weights on first use. Neither package is needed elsewhere, and torchvision cannot be imported beside every build of
PyTorch: both are imported where they are used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffae.data.images import to_unit
from diffae.errors import DataError

LPIPS = {
    "lpips-alex": ("LPIPS-Alex", "alex", "alexnet-owt-7be5be79.pth"),
    "lpips-vgg": ("LPIPS-VGG", "vgg", "vgg16-397923af.pth"),
    "lpips-squeeze": ("LPIPS-Squeeze", "squeeze", "squeezenet1_1-b8a52dc0.pth"),
}
"""Label, torchmetrics' name, and the file of the backbone's weights, which carries the start of its SHA-256."""

INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
ARCFACE_FILE = Path(".insightface") / "models" / "buffalo_l" / "w600k_r50.onnx"
ARCFACE_SHA256 = "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
KNOWN = ("inception", *LPIPS, "arcface")


def open_inception() -> Callable[[Tensor], Tensor]:
    """The Inception network of the FID (2048 features, TensorFlow's weights of 2015): images in [-1, 1] => (b, 2048).

    Raises:
        DataError: torch-fidelity is missing, or its weights cannot be had or are not the published ones.
    """
    try:
        from torchmetrics.image.fid import NoTrainInceptionV3

        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], antialias=False)
    except (ImportError, RuntimeError, OSError) as error:
        raise _unavailable("inception", "torch-fidelity", error) from None
    check_hash(_weights_folder() / INCEPTION_WEIGHTS)

    @torch.no_grad()
    def run(x: Tensor) -> Tensor:
        return network((to_unit(as_rgb(x)) * 255).round().to(torch.uint8))  # float [-1, 1] => uint8 [0, 255]

    return run


def open_lpips(name: str) -> tuple[str, Callable[[Tensor, Tensor], Tensor]]:
    """An LPIPS network (Zhang et al. 2018): its label, and the distance of pairs of images in [-1, 1].

    Raises:
        DataError: torchvision is missing or cannot be imported, or its weights cannot be had or are not the published.
    """
    label, net, weights = LPIPS[name]
    try:
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        network = _NoTrainLpips(net=net)  # pyright: ignore[reportArgumentType]
    except (ImportError, RuntimeError, OSError) as error:
        raise _unavailable(name, "torchvision", error) from None
    check_hash(_weights_folder() / weights)

    @torch.no_grad()
    def measure(a: Tensor, b: Tensor) -> Tensor:
        return network(*(as_rgb(image).clamp(-1, 1) for image in (a, b))).flatten()

    return label, measure


def arcface_file() -> str:
    """The face recognition network of insightface's "buffalo_l", where that package keeps it.

    Raises:
        DataError: it is not there, or is another file.
    """
    path = Path.home() / ARCFACE_FILE
    if not path.is_file():
        remedy = "put w600k_r50.onnx of insightface's buffalo_l there, or name a face network's file instead"
        raise DataError(f"feature network 'arcface': {path} does not exist; {remedy}")
    check_hash(path, ARCFACE_SHA256)
    return str(path)


def check_channels(shape: Sequence[int]) -> None:
    """Raise `DataError` unless images of a shape (..., c, h, w) are gray or RGB: feature networks see nothing else."""
    if shape[-3] not in (1, 3):
        remedy = "leave feature networks out, or evaluate a model of 1 or 3 of these channels"
        raise DataError(f"images have {shape[-3]} channels: feature networks take gray or RGB, 1 or 3; {remedy}")


def as_rgb(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Gray or RGB images as RGB in float32, on the CPU.

    Raises:
        DataError: other channels.
    """
    check_channels(x.shape)
    return x.detach().cpu().float().expand(-1, 3, -1, -1)


def check_hash(path: Path, expected: str | None = None) -> None:
    """Raise `DataError` unless a file's SHA-256 begins as expected; by default as its name says: "net-12345678.pth"."""
    expected = expected or path.stem.rpartition("-")[2]
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read to check its hash ({error.strerror}); fetch it again") from None
    if not found.startswith(expected):
        what = f"{path} has SHA-256 {found[:12]}..., not {expected[:12]}..."
        raise DataError(f"{what}: it is damaged or another file; delete it and fetch it again")


def _weights_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _unavailable(name: str, package: str, error: Exception) -> DataError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    remedy = f"it needs the package {package} and its weights; or name the file of another network (.onnx)"
    return DataError(f"feature network {name!r} cannot be had ({reason}): {remedy}")
