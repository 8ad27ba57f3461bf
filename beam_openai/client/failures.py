"""What a transport raises, as an error of `errors.py`."""

from __future__ import annotations

import ssl
import urllib.parse

import requests
import urllib3

from beam_openai import errors

FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
"""What requests, urllib3 and sockets raise."""


def from_transport(error: Exception, where: str, url: str) -> errors.APIError:
    """The error for one of `FAILURES`.

    Args:
      error: what was raised.
      where: what was asked, for the message ("POST /embeddings").
      url: of it; only its host is told.
    """
    parts = urllib.parse.urlsplit(url)
    cause = _innermost(error)
    host, text = parts.netloc, _words(cause)
    timeouts = (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError)
    if isinstance(error, (requests.exceptions.SSLError, ssl.SSLError)) and "CERTIFICATE" in text:
        return errors.ConfigurationError(f"{where}: the certificate of {host} is not valid: {text}")
    unusable = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        urllib3.exceptions.LocationValueError,
    )
    if isinstance(error, unusable):
        return errors.ConfigurationError(f"{where}: {host} cannot be called: {text}")
    unconnected = (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)
    connecting = isinstance(error, unconnected) or isinstance(cause, urllib3.exceptions.NewConnectionError)
    late = isinstance(error, timeouts) or isinstance(cause, TimeoutError)
    kind = errors.APITimeoutError if late else errors.APIConnectionError
    made = kind(f"{where}: no answer from {host}: {text}")
    made.reached = not connecting
    return made


def _innermost(error: BaseException) -> BaseException:
    """The cause at the bottom: requests wraps urllib3's error, which wraps the socket's."""
    for inner in (getattr(error, "reason", None), *getattr(error, "args", ())):
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error


def _words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.split(": ", 1)[1] if text.startswith(("<", "HTTP")) and ": " in text else text
