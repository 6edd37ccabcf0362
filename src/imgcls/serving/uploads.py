"""What comes with a request, within limits."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, final

import attrs
from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from imgcls.core.errors import ImgclsError
from imgcls.data.images import InMemory
from imgcls.serving.limits import Limits

__all__ = ["BodyLimit", "Order", "Refused", "order_of"]

#: So many times the limit is read and thrown away, so that the client hears why, and no more.
_PATIENCE = 4

#: So many fields beside the files are read at most.
_FIELDS = 8

_TRUE, _FALSE = {"true", "1", "on", "yes"}, {"false", "0", "off", "no", ""}


class Refused(ImgclsError):  # noqa: N818 (it reads better)
    """A request that is not answered.

    Attributes:
        status: Of the answer.
        file: The file that it is about.
    """

    def __init__(self, text: str, *, status: int = 422, file: str | None = None) -> None:
        super().__init__(text)
        self.status, self.file = status, file


@attrs.frozen(kw_only=True)
class Order:
    """What a request asks for.

    Attributes:
        files: The images.
        threshold: A rule or a number, None for that of the model.
        maps: Whether to draw relevance.
    """

    files: tuple[InMemory, ...]
    threshold: str | None = None
    maps: bool = False


@final
class BodyLimit:
    """Reads no more of a request than is allowed, whatever length it claims.

    Args:
        app: The application.
        limit: In bytes.
    """

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self.app, self.limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on.

        Args:
            scope: Of the request.
            receive: Gives its body.
            send: Takes the answer.
        """
        received = 0

        async def limited() -> MutableMapping[str, Any]:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received <= self.limit:
                return message
            while message.get("more_body") and received <= _PATIENCE * self.limit:
                message = await receive()
                received += len(message.get("body", b""))
            raise Refused(f"the request must have at most {self.limit / 1e6:g} MB, got more", status=413)

        await self.app(scope, limited, send)


async def order_of(request: Request, limits: Limits) -> Order:
    """Read the form of a request.

    Args:
        request: The request.
        limits: How much is allowed.

    Returns:
        What it asks for.

    Raises:
        Refused: if the form is not as it must be.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refused("the request must be 'multipart/form-data' with the images as 'files'", status=415)
    try:
        form = await request.form(max_files=limits.images + 1, max_fields=_FIELDS)
    except HTTPException as error:
        most = f"{limits.images} images and {_FIELDS} fields"
        said = error.detail.partition(".")[0]  # what follows is a limit of the reader
        raise Refused(f"the form must be whole and hold at most {most}, got: {said}", status=400) from None
    try:
        return await _order(form, limits)
    finally:
        await form.close()


async def _order(form: FormData, limits: Limits) -> Order:
    for name, value in form.multi_items():
        if name not in {"files", "threshold", "map"} or isinstance(value, UploadFile) != (name == "files"):
            raise Refused(f"the form must have 'files', 'threshold' and 'map' alone, got {name[:80]!r}")
    given = [value for value in form.getlist("files") if isinstance(value, UploadFile)]
    if not 1 <= len(given) <= limits.images:
        raise Refused(f"'files' must hold 1 to {limits.images} images, got {len(given) or 'none'}")
    wanted = str(form.get("map", "")).lower()
    if wanted not in _TRUE | _FALSE:
        raise Refused(f"'map' must be true or false, got {wanted[:80]!r}")
    files = [InMemory(name=(one.filename or "image")[:200], content=await one.read()) for one in given]
    threshold = str(form.get("threshold", "")) or None
    return Order(files=tuple(files), threshold=threshold, maps=wanted in _TRUE)
