"""What identifies the parts of an evaluation, so that results are reused as long as their parts are the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from diffae.data.pack import Pack
from diffae.evaluation.baselines import Baseline
from diffae.evaluation.detectors import Backbone
from diffae.evaluation.features import FeatureNetwork
from diffae.evaluation.material import Images
from diffae.evaluation.other_systems import OtherSystems
from diffae.latent.prior import LatentPrior
from diffae.model import DiffusionAutoencoder


def facts(value: Any) -> Any:
    """Plain values that identify a part."""
    match value:
        case Images():
            return value.pack.path.name, value.pack.index, value.rows.tolist()
        case Pack():
            return value.index
        case DiffusionAutoencoder():
            return value.fingerprint()
        case LatentPrior():
            return value.config, facts({**value.network.state_dict(), "mean": value.mean, "std": value.std})
        case FeatureNetwork() | Baseline() | Backbone():
            return value.name, value.key
        case OtherSystems():
            return facts(vars(value))
        case Tensor():
            return facts(value.cpu().double().numpy())
        case np.ndarray():
            return hashlib.sha256(value.tobytes()).hexdigest()
        case Mapping():
            return {name: facts(item) for name, item in value.items()}
        case tuple() | list():
            return [facts(item) for item in value]
    return value
