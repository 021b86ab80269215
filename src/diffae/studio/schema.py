"""What requests and answers of the API hold. Images are PNG data URLs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Id = str


class ScoreInfo(BaseModel):
    """How well an attribute is read from z_sem of held-out images."""

    measure: str
    value: float
    low: float
    high: float


class AttributeInfo(BaseModel):
    """A slider. Values of binary attributes and classes are probabilities."""

    name: str
    kind: str
    column: str
    images: int = Field(description="labelled images that it was learnt from")
    score: ScoreInfo
    low: float = Field(description="reading at the lower end of the slider; a logit where `kind` is not number")
    high: float
    own: bool = Field(description="made by this visitor")


class DataInfo(BaseModel):
    """The state of the data set."""

    images: int
    encoded: int
    ready: bool
    problem: str
    labels: list[str]


class StudioInfo(BaseModel):
    """What is served."""

    run: str
    version: str
    image_size: int
    image_channels: int
    z_sem: int
    parameters: int
    attributes: list[AttributeInfo]
    missing: dict[str, str] = Field(description="for each room that cannot be entered the reason, and what helps")
    data: DataInfo
    student: bool = Field(description="whether a distilled model draws while a slider is dragged")
    may_save: bool
    umap: bool
    mp4: bool = Field(description="whether a path can be recorded as MP4, too")


class PictureInfo(BaseModel):
    """An opened picture."""

    id: Id
    name: str
    image: str
    values: dict[str, float] = Field(description="probability or value of each attribute, read from z_sem")


class OpenedPicture(PictureInfo):
    """A picture that was taken apart into (z_sem, x_T)."""

    back: str = Field(description="put together again")
    largest_error: float = Field(description="of the pixels, in levels of 255")
    residual: float = Field(description="of exact inversion, root mean square, images in [-1, 1]")
    calls: int = Field(description="network calls that exact inversion took")


class Change(BaseModel):
    """An edit."""

    picture: Id
    changes: dict[str, float] = Field(description="probability or value to reach for each attribute")
    keep: bool = Field(False, description="keep the readings of all other attributes")


class EditRequest(Change):
    """An edit to be seen."""

    exact: bool = Field(False, description="all steps, and corrected by what the edited image reads")


class Edited(BaseModel):
    """An edited image."""

    image: str
    asked: dict[str, float]
    read: dict[str, float] = Field(description="what the edited image reads when it is encoded again")
    exact: bool


class Commands(BaseModel):
    """The same, outside the studio."""

    command: str
    python: str


class BlendRequest(BaseModel):
    """A point between two to four pictures."""

    pictures: list[Id] = Field(min_length=2, max_length=4, description="top left, top right, bottom left, bottom right")
    across: float = Field(0.5, ge=0, le=1)
    down: float = Field(0.5, ge=0, le=1)
    exact: bool = False


class RecordRequest(BaseModel):
    """A path between pictures, to be an animation."""

    pictures: list[Id] = Field(min_length=2, max_length=4)
    path: list[tuple[float, float]] = Field(min_length=2, max_length=120, description="(across, down), each 0 to 1")
    kind: Literal["gif", "webp", "mp4"] = "gif"


class Images(BaseModel):
    """Several pictures, kept for the visitor."""

    pictures: list[PictureInfo]


class VaryRequest(BaseModel):
    """Decode the z_sem of a picture with several x_T."""

    picture: Id
    count: int = Field(8, ge=2, le=32)
    seed: int = Field(0, ge=0, le=2**31)
    pinned: Id | None = Field(None, description="a picture whose x_T comes first")


class Varied(Images):
    """Variations of one z_sem."""

    mean: str
    deviation: str


class SampleRequest(BaseModel):
    """New images."""

    count: int = Field(24, ge=1, le=64)
    seed: int = Field(0, ge=0, le=2**31)
    truncation: float = Field(1.0, ge=0, le=1)
    like: list[Id] = Field([], max_length=64, description="pictures like which they shall be; five or more")


class NearestRequest(BaseModel):
    """Ask for the nearest images of the data set."""

    picture: Id


class Neighbour(BaseModel):
    """An image of the data set."""

    row: int
    name: str
    image: str
    distance: float


class Novelty(BaseModel):
    """The nearest images by their pixels."""

    neighbours: list[Neighbour]
    relative: float = Field(description="distance to the nearest over that to the next ones: near 0 for a copy")


class Place(BaseModel):
    """A point of the map."""

    x: float
    y: float
    layout: Literal["pca", "umap"] = "pca"
    seed: int = Field(0, ge=0, le=2**31)


class Colouring(BaseModel):
    """A way to colour the map."""

    name: str
    kind: str
    classes: list[str] = []


class MapInfo(BaseModel):
    """The map."""

    images: int
    colourings: list[Colouring]
    layouts: list[str]


class FindRequest(BaseModel):
    """Find a picture on the map."""

    picture: Id
    layout: Literal["pca", "umap"] = "pca"


class Found(BaseModel):
    """Where a picture is on the map."""

    x: float
    y: float
    neighbours: list[Neighbour]


class GroupsRequest(BaseModel):
    """Two groups of images, between which a direction leads."""

    name: str
    has: list[int] = Field(max_length=200_000)
    lacks: list[int] = Field(max_length=200_000)


class StripRequest(BaseModel):
    """Move a picture along directions."""

    picture: Id
    kind: Literal["pca", "seen"] = "pca"
    count: int = Field(8, ge=1, le=16)


class Strip(BaseModel):
    """A picture moved along one direction, from -3 to 3 standard deviations."""

    index: int
    share: float = Field(description="of all variance, or of all visible change")
    images: list[str]


class Strips(BaseModel):
    """Directions without labels."""

    steps: list[float]
    strips: list[Strip]


class KeepRequest(BaseModel):
    """Keep a direction as an attribute."""

    kind: Literal["pca", "seen"]
    index: int = Field(ge=0)
    name: str


class Training(BaseModel):
    """A run in progress, or a finished one."""

    curves: dict[str, list[tuple[float, float]]] = Field(description="(images seen, value) for each measure")
    images: int
    total: int | None
    images_per_second: float | None
    seconds_left: float | None
    samples: list[str] = Field(description="names of the sample sheets, oldest first")
    note: str = Field(description="what the model cannot do yet; empty where nothing is known against it")
