"""Settings and weights as published checkpoints, for the published code and its forks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffae import checkpoint
from diffae.compat.original.architecture import SCHEDULES
from diffae.compat.original.names import autoencoder_names, latent_names
from diffae.compat.original.reading import NAMES
from diffae.config import DiffusionConfig, ModelConfig, PriorConfig, UNetConfig, UNetEncoderConfig
from diffae.deprecation import __version__
from diffae.errors import CheckpointError
from diffae.latent.prior import LatentPrior

SAMPLE_SIZE = 32
"""Rows of the `x_T` buffer: the published templates' `sample_size`."""

TEMPLATE = '''"""Settings for the published code (github.com/phizaz/diffae), whose folder is to be on PYTHONPATH.

{use}
"""

import os

from templates import *
from templates_latent import *

HERE = os.path.dirname(os.path.abspath(__file__))

SETTINGS = {settings}


def changed(conf, settings):
    for name, value in settings.items():
        assert hasattr(conf, name), name
        setattr(conf, name, value)
    conf.name = {name!r}
    conf.make_model_conf()
    return conf


def load(model, file):
    state = torch.load(os.path.join(HERE, file), map_location="cpu")
    model.load_state_dict(state["state_dict"])
    return model


def autoencoder():
    return changed({base}(), SETTINGS)
'''

TEMPLATE_LATENT = """

LATENT_SETTINGS = {latent_settings}


def latent():
    conf = latent_mlp_2048_norm_10layers(latent_diffusion_config(autoencoder()))
    conf.latent_infer_path = os.path.join(HERE, "latent.pkl")
    return changed(conf, LATENT_SETTINGS)
"""

TEMPLATE_CLASSIFIER = """

def classifier():
    conf = autoencoder()
    conf.train_mode = TrainMode.manipulate
    conf.manipulate_mode = ManipulateMode.celebahq_all
    conf.manipulate_znormalize = True
    conf.latent_infer_path = os.path.join(HERE, "latent.pkl")
    return conf
"""


def settings_of(config: ModelConfig) -> dict[str, Any]:
    """The published code's settings for these networks.

    Raises:
        CheckpointError: networks that the published code cannot run.
    """
    decoder, encoder, diffusion = config.decoder, config.encoder, config.diffusion
    _require_published(config)
    assert isinstance(decoder, UNetConfig)
    settings = {
        "img_size": config.image_size,
        "net_ch": decoder.model_channels,
        "net_ch_mult": decoder.channel_mult,
        "net_num_res_blocks": decoder.res_blocks,
        "net_attn": decoder.attention_resolutions,
        "net_beatgans_attn_head": decoder.heads,
        "net_beatgans_embed_channels": decoder.time_channels,
        "dropout": decoder.dropout,
        "beta_scheduler": _published_schedule(diffusion),
        "T": diffusion.levels,
        "sample_size": SAMPLE_SIZE,
    }
    if encoder is not None:
        assert isinstance(encoder, UNetEncoderConfig)
        settings |= {
            "style_ch": encoder.z_sem_channels,
            "net_beatgans_resnet_cond_channels": encoder.z_sem_channels,
            "net_enc_channel_mult": encoder.channel_mult,
            "net_enc_num_res_blocks": encoder.res_blocks,
        }
    return settings


def _require_published(config: ModelConfig) -> None:
    """Raise `CheckpointError` unless the published code can run these networks."""
    _require_eps("the network", config.diffusion)
    decoder, encoder = config.decoder, config.encoder
    if not (
        isinstance(decoder, UNetConfig) and isinstance(encoder, UNetEncoderConfig | None) and config.first_stage is None
    ):
        parts = ", ".join(type(part).__name__ for part in (decoder, encoder, config.first_stage) if part is not None)
        raise CheckpointError(
            f"the model is made of {parts}: the published code has only its UNet and encoder, on pixels"
        )
    if decoder.patch_size > 1 or (encoder is not None and encoder.patch_size > 1):
        raise CheckpointError(f"patch_size is {decoder.patch_size}: the published networks see pixels")
    if encoder is not None and encoder.pooling != "average":
        raise CheckpointError(f"pooling is {encoder.pooling}: the published code can only average")
    if decoder.upsampling != "first":
        raise CheckpointError(f"upsampling is {decoder.upsampling}: the published code can only upsample first")
    if encoder is not None and decoder.z_map_channels:
        raise CheckpointError(f"z_map_channels is {decoder.z_map_channels}: the published code has no map of z_sem")
    shared = ("model_channels", "attention_resolutions", "heads")
    if encoder is not None and any(getattr(decoder, name) != getattr(encoder, name) for name in shared):
        raise CheckpointError(
            f"decoder and encoder differ in one of {', '.join(shared)}: in the published code they agree"
        )


def latent_settings_of(config: PriorConfig) -> dict[str, Any]:
    """The same for a latent net."""
    _require_eps("the prior", config.diffusion)
    return {
        "net_latent_layers": config.layers,
        "net_latent_skip_layers": tuple(range(1, config.layers)),
        "net_latent_num_hid_channels": config.hidden_channels,
        "net_latent_condition_bias": 1,
        "latent_znormalize": True,
        "latent_beta_scheduler": _published_schedule(config.diffusion),
    }


def _require_eps(what: str, diffusion: DiffusionConfig) -> None:
    if diffusion.prediction != "eps":
        rule = "the published code supports only eps; train a model that predicts eps to export it"
        raise CheckpointError(f"{what} predicts {diffusion.prediction}: {rule}")


def _published_schedule(diffusion: DiffusionConfig) -> str:
    return next(name for name, schedule in SCHEDULES.items() if schedule == diffusion.schedule)


def autoencoder_tensors(config: ModelConfig, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `DiffusionModule` under published names, in published shapes.

    Raises:
        CheckpointError: widths that the published code would normalise otherwise.
    """
    names = autoencoder_names(config)
    return {name: weights[here.ours].reshape(here.published_shape) for name, here in names.items()}


def latent_tensors(prior: LatentPrior) -> dict[str, Tensor]:
    """Weights of a prior's network under published names."""
    weights = prior.network.state_dict()
    names = latent_names(len(prior.mean), prior.config.hidden_channels, prior.config.layers)
    return {f"latent_net.{name}": weights[here.ours] for name, here in names.items()}


def write_networks(
    path: Path, config: ModelConfig, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], **buffers: Tensor
) -> None:
    """Write a checkpoint of an autoencoder or DDIM, with or without latent net.

    Args:
        path: of the file.
        config: the autoencoder's.
        tensors: by published name; they stand for the raw weights too, which a run folder does not keep.
        settings: to note with them.
        buffers: others than `x_T`.
    """
    shape = (SAMPLE_SIZE, *config.image_shape)
    state = {f"{prefix}.{name}": tensor for prefix in ("model", "ema_model") for name, tensor in tensors.items()}
    state["x_T"] = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    write_pickle(path, {**_head(settings), "state_dict": {**state, **buffers}})


def write_classifier(path: Path, names: Sequence[str], weight: Tensor, bias: Tensor, **buffers: Tensor) -> None:
    """Write a checkpoint of linear classifiers: weight (attributes, d), bias (attributes,)."""
    both = ("classifier", "ema_classifier")
    state = {f"{which}.{part}": value for which in both for part, value in (("weight", weight), ("bias", bias))}
    write_pickle(
        path, {**_head({"manipulate_znormalize": True, NAMES: tuple(names)}), "state_dict": {**state, **buffers}}
    )


def write_pickle(path: Path, content: Mapping[str, Any]) -> None:
    """Write a pickle of tensors and plain values, atomically."""
    with checkpoint.written_beside(path) as temporary:
        torch.save(dict(content), temporary)


def _head(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What Lightning and the published code look for beside the weights."""
    return {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": "1.4.5",
        "diffae_version": __version__,
        "hyper_parameters": dict(settings),
    }


def template(name: str, config: ModelConfig, prior: PriorConfig | None, *, classifier: bool) -> str:
    """A Python file with the settings, as functions like those of the published templates."""
    uses = ['load(LitModel(autoencoder()), "last.ckpt")  # from experiment import LitModel']
    text, parts = TEMPLATE, {"name": name, "settings": _literal(settings_of(config))}
    if prior is not None:
        uses.append('load(LitModel(latent()), "latent.ckpt")')
        text, parts["latent_settings"] = text + TEMPLATE_LATENT, _literal(latent_settings_of(prior))
    if classifier:
        uses.append('load(ClsModel(classifier()), "cls.ckpt")  # from experiment_classifier import ClsModel')
        text += TEMPLATE_CLASSIFIER
    parts["base"] = "autoenc_base" if config.has_encoder else "ddpm"
    return text.format(use="\n".join(f"    model = {one}" for one in uses), **parts)


def _literal(settings: Mapping[str, Any]) -> str:
    return "".join(["{", *(f"\n    {name!r}: {value!r}," for name, value in settings.items()), "\n}"])
