"""The room Edit: attributes of a picture by sliders."""

from __future__ import annotations

from fastapi import APIRouter, Response

from diffae.errors import DataError
from diffae.latent.attributes import Strength
from diffae.latent.codes import Code
from diffae.latent.editing import ROUNDS, Edits, edit_images
from diffae.studio import commands
from diffae.studio.attributes import readings_of, value_of
from diffae.studio.engine import Ticket
from diffae.studio.pictures import data_urls, write_like
from diffae.studio.schema import Change, Commands, Edited, EditRequest
from diffae.studio.visits import Visit, VisitDep

router = APIRouter(prefix="/api/edit", tags=["edit"])


@router.post("", response_model=Edited, summary="Edit a picture")
async def edit(visit: VisitDep, wanted: EditRequest) -> Response:
    """The edited image, and what it reads when encoded again beside what was asked for."""

    def work(ticket: Ticket) -> Edited:
        attributes = visit.studio.attributes_of(visit.session)
        found = edits(visit, ticket, wanted, exact=wanted.exact)

        def values(row) -> dict[str, float]:
            return {name: value_of(attributes, name, row[place]) for place, name in enumerate(attributes.names_)}

        asked = values(found.asked[0]) | wanted.changes
        image = data_urls(found.images.clamp(-1, 1))[0]
        return Edited(image=image, asked=asked, read=values(found.read[0]), exact=wanted.exact)

    return await visit.run(work)


@router.post("/file", summary="The edited picture as a file of the type that came in")
async def file(visit: VisitDep, wanted: Change) -> Response:
    """16-bit files stay 16-bit; metadata is kept as far as the format can hold it."""

    def work(ticket: Ticket) -> Response:
        picture = visit.session.picture(wanted.picture)
        images = edits(visit, ticket, wanted, exact=True).images if wanted.changes else picture.x
        data, suffix = write_like(images, visit.studio.require_model(), picture.metadata)
        headers = {"Content-Disposition": f'attachment; filename="edited{suffix}"'}
        return Response(data, media_type="application/octet-stream", headers=headers)

    return await visit.run(work)


@router.post("/commands", response_model=Commands, summary="The command and the Python lines of an edit")
async def lines(visit: VisitDep, wanted: Change) -> Response:
    """What does the same outside the studio."""

    def work(ticket: Ticket) -> Commands:
        attributes, picture = visit.studio.attributes_of(visit.session), visit.session.picture(wanted.picture)
        if not wanted.changes:
            raise DataError("nothing is changed yet: move a slider first")
        readings_of(attributes, wanted.changes)
        return commands.edit(visit.studio.run, picture.name, attributes, wanted.changes, keep=wanted.keep)

    return await visit.run(work)


def edits(visit: Visit, ticket: Ticket, wanted: Change, *, exact: bool) -> Edits:
    """The edited image and its readings: exact and corrected, or a draft in few steps."""
    studio = visit.studio
    attributes, picture = studio.attributes_of(visit.session), visit.session.picture(wanted.picture)
    changes: dict[str, Strength] = dict(readings_of(attributes, wanted.changes))
    hold = attributes.others(changes) if wanted.keep and changes else ()
    rounds, sampling = (ROUNDS, studio.exact) if exact else (0, studio.draft)
    code = Code(picture.code.z_sem, picture.code.x_T)
    shared = studio.shared(ticket, rounds + 1)
    return edit_images(shared, attributes, code, [changes], hold=hold, rounds=rounds, sampling=sampling)
