"""Detectors of generated images: a convolutional network, one with a pretrained backbone, and frequencies alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from rich.console import Console
from torch import Tensor, nn

from diffae.data.images import to_unit
from diffae.errors import DataError
from diffae.evaluation.features import FeatureNetwork
from diffae.networks.layers import ResBlock, group_norm
from diffae.training.arrays import train_on_arrays
from diffae.training.settings import TrainingConfig

LEAST = 8
"""Fewest real, and generated, images that a detector can be trained on."""

_BATCH = 64
_LEARNING_RATE, _MOMENTUM = 1e-3, 0.9  # of SGD, as in the paper
_TIMM = "timm:"
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and standard deviation of RGB in [0, 1]

Detector = Callable[[Float[Tensor, "n c h w"]], Float[np.ndarray, " n"]]
"""Images in [-1, 1] => the logit of each being generated."""


class DetectorNetwork(nn.Module):
    """Image (b, c, h, w) -> logit (b,): residual blocks, downsampled to 4 pixels, then global average pooling."""

    def __init__(self, channels: int, size: int, width: int = 32) -> None:
        super().__init__()
        blocks: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1)]
        while size > 4:
            wider = min(2 * width, 128)
            blocks += [ResBlock(width, wider), ResBlock(wider, wider, how="down")]
            width, size = wider, size // 2
        self.blocks = nn.Sequential(*blocks, group_norm(width), nn.SiLU())
        self.output = nn.Linear(width, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        return self.output(self.blocks(x).mean(dim=(2, 3))).squeeze(1)


def quantised(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Images in [-1, 1] rounded to 8 bits, which would otherwise give real images away."""
    return (to_unit(x.cpu()) * 255).round() / 127.5 - 1


def convolutional_detector(
    real: Float[Tensor, "n c h w"],
    fake: Float[Tensor, "m c h w"],
    config: TrainingConfig,
    folder: Path,
    key: str,
    console: Console | None = None,
) -> Detector:
    """A small convolutional network trained to tell both apart; images are rounded to 8 bits first.

    Args:
        real, fake: images in [-1, 1].
        config: length of training and learning rate.
        folder, key: where the weights are kept, and what they depend on; see `diffae.training.arrays`.
        console: where progress goes.
    Raises:
        DataError: too few images.
    """
    x, y = _labelled(real, fake)
    network = train_on_arrays(
        lambda: DetectorNetwork(x.shape[1], x.shape[-1]), [x, y], _loss, config, folder, key, console
    )

    @torch.no_grad()
    def detect(images: Tensor) -> np.ndarray:
        return torch.cat([network(part) for part in quantised(images).split(64)]).numpy()

    return detect


def frequency_detector(real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]) -> Detector:
    """Logistic regression on log power spectra: it sees the power of each frequency, not where or what is shown.

    Raises:
        DataError: too few images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, y = _labelled(real, fake)
    weights = "balanced"
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight=weights, max_iter=5000))
    fitted.fit(log_spectrum(x), y.numpy())
    return lambda images: fitted.decision_function(log_spectrum(quantised(images)))


def log_spectrum(x: Float[Tensor, "n c h w"]) -> Float[np.ndarray, "n f"]:
    """Logarithm of the azimuthally averaged power spectrum of each channel."""
    power = torch.fft.fftshift(torch.fft.fft2(x.double()).abs().square(), dim=(-2, -1))
    height, width = x.shape[-2:]
    y, z = torch.meshgrid(torch.arange(height) - height // 2, torch.arange(width) - width // 2, indexing="ij")
    radius = (y.square() + z.square()).sqrt().round().long().flatten()
    counts = torch.bincount(radius).double()
    sums = torch.zeros(*x.shape[:2], len(counts), dtype=torch.float64).index_add(2, radius, power.flatten(2))
    return (sums / counts + 1e-8).log().flatten(1).numpy()


def accuracy(
    detect: Detector, real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"]
) -> Float[np.ndarray, " n_plus_m"]:
    """1 for each image that is classified correctly, else 0; give as many images of each kind."""
    return np.concatenate([detect(real) < 0, detect(fake) >= 0]).astype(np.float64)


def _labelled(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    if min(len(real), len(fake)) < LEAST:
        raise DataError(f"{len(real)} real and {len(fake)} generated images: a detector needs at least {LEAST} of each")
    return quantised(torch.cat([real.cpu(), fake.cpu()])), torch.cat([torch.zeros(len(real)), torch.ones(len(fake))])


def _loss(network: Callable[[Tensor], Tensor], batch) -> Tensor:
    x, y = batch
    return F.binary_cross_entropy_with_logits(network(x), y)


# ---------------------------------------------------------------------- a pretrained backbone


@dataclass(frozen=True)
class Backbone:
    """A pretrained network under a linear layer, like the paper's ResNet-50."""

    name: str
    key: str
    """Identifies the weights."""
    features: FeatureNetwork | None = None
    """A network whose weights stay as they are: the linear layer alone is trained."""
    build: Callable[[], nn.Module] | None = None
    """Or what makes a network that is trained as a whole: RGB images, ImageNet's range => one logit, (b, 1)."""

    @classmethod
    def open(cls, source: str) -> Backbone:
        """A feature network (see `FeatureNetwork.open`), or "timm:NAME", a network of timm that is trained further.

        Raises:
            DataError: there is no such file or network, it gives no feature vectors, or timm cannot be imported.
        """
        if not source.startswith(_TIMM):
            network = FeatureNetwork.open(source)
            if "vectors" not in network.gives(64):
                raise DataError(f"{network.name} gives no feature vectors: name another network by --backbone")
            return cls(network.name, network.key, network)
        name = source.removeprefix(_TIMM)
        try:
            import timm  # pyright: ignore[reportMissingImports]
        except (ImportError, RuntimeError) as error:
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"{source} needs timm, which cannot be imported ({reason}); name an ONNX file") from None

        def build() -> nn.Module:
            try:
                return timm.create_model(name, pretrained=True, num_classes=1)
            except Exception as error:  # timm and the Hub raise anything
                reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
                raise DataError(
                    f"{source} cannot be loaded ({reason}); name another network, or an ONNX file"
                ) from None

        return cls(name, source, build=build)


def backbone_detector(
    backbone: Backbone, real: Float[Tensor, "n c h w"], fake: Float[Tensor, "m c h w"], images_seen: int, seed: int = 0
) -> Detector:
    """Train a linear layer on a pretrained network, or both, by SGD as the paper does (Appendix L).

    Features of a fixed network are standardised. The loss is binary cross-entropy, batches are of 64, the learning rate
    is 0.001 and the momentum 0.9.

    Args:
        backbone: the network.
        real, fake: images in [-1, 1], which are rounded to 8 bits first.
        images_seen: length of training.
        seed: of the order of the images.
    Raises:
        DataError: too few images, or the backbone cannot be loaded.
    """
    x, y = _labelled(real, fake)
    see, network = _backbone_inputs(backbone, x)
    inputs = see(x)
    optimizer = torch.optim.SGD(network.parameters(), lr=_LEARNING_RATE, momentum=_MOMENTUM)
    generator = torch.Generator().manual_seed(seed)
    network.train()
    for _ in range(-(-images_seen // _BATCH)):
        rows = torch.randint(len(y), (_BATCH,), generator=generator)
        loss = F.binary_cross_entropy_with_logits(network(inputs[rows]).squeeze(1), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()

    @torch.no_grad()
    def detect(images: Tensor) -> np.ndarray:
        return torch.cat([network(see(part)).squeeze(1) for part in quantised(images).split(_BATCH)]).numpy()

    return detect


def _backbone_inputs(backbone: Backbone, x: Tensor) -> tuple[Callable[[Tensor], Tensor], nn.Module]:
    """What a backbone's trained part sees of images, and that part."""
    if backbone.features is not None:
        network = backbone.features
        vectors = torch.from_numpy(network.vectors(x))
        mean, std = vectors.mean(0), vectors.std(0).clamp(min=1e-6)
        head = nn.Linear(vectors.shape[1], 1)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return lambda images: (torch.from_numpy(network.vectors(images)) - mean) / std, head
    assert backbone.build is not None
    return lambda images: images, nn.Sequential(ImageNetRange(), backbone.build())


class ImageNetRange(nn.Module):
    """Grey or RGB images in [-1, 1] as networks of ImageNet take them."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 h w"]:
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in _IMAGENET)
        return (to_unit(x.expand(-1, 3, -1, -1)) - mean) / std
