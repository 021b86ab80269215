"""Images and labels. Names are imported on first use, so that `import diffae` stays quick."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffae.data.batches import Batch, BatchStream
    from diffae.data.build import build_pack
    from diffae.data.dataset_images import DatasetImages
    from diffae.data.image_set import ImageSet
    from diffae.data.labels import LabelTable
    from diffae.data.pack import Pack
    from diffae.data.sources import open_source

_HOME = {
    "Batch": "batches",
    "BatchStream": "batches",
    "DatasetImages": "dataset_images",
    "ImageSet": "image_set",
    "LabelTable": "labels",
    "Pack": "pack",
    "build_pack": "build",
    "open_source": "sources",
    "sketch_faces": "sketch",  # deprecated: see `sketchfaces`
}

__all__ = ["Batch", "BatchStream", "DatasetImages", "ImageSet", "LabelTable", "Pack", "build_pack", "open_source"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
