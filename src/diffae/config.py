"""Frozen settings: what is computed (`NetworkConfig`, `DiffusionConfig`), on what, how it is trained and sampled.

Every value is checked when the object is made; a `ConfigError` names the field, the value and the rule.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from diffae.errors import ConfigError, require, require_choice

Schedule = Literal["linear", "cosine", "constant"]
Prediction = Literal["eps", "v"]
Pooling = Literal["average", "flatten"]
Upsampling = Literal["first", "last"]
Weighting = Literal["uniform", "min_snr"]
Optimizer = Literal["adam", "muon"]
LevelSampling = Literal["uniform", "middle"]
Grid = Literal["quadratic", "squares", "leading", "trailing"]
Solver = Literal["ddim", "dpm++2m"]
Inversion = Literal["exact", "explicit", "official", "pair"]
Precision = Literal["auto", "float32", "bfloat16"]
Arithmetic = Literal["float32", "float64", "bfloat16"]
PriorLoss = Literal["l1", "mse"]
Crop = tuple[int, int, int, int] | str  # (left, top, right, bottom) in pixels, or a name of NAMED_CROPS
Window = tuple[tuple[float, float], ...]  # (low, high) of each channel, in the units of the files
WindowRule = Literal["auto", "percentile"]  # how a window is found among the images of a training set
SampleType = Literal["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]

WHITE = (255, 255, 255)
# Of CelebA's aligned 178x218 images, the 128x128 square centred at x = 89, y = 121 (as D2C and the paper crop them).
NAMED_CROPS = {"celeba": (25, 57, 153, 185)}


@dataclass(frozen=True)
class NetworkConfig:
    """Shapes of the UNet and of the semantic encoder (paper Table 5)."""

    image_size: int = 64
    """Height and width of the images in pixels; every halving must be exact."""
    image_channels: int = 3
    """Channels of the images: 1 gray, 3 colour, any number."""
    model_channels: int = 64
    """Width of the first level ("base channels")."""
    channel_mult: tuple[int, ...] = (1, 2, 4, 8)
    """Width of each level as a multiple of `model_channels`; one halving between levels."""
    res_blocks: int = 2
    """Residual blocks per level."""
    attention_resolutions: tuple[int, ...] = (16,)
    """Sizes in pixels of the feature maps that get self-attention."""
    heads: int = 1
    """Attention heads."""
    time_channels: int = 512
    """Width of the embedding of the level t."""
    dropout: float = 0.1
    """Dropout inside the UNet's residual blocks, 0 to 1."""
    z_sem_channels: int = 512
    """Size of z_sem; 0 builds the UNet without an encoder, the paper's DDIM baseline."""
    encoder_channel_mult: tuple[int, ...] = (1, 2, 4, 8, 8)
    """Width of each level of the semantic encoder."""
    encoder_res_blocks: int = 2
    """Residual blocks per level of the semantic encoder."""
    upsampling: Upsampling = "first"
    """Where a block that doubles the UNet's feature map does so: before its convolutions (paper), or after them
    ("last"), which spares them three quarters of their work (docs/recipe.md)."""
    encoder_pooling: Pooling = "average"
    """What z_sem is a linear map of: the average of the encoder's last feature map over its positions (paper), or the
    whole map ("flatten"), which can say where things are (docs/recipe.md)."""
    z_map_channels: int = 0
    """Channels of a feature map that z_sem is unfolded to, for the UNet's bottleneck; 0 for none, as in the paper."""

    def __post_init__(self) -> None:
        for name in ("image_size", "image_channels", "model_channels", "res_blocks", "heads", "encoder_res_blocks"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "must be at least 1")
        require_choice("upsampling", self.upsampling, Upsampling)
        require_choice("encoder_pooling", self.encoder_pooling, Pooling)
        require(self.z_map_channels >= 0, "z_map_channels", self.z_map_channels, "must be 0 (none) or more")
        require(self.model_channels % 2 == 0, "model_channels", self.model_channels, "must be even")
        require(self.time_channels >= 1, "time_channels", self.time_channels, "must be at least 1")
        require(self.z_sem_channels >= 0, "z_sem_channels", self.z_sem_channels, "must be 0 (no encoder) or more")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "must lie in [0, 1)")
        require(len(self.channel_mult) >= 1, "channel_mult", self.channel_mult, "needs at least one level")
        levels = len(self.channel_mult)
        if self.has_encoder:
            require(len(self.encoder_channel_mult) >= 1, "encoder_channel_mult", (), "needs at least one level")
            levels = max(levels, len(self.encoder_channel_mult))
        factor = 2 ** (levels - 1)
        rule = f"must be divisible by {factor}, because the network halves it {levels - 1} times"
        require(self.image_size % factor == 0, "image_size", self.image_size, rule)
        for name in ("channel_mult", "encoder_channel_mult") if self.has_encoder else ("channel_mult",):
            for mult in getattr(self, name):
                require(mult >= 1, name, getattr(self, name), "every multiplier must be at least 1")
                width = mult * self.model_channels
                require(width % self.heads == 0, "heads", self.heads, f"must divide every level's width, here {width}")

    @property
    def has_encoder(self) -> bool:
        """Whether images are conditioned on z_sem (False: the paper's DDIM baseline)."""
        return self.z_sem_channels > 0


@dataclass(frozen=True)
class DiffusionConfig:
    """The forward process and what the network predicts."""

    schedule: Schedule = "linear"
    """How alpha_bar falls with the level; "constant" is the prior's beta = 0.008."""
    levels: int = 1000
    """T, the number of noise levels."""
    prediction: Prediction = "eps"
    """What the network's output means: eps (paper, Eq. 6), or v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0
    (Salimans & Ho, "Progressive distillation", 2022). `predict_noise` returns eps either way."""

    def __post_init__(self) -> None:
        require_choice("schedule", self.schedule, Schedule)
        require_choice("prediction", self.prediction, Prediction)
        require(self.levels >= 2, "levels", self.levels, "must be at least 2")


@dataclass(frozen=True)
class InputConfig:
    """What image files and arrays go through before they are scaled to the model's size, as in its training."""

    crop: Crop | None = None
    """What to cut out first: (left, top, right, bottom) in pixels of the upright image, or "celeba"."""
    background: tuple[int, int, int] = WHITE
    """RGB 0..255, seen through transparent pixels."""
    window: Window | None = None
    """(low, high) of each channel in the units of the files: the values that become -1 and 1; what lies outside is
    clipped. None takes uint8 and uint16 samples by the whole range of their type."""
    dtype: SampleType = "uint8"
    """Type of the samples that the model was trained on, and that decoded images are written in."""

    def __post_init__(self) -> None:
        require_choice("dtype", self.dtype, SampleType)
        rule = "must be uint8 or uint16 without a window; state one"
        require(self.window is not None or self.dtype in ("uint8", "uint16"), "dtype", self.dtype, rule)
        for pair in self.window or ():
            rising = len(pair) == 2 and all(map(math.isfinite, pair)) and pair[0] < pair[1]
            require(rising, "window", self.window, "must be pairs of a low and a higher number, one for each channel")
        if isinstance(self.crop, str):
            require(self.crop in NAMED_CROPS, "crop", self.crop, "must be celeba or (left, top, right, bottom)")
        if (box := self.box) is not None:
            inside = len(box) == 4 and 0 <= box[0] < box[2] and 0 <= box[1] < box[3]
            require(inside, "crop", box, "must satisfy 0 <= left < right and 0 <= top < bottom")
        colour = len(self.background) == 3 and all(0 <= value <= 255 for value in self.background)
        require(colour, "background", self.background, "must be three values 0..255, for instance (255, 255, 255)")

    @property
    def box(self) -> tuple[int, int, int, int] | None:
        """The crop as numbers."""
        return NAMED_CROPS[self.crop] if isinstance(self.crop, str) else self.crop


@dataclass(frozen=True)
class ModelConfig:
    """Everything that must be known to rebuild a model, read its weights and give it images."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    input: InputConfig = field(default_factory=InputConfig)

    def __post_init__(self) -> None:
        channels, window = self.network.image_channels, self.input.window
        rule = f"must have a low and a high value for each of {channels} channels"
        require(window is None or len(window) == channels, "window", window, rule)


@dataclass(frozen=True)
class PriorConfig:
    """The latent prior: its network, its forward process on normalised z_sem, its loss (paper Section 4, Table 6)."""

    layers: int = 10
    """Layers of the MLP, the last included; each sees the input again."""
    hidden_channels: int = 2048
    """Width of the layers."""
    loss: PriorLoss = "l1"
    """Mean absolute ("l1", as in the paper) or mean squared error of what the network predicts."""
    diffusion: DiffusionConfig = field(default_factory=lambda: DiffusionConfig("constant"))
    """Schedule, levels and what the network predicts."""

    def __post_init__(self) -> None:
        require(self.layers >= 2, "layers", self.layers, "must be at least 2, the first and the last")
        require(self.hidden_channels >= 1, "hidden_channels", self.hidden_channels, "must be at least 1")
        require_choice("loss", self.loss, PriorLoss)


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
    """Share of a weight, relative to the learning rate, that each step takes away; with Adam that is AdamW, for latent
    priors. 0 for none (paper Table 5)."""
    warmup_images: int = 0
    """Images over which the learning rate rises linearly from 0."""
    cooldown: float = 0.0
    """Share of the run, at its end, over which the learning rate falls linearly to 0."""
    weighting: Weighting = "uniform"
    """Weight of each level in the loss: uniform in what the network predicts (Eq. 6), or min-SNR-5
    (Hang et al., 2023)."""
    level_sampling: LevelSampling = "uniform"
    """Which noise levels training sees: all alike (paper), or mostly those between image and noise ("middle"), at
    which the decoder needs z_sem for more than the coarsest shapes."""
    contrast: float = 0.0
    """Weight of a second loss: z_sem is to tell each image from the others of its batch, however it is cut out or
    recoloured (docs/recipe.md). 0 for none, as in the paper."""
    orientations: float = 0.0
    """Weight of a third loss: a linear function of z_sem is to tell which way the edges run in each part of the image
    (docs/recipe.md). 0 for none, as in the paper."""
    teaching: float = 0.0
    """Weight of a fourth loss: a linear function of z_sem is to tell the vector that another network gives of each
    image (docs/recipe.md). 0 for none, as in the paper."""
    ema_decay: float = 0.9999
    """Decay of the exponential moving average of the weights, per step."""
    ema_warmup: bool = True
    """Let the decay grow as (1 + n) / (10 + n) with the step n, so that short runs do not keep their random start."""
    clip_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    flip: bool = True
    """Mirror every other image, at random."""
    precision: Precision = "auto"
    """bfloat16 mixed precision where the machine is faster with it ("auto"), or stated."""
    seed: int = 0
    """Start of every random number of the run."""
    val_images: int = 256
    """Held-out images (never trained on) for validation; at most a tenth of the data."""
    validate_every: int = 25_000
    """Images between validations, with their pictures."""
    save_every: int = 25_000
    """Images between checkpoints."""

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
        for name in ("contrast", "orientations", "teaching"):
            weight = getattr(self, name)
            require(math.isfinite(weight) and weight >= 0, name, weight, "must be 0 (none) or more")
        require(0 <= self.cooldown <= 1, "cooldown", self.cooldown, "must lie in [0, 1]")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "must lie in [0, 1)")
        require(self.clip_norm > 0, "clip_norm", self.clip_norm, "must be positive")

    @property
    def steps(self) -> int:
        """Optimiser steps that see `images` images, the last batch counted whole."""
        return math.ceil(self.images / self.batch_size)


@dataclass(frozen=True)
class Sampling:
    """How the decoder's ODE is solved, downwards to decode and upwards to encode."""

    steps: int = 20
    """Solver steps, 1 to T."""
    grid: Grid = "quadratic"
    """Where the levels lie: from 1 to T, denser near the image, which loses least when inverted ("quadratic", see
    docs/inversion.md); at T times the squares of 1/steps, 2/steps, ..., for few steps ("squares"); evenly spaced from
    1, as published ("leading", which with few steps starts far below T); or evenly spaced up to T ("trailing")."""
    inversion: Inversion = "exact"
    """How x_T is found: "exact" solves each step of the decoder; "explicit" is the textbook reverse DDIM on the same
    grid; "official" is the published one, on its shifted grid; "pair" keeps the last two states instead of one, twice
    the stochastic code, and is exact by algebra at one network call per step (docs/inversion.md)."""
    clip_x0: bool = False
    """Clamp x0_hat to [-1, 1] in every step, as the published code does. Clipped steps cannot be inverted exactly."""
    tolerance: float = 5e-5
    """Exact inversion stops when a step's residual (root mean square, images in [-1, 1]) is below this."""
    max_iterations: int = 30
    """Network calls that exact inversion may spend on one step."""
    solver: Solver = "ddim"
    """How decoding steps: "ddim", which can be inverted; or "dpm++2m", of second order and without an inverse, for few
    steps (see `fast`)."""
    precision: Arithmetic = "float32"
    """What the networks compute in: "float32", never rounded to TF32; "float64", for inversion to tolerances below
    1e-6; "bfloat16", the fastest, for decoding what need not be exact. States are float32, or float64."""

    def __post_init__(self) -> None:
        require_choice("solver", self.solver, Solver)
        require_choice("precision", self.precision, Arithmetic)
        require_choice("grid", self.grid, Grid)
        require_choice("inversion", self.inversion, Inversion)
        require(self.steps >= 1, "steps", self.steps, "must be at least 1")
        require(0 < self.tolerance < math.inf, "tolerance", self.tolerance, "must be positive")
        require(self.max_iterations >= 1, "max_iterations", self.max_iterations, "must be at least 1")
        rule = 'clipped steps have no inverse; set clip_x0=False, or inversion="official"'
        require(not (self.clip_x0 and self.inversion in ("exact", "pair")), "inversion", self.inversion, rule)

    @classmethod
    def official(cls, steps: int = 20) -> Sampling:
        """The setting that reproduces the published numbers: its grids, its clipping, its explicit inversion."""
        return cls(steps=steps, grid="leading", inversion="official", clip_x0=True)

    @classmethod
    def fast(cls, steps: int = 10) -> Sampling:
        """For random x_T: in 10 network calls no worse than DDIM in 50 (docs/inversion.md). It cannot encode."""
        return cls(steps=steps, grid="squares", solver="dpm++2m")


Settings = TypeVar("Settings")


def from_dict(kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build a settings dataclass from plain values (as in config.json).

    Raises:
        ConfigError: a key that `kind` does not have, or a value that its rules forbid.
    """
    known = {f.name: f for f in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ConfigError(f"{kind.__name__} has no setting {unknown[0]!r}: known are {', '.join(sorted(known))}")
    nested = {"network": NetworkConfig, "diffusion": DiffusionConfig, "input": InputConfig}
    plain = {}
    for name, value in values.items():
        if name in nested:
            plain[name] = from_dict(nested[name], value)
        else:
            plain[name] = _frozen(value)
    return kind(**plain)


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
