"""What the rooms share: descriptions of pictures and attributes, and keeping what was decoded."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from diffae.errors import ConfigError
from diffae.latent.attributes import AttributeDirections
from diffae.latent.codes import Code
from diffae.studio.attributes import slider_range, value_of
from diffae.studio.context import Studio
from diffae.studio.pictures import data_urls
from diffae.studio.schema import AttributeInfo, PictureInfo, ScoreInfo
from diffae.studio.sessions import Picture, Session


def values_of(studio: Studio, session: Session, z_sem: Float[Tensor, "b d"] | None) -> list[dict[str, float]]:
    """The probability or value of each attribute, for each image; none where there are no attributes."""
    try:
        attributes = studio.attributes_of(session)
    except ConfigError:
        return [{} for _ in range(0 if z_sem is None else len(z_sem))]
    if z_sem is None:
        return [{}]
    readings = attributes.read(z_sem)
    return [
        {name: value_of(attributes, name, reading) for name, reading in zip(attributes.names_, row, strict=True)}
        for row in readings
    ]


def described(studio: Studio, session: Session, pictures: Sequence[Picture]) -> list[PictureInfo]:
    """Pictures as the page shows them."""
    if not pictures:
        return []
    urls = data_urls(torch.cat([picture.x for picture in pictures]))
    values = [values_of(studio, session, picture.code.z_sem)[0] for picture in pictures]
    return [
        PictureInfo(id=picture.id, name=picture.name, image=url, values=value)
        for picture, url, value in zip(pictures, urls, values, strict=True)
    ]


def kept(session: Session, x: Float[Tensor, "b c h w"], code: Code, names: Sequence[str]) -> list[Picture]:
    """Keep decoded images with their codes."""
    return [
        session.keep(Picture(name, x[row : row + 1].clamp(-1, 1), Code(*_row(code, row))))
        for row, name in enumerate(names)
    ]


def _row(code: Code, row: int) -> tuple[Tensor | None, Tensor | None]:
    return tuple(None if part is None else part[row : row + 1].clone() for part in (code.z_sem, code.x_T))  # pyright: ignore[reportReturnType]


def attribute_infos(attributes: AttributeDirections, own: Sequence[str]) -> list[AttributeInfo]:
    """The sliders."""
    infos = []
    for name, one in attributes.attributes_.items():
        low, high = slider_range(attributes, name)
        score = ScoreInfo(measure=one.score.measure, value=one.score.value, low=one.score.low, high=one.score.high)
        infos.append(
            AttributeInfo(
                name=name, kind=one.kind, column=one.column, images=one.n, score=score, low=low, high=high,
                own=name in own,
            )
        )  # fmt: skip
    return infos


def seeded_noise(studio: Studio, count: int, seed: int) -> Float[Tensor, "count c h w"]:
    """x_T ~ N(0, I) of a seed."""
    shape = studio.require_model().config.latent_shape
    return torch.randn((count, *shape), generator=torch.Generator().manual_seed(seed))
