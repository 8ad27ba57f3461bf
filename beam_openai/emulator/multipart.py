"""multipart/form-data: the fields and files of an upload."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message

from .replies import Refusal

_NOT_MULTIPART = "Unsupported content type: '{kind}'. This API method only accepts 'multipart/form-data' requests."
_ESCAPED = {"%22": '"', "%0D": "\r", "%0A": "\n"}
"""What browsers and clients write in the place of characters that a quoted name cannot have."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file of a form: `filename` and `content_type` as the client said, bytes as they came.

    `view` looks at the bytes where they lie in the request's body; `data` is a copy of them.
    """

    filename: str
    content_type: str
    view: memoryview = field(repr=False)

    @property
    def data(self) -> bytes:
        """The bytes, copied."""
        return bytes(self.view)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The parts by their names, each with all its values in order. `name[]` stands as it was written."""

    fields: dict[str, list[str]]
    files: dict[str, list[Upload]]

    def names(self) -> list[str]:
        """All names, of fields and files."""
        return [*self.fields, *self.files]

    def text(self, name: str) -> str | None:
        """The last value of a field; None where it was not sent."""
        values = self.fields.get(name)
        return values[-1] if values else None


def parse(body: bytes | bytearray, content_type: str) -> Form:
    """Reads a form.

    Raises:
        Refusal: 415 for another content type, 400 for a body that is not what it says.
    """
    kind = Message()
    kind["content-type"] = content_type
    boundary = kind.get_param("boundary")
    if kind.get_content_type() != "multipart/form-data":
        raise Refusal(415, _NOT_MULTIPART.format(kind=kind.get_content_type()))
    if not isinstance(boundary, str) or not boundary:
        raise Refusal(400, "Could not parse multipart form: no boundary")
    fields: dict[str, list[str]] = {}
    files: dict[str, list[Upload]] = {}
    for head, view in _parts(body, boundary.encode()):
        name = head.get_param("name", header="content-disposition")
        if not isinstance(name, str) or head.get_content_disposition() != "form-data":
            raise Refusal(400, "Could not parse multipart form: a part has no name")
        filename = head.get_filename()
        if filename is None:
            fields.setdefault(name, []).append(str(view, "utf-8", "replace"))
        else:
            upload = Upload(filename=_unescaped(filename), content_type=head.get_content_type(), view=view)
            files.setdefault(name, []).append(upload)
    return Form(fields=fields, files=files)


def _parts(body: bytes | bytearray, boundary: bytes) -> Iterator[tuple[Message, memoryview]]:
    """Head and data of each part. The data may hold anything but the boundary on a line of its own."""
    view, line = memoryview(body), b"\r\n--" + boundary
    start = len(line) - 2 if body.startswith(line[2:]) else _edge(body, line, 0)[1]
    while body[start : start + 2] != b"--":
        end, following = _edge(body, line, start)
        separator = body.find(b"\r\n\r\n", start, end)
        if separator < 0:
            raise Refusal(400, "Could not parse multipart form: a part has no head")
        yield _head(bytes(view[start:separator])), view[separator + 4 : end]
        start = following


def _edge(body: bytes | bytearray, line: bytes, start: int) -> tuple[int, int]:
    """Where the next boundary begins and ends; a longer word that begins like it is none."""
    at = body.find(line, start)
    while at >= 0:
        end = at + len(line)
        if body[end : end + 2] in (b"\r\n", b"--") or body[end : end + 1] in (b" ", b"\t"):
            return at, end
        at = body.find(line, end)
    raise Refusal(400, "Could not parse multipart form: the last boundary is missing")


def _head(lines: bytes) -> Message:
    head = Message()
    # As text that is UTF-8: the standard library's parser takes other letters than ASCII's for noise.
    for line in lines.decode("utf-8", "replace").split("\r\n"):
        name, separator, value = line.partition(":")
        if separator:
            head[name.strip()] = value.strip()
    return head


def _unescaped(filename: str) -> str:
    for escape, character in _ESCAPED.items():
        filename = filename.replace(escape, character)
    return filename
