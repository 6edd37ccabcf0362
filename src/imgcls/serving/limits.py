"""How much a server takes at a time."""

from __future__ import annotations

import attrs

from imgcls.core import options

__all__ = ["Limits"]


@attrs.frozen(kw_only=True)
class Limits:
    """How much a server takes at a time.

    Attributes:
        megabytes: Of one request, all files together, in units of 1 000 000 bytes.
        images: Of one request.
        megapixels: Of one image, in units of 1 000 000 pixels; told by its header, before it is decoded.
        batch: Images that the model predicts at a time, at most.
        waiting: Images that may wait for the model; more are refused with status 503.
    """

    megabytes: float = attrs.field(default=20, validator=options.number(0, above=True))
    images: int = attrs.field(default=16, validator=options.count())
    megapixels: float = attrs.field(default=40, validator=options.number(0, 64, above=True))
    batch: int = attrs.field(default=16, validator=options.count())
    waiting: int = attrs.field(default=256, validator=options.count())

    def __attrs_post_init__(self) -> None:
        if self.waiting < self.images:
            raise options.rejected("waiting", f"be at least 'images', {self.images}", self.waiting)
