"""`beam-openai files`, `uploads`, `models` and `engines`."""

from __future__ import annotations

import argparse
import sys

from beam_openai.cli import showing
from beam_openai.cli.verbs import Verbs, local_file
from beam_openai.manage import Object, Server, engines, files, models, uploads


def add_files(verbs: Verbs) -> None:
    columns = ("id", "bytes", "created_at", "purpose", "status", "filename")
    listing = verbs.add("list", "list all files", lambda server, given: files.list(server, given.purpose), columns)
    listing.add_argument("--purpose", metavar="P", help="only those of this purpose")
    _add_upload(verbs.add("upload", "upload a file of up to 512 MB; uploads create takes larger ones", _upload))
    verbs.of(
        "file",
        ("get", "show what is known of a file", lambda server, given: files.get(server, given.id)),
        ("delete", "delete a file", lambda server, given: files.delete(server, given.id)),
    )
    content = verbs.add("content", "download a file, byte for byte", _content)
    content.add_argument("id", metavar="ID", help="of the file")
    content.add_argument("--to", metavar="FILE", help="where to (default: standard output)")


def add_uploads(verbs: Verbs) -> None:
    create = verbs.add("create", "upload a file of up to 8 GB in parts, and complete it", _upload_parts)
    _add_upload(create)
    create.add_argument(
        "--concurrency", type=int, default=4, metavar="N", help="parts that are sent at a time (default: 4)"
    )
    create.set_defaults(option_fields={"concurrency": "concurrency"})
    verbs.of(
        "upload",
        ("get", "show an upload", lambda server, given: uploads.get(server, given.id)),
        ("cancel", "cancel an upload that is not complete", lambda server, given: uploads.cancel(server, given.id)),
    )


def _add_upload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", metavar="PATH", type=local_file, help="a local file")
    parser.add_argument(
        "--purpose", required=True, metavar="P", help="fine-tune, batch, assistants, vision, user_data ..."
    )
    parser.add_argument("--expires-after", type=int, metavar="SECONDS", help="delete it so long after its making")


def _upload(server: Server, given: argparse.Namespace) -> Object:
    with showing.Transfer(given.path) as line:
        return files.upload(server, given.path, given.purpose, expires_after=given.expires_after, on_progress=line.show)


def _upload_parts(server: Server, given: argparse.Namespace) -> Object:
    options = {"expires_after": given.expires_after, "concurrency": given.concurrency}
    with showing.Transfer(given.path) as line:
        return uploads.create(server, given.path, given.purpose, on_progress=line.show, **options)


def _content(server: Server, given: argparse.Namespace) -> None:
    if given.to is None:
        files.content(server, given.id, sys.stdout.buffer)
        return
    with showing.Transfer(given.to) as line:
        files.content(server, given.id, given.to, line.show)


def add_models(verbs: Verbs) -> None:
    columns = ("id", "owned_by", "created")
    verbs.add("list", "list all models that the key may use", lambda server, given: models.list(server), columns)
    verbs.of(
        "model",
        ("get", "show a model", lambda server, given: models.get(server, given.id)),
        ("delete", "delete a fine-tuned model", lambda server, given: models.delete(server, given.id)),
    )


def add_engines(verbs: Verbs) -> None:
    columns = ("id", "owner", "ready")
    verbs.add("list", "list all engines", lambda server, given: engines.list(server), columns)
    verbs.of("engine", ("get", "show an engine", lambda server, given: engines.get(server, given.id)))
