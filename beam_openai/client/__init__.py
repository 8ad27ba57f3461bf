"""One blocking HTTP call, and the address that it goes to.

The order of a call: `API` (picklable: where the server is, and where its key is) -> `Client` (alive, one for a process)
-> `Client.send(Request)` -> `Response`, or an error of `errors.py`. Nothing is retried here and no redirect followed.

`Client.stream` is the same for an answer that is read in pieces; `Client.fetch` gets what a server handed out the address
of. A request's body may be a `Form`, whose files need not be in memory.
"""

from beam_openai.client.api import API
from beam_openai.client.http import Client
from beam_openai.client.multipart import File, Form, LocalFile, Source, StoredFile, form_fields, guess
from beam_openai.client.request import Body, Request, Response, Stream, segment

__all__ = [
    "API",
    "Body",
    "Client",
    "File",
    "Form",
    "LocalFile",
    "Request",
    "Response",
    "Source",
    "StoredFile",
    "Stream",
    "form_fields",
    "guess",
    "segment",
]
