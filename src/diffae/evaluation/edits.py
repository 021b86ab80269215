"""How clean is an edit? What changes along with the attribute, and is it still the same person, as others see it.

The readers here take no part in edits: they are fitted to the pixels of images, or to a network's features of them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffae.config import Sampling
from diffae.data.labels import LabelTable
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code
from diffae.model import DiffusionAutoencoder

See = Callable[[Float[Tensor, "b c h w"]], Float[np.ndarray, "b features"]]
"""Images in [-1, 1] => what a reader sees of them: `pixels`, or `FeatureNetwork.pooled`."""
Compare = Callable[[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]], Float[np.ndarray, " b"]]
"""Two images of each pair => how much it is the same person: `FeatureNetwork.similarity`."""


def pixels(x: Float[Tensor, "b c h w"], side: int = 16) -> Float[np.ndarray, "b features"]:
    """The image itself, averaged down to 16 x 16 where it is larger."""
    small = torch.nn.functional.adaptive_avg_pool2d(x, side) if x.shape[-1] > side else x
    return small.flatten(1).cpu().numpy()


class Reader:
    """Reads attributes from images, in standard deviations of its own readings of real ones.

    Args:
        see: what it sees of an image.
    """

    def __init__(self, see: See = pixels) -> None:
        self.see = see

    def fit(self, images: Float[Tensor, "n c h w"], labels: LabelTable | Mapping[str, Any]) -> Reader:
        """Learn to read from real images in [-1, 1]; raises as `AttributeDirections.fit`, whose labels these are."""
        seen = self.see(images)
        self.readings_ = AttributeDirections().fit(seen, labels)
        self.spread_ = self.readings_.read(seen).std(axis=0)
        return self

    def read(self, images: Float[Tensor, "b c h w"]) -> dict[str, np.ndarray]:
        """For each attribute one number per image."""
        values = self.readings_.read(self.see(images)) / self.spread_
        return dict(zip(self.readings_.names_, values.T, strict=True))


@dataclass(frozen=True)
class EditEffect:
    """What an edit of one strength does, in the mean over images."""

    strength: float
    target: float
    """Change of the attribute that was edited, in standard deviations among real images."""
    others: dict[str, float]
    """The same for each other attribute."""
    pixels: float
    """Root mean square change of the image, in [0, 1]."""
    identity: float | None
    """Cosine with the unedited image; None where no face network compares."""

    @property
    def leak(self) -> float:
        """Root mean square of the others' changes per change of the target: 0 is clean."""
        changes = np.array(list(self.others.values()))
        return float(np.sqrt(np.mean(changes**2)) / max(abs(self.target), 1e-12)) if len(changes) else 0.0


@torch.no_grad()
def edit_effects(
    model: DiffusionAutoencoder,
    images: Float[Tensor, "b c h w"],
    attributes: AttributeDirections,
    reader: Reader,
    name: str,
    strengths: Sequence[float],
    *,
    code: Code | None = None,
    hold: Collection[str] = (),
    published: bool = False,
    same: Compare | None = None,
    sampling: Sampling | None = None,
) -> list[EditEffect]:
    """Edit images by each strength and look at the results with other eyes.

    Args:
        model: encodes and decodes.
        images: that neither the attributes nor the reader were fitted to, in [-1, 1].
        attributes: of the model.
        reader: fitted to labels with the same columns.
        name: the attribute to edit.
        strengths: see `AttributeDirections.edit`.
        code: of the images, where it is known already.
        hold, published: see `AttributeDirections.edit`.
        same: compares faces.
        sampling: how to encode and decode.
    """
    code = code if code is not None else model.encode(images, sampling)
    images = images.cpu()
    before = reader.read(images)
    effects = []
    for strength in strengths:
        edited = attributes.edit(code, name, strength, hold=hold, published=published)
        after = model.decode(edited, sampling=sampling).cpu().clamp(-1, 1)
        change = {other: float(np.mean(value - before[other])) for other, value in reader.read(after).items()}
        target = change.pop(name)
        moved = float(((after - images) / 2).square().mean().sqrt())  # [-1, 1] => [0, 1]
        identity = None if same is None else float(same(images, after).mean())
        effects.append(EditEffect(strength, target, change, moved, identity))
    return effects
