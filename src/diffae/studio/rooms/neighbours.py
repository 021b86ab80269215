"""Images of the data set that are near something."""

from __future__ import annotations

from collections.abc import Sequence

from diffae.studio.gallery import Gallery
from diffae.studio.pictures import data_urls
from diffae.studio.schema import Neighbour


def described_neighbours(gallery: Gallery, rows: Sequence[int], distances: Sequence[float]) -> list[Neighbour]:
    """Images of the data set as the page shows them."""
    names = gallery.opened.pack.names
    urls = data_urls(gallery.images(list(rows)))
    return [
        Neighbour(row=row, name=names[row], image=url, distance=distance)
        for row, url, distance in zip(rows, urls, distances, strict=True)
    ]
