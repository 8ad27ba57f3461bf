"""POST /audio/speech: tones in place of a voice, in WAV, PCM, MP3 or FLAC; see `media.sounds`. Billed is the input."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from typing import Any

from .. import sse
from ..calls import Answer, Call, Route
from ..media import sounds
from ..parameters import Parameters, check, given
from ..replies import Refusal, Reply
from ..state import State
from ..texts import check_poison, count_tokens
from ..validation import VALIDATION
from ..wording import listed

_VALID = Parameters(VALIDATION)
_FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
_WRITERS = {"mp3": sounds.mp3, "flac": sounds.flac, "wav": sounds.wav, "pcm": sounds.pcm}
_CONTENT_TYPES = {"mp3": "audio/mpeg", "flac": "audio/flac", "wav": "audio/wav", "pcm": "audio/pcm"}
_VOICES = ("nova", "shimmer", "echo", "onyx", "fable", "alloy", "ash", "sage", "coral")
_MORE_VOICES = (*_VOICES, "ballad", "verse", "marin", "cedar")
_PIECE = 24_000  # bytes of audio in one event

_CHECKS = {
    "input": _VALID.string(1, 4096),
    "instructions": _VALID.string(0, 4096),
    "response_format": _VALID.one_of(*_FORMATS),
    "speed": _VALID.number(0.25, 4),
    "stream_format": _VALID.one_of("sse", "audio"),
}


def routes(state: State) -> list[Route]:
    """The routes of this file."""
    return [Route("POST", "/audio/speech", partial(_speech, state))]


def _speech(state: State, call: Call) -> Answer:
    fields = call.fields(["model", "voice", *_CHECKS])
    model = state.models.serving(fields.get("model"), "speech").name
    for name in ("input", "voice"):
        if fields.get(name) is None:
            raise VALIDATION.missing(name)
    check(fields, _CHECKS)
    voice = _voice(fields["voice"], model)
    _check_model(fields, model)
    written = given(fields, "response_format", "mp3")
    if written not in _WRITERS:
        message = f"The emulator has no encoder for '{written}'. Ask for one of {listed(list(_WRITERS))}."
        raise Refusal(400, message, param="response_format", code="unsupported_value")
    check_poison([fields["input"]])
    tokens = count_tokens(fields["input"], state.options.bytes_per_token)
    scope = (call.path, model, voice, written, str(given(fields, "speed", 1)), str(fields.get("instructions")))
    write = partial(_write, state, fields, voice, written, tokens)
    # The real service's headers for audio tell of requests alone.
    costs = {"requests": 1}
    return Answer(model=model, tokens=tokens, inputs=[fields["input"]], scope=scope, write=write, costs=costs)


def _voice(voice: Any, model: str) -> str:
    """A voice that the model has. One that is not OpenAI's may have any; only a newer one has voices of users'."""
    if isinstance(voice, dict) and set(voice) == {"id"} and isinstance(voice["id"], str) and not _is_old(model):
        return str(voice["id"])
    if not isinstance(voice, str):
        raise VALIDATION.wrong_type("voice", voice, "string")
    voices = _VOICES if _is_old(model) else _MORE_VOICES if model.startswith("gpt-") else (voice,)
    if voice not in voices or not voice:
        raise VALIDATION.not_one_of("voice", voice, voices)
    return voice


def _is_old(model: str) -> bool:
    return model.startswith("tts-1")


def _check_model(fields: Mapping[str, Any], model: str) -> None:
    if not _is_old(model):
        return
    if fields.get("instructions") is not None:
        message = "Unsupported parameter: 'instructions' is not supported with this model."
        raise Refusal(400, message, param="instructions", code="unsupported_parameter")
    if fields.get("stream_format") == "sse":
        message = f"stream_format 'sse' is not compatible with model '{model}'. Use 'audio' instead."
        raise Refusal(400, message, param="stream_format", code="unsupported_value")


def _write(state: State, fields: Mapping[str, Any], voice: str, written: str, tokens: int) -> Reply:
    text = fields["input"]
    samples = sounds.speak(text, voice, given(fields, "speed", 1))
    audio = _WRITERS[written](samples, text)
    if fields.get("stream_format") != "sse":
        return Reply(body=audio, content_type=_CONTENT_TYPES[written])
    spoken = max(1, round(len(samples) / sounds.RATE * 20))
    usage = {"input_tokens": tokens, "output_tokens": spoken, "total_tokens": tokens + spoken}
    events = [
        sse.data({"type": "speech.audio.delta", "audio": base64.b64encode(audio[at : at + _PIECE]).decode()})
        for at in range(0, len(audio), _PIECE)
    ]
    events.append(sse.data({"type": "speech.audio.done", "usage": usage}))
    return sse.reply(events, state.options.stream_style, len(audio), usage["total_tokens"])
