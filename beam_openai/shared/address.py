"""Where the Redis of a shared quota is: a URL without a password, or the name of a variable that holds a URL."""

from __future__ import annotations

import os
import re
import urllib.parse

from beam_openai import errors

_OPTIONS = {"db", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"}
_SECRETS = {"username", "password", "ssl_password"}


def check_url(shared: str) -> None:
    """Whether a quota's `shared` says where a Redis is; pure, for when the quota is built.

    Raises:
      ValueError: it does not, or it holds a password. The value is not repeated.
    """
    if not isinstance(shared, str):
        raise ValueError(f"Quota.shared must be a string, not {type(shared).__name__}")
    if _is_variable(shared) or _is_url(shared, with_secrets=False):
        return
    if "@" in shared or _is_url(shared, with_secrets=True):
        raise ValueError(
            "Quota(shared=...) must not hold a user name or password, which would stand in the job graph: put the URL into "
            "an environment variable of the workers and give the variable's name (the value given is not shown here)"
        )
    raise ValueError(
        "Quota(shared=...) is the URL of a Redis (redis://host:port/db, rediss://host:port/db or unix:///path?db=0; other "
        f"options: {', '.join(sorted(_OPTIONS - {'db'}))}) or the name, in capitals, of an environment variable that "
        "holds one (the value given is not shown here)"
    )


def find_url(shared: str) -> str:
    """The URL that a quota's `shared` means on this worker; it may hold a password.

    Raises:
      SharedQuotaError: the variable is not set, or holds no URL. Names the variable, never the value.
    """
    if not _is_variable(shared):
        return shared
    url = os.environ.get(shared, "").strip()
    if not url:
        raise errors.SharedQuotaError(
            f"no Redis for the shared quota: the environment variable {shared} is not set or is empty on this worker"
        )
    if not _is_url(url, with_secrets=True):
        raise errors.SharedQuotaError(
            f"no Redis for the shared quota: the environment variable {shared} does not hold the URL of one (redis://, "
            "rediss:// or unix://; in a password, other characters than letters and digits are written as %2F and the like)"
        )
    return url


def place(url: str) -> str:
    """What of a URL may be shown: host and port, or the socket's path."""
    parts = urllib.parse.urlsplit(url)
    return parts.path if parts.scheme == "unix" else f"{parts.hostname}:{parts.port or 6379}"


def _is_variable(shared: str) -> bool:
    # Capitals only, as for a key: a password could be a name otherwise, and would be printed as one.
    return re.fullmatch(r"[A-Z_][A-Z0-9_]*", shared) is not None


def _is_url(url: str, with_secrets: bool) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        options = urllib.parse.parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        if parts.port == 0 or parts.fragment or re.search(r"\s", url):
            return False
    except ValueError:
        return False
    if not options.keys() <= (_OPTIONS | _SECRETS if with_secrets else _OPTIONS):
        return False
    if ("@" in parts.netloc and not with_secrets) or not all(db.isdecimal() for db in options.get("db", [])):
        return False
    if parts.scheme == "unix":
        return parts.path.startswith("/") and not parts.hostname
    return parts.scheme in ("redis", "rediss") and bool(parts.hostname) and bool(re.fullmatch(r"/?\d*", parts.path))
