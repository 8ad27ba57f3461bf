"""POST /audio/transcriptions and /audio/translations.

Of audio that POST /audio/speech made the transcript is the text that was spoken, of all other audio a few
words by its hash. Whether the bytes are what the file's name says is not looked into. The length of a WAV
or a FLAC is its own, that of others a guess. Billed is the file's SHA-256, in hexadecimal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Any

from ..calls import Answer, Call, Route
from ..forms import uploads, values
from ..media.sounds import listen
from ..media.transcribed import Transcription, kind, reply, usage
from ..media.transcripts import LANGUAGES
from ..multipart import Form, Upload
from ..parameters import Check, Parameters, check, given
from ..replies import Refusal
from ..state import State
from ..texts import check_poison
from ..validation import VALIDATION, either

_EXTENSIONS = ("flac", "m4a", "mp3", "mp4", "mpeg", "mpga", "oga", "ogg", "wav", "webm")
_SHORTEST, _LONGEST_UNCUT = 0.1, 30.0
_WHISPER = ("json", "text", "srt", "verbose_json", "vtt")
_FORMATS = {"whisper": _WHISPER, "gpt": ("json", "text"), "diarize": ("json", "text", "diarized_json")}
_UNSUPPORTED = {
    "whisper": ("include", "known_speaker_names", "known_speaker_references"),
    "gpt": ("known_speaker_names", "known_speaker_references"),
    "diarize": ("prompt", "include", "timestamp_granularities"),
}

_VALID = Parameters(VALIDATION)
_TRANSLATION = {
    "prompt": _VALID.string(),
    "response_format": _VALID.one_of(*_WHISPER),
    "temperature": _VALID.number(0, 1),
}
_TRANSCRIPTION = {
    **_TRANSLATION,
    "response_format": _VALID.one_of(*_WHISPER, "diarized_json"),
    "language": _VALID.string(1),
    "stream": _VALID.boolean,
    "include": _VALID.array(0, None, _VALID.one_of("logprobs")),
    "timestamp_granularities": _VALID.array(0, None, _VALID.one_of("word", "segment")),
    "chunking_strategy": _VALID.string(1),
    "chunking_strategy[type]": _VALID.one_of("server_vad"),
    "chunking_strategy[threshold]": _VALID.number(0, 1),
    "chunking_strategy[prefix_padding_ms]": _VALID.integer(0),
    "chunking_strategy[silence_duration_ms]": _VALID.integer(0),
    "known_speaker_names": _VALID.array(0, 4),
    "known_speaker_references": _VALID.array(0, 4),
}
_LISTS = ("include", "timestamp_granularities", "known_speaker_names", "known_speaker_references")
_NUMBERS = (
    "temperature",
    "chunking_strategy[threshold]",
    "chunking_strategy[prefix_padding_ms]",
    "chunking_strategy[silence_duration_ms]",
)


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [
        Route("POST", "/audio/transcriptions", partial(_transcriptions, state)),
        Route("POST", "/audio/translations", partial(_translations, state)),
    ]


def _transcriptions(state: State, call: Call) -> Answer:
    form = call.form()
    fields = _fields(call, form, _TRANSCRIPTION)
    model = state.models.serving(fields.get("model"), "transcription").name
    upload = _file(form)
    check(fields, _TRANSCRIPTION)
    _check_language(fields.get("language"))
    _check_model(fields, model)
    said = _heard("transcribe", model, fields, upload)
    if kind(model) == "diarize" and said.seconds > _LONGEST_UNCUT and not _is_cut(fields):
        message = "chunking_strategy is required for diarization models"
        raise Refusal(400, message, param="chunking_strategy", code="invalid_value")
    return _answer(state, call, said)


def _translations(state: State, call: Call) -> Answer:
    form = call.form()
    fields = _fields(call, form, _TRANSLATION)
    model = state.models.serving(fields.get("model"), "translation").name
    upload = _file(form)
    check(fields, _TRANSLATION)
    return _answer(state, call, _heard("translate", model, fields, upload))


def _fields(call: Call, form: Form, known: Mapping[str, Check]) -> dict[str, Any]:
    fields = values(form, ["file", "model", *known], numbers=_NUMBERS, flags=("stream",), lists=_LISTS)
    if call.deployment is not None:
        fields["model"] = call.deployment
    return fields


def _file(form: Form) -> Upload:
    """The file, by whose name's extension its format is known."""
    found = uploads(form, "file")
    if not found:
        raise VALIDATION.missing("file")
    _, point, extension = found[-1].filename.rpartition(".")
    if not point or extension.lower() not in _EXTENSIONS:
        raise Refusal(400, f"Invalid file format. Supported formats: {list(_EXTENSIONS)}")
    return found[-1]


def _check_language(language: str | None) -> None:
    if language is None or language in LANGUAGES:
        return
    message, code = f"Language '{language}' is not supported.", "unsupported_language"
    if not (len(language) == 2 and language.isascii() and language.islower()):
        message = f"Invalid language '{language}'. Language parameter must be specified in ISO-639-1 format."
        code = "invalid_language_format"
    raise Refusal(400, message, param="language", code=code)


def _check_model(fields: Mapping[str, Any], model: str) -> None:
    """What depends on the model: formats, and parameters that only some of them have."""
    asked, formats = given(fields, "response_format", "json"), _FORMATS[kind(model)]
    if asked not in formats:
        message = f"response_format '{asked}' is not compatible with model '{model}'. Use {either(formats)} instead."
        raise Refusal(400, message, param="response_format", code="unsupported_value")
    for name in _UNSUPPORTED[kind(model)]:
        if fields.get(name):
            message = f"Unsupported parameter: '{name}' is not supported with this model."
            raise Refusal(400, message, param=name, code="unsupported_parameter")
    for name, wanted in (("timestamp_granularities", "verbose_json"), ("include", "json")):
        if fields.get(name) and asked != wanted:
            message = f"'{name}' is only supported with response_format '{wanted}'."
            raise Refusal(400, message, param=name, code="invalid_value")


def _is_cut(fields: Mapping[str, Any]) -> bool:
    return any(name.startswith("chunking_strategy") for name in fields)


def _heard(task: str, model: str, fields: Mapping[str, Any], upload: Upload) -> Transcription:
    heard = listen(upload.data)
    if not len(upload.view) or (heard.measured and heard.seconds < _SHORTEST):
        message = f"Audio file is too short. Minimum audio length is {_SHORTEST} seconds."
        raise Refusal(400, message, param="file", code="audio_too_short")
    digest = hashlib.sha256(upload.view).hexdigest()
    return Transcription(task=task, model=model, fields=fields, heard=heard, digest=digest, size=len(upload.view))


def _answer(state: State, call: Call, said: Transcription) -> Answer:
    check_poison([said.fields.get("prompt"), said.text])
    used = usage(said, state.options.bytes_per_token)
    names = ("language", "prompt", "temperature", "timestamp_granularities")
    scope = (call.path, said.model, said.format, *(str(said.fields.get(name)) for name in names))
    write = partial(reply, said, used, state.options.stream_style)
    tokens = used.get("total_tokens", 0)
    # The real service's headers for audio tell of requests alone.
    costs = {"requests": 1, "audio_bytes": said.size}
    return Answer(model=said.model, tokens=tokens, inputs=[said.digest], scope=scope, write=write, costs=costs)
