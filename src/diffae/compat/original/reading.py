"""Reading published networks, classifiers and statistics; anything unexpected is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from diffae.compat.original.architecture import OF_LATENTS, Facts, latent_shape, model_config
from diffae.compat.original.files import File, is_plain, read_pickle
from diffae.compat.original.names import Counterpart, autoencoder_names, latent_names
from diffae.config import DiffusionConfig, ModelConfig, PriorConfig
from diffae.errors import CheckpointError, require
from diffae.latent.prior import LatentPrior
from diffae.networks.mlp import SkipMLP

AVERAGED = "ema_model."
LATENT = "ema_model.latent_net."
BUFFERS = ("x_T", "conds_mean", "conds_std")

Which = Literal["raw", "ema"]
WHICH = {"raw": "classifier", "ema": "ema_classifier"}
"""Weights of a classifier: those of the last step, which the published code edits with, and their average."""

CELEBA = (
    "5_o_Clock_Shadow", "Arched_Eyebrows", "Attractive", "Bags_Under_Eyes", "Bald", "Bangs", "Big_Lips", "Big_Nose",
    "Black_Hair", "Blond_Hair", "Blurry", "Brown_Hair", "Bushy_Eyebrows", "Chubby", "Double_Chin", "Eyeglasses",
    "Goatee", "Gray_Hair", "Heavy_Makeup", "High_Cheekbones", "Male", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes",
    "No_Beard", "Oval_Face", "Pale_Skin", "Pointy_Nose", "Receding_Hairline", "Rosy_Cheeks", "Sideburns", "Smiling",
    "Straight_Hair", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick", "Wearing_Necklace",
    "Wearing_Necktie", "Young",
)  # fmt: skip
"""The attributes of CelebA, in the order of its label files, which is that of published classifiers."""

NAMES = "attribute_names"
"""Name of the setting that lists a classifier's attributes; published classifiers lack it."""

ASSUMED_LATENT = {
    "latent_znormalize": True,
    "latent_clip_sample": False,
    "net_latent_condition_bias": 1,
    "net_latent_time_last_act": False,
}
"""Settings that change the meaning of a latent net without changing its tensors."""

ASSUMED_CLASSIFIER = {"manipulate_znormalize": True}
"""The same for a classifier."""


@dataclass(frozen=True)
class Statistics:
    """Mean and standard deviation of the training set's z_sem: (d,) float32."""

    mean: Tensor
    std: Tensor


@dataclass(frozen=True)
class Published:
    """An autoencoder or DDIM: settings, EMA weights under the names of `DiffusionModule`, and its latent prior."""

    config: ModelConfig
    weights: dict[str, Tensor]
    prior: LatentPrior | None


@dataclass(frozen=True)
class Classifier:
    """Linear classifiers of normalised z_sem: weight (attributes, d) and bias (attributes,), float32."""

    names: tuple[str, ...]
    weight: Tensor
    bias: Tensor
    statistics: Statistics


def read(
    path: str | Path, facts: Facts, latent: str | Path | None = None, stats: str | Path | None = None
) -> Published:
    """Read an autoencoder or DDIM, and the latent net that is in the same file or in another.

    Args:
        path: the autoencoder's or DDIM's `last.ckpt`.
        facts: what tensors do not reveal.
        latent: `last.ckpt` of the autoencoder with a latent net, where that is another file.
        stats: `latent.pkl`, for a latent net whose file has no mean and standard deviation of z_sem.

    Raises:
        CheckpointError: not files of the published format; tensors missing, unknown or of wrong shapes; a latent net
            of another autoencoder; a fact that is missing.
    """
    file = File.open(path, ("model.", AVERAGED, *BUFFERS))
    own = file.under(AVERAGED, but=LATENT)
    if not own:
        raise CheckpointError(f"{path} has no tensors named {AVERAGED}*: it is not a published autoencoder or DDIM")
    config = model_config(own, _image_size(file, own, facts).completed(file.settings))
    weights = _weights(file, own, autoencoder_names(config), AVERAGED)
    source = file
    if latent is not None:
        source = File.open(latent, ("model.", AVERAGED, *BUFFERS))
        _require_same(file, own, source)
    has_latent = latent is not None or bool(file.under(LATENT))
    found = _prior(source, config.z_sem_channels, facts, stats) if has_latent else None
    return Published(config, weights, found)


def read_classifier(
    path: str | Path, d: int, stats: str | Path | None = None, *, which: Which = "raw", names: Sequence[str] = ()
) -> Classifier:
    """Read a published classifier.

    Args:
        path: its `last.ckpt`.
        d: size of z_sem.
        stats: `latent.pkl`, for a file without mean and standard deviation of z_sem.
        which: "raw", the weights of the last step, which the published code edits by; or "ema", their average.
        names: of the attributes; by default those in the file's settings, else CelebA's 40.

    Raises:
        CheckpointError: not a file of the published format; tensors missing, unknown or of wrong shapes.
        ConfigError: another number of attributes than names.
    """
    known = [f"{name}.{part}" for name in WHICH.values() for part in ("weight", "bias")]
    file = File.open(path, (*known, *BUFFERS[1:]))
    _require_assumed(file, ASSUMED_CLASSIFIER)
    prefix = f"{WHICH[which]}."
    found = file.under(prefix)
    attributes = found["bias"].numel() if "bias" in found else 0
    file.require(found, {"weight": (attributes, d), "bias": (attributes,)}, prefix)
    names = tuple(names) or _stored_names(file) or CELEBA
    rule = f"{path} classifies {attributes} attributes, as many different names are needed"
    require(len(set(names)) == len(names) == attributes, "attribute_names", len(names), rule)
    return Classifier(names, found["weight"].float(), found["bias"].float(), _statistics(file, d, stats))


def _stored_names(file: File) -> tuple[str, ...]:
    names = file.settings.get(NAMES)
    return tuple(map(str, names)) if isinstance(names, list | tuple) else ()


def _image_size(file: File, own: Mapping[str, Tensor], facts: Facts) -> Facts:
    x_T = file.tensors.get("x_T")
    if x_T is not None:
        _require_images(file, x_T, own.get("input_blocks.0.0.weight"))
        facts = replace(facts, image_size=x_T.shape[-1]) if facts.image_size is None else facts
    if facts.completed(file.settings).image_size is None:
        raise CheckpointError(f"{file.path} does not say its image size (no x_T): give image_size")
    return facts


def _require_images(file: File, x_T: Tensor, first: Tensor | None) -> None:
    """Refuse an x_T whose shape is not that of square images with the network's channels."""
    shape = tuple(x_T.shape)
    channels = first.shape[1] if first is not None and first.dim() == 4 else None  # else it is refused later
    if len(shape) != 4 or shape[1] != (channels or shape[1]) or shape[2] != shape[3]:
        rule = f"it must be (images, {channels or 'channels'}, size, size)"
        raise CheckpointError(f"{file.path}: 'x_T' is {shape}, {rule}: get the file again")


def _weights(
    file: File, found: Mapping[str, Tensor], names: Mapping[str, Counterpart], prefix: str
) -> dict[str, Tensor]:
    """Tensors under our names, in our shapes."""
    file.require(found, {name: there.published_shape for name, there in names.items()}, prefix)
    return {here.ours: found[name].reshape(here.shape) for name, here in names.items()}


def _require_same(file: File, own: Mapping[str, Tensor], other: File) -> None:
    """Refuse a latent net that was trained on the codes of another autoencoder."""
    theirs = other.under(AVERAGED, but=LATENT)
    for name in sorted(own.keys() | theirs.keys()) if theirs else ():
        if name not in own or name not in theirs or not torch.equal(own[name], theirs[name]):
            which = f"{AVERAGED + name!r} is not that of {file.path}"
            raise CheckpointError(f"{other.path} has another autoencoder ({which}): import it alone, it holds both")


def _require_assumed(file: File, assumed: Mapping[str, Any]) -> None:
    for name, value in assumed.items():
        if file.settings.get(name, value) != value:
            what = f"{file.path} was trained with {name} = {file.settings[name]!r}"
            raise CheckpointError(f"{what}: only {value!r}, as in the published templates, can be read")


def _prior(file: File, d: int, facts: Facts, stats: str | Path | None) -> LatentPrior:
    found = file.under(LATENT)
    if not found:
        raise CheckpointError(f"{file.path} has no tensors named {LATENT}*: it is not a checkpoint with a latent net")
    _require_assumed(file, ASSUMED_LATENT)
    z_channels, hidden_channels, layers = latent_shape(found)
    if z_channels != d:
        rule = f"the autoencoder's have {d}; name the checkpoint that belongs to it"
        raise CheckpointError(f"{file.path} has a latent net for z_sem of {z_channels} numbers: {rule}")
    weights = _weights(file, found, latent_names(z_channels, hidden_channels, layers), LATENT)
    facts = facts.completed(file.settings, OF_LATENTS)
    diffusion = DiffusionConfig(facts.prior_schedule or "constant", facts.levels or 1000)
    network = SkipMLP(z_channels, hidden_channels, layers)
    network.load_state_dict(weights)
    config, statistics = PriorConfig(layers, hidden_channels, "l1", diffusion), _statistics(file, d, stats)
    return LatentPrior(config, network, statistics.mean, statistics.std)


def _statistics(file: File, d: int, stats: str | Path | None) -> Statistics:
    """A checkpoint's own statistics, which the published code samples and edits with; else those of `latent.pkl`.

    Raises:
        CheckpointError: neither has them, or both have and they differ.
    """
    own = {name: tensor for name, tensor in file.tensors.items() if name in BUFFERS[1:]}
    other = _stored_statistics(stats, d) if stats is not None else None
    if not own and other is None:
        rule = "give the latent.pkl that belongs to it, as stats"
        raise CheckpointError(f"{file.path} lacks tensor {BUFFERS[1]!r}: {rule}")
    if not own and other is not None:
        return other
    file.require(own, dict.fromkeys(BUFFERS[1:], (1, d)))
    found = _checked(file.path, own[BUFFERS[1]][0], own[BUFFERS[2]][0])
    if other is not None and not all(map(torch.allclose, vars(found).values(), vars(other).values())):
        raise CheckpointError(f"{stats} differs from what {file.path} was trained with: leave the statistics out")
    return found


def _stored_statistics(path: str | Path, d: int) -> Statistics:
    content = read_pickle(path)
    for name in BUFFERS[1:]:
        value = content.get(name)
        if not isinstance(value, Tensor) or value.shape not in ((d,), (1, d)) or not is_plain(value):
            shape = tuple(value.shape) if isinstance(value, Tensor) else "absent"
            raise CheckpointError(f"{path}: {name!r} is {shape}, it must be ({d},) of float32: give a latent.pkl")
    return _checked(path, content[BUFFERS[1]].reshape(d), content[BUFFERS[2]].reshape(d))


def _checked(path: str | Path, mean: Tensor, std: Tensor) -> Statistics:
    if not (bool(torch.isfinite(mean).all()) and bool(torch.isfinite(std).all()) and bool((std > 0).all())):
        raise CheckpointError(f"{path}: conds_mean must be finite and conds_std above 0: get the file again")
    return Statistics(mean.float().clone(), std.float().clone())  # copies, independent of the mapped file
