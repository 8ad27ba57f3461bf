"""Large files in parts: POST /uploads, its parts, and how it ends.

Parts may come at the same time and in any order; which belong to the file, and in what order, is said
when the upload is completed. An hour after it began an upload expires.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from ..blobs import Blob, Chain
from ..calls import Answer, Call, Route
from ..clock import Clock
from ..files import File
from ..jsonl import CHECKED, check_lines
from ..parameters import Parameters, check
from ..replies import Refusal, Reply, reply_json
from ..state import State
from ..wording import MODERN
from .files import PURPOSES, lifetime

_MOST_BYTES = 8_589_934_592
_MOST_PART_BYTES = 67_108_864
_FORM_BYTES = 65_536  # what a form has beside the part
_SECONDS = 3600.0

_checks = Parameters(MODERN)
_CREATE = {
    "filename": _checks.string(1),
    "purpose": _checks.one_of(*PURPOSES),
    "bytes": _checks.integer(1, _MOST_BYTES),
    "mime_type": _checks.string(1),
}
_COMPLETE = {"part_ids": _checks.array(1, None, _checks.string(1)), "md5": _checks.string(32, 32)}


@dataclass(kw_only=True, eq=False)
class _Upload:
    """One upload: what was said of the file, and the parts by their ids."""

    id: str
    clock: Clock
    created_at: float
    filename: str
    purpose: str
    bytes: int
    lives: float | None
    ended: str | None = None
    file: File | None = None
    parts: dict[str, Blob] = field(default_factory=dict)

    @property
    def status(self) -> str:
        if self.ended is not None:
            return self.ended
        return "expired" if self.clock.now() >= self.created_at + _SECONDS else "pending"

    def must_be_pending(self) -> None:
        if self.status != "pending":
            raise Refusal(400, f"Upload {self.id} is not pending: its status is '{self.status}'.", param="upload_id")

    def shown(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "upload",
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": int(self.created_at + _SECONDS),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": self.status,
            "file": self.file.shown() if self.file else None,
        }


class _Uploads:
    def __init__(self, state: State) -> None:
        self._state = state
        self._by_id: dict[str, _Upload] = {}

    def find(self, call: Call) -> _Upload:
        upload = self._by_id.get(call.ids["upload_id"])
        if upload is None:
            raise Refusal(404, f"No such Upload object: {call.ids['upload_id']}", param="upload_id")
        return upload

    def create(self, call: Call) -> Answer:
        fields = call.fields((*_CREATE, "expires_after"))
        for name in _CREATE:
            if name not in fields:
                raise MODERN.missing(name)
        check(fields, _CREATE, tuple(_CREATE))
        lives = lifetime(fields.pop("expires_after", None))
        fields.pop("mime_type")

        def write() -> Reply:
            new_id, clock = self._state.new_id("upload_"), self._state.clock
            upload = _Upload(id=new_id, clock=clock, created_at=clock.now(), lives=lives, **fields)
            self._by_id[new_id] = upload
            return reply_json(upload.shown())

        return Answer(write=write)

    def get(self, call: Call) -> Answer:
        upload = self.find(call)
        return Answer(write=lambda: reply_json(upload.shown()))

    def add_part(self, call: Call) -> Answer:
        upload = self.find(call)
        upload.must_be_pending()
        form = call.form()
        for name in form.names():
            if name != "data":
                raise Refusal(400, f"Unrecognized request argument supplied: {name}")
        sent = form.files.get("data", [])
        if len(sent) != 1:
            raise MODERN.missing("data")
        if not 0 < len(sent[0].view) <= _MOST_PART_BYTES:
            message = f"A part has 1 to {_MOST_PART_BYTES} bytes, not {len(sent[0].view)}."
            raise Refusal(400, message, param="data")

        def write() -> Reply:
            part_id = self._state.new_id("part_")
            upload.parts[part_id] = self._state.store.keep(sent[0].view)
            created = int(self._state.clock.now())
            part = {"id": part_id, "object": "upload.part", "created_at": created, "upload_id": upload.id}
            return reply_json(part)

        return Answer(write=write)

    def cancel(self, call: Call) -> Answer:
        upload = self.find(call)
        if upload.status != "cancelled":
            upload.must_be_pending()

        def write() -> Reply:
            if upload.status == "pending":
                upload.ended = "cancelled"
                upload.parts.clear()
            return reply_json(upload.shown())

        return Answer(write=write)

    def complete(self, call: Call) -> Answer:
        upload = self.find(call)
        fields = call.fields(tuple(_COMPLETE))
        if "part_ids" not in fields:
            raise MODERN.missing("part_ids")
        check(fields, _COMPLETE, ("part_ids",))
        upload.must_be_pending()
        content = _in_order(upload, fields["part_ids"])
        _check_content(upload, content, fields.get("md5"))

        def write() -> Reply:
            # Once, also where two requests that complete it were checked at the same time.
            if upload.status == "pending":
                upload.ended = "completed"
                upload.file = self._state.files.add(
                    content, filename=upload.filename, purpose=upload.purpose, lives=upload.lives
                )
                upload.parts.clear()
            return reply_json(upload.shown())

        return Answer(write=write)


def _in_order(upload: _Upload, part_ids: list[str]) -> Chain:
    for index, part_id in enumerate(part_ids):
        if part_id not in upload.parts:
            raise Refusal(400, f"Part {part_id} is not a part of upload {upload.id}.", param=f"part_ids[{index}]")
        if part_id in part_ids[:index]:
            raise Refusal(400, f"Part {part_id} is named more than once.", param=f"part_ids[{index}]")
    return Chain([upload.parts[part_id] for part_id in part_ids])


def _check_content(upload: _Upload, content: Chain, md5: str | None) -> None:
    if content.size != upload.bytes:
        message = (
            f"The number of bytes uploaded ({content.size}) does not match the number of bytes specified when the "
            f"Upload was created ({upload.bytes})."
        )
        raise Refusal(400, message, param="part_ids")
    if md5 is not None:
        digest = hashlib.md5(usedforsecurity=False)
        for piece in content.pieces():
            digest.update(piece)
        if digest.hexdigest() != md5.lower():
            message = f"The md5 checksum of the uploaded bytes is {digest.hexdigest()}, not {md5}."
            raise Refusal(400, message, param="md5")
    if upload.purpose in CHECKED:
        check_lines(content.pieces(), upload.purpose)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    uploads = _Uploads(state)
    return [
        Route("POST", "/uploads", uploads.create),
        Route("GET", "/uploads/{upload_id}", uploads.get),
        Route("POST", "/uploads/{upload_id}/parts", uploads.add_part, most_bytes=_MOST_PART_BYTES + _FORM_BYTES),
        Route("POST", "/uploads/{upload_id}/cancel", uploads.cancel),
        Route("POST", "/uploads/{upload_id}/complete", uploads.complete),
    ]
