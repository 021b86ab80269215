"""What every room starts from: facts about the model, the data set, and opened pictures."""

from __future__ import annotations

import numpy as np
import torch
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from diffae.deprecation import __version__
from diffae.errors import ConfigError, DataError
from diffae.plotting import writes_mp4
from diffae.studio.context import Studio
from diffae.studio.engine import Ticket
from diffae.studio.pictures import MOST_BYTES, contact_sheet, data_urls, read_upload, shown_name
from diffae.studio.projection import umap_installed
from diffae.studio.rooms.shared import attribute_infos, described
from diffae.studio.schema import AttributeInfo, DataInfo, OpenedPicture, StudioInfo
from diffae.studio.sessions import Picture, Session
from diffae.studio.visits import Visit, VisitDep, failed

router = APIRouter(prefix="/api", tags=["start"])

_MOST_THUMBNAILS = 256


@router.get("/studio", response_model=StudioInfo, summary="The model, its attributes and its data set")
def info(visit: VisitDep) -> StudioInfo:
    """Facts about what is served; asked again while the data set is being encoded."""
    studio = visit.studio
    studio.reload()
    model, gallery = studio.model, studio.gallery
    labels = gallery.opened.labels if gallery.count else None
    data = DataInfo(
        images=gallery.count, encoded=gallery.encoded, ready=gallery.ready, problem=gallery.problem,
        labels=list(labels.columns) if labels else [],
    )  # fmt: skip
    return StudioInfo(
        run=studio.run,
        version=__version__,
        image_size=model.image_shape[1] if model else 0,
        image_channels=model.image_shape[0] if model else 0,
        z_sem=model.config.z_sem_channels if model else 0,
        parameters=sum(parameter.numel() for parameter in model.parameters()) if model else 0,
        attributes=sliders(studio, visit.session),
        missing=studio.missing(),
        data=data,
        student=studio.has_student,
        may_save=studio.may_save,
        umap=umap_installed(),
        mp4=writes_mp4(),
    )


def sliders(studio: Studio, session: Session) -> list[AttributeInfo]:
    """The attributes that a visitor sees; none where there are none."""
    try:
        attributes = studio.attributes_of(session)
    except ConfigError:
        return []
    return attribute_infos(attributes, session.attributes.names_ if session.attributes else ())


@router.get("/gallery/sheet", summary="Some images of the data set side by side, as one PNG")
async def thumbnails(visit: VisitDep, rows: str = Query(description="comma-separated", max_length=4000)) -> Response:
    """Each image is scaled to at most 64 pixels."""

    def work(ticket: Ticket) -> Response:
        try:
            wanted = [int(row) for row in rows.split(",")][:_MOST_THUMBNAILS]
        except ValueError:
            raise ConfigError(f"rows is {rows[:20]!r}: must be numbers with commas between them") from None
        sheet = contact_sheet(visit.studio.gallery.images(wanted))
        return Response(sheet, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})

    return await visit.run(work)


@router.post("/pictures", response_model=OpenedPicture, summary="Open a picture file: the body is its content")
async def upload(visit: VisitDep, request: Request, name: str = Query("picture", max_length=400)) -> Response:
    """The file is read as for training, and taken apart into z_sem and x_T by exact inversion."""
    try:
        data = await _body(request)
    except (DataError, ClientDisconnect) as error:
        return failed(error)

    def work(ticket: Ticket) -> OpenedPicture:
        shown = shown_name(name)
        x, metadata = read_upload(data, shown, visit.studio.require_model())
        return opened(visit, ticket, x, shown, metadata)

    return await visit.run(work)


@router.post("/pictures/of-data/{row}", response_model=OpenedPicture, summary="Open an image of the data set")
async def of_data(visit: VisitDep, row: int) -> Response:
    """The image is taken apart as an uploaded one is."""

    def work(ticket: Ticket) -> OpenedPicture:
        gallery = visit.studio.gallery
        x = gallery.images([row])
        return opened(visit, ticket, x, shown_name(gallery.opened.pack.names[row]), None)

    return await visit.run(work)


@router.post("/pictures/{picture}/open", response_model=OpenedPicture, summary="Open a picture made in another room")
async def reopened(visit: VisitDep, picture: str) -> Response:
    """Its code is known; it is decoded exactly once more."""

    def work(ticket: Ticket) -> OpenedPicture:
        known = visit.session.picture(picture)
        if known.code.residual is None:
            x = visit.studio.shared(ticket).decode(known.code, sampling=visit.studio.exact).clamp(-1, 1)
            known = visit.session.keep(Picture(known.name, x, known.code, known.metadata, known.id))
        return _answer(visit, ticket, known)

    return await visit.run(work)


async def _body(request: Request) -> bytes:
    """The body, up to the limit.

    Raises:
        DataError: it is longer.
    """
    parts, length = [], 0
    async for part in request.stream():
        length += len(part)
        if length > MOST_BYTES:
            raise DataError(f"the file is larger than {MOST_BYTES // 2**20} MB: make it smaller")
        parts.append(part)
    return b"".join(parts)


def opened(visit: Visit, ticket: Ticket, x: torch.Tensor, name: str, metadata) -> OpenedPicture:
    """Take an image apart, and keep it."""
    ticket.report(0.1)
    code = visit.studio.shared(ticket).encode(x, visit.studio.exact)
    ticket.report(0.8)
    return _answer(visit, ticket, visit.session.keep(Picture(name, x, code, metadata)))


def _answer(visit: Visit, ticket: Ticket, picture: Picture) -> OpenedPicture:
    studio, code = visit.studio, picture.code
    back = studio.shared(ticket).decode(code, sampling=studio.exact).clamp(-1, 1)
    [shown] = described(studio, visit.session, [picture])
    return OpenedPicture(
        **shown.model_dump(),
        back=data_urls(back)[0],
        largest_error=float((back - picture.x).abs().max()) * 255 / 2,
        residual=0.0 if code.residual is None else float(code.residual.max()),
        calls=0 if code.calls is None else int(np.asarray(code.calls).max()),
    )
