"""The feature networks that papers use: Inception for FID, LPIPS, ArcFace; their weights are checked by hash.

Inception and LPIPS come from torchmetrics, which needs torch-fidelity and torchvision for them and downloads the
weights on first use. Both packages are imported only where they are used, since torchvision does not work with every
build of PyTorch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from diffae.data.images import to_unit
from diffae.errors import DataError

LPIPS = {
    "lpips-alex": ("LPIPS-Alex", "alex", "alexnet-owt-7be5be79.pth"),
    "lpips-vgg": ("LPIPS-VGG", "vgg", "vgg16-397923af.pth"),
    "lpips-squeeze": ("LPIPS-Squeeze", "squeeze", "squeezenet1_1-b8a52dc0.pth"),
}
"""Label, torchmetrics' name, and the backbone's weights file, whose name holds the start of its SHA-256."""

INCEPTION_WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
ARCFACE_FILE = Path(".insightface") / "models" / "buffalo_l" / "w600k_r50.onnx"
ARCFACE_SHA256 = "4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43"
KNOWN = ("inception", *LPIPS, "arcface")


def open_inception() -> Callable[[Tensor], Tensor]:
    """Load FID's Inception network (TensorFlow's weights of 2015): RGB images in [-1, 1] => (b, 2048).

    Raises:
        DataError: torch-fidelity is missing, or its weights are missing or not the published ones.
    """
    with _needing("inception", "torch-fidelity", INCEPTION_WEIGHTS):
        from torchmetrics.image.fid import NoTrainInceptionV3

        network = NoTrainInceptionV3("inception-v3-compat", ["2048"], antialias=False)
    return lambda x: network((to_unit(x) * 255).round().to(torch.uint8))  # float [-1, 1] => uint8 [0, 255]


def open_lpips(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Load an LPIPS network (Zhang et al. 2018): the distance of each pair of RGB images in [-1, 1].

    Raises:
        DataError: torchvision is missing or cannot be imported, or the weights are missing or not the published ones.
    """
    _, net, weights = LPIPS[name]
    with _needing(name, "torchvision", weights):
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric = LearnedPerceptualImagePatchSimilarity(net)  # pyright: ignore[reportArgumentType]
    return lambda a, b: metric.net(a.clamp(-1, 1), b.clamp(-1, 1)).flatten()


@contextmanager
def _needing(name: str, package: str, weights: str) -> Iterator[None]:
    """Say what a network needs if it cannot be loaded, and check the file of weights if it can."""
    try:
        yield
    except (ImportError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        remedy = (
            f"it needs {package} (`pip install diffae[metrics]`) and its weights; or name the file of another network"
        )
        raise DataError(f"feature network {name!r} is not available ({reason}): {remedy}") from None
    check_hash(Path(torch.hub.get_dir()) / "checkpoints" / weights)


def arcface_file() -> str:
    """Path of the face recognition network of insightface's "buffalo_l", where that package keeps it.

    Raises:
        DataError: it is missing, or is another file.
    """
    path = Path.home() / ARCFACE_FILE
    if not path.is_file():
        remedy = "put w600k_r50.onnx of insightface's buffalo_l there, or name a face network's file instead"
        raise DataError(f"feature network 'arcface': {path} does not exist; {remedy}")
    check_hash(path, ARCFACE_SHA256)
    return str(path)


def check_channels(shape: Sequence[int]) -> None:
    """Raise `DataError` unless images of shape (..., c, h, w) are grey or RGB, as feature networks require."""
    if shape[-3] not in (1, 3):
        remedy = "leave feature networks out, or evaluate a model of 1 or 3 of these channels"
        raise DataError(f"images have {shape[-3]} channels: feature networks take gray or RGB, 1 or 3; {remedy}")


def check_hash(path: Path, expected: str | None = None) -> None:
    """Raise `DataError` unless a file's SHA-256 begins as expected, by default as its name ends: "net-12345678.pth"."""
    expected = expected or path.stem.rpartition("-")[2]
    try:
        found = sha256(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read to check its hash ({error.strerror}); fetch it again") from None
    if not found.startswith(expected):
        what = f"{path} has SHA-256 {found[:12]}..., not {expected[:12]}..."
        raise DataError(f"{what}: it is damaged or another file; delete it and fetch it again")


def sha256(path: Path) -> str:
    """A file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
