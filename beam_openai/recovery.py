"""What an error asks for, when the endpoint and what was learned of the server are known: more than its class can say."""

from __future__ import annotations

import re
from collections.abc import Mapping

from beam_openai import errors
from beam_openai.client import Request
from beam_openai.contract import Contract
from beam_openai.durations import retry_after
from beam_openai.learned import Learned


def explained(
    error: errors.APIError, endpoint: Contract, learned: Learned, request: Request, now: float
) -> errors.APIError:
    """The same error; or, where an option is the cause and not a row, one that stops the job and says what to set.

    Args:
      error: what became of the request; its `action` is set, where its class alone does not tell.
      endpoint: whose request it was.
      learned: what is known of its server; a name to be used from now on is added.
      request: as it was sent; not looked at where the error has no status.
      now: seconds since 1970.
    """
    if "model" in endpoint.columns_of_options and _is_of_a_model(error, learned):
        error.action = "fail"  # it is this row's model that is not there
        return error
    wait = asked(error, now)
    if error.action == "wait" and wait is not None and wait > endpoint.retry.max_wait:
        most = f"Retry(max_wait={endpoint.retry.max_wait:g})"
        error.args = (f"{error}. The server asks to wait {wait:g} s, longer than {most}",)
        error.action = "stop"
    if error.status not in (400, 422):
        return error
    if _has_other_name(error, endpoint, learned, request):
        error.action = "again"
        return error
    if isinstance(error, (errors.BadRequestError, errors.ConfigurationError)):
        if learned.answered:
            # With these options rows were answered: it is the row that does not go with them.
            error.action = "split"
        elif (hint := _advice(error, endpoint)) is not None:
            return errors.ConfigurationError(f"{error}. {hint}")
    return error


def _is_of_a_model(error: errors.APIError, learned: Learned) -> bool:
    """Whether a server does not know the model, and not the address: then nothing was ever answered there."""
    if error.code == "model_not_found":
        return True
    return error.status == 404 and (learned.answered or "model" in str(error.detail).lower())


def asked(error: errors.APIError, now: float) -> float | None:
    """Seconds that the server asks to wait; None where it does not say."""
    return retry_after(error.headers, error.detail, now)


def _has_other_name(error: errors.APIError, endpoint: Contract, learned: Learned, request: Request) -> bool:
    """Whether the server refuses a name in the body that has another, not tried yet: that is sent from now on."""
    words = {error.param, *_words(error)}
    sent = request.body if isinstance(request.body, Mapping) else {}
    for name, other in endpoint.other_names.items():
        is_unknown = name in words and (isinstance(error, errors.ConfigurationError) or other in words)
        if is_unknown and name in sent and learned.rename(name, other):
            return True
    return False


def _advice(error: errors.APIError, endpoint: Contract) -> str | None:
    """What to set, where the error names an option that is set; None where it names none."""
    options = endpoint.options().keys() - {"model"} - endpoint.columns_of_options.keys()
    for path, option in endpoint.made_options.items():
        if re.match(rf"{re.escape(path)}([.\[]|$)", error.param or ""):  # "text.format.schema" of "text.format"
            return f"check the option {option!r}"
    words = _words(error)
    param = re.split(r"[.\[]", error.param or "")[0]  # "tools[0].parameters"
    named = [param] if param in options else []
    named += [name for name in endpoint.advice if name in options and name in words]
    return endpoint.advice.get(named[0], f"check the option {named[0]!r}") if named else None


def _words(error: errors.APIError) -> set[str]:
    return set(re.findall(r"\w+", error.detail))
