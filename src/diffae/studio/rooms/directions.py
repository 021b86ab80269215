"""The room Directions: those without labels, as strips."""

from __future__ import annotations

import numpy as np
import torch
from fastapi import APIRouter, Response

from diffae.errors import DataError
from diffae.latent.codes import Code
from diffae.latent.directions import SPANNED, Directions, most_visible, principal_directions, with_z_sem
from diffae.studio.attributes import checked_name, from_direction
from diffae.studio.engine import Ticket
from diffae.studio.pictures import data_urls
from diffae.studio.rooms.keeping import add_attribute, known_attributes
from diffae.studio.schema import AttributeInfo, KeepRequest, Strip, StripRequest, Strips
from diffae.studio.sessions import Picture
from diffae.studio.visits import Visit, VisitDep

router = APIRouter(prefix="/api/directions", tags=["directions"])

STEPS = (-3, -2, -1, 0, 1, 2, 3)
"""Standard deviations."""
_CODES = 2  # images whose decoded change is measured


@router.post("", response_model=Strips, summary="A picture moved along directions that need no labels")
async def strips(visit: VisitDep, wanted: StripRequest) -> Response:
    """`pca`: those of largest variance. `seen`: those that change the decoded image most."""

    def work(ticket: Ticket) -> Strips:
        studio, picture = visit.studio, visit.session.picture(wanted.picture)
        found = directions(visit, ticket, wanted.kind)[: wanted.count]
        shared = studio.shared(ticket, len(found) * len(STEPS))
        rows = []
        for index, vector in enumerate(found.vectors):
            x = shared.decode(_moved(picture, vector), sampling=studio.draft)
            rows.append(Strip(index=index, share=float(found.shares[index]), images=data_urls(x.clamp(-1, 1))))
        return Strips(steps=[float(step) for step in STEPS], strips=rows)

    return await visit.run(work)


@router.post("/keep", response_model=list[AttributeInfo], summary="Keep a direction as an attribute")
async def keep(visit: VisitDep, wanted: KeepRequest) -> Response:
    """The attribute counts standard deviations along the direction."""

    def work(ticket: Ticket) -> Response:
        name = checked_name(wanted.name, [one.name for one in known_attributes(visit)])
        found = directions(visit, ticket, wanted.kind)
        return add_attribute(visit, from_direction(visit.studio.gallery.z_sem, name, found, wanted.index))

    return await visit.run(work)


def directions(visit: Visit, ticket: Ticket, kind: str) -> Directions:
    """All directions of a kind, found once for the data set."""
    gallery = visit.studio.gallery
    z_sem = gallery.z_sem

    def principal() -> Directions:
        return principal_directions(z_sem, min(SPANNED, len(z_sem) - 1, z_sem.shape[1]))

    def seen() -> Directions:
        within = gallery.once("pca directions", principal)
        shared = visit.studio.shared(ticket, 2 * len(within) * _CODES)
        rows = np.linspace(0, len(z_sem) - 1, _CODES).astype(int).tolist()
        code = shared.encode(gallery.images(rows), visit.studio.exact)
        return most_visible(shared, Code(code.z_sem, code.x_T), within, visit.studio.draft)

    return gallery.once(f"{kind} directions", principal if kind == "pca" else seen)


def _moved(picture: Picture, vector: np.ndarray) -> Code:
    """The codes along a direction."""
    code = picture.code
    if code.z_sem is None:
        raise DataError("this picture has no z_sem: use a model with an encoder")
    far = torch.tensor(STEPS, dtype=torch.float32)[:, None]
    return with_z_sem(Code(code.z_sem, code.x_T), code.z_sem + far * torch.from_numpy(vector).float())
