"""What the API answers, as its schema tells."""

from __future__ import annotations

from pydantic import BaseModel, Field

__all__ = ["About", "Answer", "Health", "Problem", "Result"]


class Result(BaseModel):
    """What the model says of one image."""

    file: str = Field(description="The name that came with the upload.")
    probs: dict[str, float] = Field(description="The probability of each class.")
    decision: str = Field(description="The decided class; of several labels those decided, with | between.")
    distance: float | None = Field(default=None, description="To the training data; 1 is the limit. Null: no guard.")
    unlike: bool | None = Field(default=None, description="Whether the image is unlike the training data.")
    set: str | None = Field(default=None, description="The classes that it may be, with | between. Null: no sets.")
    rejected: bool | None = Field(
        default=None, description="Whether the model abstains. Null: it never does, or another threshold was asked for."
    )
    map: str | None = Field(default=None, description="A PNG as data: URL, the image under its relevance map.")


class Answer(BaseModel):
    """What the model says of the images of a request, in their order."""

    model: str
    threshold: str = Field(description="The rule or number that decided; empty for the most probable class.")
    results: list[Result]


class About(BaseModel):
    """What is served."""

    name: str
    kind: str = Field(description="run, or the format of an export")
    version: str = Field(description="Of imgcls.")
    classes: list[str]
    positive: str | None
    multilabel: bool
    decision: str = Field(description="The rule that decides; empty for the most probable class.")
    thresholds: dict[str, dict[str, float]] = Field(
        description="Of each rule the threshold of each class; of two classes that of the positive one."
    )
    size: list[int] = Field(description="Height and width that images are brought to.")
    channels: int
    guard: bool = Field(description="Whether images unlike the training data are told.")
    sets_miss: float | None = Field(description="How often the true class is missing from a set; null without sets.")
    abstains: bool = Field(description="Whether the model may abstain.")
    maps: bool = Field(description="Whether relevance maps can be asked for.")
    max_images: int
    max_megabytes: float
    max_megapixels: float


class Health(BaseModel):
    """Whether the server works."""

    status: str
    model: str
    uptime_seconds: float


class Problem(BaseModel):
    """Why a request was refused."""

    error: str
    file: str | None = Field(default=None, description="The file that it is about.")
