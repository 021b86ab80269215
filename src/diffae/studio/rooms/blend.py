"""The room Blend: a dot dragged between two to four pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from fastapi import APIRouter, Response

from diffae.diffusion.interpolation import lerp, slerp
from diffae.errors import DataError
from diffae.latent.codes import Code
from diffae.plotting import ANIMATED, animation, check_suffix, tiles_of
from diffae.studio import commands
from diffae.studio.engine import Ticket
from diffae.studio.rooms.shared import described, kept
from diffae.studio.schema import BlendRequest, Commands, PictureInfo, RecordRequest
from diffae.studio.visits import VisitDep

router = APIRouter(prefix="/api/blend", tags=["blend"])

_TYPES = {"gif": "image/gif", "webp": "image/webp", "mp4": "video/mp4"}


@router.post("", response_model=PictureInfo, summary="The image at a point between pictures")
async def blend(visit: VisitDep, wanted: BlendRequest) -> Response:
    """Straight lines in z_sem, great arcs in x_T: across the upper and the lower edge, then down between them."""

    def work(ticket: Ticket) -> PictureInfo:
        studio = visit.studio
        code = mixed([visit.session.picture(name).code for name in wanted.pictures], wanted.across, wanted.down)
        x = studio.shared(ticket).decode(code, sampling=studio.exact if wanted.exact else studio.draft)
        return described(studio, visit.session, kept(visit.session, x, code, ["blend.png"]))[0]

    return await visit.run(work)


@router.post("/record", summary="The way of the dot as an animation")
async def record(visit: VisitDep, wanted: RecordRequest) -> Response:
    """A GIF, a WebP or an MP4 that plays forwards and backwards."""

    def work(ticket: Ticket) -> Response:
        studio = visit.studio
        check_suffix(Path(f"blend.{wanted.kind}"), ANIMATED)
        corners = [visit.session.picture(name).code for name in wanted.pictures]
        path = [(min(max(across, 0), 1), min(max(down, 0), 1)) for across, down in wanted.path]
        code = Code.join([mixed(corners, *place) for place in path])
        x = studio.shared(ticket, len(path)).decode(code, sampling=studio.exact)
        data = animation(tiles_of(x.clamp(-1, 1)), wanted.kind.upper())
        headers = {"Content-Disposition": f'attachment; filename="blend.{wanted.kind}"'}
        return Response(data, media_type=_TYPES[wanted.kind], headers=headers)

    return await visit.run(work)


@router.post("/commands", response_model=Commands, summary="The command and the Python lines of a blend of two")
async def lines(visit: VisitDep, wanted: BlendRequest) -> Response:
    """What does the same outside the studio, along the edge between the first two pictures."""

    def work(ticket: Ticket) -> Commands:
        return commands.blend(visit.studio.run, [visit.session.picture(name).name for name in wanted.pictures])

    return await visit.run(work)


def mixed(corners: Sequence[Code], across: float, down: float) -> Code:
    """The code at a point between two pictures side by side, or three or four at the corners of a square.

    Raises:
        DataError: a picture without x_T, or fewer than 2 or more than 4.
    """
    if not 2 <= len(corners) <= 4:
        raise DataError(f"{len(corners)} pictures: blending takes 2 to 4; choose others")
    upper = _between(corners[0], corners[1], across)
    if len(corners) == 2:
        return upper
    return _between(upper, _between(corners[2], corners[-1], across), down)


def _between(a: Code, b: Code, share: float) -> Code:
    if a.z_sem is None or b.z_sem is None or a.x_T is None or b.x_T is None:
        raise DataError("a picture has no z_sem or no x_T: open it again")
    weight = torch.tensor([share])
    return Code(lerp(a.z_sem, b.z_sem, weight), slerp(a.x_T, b.x_T, weight))
