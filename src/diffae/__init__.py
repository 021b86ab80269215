"""diffae: a meaningful and decodable representation of your images (diffusion autoencoders, CVPR 2022).

Names are imported on first use, so that `import diffae` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from diffae.config import DiffusionConfig as DiffusionConfig
    from diffae.config import InputConfig as InputConfig
    from diffae.config import ModelConfig as ModelConfig
    from diffae.config import NetworkConfig as NetworkConfig
    from diffae.config import PriorConfig as PriorConfig
    from diffae.config import Sampling as Sampling
    from diffae.config import TrainingConfig as TrainingConfig
    from diffae.latent.attributes import AttributeDirections as AttributeDirections
    from diffae.latent.prior import LatentPrior as LatentPrior
    from diffae.model import Code as Code
    from diffae.model import DiffusionAutoencoder as DiffusionAutoencoder
    from diffae.presets import presets as presets

_HOMES = {
    "AttributeDirections": "diffae.latent.attributes",
    "Code": "diffae.model",
    "DiffusionAutoencoder": "diffae.model",
    "DiffusionConfig": "diffae.config",
    "InputConfig": "diffae.config",
    "ModelConfig": "diffae.config",
    "LatentPrior": "diffae.latent.prior",
    "NetworkConfig": "diffae.config",
    "PriorConfig": "diffae.config",
    "Sampling": "diffae.config",
    "TrainingConfig": "diffae.config",
    "presets": "diffae.presets",
}
__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffae' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
