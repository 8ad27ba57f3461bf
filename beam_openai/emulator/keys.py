"""Whether a request carries the key that is asked for."""

from __future__ import annotations

from collections.abc import Mapping

from .replies import Refusal

_NO_KEY = (
    "You didn't provide an API key. You need to provide your API key in an Authorization header "
    "using Bearer auth (i.e. Authorization: Bearer YOUR_KEY), or as the password field (with "
    "blank username) if you're accessing the API from your browser and are prompted for a "
    "username and password. You can obtain an API key from "
    "https://platform.openai.com/account/api-keys."
)


def authorise(headers: Mapping[str, str], wanted: str | None) -> None:
    """Lets a request pass that carries the key `wanted`, as a bearer or as Azure does; any, if that is None.

    Raises:
        Refusal: 401, there is none, or another.
    """
    if wanted is None:
        return
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if "api-key" in headers:
        scheme, given = "bearer", headers["api-key"]
    if scheme.lower() != "bearer" or not given.strip():
        raise Refusal(401, _NO_KEY)
    if given.strip() != wanted:
        message = (
            f"Incorrect API key provided: {_masked(given.strip())}. You can find your API "
            "key at https://platform.openai.com/account/api-keys."
        )
        raise Refusal(401, message, code="invalid_api_key")


def _masked(key: str) -> str:
    """As the real service shows a wrong key: never the whole of it."""
    return f"{key[:8]}{'*' * (len(key) - 12)}{key[-4:]}" if len(key) > 16 else "*" * len(key)
