"""The files: GET, POST and DELETE /files, and what is in them.

Of a file for fine-tuning, search, answers or classifications every line is looked at when it is
uploaded, as the service did while it had them; what is wrong in one for a batch is found by the batch.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from urllib.parse import quote

from ..calls import Answer, Call, Route
from ..files import File
from ..jsonl import CHECKED, check_lines, cut
from ..multipart import Form, Upload
from ..pages import page
from ..parameters import Parameters
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..wording import MODERN, OLD

PURPOSES = (
    "fine-tune",
    "answers",
    "search",
    "classifications",
    "assistants",
    "batch",
    "vision",
    "user_data",
    "evals",
)
"""What a client may upload a file for."""
_NOT_DOWNLOADED = ("assistants", "user_data")
_MOST_BYTES = 536_870_912
_MOST_BATCH_BYTES = 209_715_200
_FORM_BYTES = 65_536  # what a form has beside the file
_KNOWN = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")

_checks = Parameters(MODERN)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [
        Route("GET", "/files", partial(_list, state), clocked=True),
        Route("POST", "/files", partial(_create, state), most_bytes=_MOST_BYTES + _FORM_BYTES),
        Route("GET", "/files/{file_id}", partial(_get, state)),
        Route("DELETE", "/files/{file_id}", partial(_delete, state), clocked=True),
        Route("GET", "/files/{file_id}/content", partial(_content, state)),
    ]


def _list(state: State, call: Call) -> Answer:
    purpose = call.query.get("purpose")
    files = [file for file in state.files if purpose in (None, file.purpose)]
    answer = page(files, call.query, File.shown, default=10_000, most=10_000)
    return Answer(write=lambda: reply_json(answer))


def _get(state: State, call: Call) -> Answer:
    file = state.files.get(call.ids["file_id"])
    return Answer(write=lambda: reply_json(file.shown()))


def _delete(state: State, call: Call) -> Answer:
    file = state.files.get(call.ids["file_id"])

    def write() -> Reply:
        state.files.remove(file.id)
        return reply_json({"object": "file", "id": file.id, "deleted": True})

    return Answer(write=write)


def _create(state: State, call: Call) -> Answer:
    form = call.form()
    for name in form.names():
        if name not in _KNOWN:
            raise Refusal(400, f"Unrecognized request argument supplied: {name}")
    purpose, upload = _purpose(form), _file(form)
    lives = _lives(form)
    check_file(upload.filename, len(upload.view), purpose)
    if purpose in CHECKED:
        check_lines(cut(upload.view), purpose)

    def write() -> Reply:
        blob = state.store.keep(upload.view)
        file = state.files.add(blob, filename=upload.filename, purpose=purpose, lives=lives)
        return reply_json(file.shown())

    return Answer(write=write)


def _purpose(form: Form) -> str:
    purpose = form.text("purpose")
    if purpose is None:
        raise OLD.missing("purpose")
    if purpose not in PURPOSES:
        raise OLD.not_one_of("purpose", purpose, PURPOSES)
    return purpose


def _file(form: Form) -> Upload:
    uploads = form.files.get("file", [])
    if len(uploads) != 1:
        raise OLD.missing("file") if not uploads else Refusal(400, "One request uploads one file.", param="file")
    return uploads[0]


def _lives(form: Form) -> float | None:
    given = {name: form.text(f"expires_after[{name}]") for name in ("anchor", "seconds")}
    if given == {"anchor": None, "seconds": None}:
        return None
    seconds = given["seconds"] or ""
    return lifetime({**given, "seconds": int(seconds) if seconds.isdecimal() else given["seconds"]})


def lifetime(expires_after: Any, name: str = "expires_after") -> float | None:
    """Seconds that a file lives, as a request's `expires_after` says.

    Raises:
        Refusal: 400 for what cannot be.
    """
    if expires_after is None:
        return None
    members = {"anchor": _checks.one_of("created_at"), "seconds": _checks.integer(3600, 2_592_000)}
    _checks.members(members, ("anchor", "seconds"))(name, expires_after)
    return float(expires_after["seconds"])


def check_file(filename: str, size: int, purpose: str) -> None:
    """Checks what a file is called and how large it is.

    Raises:
        Refusal: 400 or 413.
    """
    if size == 0:
        raise Refusal(400, "File is empty.", param="file")
    if purpose == "batch" and not filename.endswith(".jsonl"):
        raise Refusal(400, "Invalid file format for Batch API. Must be .jsonl")
    if purpose == "batch" and size > _MOST_BATCH_BYTES:
        message = f"File is too large for Batch API: {size} bytes, maximum {_MOST_BATCH_BYTES}."
        raise Refusal(400, message, param="file")
    if size > _MOST_BYTES:
        message = f"Maximum content size limit ({_MOST_BYTES}) exceeded ({size} bytes read)"
        raise Refusal(413, message, type="server_error")


def _content(state: State, call: Call) -> Answer:
    file = state.files.get(call.ids["file_id"])
    if file.purpose in _NOT_DOWNLOADED:
        raise Refusal(400, f"Not allowed to download files of purpose: {file.purpose}")
    return Answer(write=lambda: _sent(file))


def _sent(file: File) -> Reply:
    """The bytes: at once where they are in memory, else as they come from the disk."""
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{quote(file.filename)}"}
    reply = Reply(content_type="application/octet-stream", headers=headers)
    if file.blob.at_hand:
        reply.body = file.data
    else:
        reply.stream = _pieces(file)
    return reply


async def _pieces(file: File) -> AsyncIterator[bytes]:
    for piece in file.blob.pieces():
        yield piece
