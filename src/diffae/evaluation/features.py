"""Feature networks: vectors for Frechet and kernel distances, and perceptual distances between images.

A network is a file (ONNX or TorchScript), one of those that papers use, by name (`KNOWN`), or a function of your own.
Every number carries the network's name: only the Inception network gives a FID, only the LPIPS networks give LPIPS.

A file must take one batch of images, (b, 3, h, w) float32, RGB in [0, 1]; another range is named behind an @, as in
"net.onnx@imagenet". Of its outputs, the one called `pooled`, or else the first of two dimensions, is the feature
vector; those of four dimensions are the feature maps of a perceptual distance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation import known_features as known
from diffae.networks.foundation.files import RANGES, open_onnx, open_torchscript, vectors_in
from diffae.workers import each

BATCH = 64
"""Images per call of a network."""

Kind = Literal["vectors", "distance"]

# name and range of known files, by their SHA-256
_FILES = {
    "f0a23ef77e9b835743cceabc3159dbf9b24a6877952ce5d84e5f60dffc8973a4": ("SqueezeNet", "unit"),
    "74c5a21f6fa4634dfb95ab6f21fcd5d9487500290c476d8df467713e21e5988a": ("MobileFaceNet", "imagenet"),
    known.ARCFACE_SHA256: ("ArcFace", "symmetric"),
}


@dataclass(frozen=True, eq=False)
class FeatureNetwork:
    """A network that maps images to features: from a file or by name with `open`, or any function."""

    name: str
    """What its numbers are labelled with."""
    outputs: Callable[[Tensor], Tensor | Mapping[str, Tensor]] | None
    """Maps RGB images (b, 3, h, w), float32 in [-1, 1] on the CPU, to feature vectors (b, d), or to a dict of vectors,
    "pooled", and feature maps (b, c, h', w'); None if there are no features."""
    measure: Callable[[Tensor, Tensor], Tensor] | None = None
    """A perceptual distance of pairs of such images => (b,); by default the feature maps are compared."""
    key: str = ""
    """Identifies the weights: results are computed again when it changes."""
    standard: bool = field(default=False, kw_only=True)
    """Whether papers mean this network by FID, KID or LPIPS."""

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
        if source in known.LPIPS:
            return cls(known.LPIPS[source][0], None, known.open_lpips(source), source, standard=True)
        if source == "inception":
            return cls("Inception", known.open_inception(), key=source, standard=True)
        path, given = _split(known.arcface_file() if source == "arcface" else source)
        digest = known.sha256(path)
        name, usual = _FILES.get(digest, (_own_name(path.stem), "unit"))
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in RANGES[given or usual])
        run = (open_onnx if path.suffix.lower() == ".onnx" else open_torchscript)(path)
        return cls(name, lambda x: run((to_unit(x) - mean) / std), key=f"{digest} {given or usual}")

    @property
    def frechet_name(self) -> str:
        """Name of a Frechet distance of its features: "FID" for Inception alone, else such as "FD-SqueezeNet"."""
        return "FID" if self.standard else f"FD-{self.name}"

    @property
    def kernel_name(self) -> str:
        """Name of a kernel distance of its features: "KID" for Inception alone."""
        return "KID" if self.standard else f"KD-{self.name}"

    @property
    def distance_name(self) -> str:
        """Name of its perceptual distance: "LPIPS-..." for the LPIPS networks alone."""
        return self.name if self.standard else f"{self.name} distance"

    @property
    def path_length_name(self) -> str:
        """Name of a path length by its distance: "PPL-VGG", as papers mean it, for LPIPS by VGG16 alone."""
        return "PPL-VGG" if self.standard and self.key == "lpips-vgg" else f"path length, {self.distance_name}"

    def gives(self, size: int) -> frozenset[Kind]:
        """What it returns for square images of a size: feature vectors, a perceptual distance, or both.

        Raises:
            DataError: it fails on such images, or returns neither.
        """
        outputs = self._call(torch.zeros(1, 3, size, size))
        found: dict[Kind, object] = {"vectors": vectors_in(outputs), "distance": self.measure or _maps(outputs)}
        if not any(found.values()):
            raise DataError(f"{self.name} gives neither vectors (b, d) nor maps (b, c, h, w): export it with such")
        return frozenset(kind for kind, given in found.items() if given)

    def vectors(self, images: Float[Tensor, "b c h w"]) -> Float[np.ndarray, "b d"]:
        """The feature vector of each image, float32.

        Args:
            images: in [-1, 1], grey or RGB; values outside are clamped.
        Raises:
            DataError: images have other channels, or the network has no feature vectors.
        """
        return torch.cat([*each(self, "_vectors_of", images.split(BATCH))]).numpy()

    def similarity(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[np.ndarray, " b"]:
        """Cosine of the feature vectors of each pair, -1 to 1: with a face network, identity preservation."""
        one, other = (torch.from_numpy(self.vectors(x)) for x in (a, b))
        return nn.functional.cosine_similarity(one, other).numpy()

    def distance(self, a: Float[Tensor, "b c h w"], b: Float[Tensor, "b c h w"]) -> Float[np.ndarray, " b"]:
        """Perceptual distance of each pair: the network's own measure (LPIPS), else between its feature maps.

        The latter: features are scaled to length 1 at each position; their squared differences are summed over
        channels and maps, and averaged over positions (Zhang et al. 2018, Eq. 1 with all weights 1).

        Raises:
            DataError: the shapes differ, or the network has no feature maps.
        """
        if a.shape != b.shape:
            raise DataError(f"images have shapes {tuple(a.shape)} and {tuple(b.shape)}: they must be the same")
        return torch.cat([*each(self, "_distance_of", zip(a.split(BATCH), b.split(BATCH), strict=True))]).numpy()

    def _vectors_of(self, images: Tensor) -> Float[Tensor, "b d"]:
        found = vectors_in(self._call(images))
        if not found:
            raise DataError(f"{self.name} gives no feature vector (b, d): use it for the perceptual distance only")
        return found[0].flatten(1).float()

    @torch.no_grad()
    def _distance_of(self, pair: tuple[Tensor, Tensor]) -> Float[Tensor, " b"]:
        compare = self.measure or self._compare_maps
        return compare(*map(_as_rgb, pair))

    @torch.no_grad()
    def _call(self, x: Tensor) -> Mapping[str, Tensor]:
        found = self.outputs(_as_rgb(x)) if self.outputs else {}
        return {"pooled": found} if isinstance(found, Tensor) else found

    def _compare_maps(self, a: Tensor, b: Tensor) -> Tensor:
        maps = [nn.functional.normalize(x.double(), dim=1) for x in _maps(self._call(torch.cat([a, b])))]
        if not maps:
            raise DataError(f"{self.name} gives no feature maps (b, c, h, w): name another network for the distance")
        return sum(((x[: len(a)] - x[len(a) :]).square().sum(1).mean((1, 2)) for x in maps), torch.zeros(len(a)))


def _maps(outputs: Mapping[str, Tensor]) -> list[Tensor]:
    return [x for x in outputs.values() if x.dim() == 4]


def _as_rgb(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
    """Grey or RGB images as RGB, float32, on the CPU."""
    known.check_channels(x.shape)
    return x.detach().cpu().float().expand(-1, 3, -1, -1)


# ---------------------------------------------------------------------- files


def _split(source: str) -> tuple[Path, str | None]:
    """Split "net.onnx@imagenet" into the file and the range; None if there is no range."""
    found = re.fullmatch(f"(.*)@({'|'.join(RANGES)})", source)
    path, range_ = (Path(found[1]), found[2]) if found else (Path(source), None)
    if not path.is_file():
        rule = f"must be an ONNX or TorchScript file (with @{', @'.join(RANGES)} where needed)"
        raise DataError(f"feature network {source!r}: {rule}, or one of {', '.join(known.KNOWN)}")
    return path, range_


def _own_name(stem: str) -> str:
    """A file's name, marked where it claims to be a known network, which only a hash can show."""
    taken = stem.lower() in ("inception", "squeezenet", "mobilefacenet", "arcface") or stem.lower().startswith("lpips")
    return f"file {stem}" if taken else stem
