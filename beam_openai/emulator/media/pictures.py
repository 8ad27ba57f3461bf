"""Addresses of images, as a blob store has them: signed, good for an hour, and nobody's business but their holder's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Mapping
from urllib.parse import parse_qsl, urlencode
from xml.sax.saxutils import escape

from ..clock import Clock
from ..replies import Reply
from .pngs import picture

FOLDER = "/files/images/"
LIFE = 3600
"""Seconds that an address is good for."""

_NAME = re.compile(re.escape(FOLDER) + r"img-([0-9a-f]{32})-(\d+)x(\d+)\.png")
_FAILED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature."
)
_KEY_SENT = (
    "Authentication information is not given in the correct format. Check the value of Authorization header. "
    "This address needs no key: none must be sent to where images are fetched from."
)


class Pictures:
    """Nothing is kept: an address says what is drawn, and its signature that the server gave it out.

    Args:
        clock: the time of day.
        seed: of the signatures.
    """

    def __init__(self, clock: Clock, seed: int) -> None:
        self._clock = clock
        self._key = f"pictures {seed}".encode()

    def address(self, host: str, digest: bytes, width: int, height: int) -> str:
        """The address of the picture of that digest, of 16 bytes, on the server at `host`."""
        path = f"{FOLDER}img-{digest.hex()}-{width}x{height}.png"
        now = self._clock.now()
        query = {
            "st": _iso(now - LIFE),
            "se": _iso(now + LIFE),
            "sp": "r",
            "sv": "2024-08-04",
            "sr": "b",
            "rscd": "inline",
            "rsct": "image/png",
        }
        return f"http://{host}{path}?{urlencode({**query, 'sig': self._signature(path, query)})}"

    def fetched(self, target: str, headers: Mapping[str, str]) -> Reply:
        """What a GET of path and query `target` is answered with: the picture, or an error of the blob store's.

        400 where a key came with it, in an Authorization or api-key header; 403 once the address has
        expired, or is not as it was given out; 404 for another path.
        """
        if carries_key(headers):
            return _error(400, "InvalidAuthenticationInfo", _KEY_SENT)
        path, _, written = target.partition("?")
        named = _NAME.fullmatch(path)
        if named is None:
            return _error(404, "BlobNotFound", "The specified blob does not exist.")
        query = dict(parse_qsl(written))
        if not hmac.compare_digest(query.pop("sig", "").encode(), self._signature(path, query).encode()):
            return _error(403, "AuthenticationFailed", _FAILED, "Signature did not match.")
        now = self._clock.now()
        if _iso(now) > query["se"]:
            frame = f"Start [{query['st']}] - Expiry [{query['se']}] - Current [{_iso(now)}]"
            detail = f"Signature not valid in the specified time frame: {frame}"
            return _error(403, "AuthenticationFailed", _FAILED, detail)
        digest, width, height = named.groups()
        return Reply(body=picture(bytes.fromhex(digest), int(width), int(height)), content_type="image/png")

    def _signature(self, path: str, query: Mapping[str, str]) -> str:
        signed = f"{path}?{urlencode(sorted(query.items()))}".encode()
        return base64.b64encode(hashlib.blake2b(signed, digest_size=32, key=self._key).digest()).decode()


def carries_key(headers: Mapping[str, str]) -> bool:
    """Whether a key came with a request."""
    return any(name.lower() in ("authorization", "api-key") for name in headers)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _error(status: int, code: str, message: str, detail: str = "") -> Reply:
    more = f"<AuthenticationErrorDetail>{escape(detail)}</AuthenticationErrorDetail>" if detail else ""
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message>{more}</Error>"
    # The real store begins with a byte order mark too.
    text = f'\ufeff<?xml version="1.0" encoding="utf-8"?>{body}'
    return Reply(status=status, body=text.encode(), content_type="application/xml", headers={"x-ms-error-code": code})
