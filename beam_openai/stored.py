"""Files that a request names by their paths: looked for when it is to be sent, read while it is."""

from __future__ import annotations

import dataclasses
from typing import BinaryIO, cast

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from beam_openai import errors
from beam_openai.client import File, Form, LocalFile, Request, Source, StoredFile

_LONGEST = 300
"""Characters of a path, or of a filesystem's error, that are shown."""


@dataclasses.dataclass(frozen=True)
class BeamFile:
    """A file on a filesystem that Beam knows, as a `Source` of a form."""

    path: str
    size: int

    def open(self) -> BinaryIO:
        # As it is stored: a name that ends in .gz is no reason to unpack what was announced by its size.
        return cast(BinaryIO, FileSystems.open(self.path, compression_type=CompressionTypes.UNCOMPRESSED))


def found(request: Request) -> Request:
    """The request, each `StoredFile` of its form replaced by what is at its path.

    Raises:
      InvalidInputError: there is no such file, it is empty, or it is larger than it may be.
    """
    form = request.body
    if not isinstance(form, Form) or not any(isinstance(file.data, StoredFile) for file in form.files):
        return request
    return dataclasses.replace(request, body=Form(form.fields, [_found(file) for file in form.files]))


def _found(file: File) -> File:
    stored = file.data
    if not isinstance(stored, StoredFile):
        return file
    try:
        source = _source(stored.path)
    except Exception as error:
        # A store's client has exceptions of its own.
        reason = (str(error) or type(error).__name__).splitlines()[0][:_LONGEST]
        raise errors.InvalidInputError(f"{stored.path[:_LONGEST]} cannot be read: {reason}") from error
    if not 0 < source.size <= stored.most:
        limit = f"more than the {stored.most:,} that may be sent" if source.size else "which is no file to send"
        raise errors.InvalidInputError(f"{stored.path[:_LONGEST]} has {source.size:,} bytes, {limit}")
    return dataclasses.replace(file, data=source)


def _source(path: str) -> Source:
    if FileSystems.get_scheme(path) is None:
        return LocalFile(path)
    return BeamFile(path, FileSystems.get_filesystem(path).size(path))
