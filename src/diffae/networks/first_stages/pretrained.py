"""Image autoencoders of the diffusers library as first stages, loaded by the library's own `from_pretrained`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffae.errors import CheckpointError, ConfigError, require
from diffae.networks.settings import Shape

if TYPE_CHECKING:
    from diffae.networks.first_stages.settings import DiffusersConfig

CLASSES = ("AutoencoderKL", "AutoencoderDC", "AutoencoderTiny", "VQModel", "AutoencoderRAE")
"""The classes that are supported."""

PART = 8
"""Images per call, which bounds memory and makes the result independent of how many images there are."""


class Autoencoder(nn.Module):
    """Images <-> the normalised latents of an autoencoder of diffusers. It is not trained.

    Raises:
        ConfigError: diffusers is not installed.
        CheckpointError: the autoencoder cannot be read, or is another version than `config.key` states.
    """

    frozen = True

    def __init__(self, config: DiffusersConfig) -> None:
        super().__init__()
        self.config = config
        self.network = load(config.source)
        self.key = config.key or key_of(self.network)
        if config.key and (found := key_of(self.network)) != config.key:
            was = f"is version {found}, and the model was trained with {config.key}"
            raise CheckpointError(f"first stage {config.source} {was}: put that version there, or train again")
        channels = config.latent_channels
        for name, values in (("mean", config.mean or [0.0] * channels), ("std", config.std or [1.0] * channels)):
            self.register_buffer(name, torch.tensor(values).view(1, channels, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def normalise_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> DiffusersConfig:
        """Use this mean and standard deviation of each channel; returns the settings with them."""
        self.config = dataclasses.replace(self.config, mean=mean, std=std)
        self.mean.copy_(torch.tensor(mean).view_as(self.mean))
        self.std.copy_(torch.tensor(std).view_as(self.std))
        return self.config

    def encode(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Latents of images in [-1, 1], of about zero mean and unit variance; means where they are distributions."""
        return self.normalised(self.encode_raw(images))

    def decode(self, latents: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c h w"]:
        """Images of latents."""
        with torch.autocast(latents.device.type, enabled=False):
            raw = latents * self.std + self.mean
            return torch.cat([_decode(self.network, part) for part in torch.split(raw, PART)])

    def encode_raw(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c2 h2 w2"]:
        """Latents as the autoencoder gives them."""
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([_encode(self.network, part) for part in torch.split(images, PART)])

    def normalised(self, raw: Float[Tensor, "b c2 h2 w2"]) -> Float[Tensor, "b c2 h2 w2"]:
        """The latents that are diffused, of those that `encode_raw` gives."""
        return (raw - self.mean) / self.std


def load(source: str) -> nn.Module:
    """An autoencoder from its folder or the Hub; for a whole pipeline, its part `vae`.

    Raises:
        ConfigError: diffusers is not installed.
        CheckpointError: there is none, its class is not supported, or its weights are damaged.
    """
    try:
        import diffusers
    except ImportError as error:
        what = f"first_stage is 'diffusers:{source}', but diffusers is not installed"
        raise ConfigError(f"{what}: pip install 'diffae[diffusers]'") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about arguments between diffusers and huggingface_hub
            network = _from_pretrained(diffusers, source)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        remedy = "name a folder that diffusers' save_pretrained wrote, or a Hub id that can be reached"
        raise CheckpointError(f"first stage {source} cannot be read ({reason}): {remedy}") from error
    return network.eval().requires_grad_(False)


def _from_pretrained(diffusers: Any, source: str) -> Any:
    subfolder, settings = _settings(diffusers.AutoencoderKL, source)
    name = settings.get("_class_name")
    if name not in CLASSES:
        raise CheckpointError(f"first stage {source} is of class {name}: must be one of {', '.join(CLASSES)}")
    if name == "AutoencoderRAE" and find_spec("transformers") is None:
        what = f"first_stage is 'diffusers:{source}', an AutoencoderRAE, but transformers is not installed"
        raise CheckpointError(f"{what}: pip install 'diffae[encoders]'")
    cls = getattr(diffusers, name)
    return cls.from_pretrained(source, subfolder=subfolder, use_safetensors=True, torch_dtype=torch.float32)


def _settings(cls: Any, source: str) -> tuple[str | None, dict[str, Any]]:
    """The subfolder with config.json, None for the folder itself, and what it says."""
    pipeline = Path(source, "vae", "config.json").is_file() and not Path(source, "config.json").is_file()
    try:
        subfolder = "vae" if pipeline else None
        return subfolder, cls.load_config(source, subfolder=subfolder)
    except OSError:
        if Path(source).exists():
            raise
    return "vae", cls.load_config(source, subfolder="vae")


def key_of(network: Any) -> str:
    """A hash of an autoencoder's settings and weights."""
    settings = {name: value for name, value in network.config.items() if not name.startswith("_")}
    digest = hashlib.blake2b(json.dumps([type(network).__name__, settings], sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


@torch.no_grad()
def facts_of(source: str, shape: Shape) -> dict[str, Any]:
    """What `DiffusersConfig` says of an autoencoder, found by sending an image of this shape through it.

    Raises:
        ConfigError: diffusers is not installed, or the autoencoder takes other channels or sizes.
        CheckpointError: the autoencoder cannot be read.
    """
    network: Any = load(source)
    channels = network.config.get("in_channels", network.config.get("num_channels"))
    require(shape[0] == channels, "image_channels", shape[0], f"must be {channels}, the channels of {source}")
    rule = f"the first stage {source} does not take such images: choose a size that it can halve evenly"
    try:
        latents = _encode(network, torch.zeros(1, *shape))
        back = _decode(network, latents)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:100]
        raise ConfigError(f"image_size is {shape[1]}: {rule} ({reason})") from error
    require(tuple(back.shape[1:]) == shape, "image_size", shape[1], f"{rule}; it returns {back.shape[-1]} pixels")
    factor = shape[1] // latents.shape[2]
    return {
        "key": key_of(network),
        "image_channels": channels,
        "latent_channels": latents.shape[1],
        "factor": factor,
    }


def _takes_unit(network: Any) -> bool:
    """Whether it takes images in [0, 1], as AutoencoderRAE does; the others take [-1, 1]."""
    return type(network).__name__ == "AutoencoderRAE"


def _encode(network: Any, images: Tensor) -> Tensor:
    # float [-1, 1] => float [0, 1]
    output = network.encode((images + 1) / 2 if _takes_unit(network) else images)
    if hasattr(output, "latent_dist"):
        return output.latent_dist.mode()
    return output.latents if hasattr(output, "latents") else output.latent


def _decode(network: Any, latents: Tensor) -> Tensor:
    images = network.decode(latents).sample
    # float [0, 1] => float [-1, 1]
    return images * 2 - 1 if _takes_unit(network) else images
