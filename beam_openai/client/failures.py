"""What a transport raises, as an error of `errors.py`."""

from __future__ import annotations

import ssl
import urllib.parse

from urllib3 import exceptions

from beam_openai import errors

FAILURES = (exceptions.HTTPError, OSError)
"""What urllib3 and sockets raise."""


def from_transport(error: Exception, where: str, url: str, is_answered: bool) -> errors.APIError:
    """The error for one of `FAILURES`.

    Args:
      error: what was raised.
      where: what was asked, for the message ("POST /embeddings").
      url: of it; only its host is told.
      is_answered: whether the head of an answer was read before.
    """
    cause = _innermost(error)
    host, text = urllib.parse.urlsplit(url).netloc, _words(cause)
    if isinstance(error, (exceptions.SSLError, ssl.SSLError)) and "CERTIFICATE" in text:
        return errors.ConfigurationError(f"{where}: the certificate of {host} is not valid: {text}")
    if isinstance(error, exceptions.LocationValueError):
        return errors.ConfigurationError(f"{where}: {host} cannot be called: {text}")
    refused = isinstance(error, exceptions.NewConnectionError)
    late = isinstance(error, (exceptions.TimeoutError, TimeoutError)) or isinstance(cause, TimeoutError)
    kind = errors.APITimeoutError if late and not refused else errors.APIConnectionError
    made = kind(f"{where}: no answer from {host}: {text}")
    connecting = isinstance(error, (exceptions.ConnectTimeoutError, exceptions.ProxyError, exceptions.SSLError))
    made.reached = is_answered or not connecting
    return made


def _innermost(error: BaseException) -> BaseException:
    """The cause at the bottom: urllib3's error wraps the socket's."""
    for inner in (getattr(error, "reason", None), *getattr(error, "args", ())):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(": ", 1)[1] if text.startswith(("<", "HTTP")) and ": " in text else text
