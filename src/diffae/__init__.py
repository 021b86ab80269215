"""diffae: diffusion autoencoders (CVPR 2022), a meaningful and decodable representation of your images.

Names are imported on first use, so that `import diffae` is fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from diffae.deprecation import __version__

if TYPE_CHECKING:
    from diffae.api import train as train
    from diffae.config import DiffusersConfig as DiffusersConfig
    from diffae.config import DiffusionConfig as DiffusionConfig
    from diffae.config import FoundationConfig as FoundationConfig
    from diffae.config import HaarConfig as HaarConfig
    from diffae.config import InputConfig as InputConfig
    from diffae.config import ModelConfig as ModelConfig
    from diffae.config import PriorConfig as PriorConfig
    from diffae.config import Sampling as Sampling
    from diffae.config import SpaceToDepthConfig as SpaceToDepthConfig
    from diffae.config import UNetConfig as UNetConfig
    from diffae.config import UNetEncoderConfig as UNetEncoderConfig
    from diffae.data.images import to_pil as to_pil
    from diffae.deprecation import NetworkConfig as NetworkConfig
    from diffae.latent.attributes import AttributeDirections as AttributeDirections
    from diffae.latent.codes import Code as Code
    from diffae.latent.editing import edit_images as edit_images
    from diffae.latent.prior import LatentPrior as LatentPrior
    from diffae.model import DiffusionAutoencoder as DiffusionAutoencoder
    from diffae.plotting import show as show
    from diffae.presets import presets as presets
    from diffae.training.autoencoder import train_autoencoder as train_autoencoder
    from diffae.training.settings import TrainingConfig as TrainingConfig

_HOMES = {
    "AttributeDirections": "diffae.latent.attributes",
    "Code": "diffae.latent.codes",
    "DiffusionAutoencoder": "diffae.model",
    "DiffusersConfig": "diffae.config",
    "DiffusionConfig": "diffae.config",
    "FoundationConfig": "diffae.config",
    "HaarConfig": "diffae.config",
    "InputConfig": "diffae.config",
    "LatentPrior": "diffae.latent.prior",
    "ModelConfig": "diffae.config",
    "NetworkConfig": "diffae.deprecation",
    "PriorConfig": "diffae.config",
    "Sampling": "diffae.config",
    "SpaceToDepthConfig": "diffae.config",
    "TrainingConfig": "diffae.training.settings",
    "UNetConfig": "diffae.config",
    "UNetEncoderConfig": "diffae.config",
    "edit_images": "diffae.latent.editing",
    "presets": "diffae.presets",
    "show": "diffae.plotting",
    "to_pil": "diffae.data.images",
    "train": "diffae.api",
    "train_autoencoder": "diffae.training.autoencoder",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffae' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
