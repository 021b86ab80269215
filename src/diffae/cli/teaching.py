"""The network by whose vectors `diffae train --teacher` teaches z_sem."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from diffae.cli.common import progress
from diffae.errors import CheckpointError, DataError

if TYPE_CHECKING:
    from diffae.config import ModelConfig
    from diffae.data.pack import Pack
    from diffae.evaluation.features import FeatureNetwork


def open_teacher(source: str | None, key: str | None, model: ModelConfig) -> FeatureNetwork | None:
    """The network named `source`, if one is.

    Args:
        source: as of `FeatureNetwork.open`.
        key: of the network that a run to be resumed began with.
        model: whose images it is to see.
    Raises:
        DataError: no such network, or one that gives no vectors of such images.
        CheckpointError: another network than the run began with.
    """
    if source is None:
        return None
    from diffae.evaluation.features import FeatureNetwork
    from diffae.evaluation.known_features import check_channels

    size = model.network.image_size
    check_channels((model.network.image_channels, size, size))
    teacher = FeatureNetwork.open(source)
    if "vectors" not in teacher.gives(size):
        raise DataError(f"teacher {source} gives no feature vectors: name a network with an output (b, d)")
    if key not in (None, teacher.key):
        raise CheckpointError(f"teacher {source} is another network than the run began with: name that by --teacher")
    return teacher


def vectors_of(teacher: FeatureNetwork, pack: Pack, *, main: bool) -> Path:
    """The file of its vectors of all images of the pack, made where it is not there yet; `main` shows how far it is."""
    from diffae.data.feature_vectors import vectors_file

    if not main:
        return vectors_file(pack, teacher)
    with progress(f"vectors of {teacher.name}", len(pack)) as tell:
        return vectors_file(pack, teacher, tell)
