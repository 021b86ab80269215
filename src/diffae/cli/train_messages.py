"""What `diffae train` tells before and after training."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from diffae.cli import common
from diffae.cli.terminal import note, say, warn
from diffae.config import ModelConfig, UNetConfig
from diffae.networks.settings import Shape
from diffae.presets import presets
from diffae.training.metrics import REPORT, describe_validation, last_validation, limits

if TYPE_CHECKING:
    from diffae.cli.train import Train
    from diffae.cli.train_plan import Plan
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork


def warn_of_attention(model: ModelConfig) -> None:
    """Warn if --image-size leaves no level of the UNet with attention."""
    network = model.decoder
    assert isinstance(network, UNetConfig)
    side = model.latent_shape[1] // network.patch_size
    sizes = [side >> level for level in range(len(network.channel_mult))]
    if network.attention_resolutions and not set(sizes) & set(network.attention_resolutions):
        wanted = ", ".join(map(str, network.attention_resolutions))
        have = f"the UNet's levels have {', '.join(map(str, sizes))} pixels, none of them {wanted}"
        warn(f"{have}: only its bottleneck has attention; a preset for images of this size has it elsewhere too")


def tell_start(command: Train, plan: Plan, pack: Pack, network: FeatureNetwork | None) -> None:
    """Tell what is trained on what, and warn of images that were left out."""
    common.warn_skipped(pack.skipped, f" (all are listed in {pack.path / 'index.json'})")
    common.tell_values(pack)
    if command.resume and common.images_seen(command.out) >= plan.training.images:
        note(f"{command.out} has seen all its {plan.training.images:,} images: --images with a larger number goes on")
        return
    model, training = plan.model, plan.training
    z_sem = f"z_sem of {model.z_sem_channels}" if model.has_encoder else "no encoder"
    staged = f" · latents of {_size(model.latent_shape)}" if model.first_stage else ""
    distilled = f", distilled from {network.name}" if network else ""
    note(
        f"{len(pack):,} images of {pack.size} x {pack.size} x {pack.channels}{staged} · preset {plan.preset} · {z_sem}"
        f"{distilled} · {training.images:,} images to see, {training.batch_size} at a time · Ctrl-C saves and stops"
    )


def _size(shape: Shape) -> str:
    channels, height, width = shape
    return f"{height} x {width} x {channels}"


def tell_end(command: Train, plan: Plan, pack: Pack, finished: bool) -> None:
    """Tell where the model is and what it can do, or how to continue."""
    if not finished:
        seen = f"{common.images_seen(command.out):,} images"
        done = f"Interrupted after {seen}; everything is saved in {command.out}. To continue:"
        say(done, f"    {_resume_command(command)}")
        return
    say(f"The model is in {command.out}; {command.out / REPORT} shows how training went.")
    example = photo if (photo := command.photos / pack.names[0]).is_file() else "a.png"
    step = ["reconstruct", command.out, example, "--out", f"{command.out}-out"]
    if metrics := last_validation(command.out):
        say(f"validation after {metrics['images']:,.0f} images: {describe_validation(metrics)}")
        if words := limits(metrics, presets(plan.recipe)[plan.preset][1].images):
            say(words)
        elif plan.model.has_encoder:
            step = ["directions", command.out]
    say("Try now:", f"    {shlex.join(map(str, ['diffae', *step]))}")


def _resume_command(command: Train) -> str:
    words = ["diffae", "train", str(command.photos), "--out", str(command.out), "--resume"]
    words += ["--cache", str(command.cache)] if command.cache else []
    words += ["--track", *command.track] if command.track else []
    return shlex.join(words)
