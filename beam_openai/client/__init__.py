"""One blocking HTTP call, and the address that it goes to.

The order of a call: `API` (picklable: where the server is, and where its key is) -> `Client` (alive, one for a process)
-> `Client.send(Request)` -> `Response`, or an error of `errors.py`. Nothing is retried here and no redirect followed.
"""

from beam_openai.client.api import API
from beam_openai.client.http import Body, Client, Request, Response

__all__ = ["API", "Body", "Client", "Request", "Response"]
