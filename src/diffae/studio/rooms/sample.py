"""The room Sample: new images of the prior, also like some that were chosen, and how new they are."""

from __future__ import annotations

import torch
from fastapi import APIRouter, Response

from diffae.config import PRIOR_STEPS
from diffae.errors import DataError
from diffae.latent.codes import Code
from diffae.latent.few_shot import LatentClassifier, sample_like
from diffae.studio import commands
from diffae.studio.engine import Ticket
from diffae.studio.rooms.neighbours import described_neighbours
from diffae.studio.rooms.shared import described, kept
from diffae.studio.schema import Commands, Images, NearestRequest, Novelty, SampleRequest
from diffae.studio.visits import Visit, VisitDep

router = APIRouter(prefix="/api/sample", tags=["sample"])

_UNLABELLED = 1024  # draws of the prior from which the chosen ones are told


@router.post("", response_model=Images, summary="New images")
async def sample(visit: VisitDep, wanted: SampleRequest) -> Response:
    """z_sem from the prior, x_T at random; with `like` those that a classifier of the chosen ones accepts."""

    def work(ticket: Ticket) -> Images:
        studio, session = visit.studio, visit.session
        model = studio.require_model()
        generator = torch.Generator().manual_seed(wanted.seed)
        z_sem = _z_sem(visit, ticket, wanted, generator) if model.config.has_encoder else None
        x_T = torch.randn((wanted.count, *model.config.latent_shape), generator=generator)
        code = Code(z_sem, x_T)
        x = studio.shared(ticket, wanted.count).decode(code, sampling=studio.exact)
        names = [f"sample_{wanted.seed}_{row}.png" for row in range(wanted.count)]
        return Images(pictures=described(studio, session, kept(session, x, code, names)))

    return await visit.run(work)


@router.post("/novelty", response_model=Novelty, summary="The nearest images of the data set")
async def novelty(visit: VisitDep, wanted: NearestRequest) -> Response:
    """By mean squared difference of pixels, mirrored or not."""

    def work(ticket: Ticket) -> Novelty:
        gallery = visit.studio.gallery
        found = gallery.nearest_images(visit.session.picture(wanted.picture).x, ticket.report)
        rows, distances = found.rows[0].tolist(), found.distances[0].tolist()
        return Novelty(neighbours=described_neighbours(gallery, rows, distances), relative=float(found.relative[0]))

    return await visit.run(work)


@router.post("/commands", response_model=Commands, summary="The command and the Python lines of samples")
async def lines(visit: VisitDep, wanted: SampleRequest) -> Response:
    """What does the same outside the studio."""
    return await visit.run(
        lambda ticket: commands.sample(visit.studio.run, wanted.count, wanted.seed, wanted.truncation)
    )


def _z_sem(visit: Visit, ticket: Ticket, wanted: SampleRequest, generator: torch.Generator) -> torch.Tensor:
    studio = visit.studio
    prior = studio.require_model().require_prior()
    how = {"steps": PRIOR_STEPS, "truncation": wanted.truncation, "generator": generator}
    if not wanted.like:
        return prior.sample(wanted.count, **how).cpu()
    chosen = [visit.session.picture(name).code.z_sem for name in wanted.like]
    like = torch.cat([z for z in chosen if z is not None])
    if len(like) != len(wanted.like):
        raise DataError("a chosen picture has no z_sem: choose others")
    classifier = LatentClassifier(prior).fit(like, prior.sample(_UNLABELLED, **how))

    def progress(found: int) -> None:
        ticket.check()
        ticket.report(found / wanted.count)

    return sample_like(prior, classifier, wanted.count, progress=progress, **how).z_sem.cpu()
