"""Feature networks: vectors for Frechet and kernel distances, and perceptual distances between images.

A network is a file (ONNX or TorchScript), one of those that papers use, by name (`KNOWN`), or a function of your own.
Every number carries the network's name: only the Inception network gives a FID, only the LPIPS networks give LPIPS.

A file must take one batch of images, (b, 3, h, w) float32, RGB in [0, 1]; another range is named behind an @, as in
"net.onnx@imagenet". Of its outputs, the one called `pooled`, or else the first of two dimensions, is the feature
vector; those of four dimensions are the feature maps of a perceptual distance.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.known_features import (
    ARCFACE_SHA256,
    KNOWN,
    LPIPS,
    arcface_file,
    check_channels,
    open_inception,
    open_lpips,
    sha256,
)

BATCH = 64
"""Images per call of a network."""

Range = Literal["unit", "symmetric", "imagenet"]
"""A network's input range: [0, 1]; [-1, 1]; or [0, 1] minus ImageNet's mean, over its standard deviation."""

Outputs = Callable[[Tensor], Mapping[str, Tensor]]
Kind = Literal["vectors", "distance"]

# name and range of known files, by their SHA-256
_FILES: dict[str, tuple[str, Range]] = {
    "f0a23ef77e9b835743cceabc3159dbf9b24a6877952ce5d84e5f60dffc8973a4": ("SqueezeNet", "unit"),
    "74c5a21f6fa4634dfb95ab6f21fcd5d9487500290c476d8df467713e21e5988a": ("MobileFaceNet", "imagenet"),
    ARCFACE_SHA256: ("ArcFace", "symmetric"),
}


class FeatureNetwork:
    """A network that maps images to features: from a file or by name with `open`, or any function.

    Args:
        name: what its numbers are labelled with.
        outputs: maps RGB images (b, 3, h, w), float32 in [-1, 1] on the CPU, to feature vectors (b, d), or to a dict
            of vectors, "pooled", and feature maps (b, c, h', w'); None if there are no features.
        measure: a perceptual distance of pairs of such images => (b,); by default the feature maps are compared.
        key: identifies the weights: results are computed again when it changes.
        standard: whether papers mean this network by FID, KID or LPIPS.
    """

    def __init__(
        self,
        name: str,
        outputs: Callable[[Tensor], Tensor | Mapping[str, Tensor]] | None,
        measure: Callable[[Tensor, Tensor], Tensor] | None = None,
        key: str = "",
        *,
        standard: bool = False,
    ) -> None:
        self.name, self.key, self._standard = name, key, standard
        self._outputs, self._measure = outputs, measure

    @classmethod
    def open(cls, source: str | Path) -> FeatureNetwork:
        """Load a network.

        Args:
            source: an ONNX (.onnx) or TorchScript (.pt, .pth, .ts, .torchscript) file, with @unit, @symmetric or
                @imagenet behind it if its range is not [0, 1]; or one of `KNOWN`: "inception" (FID), "lpips-alex",
                "lpips-vgg", "lpips-squeeze", "arcface".
        Raises:
            DataError: there is no such file or name, the file is damaged or does not take images, or the package or
                the weights of a known network are missing.
        """
        source = str(source)
        if source in LPIPS:
            return cls(LPIPS[source][0], None, open_lpips(source), source, standard=True)
        if source == "inception":
            return cls("Inception", open_inception(), key=source, standard=True)
        path, given = _split(arcface_file() if source == "arcface" else source)
        digest = sha256(path)
        name, range_ = _FILES.get(digest, (_own_name(path.stem), "unit"))
        range_ = given or range_
        run = (_open_onnx if path.suffix.lower() == ".onnx" else _open_torchscript)(path)
        return cls(name, lambda x: run(_in_range(to_unit(x), range_)), key=f"{digest} {range_}")

    @property
    def frechet_name(self) -> str:
        """Name of a Frechet distance of its features: "FID" for Inception alone, else such as "FD-SqueezeNet"."""
        return "FID" if self._standard else f"FD-{self.name}"

    @property
    def kernel_name(self) -> str:
        """Name of a kernel distance of its features: "KID" for Inception alone."""
        return "KID" if self._standard else f"KD-{self.name}"

    @property
    def distance_name(self) -> str:
        """Name of its perceptual distance: "LPIPS-..." for the LPIPS networks alone."""
        return self.name if self._standard else f"{self.name} distance"

    def gives(self, size: int) -> frozenset[Kind]:
        """What it returns for square images of a size: feature vectors, a perceptual distance, or both.

        Raises:
            DataError: it fails on such images, or returns neither.
        """
        if self._outputs is None:
            return frozenset({"distance"})
        outputs = self._call(torch.zeros(1, 3, size, size))
        dimensions = {value.dim() for value in outputs.values()}
        found: set[Kind] = {"vectors"} if 2 in dimensions or "pooled" in outputs else set()
        if 4 in dimensions or self._measure:
            found.add("distance")
        if not found:
            raise DataError(f"{self.name} gives neither vectors (b, d) nor maps (b, c, h, w): export it with such")
        return frozenset(found)

    def vectors(self, images: Float[Tensor, "b c h w"]) -> Float[np.ndarray, "b d"]:
        """The feature vector of each image, float32.

        Args:
            images: in [-1, 1], grey or RGB; values outside are clamped.
        Raises:
            DataError: images have other channels, or the network has no feature vectors.
        """
        parts = [self._vectors(x) for x in images.split(BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, 0), np.float32)

    def similarity(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[np.ndarray, " b"]:
        """Cosine of the feature vectors of each pair, -1 to 1: with a face network, identity preservation."""
        one, other = self.vectors(a), self.vectors(b)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        return (one * other).sum(axis=1) / np.maximum(lengths, 1e-12)

    def distance(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[np.ndarray, " b"]:
        """Perceptual distance of each pair: the network's own measure (LPIPS), else between its feature maps.

        The latter: features are scaled to length 1 at each position; their squared differences are summed over
        channels and maps, and averaged over positions (Zhang et al. 2018, Eq. 1 with all weights 1).

        Raises:
            DataError: the shapes differ, or the network has no feature maps.
        """
        if a.shape != b.shape:
            raise DataError(f"images have shapes {tuple(a.shape)} and {tuple(b.shape)}: they must be the same")
        compare = self._measure or self._compare_maps
        with torch.no_grad():
            parts = [compare(_as_rgb(x), _as_rgb(y)) for x, y in zip(a.split(BATCH), b.split(BATCH), strict=True)]
        return torch.cat(parts).numpy()

    @torch.no_grad()
    def _call(self, x: Tensor) -> Mapping[str, Tensor]:
        found = self._outputs(_as_rgb(x)) if self._outputs else {}
        return {"pooled": found} if isinstance(found, Tensor) else found

    def _vectors(self, x: Tensor) -> np.ndarray:
        found = self._call(x)
        vectors = [found["pooled"]] if "pooled" in found else [value for value in found.values() if value.dim() == 2]
        if not vectors:
            raise DataError(f"{self.name} gives no feature vector (b, d): use it for the perceptual distance only")
        return vectors[0].flatten(1).float().numpy()

    def _compare_maps(self, a: Tensor, b: Tensor) -> Tensor:
        outputs = self._call(torch.cat([a, b])).values()
        maps = [nn.functional.normalize(value.double(), dim=1) for value in outputs if value.dim() == 4]
        if not maps:
            raise DataError(f"{self.name} gives no feature maps (b, c, h, w): name another network for the distance")
        return sum(((x[: len(a)] - x[len(a) :]).square().sum(1).mean((1, 2)) for x in maps), torch.zeros(len(a)))


def _as_rgb(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Grey or RGB images as RGB, float32, on the CPU."""
    check_channels(x.shape)
    return x.detach().cpu().float().expand(-1, 3, -1, -1)


# ---------------------------------------------------------------------- files


def _split(source: str) -> tuple[Path, Range | None]:
    """Split "net.onnx@imagenet" into the file and the range; None if there is no range."""
    name, at, range_ = source.rpartition("@")
    path = Path(name if at and range_ in get_args(Range) else source)
    if not path.is_file():
        rule = f"must be an ONNX or TorchScript file (with @{', @'.join(get_args(Range))} where needed)"
        raise DataError(f"feature network {source!r}: {rule}, or one of {', '.join(KNOWN)}")
    return path, next((value for value in get_args(Range) if at and value == range_), None)


def _own_name(stem: str) -> str:
    """A file's name, marked where it claims to be a known network, which only a hash can show."""
    taken = stem.lower() in ("inception", "squeezenet", "mobilefacenet", "arcface") or stem.lower().startswith("lpips")
    return f"file {stem}" if taken else stem


def _in_range(x: Tensor, range_: Range) -> Tensor:
    if range_ == "unit":
        return x
    if range_ == "symmetric":  # float [0, 1] => float [-1, 1]
        return x * 2 - 1
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (x - mean) / std  # float [0, 1] => zero mean, unit variance over ImageNet


def _resized(x: Tensor, height: int, width: int) -> Tensor:
    if tuple(x.shape[-2:]) == (height, width):
        return x
    return nn.functional.interpolate(x, (height, width), mode="bilinear", antialias=True).clamp(x.min(), x.max())


def _open_onnx(path: Path) -> Outputs:
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

    def run(x: Tensor) -> dict[str, Tensor]:
        if isinstance(shape[2], int) and isinstance(shape[3], int):
            x = _resized(x, shape[2], shape[3])
        parts = x.split(1 if shape[0] == 1 else max(len(x), 1))
        try:
            found = [session.run(names, {inputs[0].name: part.contiguous().numpy()}) for part in parts]
        except Exception as error:  # onnxruntime's errors share no class
            reason = " ".join(str(error).split())
            raise DataError(f"{path} fails on images {tuple(x.shape)} ({reason}): it must take (b, 3, h, w)") from None
        return {name: torch.from_numpy(np.concatenate(values)) for name, *values in zip(names, *found, strict=True)}

    return run


def _open_torchscript(path: Path) -> Outputs:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # TorchScript is deprecated, but such files exist
            network = torch.jit.load(str(path), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path} is neither an ONNX nor a TorchScript network ({reason}); check the file") from None

    def run(x: Tensor) -> dict[str, Tensor]:
        try:
            found = network(x)
        except (RuntimeError, torch.jit.Error) as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"{path} fails on images {tuple(x.shape)} ({reason}): it must take (b, 3, h, w)") from None
        several = found if isinstance(found, (tuple, list)) else [found]
        outputs = found if isinstance(found, dict) else {f"output{i}": value for i, value in enumerate(several)}
        if not all(isinstance(value, Tensor) for value in outputs.values()):
            raise DataError(f"{path} gives outputs that are not tensors: it must give one, or several by name or place")
        return outputs

    return run
