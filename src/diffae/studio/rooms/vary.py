"""The room Vary: one z_sem with several x_T."""

from __future__ import annotations

import torch
from fastapi import APIRouter, Response

from diffae.errors import DataError
from diffae.evaluation.tasks.variation import Variation
from diffae.latent.codes import Code
from diffae.studio import commands
from diffae.studio.engine import Ticket
from diffae.studio.pictures import data_urls, heat_url
from diffae.studio.rooms.shared import described, kept, seeded_noise
from diffae.studio.schema import Commands, Varied, VaryRequest
from diffae.studio.visits import VisitDep

router = APIRouter(prefix="/api/vary", tags=["vary"])

DEVIATION_GAIN = 4.0
"""The map of standard deviations saturates at a quarter, images in [0, 1]."""


@router.post("", response_model=Varied, summary="Decode the z_sem of a picture with several x_T")
async def vary(visit: VisitDep, wanted: VaryRequest) -> Response:
    """What stays the same is in z_sem; mean and deviation show what is left to x_T."""

    def work(ticket: Ticket) -> Varied:
        studio, session = visit.studio, visit.session
        picture = session.picture(wanted.picture)
        if picture.code.z_sem is None:
            raise DataError("this picture has no z_sem: use a model with an encoder")
        x_T = seeded_noise(studio, wanted.count, wanted.seed)
        if wanted.pinned:
            pinned = session.picture(wanted.pinned).code.x_T
            if pinned is None:
                raise DataError("the pinned picture has no x_T: pin another")
            x_T = torch.cat([pinned, x_T[: wanted.count - 1]])
        code = Code(picture.code.z_sem.expand(wanted.count, -1), x_T)
        x = studio.shared(ticket, wanted.count).decode(code, sampling=studio.exact)
        found = Variation(x[None])
        return Varied(
            pictures=described(studio, session, kept(session, x, code, [picture.name] * wanted.count)),
            mean=data_urls(found.mean)[0],
            deviation=heat_url(found.deviation[0] * DEVIATION_GAIN),
        )

    return await visit.run(work)


@router.post("/commands", response_model=Commands, summary="The command and the Python lines of variations")
async def lines(visit: VisitDep, wanted: VaryRequest) -> Response:
    """What does the same outside the studio."""

    def work(ticket: Ticket) -> Commands:
        name = visit.session.picture(wanted.picture).name
        return commands.vary(visit.studio.run, name, wanted.count, wanted.seed)

    return await visit.run(work)
