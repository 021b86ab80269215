"""Attributes that a visitor makes, kept for the visitor alone, and saved into the run where that is allowed."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from diffae.errors import ConfigError
from diffae.latent.attributes import AttributeDirections
from diffae.studio.attributes import joined
from diffae.studio.engine import Ticket
from diffae.studio.rooms.start import sliders
from diffae.studio.schema import AttributeInfo
from diffae.studio.visits import Visit, VisitDep

router = APIRouter(prefix="/api/attributes", tags=["attributes"])

_MOST_OWN = 64


@router.post("/save", response_model=list[AttributeInfo], summary="Save the visitor's attributes into the run")
async def save(visit: VisitDep) -> Response:
    """Only where the studio serves a run folder to this machine alone."""

    def work(ticket: Ticket) -> Response:
        studio, session = visit.studio, visit.session
        if not studio.may_save:
            raise ConfigError(
                "attributes are not saved here: only `diffae studio RUN` without --host saves into its run"
            )
        if session.attributes is None:
            raise ConfigError("there is nothing to save: make an attribute in the rooms Map or Directions first")
        both = studio.attributes_of(session)
        both.save(studio.folder, studio.require_model().fingerprint())
        studio.attributes, session.attributes = both, None
        return _listed(visit)

    return await visit.run(work)


def known_attributes(visit: Visit) -> list[AttributeInfo]:
    """The attributes that a visitor has."""
    return sliders(visit.studio, visit.session)


def add_attribute(visit: Visit, made: AttributeDirections) -> Response:
    """Add an attribute to the visitor's own; returns all.

    Raises:
        ConfigError: there are too many.
    """
    own = visit.session.attributes
    if own is not None and len(own.names_) >= _MOST_OWN:
        raise ConfigError(f"there are {_MOST_OWN} attributes of your own already: that is the limit")
    visit.session.attributes = made if own is None else joined(own, made)
    return _listed(visit)


def _listed(visit: Visit) -> Response:
    return JSONResponse([one.model_dump() for one in sliders(visit.studio, visit.session)])
