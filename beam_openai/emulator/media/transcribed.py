"""A transcription as it is answered, in each of its formats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .. import logprobs, sse
from ..parameters import given
from ..replies import Reply, reply_json
from ..texts import count_tokens
from . import transcripts
from .sounds import Heard

_TOKENS_PER_SECOND = 10


@dataclass(frozen=True, kw_only=True)
class Transcription:
    """A checked request and what was heard.

    `task` is transcribe or translate, `digest` the file's SHA-256, `size` its bytes.
    """

    task: str
    model: str
    fields: Mapping[str, Any]
    heard: Heard
    digest: str
    size: int

    @cached_property
    def text(self) -> str:
        """The transcript."""
        said = self.heard.text
        return transcripts.invented(self.digest, self.heard.seconds) if said is None else said

    @property
    def seconds(self) -> float:
        """The length of the audio."""
        return self.heard.seconds

    @property
    def format(self) -> str:
        """`response_format`."""
        return str(given(self.fields, "response_format", "json"))


def kind(model: str) -> str:
    """What a model is like: `whisper`, `gpt` or `diarize`. One that is not OpenAI's is as whisper."""
    if "diarize" in model:
        return "diarize"
    return "gpt" if model.startswith("gpt-") else "whisper"


def usage(transcription: Transcription, bytes_per_token: float) -> dict[str, Any]:
    """Of a gpt model in tokens, of others in seconds."""
    if kind(transcription.model) != "gpt":
        return {"type": "duration", "seconds": math.ceil(transcription.seconds)}
    prompt = transcription.fields.get("prompt")
    text = count_tokens(prompt, bytes_per_token) if prompt else 0
    audio = math.ceil(transcription.seconds * _TOKENS_PER_SECOND)
    written = count_tokens(transcription.text, bytes_per_token)
    return {
        "type": "tokens",
        "total_tokens": text + audio + written,
        "input_tokens": text + audio,
        "input_token_details": {"text_tokens": text, "audio_tokens": audio},
        "output_tokens": written,
    }


def reply(said: Transcription, used: Mapping[str, Any], stream_style: str) -> Reply:
    """The answer in the format that was asked for; `used` is its usage."""
    if said.fields.get("stream") and kind(said.model) != "whisper":
        return _streamed(said, used, stream_style)
    if said.format == "text":
        return _plain(said.text + "\n")
    if said.format in ("srt", "vtt"):
        write = transcripts.srt if said.format == "srt" else transcripts.vtt
        return _plain(write(transcripts.segments(said.text, said.seconds)))
    answer: dict[str, Any] = {"text": said.text}
    if said.format == "verbose_json":
        answer = _verbose(said)
    elif said.format == "diarized_json":
        about = {"task": said.task, "duration": round(said.seconds, 3)}
        answer = {**about, "text": said.text, "segments": _speakers(said)}
    if said.fields.get("include"):
        answer["logprobs"] = _logprobs(_tokens(said.text))
    # A translation's answer has none.
    return reply_json({**answer, "usage": used} if said.task == "transcribe" else answer)


def _plain(text: str) -> Reply:
    return Reply(body=text.encode(), content_type="text/plain; charset=utf-8")


def _verbose(said: Transcription) -> dict[str, Any]:
    language = transcripts.LANGUAGES[given(said.fields, "language", "en")]
    answer = {"task": said.task, "language": language, "duration": round(said.seconds, 3), "text": said.text}
    asked = said.fields.get("timestamp_granularities") or ["segment"]
    if "word" in asked:
        spans = transcripts.words(said.text, said.seconds)
        answer["words"] = [{"word": span.text, "start": span.start, "end": span.end} for span in spans]
    if "segment" in asked:
        temperature = given(said.fields, "temperature", 0)
        spans = transcripts.segments(said.text, said.seconds)
        answer["segments"] = [_segment(number, span, temperature) for number, span in enumerate(spans)]
    return answer


def _segment(number: int, span: transcripts.Span, temperature: float) -> dict[str, Any]:
    tokens = transcripts.tokens(span.text)
    return {
        "id": number,
        "seek": 0,
        "start": span.start,
        "end": span.end,
        "text": f" {span.text}",
        "tokens": tokens,
        "temperature": float(temperature),
        "avg_logprob": -0.1 - tokens[0] % 100 / 1000,
        "compression_ratio": 1 + tokens[0] % 70 / 100,
        "no_speech_prob": tokens[0] % 50 / 1000,
    }


def _speakers(said: Transcription) -> list[dict[str, Any]]:
    """The segments, by two speakers in turn: those who are known, then A and B."""
    names = [*(said.fields.get("known_speaker_names") or []), "A", "B"][:2]
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03}",
            "start": span.start,
            "end": span.end,
            "text": f" {span.text}",
            "speaker": names[number % 2],
        }
        for number, span in enumerate(transcripts.segments(said.text, said.seconds))
    ]


def _tokens(text: str) -> list[str]:
    """Each word with the space before it; together they are the text."""
    return transcripts.TOKEN.findall(text)


def _logprobs(tokens: Sequence[str]) -> list[dict[str, Any]]:
    scored = zip(tokens, logprobs.chosen(tokens), strict=True)
    return [{"token": token, "logprob": score, "bytes": list(token.encode())} for token, score in scored]


def _streamed(said: Transcription, used: Mapping[str, Any], style: str) -> Reply:
    """Events: each token, or each speaker's segment; then the whole text."""
    done: dict[str, Any] = {"type": "transcript.text.done", "text": said.text}
    tokens = _tokens(said.text)
    deltas: list[dict[str, Any]] = [{"type": "transcript.text.delta", "delta": token} for token in tokens]
    if said.fields.get("include"):
        scores = _logprobs(tokens)
        deltas = [{**delta, "logprobs": [score]} for delta, score in zip(deltas, scores, strict=True)]
        done["logprobs"] = scores
    if said.format == "diarized_json":
        deltas = _speakers(said)
    if used["type"] == "tokens":
        done["usage"] = used
    events = [sse.data(event) for event in [*deltas, done]]
    return sse.reply(events, style, int(said.digest, 16))
