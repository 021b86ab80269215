"""The room Map: all z_sem in the plane."""

from __future__ import annotations

import math

import numpy as np
import torch
from fastapi import APIRouter, Query, Response
from jaxtyping import Float, Float32

from diffae.errors import ConfigError
from diffae.latent.codes import Code
from diffae.studio import projection
from diffae.studio.attributes import checked_name, from_groups, value_of
from diffae.studio.engine import Ticket
from diffae.studio.rooms.keeping import add_attribute, known_attributes
from diffae.studio.rooms.neighbours import described_neighbours
from diffae.studio.rooms.shared import described, kept, seeded_noise
from diffae.studio.schema import (
    AttributeInfo,
    Colouring,
    FindRequest,
    Found,
    GroupsRequest,
    MapInfo,
    PictureInfo,
    Place,
)
from diffae.studio.visits import Visit, VisitDep

router = APIRouter(prefix="/api/map", tags=["map"])

_NEIGHBOURS = 12
_TYPICAL = "distance from the mean"
_OCTETS = "application/octet-stream"


@router.get("", response_model=MapInfo, summary="What the map holds")
async def about(visit: VisitDep) -> Response:
    """The number of images, what they can be coloured by, and the layouts."""

    def work(ticket: Ticket) -> MapInfo:
        labels = visit.studio.gallery.opened.labels
        given = [] if labels is None else [
            Colouring(name=f"label: {name}", kind=labels.kinds[name], classes=list(labels.classes.get(name, ())))
            for name in labels.columns
        ]  # fmt: skip
        try:
            names = visit.studio.attributes_of(visit.session).names_
        except ConfigError:
            names = ()
        read = [Colouring(name=f"read: {name}", kind="number") for name in names]
        layouts = [name for name in projection.LAYOUTS if name == "pca" or projection.umap_installed()]
        colourings = [*given, *read, Colouring(name=_TYPICAL, kind="number")]
        return MapInfo(images=len(visit.studio.gallery.z_sem), colourings=colourings, layouts=layouts)

    return await visit.run(work)


@router.get("/points", summary="Places of all images: float32, x and y in turn")
async def points(visit: VisitDep, layout: str = Query("pca", max_length=10)) -> Response:
    """Little-endian, in the order of the data set."""
    return await visit.run(lambda ticket: Response(_points(visit, layout).astype("<f4").tobytes(), media_type=_OCTETS))


@router.get("/colours", summary="A value for each image: float32, NaN where unknown")
async def colours(visit: VisitDep, by: str = Query(max_length=200)) -> Response:
    """Little-endian, in the order of the data set; classes are numbered."""
    return await visit.run(lambda ticket: Response(_values(visit, by).astype("<f4").tobytes(), media_type=_OCTETS))


@router.post("/decode", response_model=PictureInfo, summary="Decode a point between the images")
async def decode(visit: VisitDep, place: Place) -> Response:
    """z_sem is a mean of those of the nearest points, weighted by their distances; x_T is random."""

    def work(ticket: Ticket) -> PictureInfo:
        studio = visit.studio
        if not (math.isfinite(place.x) and math.isfinite(place.y)):
            raise ConfigError(f"place is ({place.x}, {place.y}): must be finite")
        rows, weights = projection.between(_points(visit, place.layout), (place.x, place.y))
        z_sem = torch.from_numpy(weights @ studio.gallery.z_sem[rows]).float()[None]
        code = Code(z_sem, seeded_noise(studio, 1, place.seed))
        x = studio.shared(ticket).decode(code, sampling=studio.exact)
        return described(studio, visit.session, kept(visit.session, x, code, ["between.png"]))[0]

    return await visit.run(work)


@router.get("/neighbours/{row}", response_model=Found, summary="An image and those nearest to it by z_sem")
async def neighbours(visit: VisitDep, row: int, layout: str = Query("pca", max_length=10)) -> Response:
    """The first is the image itself."""

    def work(ticket: Ticket) -> Found:
        visit.studio.gallery.images([row])  # that there is such a row
        return _found(visit, visit.studio.gallery.z_sem[row : row + 1], layout)

    return await visit.run(work)


@router.post("/find", response_model=Found, summary="Find a picture on the map")
async def find(visit: VisitDep, wanted: FindRequest) -> Response:
    """Its place, and the images nearest to it by z_sem."""

    def work(ticket: Ticket) -> Found:
        z_sem = visit.session.picture(wanted.picture).code.z_sem
        if z_sem is None:
            raise ConfigError("this picture has no z_sem: use a model with an encoder")
        return _found(visit, z_sem.numpy(), wanted.layout)

    return await visit.run(work)


@router.post(
    "/direction", response_model=list[AttributeInfo], summary="A direction between two groups, as an attribute"
)
async def direction(visit: VisitDep, wanted: GroupsRequest) -> Response:
    """Logistic regression tells the groups apart; its direction becomes a slider."""

    def work(ticket: Ticket) -> Response:
        known = [one.name for one in known_attributes(visit)]
        name = checked_name(wanted.name, known)
        return add_attribute(visit, from_groups(visit.studio.gallery.z_sem, name, wanted.has, wanted.lacks))

    return await visit.run(work)


def _points(visit: Visit, layout: str) -> Float32[np.ndarray, "n 2"]:
    if layout not in projection.LAYOUTS:
        raise ConfigError(f"layout is {layout!r}: choose one of {', '.join(projection.LAYOUTS)}")
    return visit.studio.gallery.points(layout)


def _values(visit: Visit, by: str) -> Float[np.ndarray, " n"]:
    gallery = visit.studio.gallery
    kind, _, name = by.partition(": ")
    if kind == "label" and gallery.opened.labels is not None:
        return gallery.opened.labels.column(name)
    if kind == "read":
        attributes = visit.studio.attributes_of(visit.session)
        readings = attributes.read(gallery.z_sem)[:, attributes.index(name)]
        return np.array([value_of(attributes, name, reading) for reading in readings])
    if by == _TYPICAL:
        return np.sqrt(np.square(gallery.normalised(gallery.z_sem)).mean(axis=1))
    raise ConfigError(f"by is {by!r}: choose a colouring of the map")


def _found(visit: Visit, z_sem: Float[np.ndarray, "1 d"], layout: str) -> Found:
    gallery = visit.studio.gallery
    near = gallery.neighbours(z_sem, min(_NEIGHBOURS, len(gallery.z_sem)))
    rows, distances = near.rows[0].tolist(), near.distances[0].tolist()
    weights = 1 / (np.asarray(distances[:4]) + 1e-9)
    x, y = weights @ _points(visit, layout)[rows[:4]] / weights.sum()
    return Found(x=float(x), y=float(y), neighbours=described_neighbours(gallery, rows, distances))
