"""What an endpoint is given, what it gives back, and where it stands: Call, Answer, Route.

A new operation is in a file of `operations` with a function `routes(state) -> list[Route]`. Each route's function
checks a call, raising `Refusal` in the words of the real service, and returns an Answer: what it
costs, what is billed, and a function that writes the body, called once the call is admitted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import msgspec

from . import multipart
from .replies import Refusal, Reply

_NOT_JSON = (
    "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
    "your HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was "
    "not valid JSON. If you have trouble figuring out how to fix this, please contact us through "
    "our help center at help.openai.com.)"
)


@dataclass(kw_only=True)
class Call:
    """One request. `path` is without /v1, `ids` are what stands for {braces} in a route.

    `deployment` is the name in an Azure path, which stands above the model in the body.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes | bytearray
    ids: Mapping[str, str] = field(default_factory=dict)
    deployment: str | None = None

    def fields(self, known: Sequence[str]) -> dict[str, Any]:
        """The JSON object that was posted.

        Raises:
            Refusal: another content type, no JSON object, or a key that is not `known`.
        """
        kind = self.headers.get("content-type", "application/json").partition(";")[0].strip()
        if kind.lower() != "application/json":
            raise Refusal(
                415,
                f"Unsupported content type: '{kind}'. This API method only accepts "
                "'application/json' requests, but you specified the header 'Content-Type: "
                f"{kind}'. Please try again with a supported content type.",
            )
        try:
            fields = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refusal(400, _NOT_JSON) from None
        if not isinstance(fields, dict):
            raise Refusal(400, _NOT_JSON)
        for name in fields:
            if name not in known:
                raise Refusal(400, f"Unrecognized request argument supplied: {name}")
        if self.deployment is not None:
            fields["model"] = self.deployment
        return fields

    def form(self) -> multipart.Form:
        """The multipart form that was posted.

        Raises:
            Refusal: it is another kind of body, or broken.
        """
        return multipart.parse(self.body, self.headers.get("content-type", ""))


@dataclass(kw_only=True)
class Answer:
    """A checked call: `write()` is its reply.

    `tokens` are those that it may use; `inputs` are billed, one each, to `scope`: path, model, and
    whatever else changes the answer. `costs` is what the limits of `model` are charged, by their names;
    one request and the tokens, where nothing else is said. A call with no model is not limited.
    """

    write: Callable[[], Reply]
    model: str = ""
    tokens: int = 0
    inputs: Sequence[Hashable] = ()
    scope: tuple[str, ...] = ()
    costs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = self.costs or {"requests": 1, "tokens": self.tokens}


@dataclass(frozen=True)
class Route:
    """`path` is below /v1; a segment in {braces} matches any one, percent-decoded.

    `most_bytes` of a body are read, where that is not the server's `max_body_bytes`. With `clocked`
    what is due by the clock has happened before a call is checked.
    """

    method: str
    path: str
    answer: Callable[[Call], Answer]
    most_bytes: int | None = None
    clocked: bool = False


class Routes:
    """Finds the route of a call."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes
        self._plain = {(route.method, route.path): route for route in routes}
        self._limited = [route for route in routes if route.most_bytes is not None]

    def find(self, call: Call) -> Route:
        """The route of `call`, whose `ids` are set.

        Raises:
            Refusal: 404 for an unknown path, 405 for a known one and another method.
        """
        route = self._plain.get((call.method, call.path))
        if route is not None:
            return route
        allowed = []
        for route in self._routes:
            ids = _match(route.path, call.path)
            if ids is None:
                continue
            if route.method == call.method:
                call.ids = ids
                return route
            allowed.append(route.method)
        if allowed:
            raise Refusal(
                405,
                f"Not allowed to {call.method} on /v1{call.path}. (HINT: Perhaps you meant to "
                f"make a {allowed[0]} request.)",
                headers={"allow": ", ".join(sorted(set(allowed)))},
            )
        raise Refusal(
            404,
            f"Unknown request URL: {call.method} /v1{call.path}. Please check the URL for typos, "
            "or see the docs at https://platform.openai.com/docs/api-reference/.",
            code="unknown_url",
        )

    def most_bytes(self, method: str, path: str) -> int | None:
        """What a body of such a call may have, where its route has a limit of its own."""
        for route in self._limited:
            if route.method == method and _match(route.path, path) is not None:
                return route.most_bytes
        return None


def _match(pattern: str, path: str) -> dict[str, str] | None:
    wanted, found = pattern.split("/"), path.split("/")
    if len(wanted) != len(found):
        return None
    ids = {}
    for want, have in zip(wanted, found, strict=True):
        if want.startswith("{") and have:
            ids[want[1:-1]] = unquote(have)
        elif want != have:
            return None
    return ids
