"""Images out of a multipart body, in memory alone: nothing that is handed in ever touches a disk."""

from __future__ import annotations

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from fl_web.room.protocol import Upload, shown_name

MAX_BODY = 50_000_000
MAX_FILES = 100
FIELD = "file"
HOW = "send multipart/form-data with the images in fields named file"


class InMemory(MultiPartParser):
    """starlette's parser would move what is larger than 1 MB to a temporary file."""

    spool_max_size = 2 * MAX_BODY


async def uploads_of(request: Request) -> list[Upload]:
    """The images of a request, in order. Raises HTTPException for a body that has none."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(415, HOW)
    parser = InMemory(request.headers, request.stream(), max_files=MAX_FILES, max_fields=10)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise HTTPException(400, f"{error.message}: {HOW}") from None
    try:
        found = [
            Upload(shown_name(each.filename or ""), await each.read())
            for name, each in form.multi_items()
            if name == FIELD and isinstance(each, UploadFile)
        ]
    finally:
        await form.close()
    if not found:
        raise HTTPException(400, f"there is no image in that: {HOW}")
    return found
