"""Settings of training. Nothing here imports torch; `build()` does."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

from diffae.config import ModelConfig
from diffae.deprecation import upgrade_training, warn_renamed
from diffae.diffusion.settings import LevelSampling, Weighting
from diffae.errors import require, require_choice

if TYPE_CHECKING:
    from diffae.training.auxiliary_losses.base import AuxiliaryLoss

Optimizer = Literal["adam", "muon"]
Precision = Literal["auto", "float32", "bfloat16"]


@runtime_checkable
class AuxiliaryLossConfig(Protocol):
    """Settings of a further loss on z_sem: a frozen dataclass with `weight` and `build`."""

    @property
    def weight(self) -> float:
        """What the loss is multiplied by before it is added to that of Eq. 6."""
        ...

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        """The loss, a module with the layers it needs in training.

        Args:
            model: with an encoder.
            feature_channels: size of the features to distil; 0 without.
        """
        ...


@dataclass(frozen=True)
class _Weighted:
    weight: float

    def __post_init__(self) -> None:
        require(math.isfinite(self.weight) and self.weight > 0, "weight", self.weight, "must be above 0")


@dataclass(frozen=True)
class ContrastiveConfig(_Weighted):
    """SimCLR's loss: z_sem tells the images of a batch apart, however they are cropped or recoloured."""

    kind: ClassVar[str] = "contrastive"
    weight: float = 0.1
    gather: bool = True
    """Compare the images of all processes, so that their number changes nothing; otherwise each compares its own."""

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        """The loss with its projection of z_sem."""
        from diffae.training.auxiliary_losses.contrastive import ContrastiveLoss

        return ContrastiveLoss(model, gather=self.gather)


@dataclass(frozen=True)
class HOGConfig(_Weighted):
    """A linear map of z_sem predicts the histograms of oriented gradients of the image."""

    kind: ClassVar[str] = "hog"
    weight: float = 0.3

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        """The loss with its linear map."""
        from diffae.training.auxiliary_losses.hog import HOGLoss

        return HOGLoss(model)


@dataclass(frozen=True)
class DistillationConfig(_Weighted):
    """A linear map of z_sem predicts the features that another network gives of the image."""

    kind: ClassVar[str] = "distillation"
    weight: float = 0.3

    def build(self, model: ModelConfig, feature_channels: int) -> AuxiliaryLoss:
        """The loss with its linear map."""
        from diffae.training.auxiliary_losses.distillation import DistillationLoss

        return DistillationLoss(model, feature_channels)


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. Lengths are in images, so that they mean the same at every batch size."""

    images: int = 250_000
    """Length of training: images seen."""
    batch_size: int = 64
    """Images per optimiser step, over all processes and accumulation steps."""
    accumulation: int = 1
    """Parts into which each process splits its share of the batch, to bound memory."""
    learning_rate: float = 1e-4
    """The optimiser's step size."""
    optimizer: Optimizer = "adam"
    """Adam (paper Table 5), or "muon", whose steps are orthogonal matrices (docs/recipe.md)."""
    weight_decay: float = 0.0
    """Fraction of a weight, times the learning rate, subtracted in each step (AdamW); 0 for none (paper Table 5)."""
    warmup_images: int = 0
    """Images over which the learning rate rises linearly from 0."""
    cooldown: float = 0.0
    """Fraction of the run, at its end, over which the learning rate falls linearly to 0."""
    weighting: Weighting = "uniform"
    """Weight of each level in the loss: uniform in the network's target (Eq. 6), or min-SNR-5 (Hang et al., 2023)."""
    level_sampling: LevelSampling = "uniform"
    """Which noise levels are drawn: all alike (paper), or mostly those between image and noise ("middle"), where the
    decoder needs z_sem for more than the coarsest shapes."""
    auxiliary_losses: tuple[ContrastiveConfig | HOGConfig | DistillationConfig | AuxiliaryLossConfig, ...] = ()
    """Further losses on z_sem (docs/recipe.md); none in the paper."""
    ema_decay: float = 0.9999
    """Decay of the exponential moving average of the weights, per step."""
    ema_warmup: bool = True
    """Let the decay grow as (1 + n) / (10 + n) with the step n, so that short runs lose their random start."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    flip: bool = True
    """Mirror images left to right with probability 1/2."""
    precision: Precision = "auto"
    """"float32"; "bfloat16" mixed precision; or "auto", which is bfloat16 where the hardware is faster with it."""
    seed: int = 0
    """Seed of every random number of the run."""
    val_images: int = 256
    """Images held out for validation; at most a tenth of the data."""
    validate_every: int = 25_000
    """Images between validations, with their pictures."""
    save_every: int = 25_000
    """Images between checkpoints."""

    upgrade = staticmethod(upgrade_training)

    def __post_init__(self) -> None:
        require_choice("weighting", self.weighting, Weighting)
        require_choice("optimizer", self.optimizer, Optimizer)
        require_choice("level_sampling", self.level_sampling, LevelSampling)
        require_choice("precision", self.precision, Precision)
        for name in ("images", "batch_size", "accumulation", "validate_every", "save_every"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require(self.val_images >= 2, "val_images", self.val_images, "must be at least 2")
        require(self.warmup_images >= 0, "warmup_images", self.warmup_images, "must not be negative")
        positive = math.isfinite(self.learning_rate) and self.learning_rate > 0
        require(positive, "learning_rate", self.learning_rate, "must be positive")
        decay = math.isfinite(self.weight_decay) and self.weight_decay >= 0
        require(decay, "weight_decay", self.weight_decay, "must be 0 or more")
        rule = "must be a tuple of settings of losses, with `weight` and `build`"
        require(isinstance(self.auxiliary_losses, tuple), "auxiliary_losses", self.auxiliary_losses, rule)
        for loss in self.auxiliary_losses:
            require(isinstance(loss, AuxiliaryLossConfig), "auxiliary_losses", loss, rule)
        require(0 <= self.cooldown <= 1, "cooldown", self.cooldown, "must lie in [0, 1]")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "must lie in [0, 1)")
        require(self.clip_norm > 0, "clip_norm", self.clip_norm, "must be positive")

    @property
    def steps(self) -> int:
        """Optimiser steps that see `images` images, the last batch counted whole."""
        return math.ceil(self.images / self.batch_size)

    @property
    def distils(self) -> bool:
        """Whether z_sem learns from another network's features, which must be given."""
        return any(isinstance(loss, DistillationConfig) for loss in self.auxiliary_losses)

    def with_loss(self, kind: type[_Weighted], weight: float) -> TrainingConfig:
        """These settings with one of the package's auxiliary losses at another weight; 0 drops it."""
        others = tuple(loss for loss in self.auxiliary_losses if not isinstance(loss, kind))
        order = (ContrastiveConfig, HOGConfig, DistillationConfig)
        losses = [*others, kind(weight)] if weight else list(others)
        losses.sort(key=lambda loss: order.index(type(loss)) if type(loss) in order else len(order))
        return dataclasses.replace(self, auxiliary_losses=tuple(losses))


def _accepting_old_losses(init: Any) -> Any:
    """`TrainingConfig(contrast=..., orientations=..., teaching=...)`, as in version 0.1, still works."""
    kinds = {"contrast": ContrastiveConfig, "orientations": HOGConfig, "teaching": DistillationConfig}

    def translated(self: TrainingConfig, *args: Any, **kwargs: Any) -> None:
        weights = {name: kwargs.pop(name) for name in kinds if name in kwargs}
        init(self, *args, **kwargs)
        for name, weight in weights.items():
            warn_renamed(f"TrainingConfig({name}=...)", f"auxiliary_losses=({kinds[name].__name__}(...),)")
            object.__setattr__(self, "auxiliary_losses", self.with_loss(kinds[name], weight).auxiliary_losses)

    return translated


TrainingConfig.__init__ = _accepting_old_losses(TrainingConfig.__init__)
