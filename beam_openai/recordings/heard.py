"""What was heard, in each of the formats that it may come in: which columns, and what an answer holds for them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from beam_openai import answers
from beam_openai.answers import Answer
from beam_openai.client import Response
from beam_openai.errors import BadAnswerError
from beam_openai.options import check_choice

PLAIN = ("text", "srt", "vtt")
"""Formats whose answers are no JSON."""

SEGMENTS = pa.list_(
    pa.struct(
        [
            ("id", pa.int64()),
            ("seek", pa.int64()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("text", pa.string()),
            ("tokens", pa.list_(pa.int64())),
            ("temperature", pa.float64()),
            ("avg_logprob", pa.float64()),
            ("compression_ratio", pa.float64()),
            ("no_speech_prob", pa.float64()),
        ]
    )
)
SPEAKERS = pa.list_(
    pa.struct(
        [
            ("id", pa.string()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("text", pa.string()),
            ("speaker", pa.string()),
        ]
    )
)
WORDS = pa.list_(pa.struct([("word", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))
LOGPROBS = pa.list_(pa.struct([("token", pa.string()), ("logprob", pa.float64()), ("bytes", pa.list_(pa.int64()))]))


_FORMATS = ("json", "text", "srt", "verbose_json", "vtt")


def check_formats(model: object, response_format: str | None) -> None:
    """Refuses a format that a transcription never comes in, or not from this model.

    Raises:
      ValueError: it holds the value.
    """
    check_choice("response_format", response_format, (*_FORMATS, "diarized_json"))
    formats: tuple[str, ...] = (*_FORMATS, "diarized_json")
    if model == "whisper-1":
        formats = _FORMATS
    elif isinstance(model, str) and model.startswith("gpt-"):
        formats = ("json", "text", *(["diarized_json"] if "diarize" in model else []))
    if response_format is not None and response_format not in formats:
        raise ValueError(f"response_format of {model} must be one of {', '.join(formats)}, not {response_format!r}")


def check_details(model: object, response_format: str | None, granularities: Any, include: Any) -> None:
    """Refuses details that the format has no place for.

    Raises:
      ValueError: it holds the value.
    """
    for name, value, known, needed in (
        ("timestamp_granularities", granularities, ("word", "segment"), "verbose_json"),
        ("include", include, ("logprobs",), "json"),
    ):
        if value is None:
            continue
        if not isinstance(value, list) or not value or not set(value) <= set(known):
            raise ValueError(f"{name} must be a list of {' or '.join(known)}, not {value!r}")
        if (response_format or "json") != needed:
            raise ValueError(f"{name}={value!r} needs response_format={needed!r}, not {response_format!r}")
    if include and model == "whisper-1":
        raise ValueError(f"include={include!r} is not to be sent to {model}: leave it unset")


def check_translates(model: object, response_format: str | None) -> None:
    """Refuses a model that does not translate, and formats that translations do not come in.

    Raises:
      ValueError: it holds the value.
    """
    if isinstance(model, str) and model.startswith("gpt-") and "transcribe" in model:
        raise ValueError(f"model must be one that translates, as whisper-1 does, not {model!r}")
    check_choice("response_format", response_format, _FORMATS)


@dataclasses.dataclass(frozen=True)
class Format:
    """How answers are to come.

    Attributes:
      text: the name of the column with the text.
      response_format: None is the server's own, JSON.
      words: whether each word's times were asked for.
      logprobs: whether each token's were.
    """

    text: str
    response_format: str | None = None
    words: bool = False
    logprobs: bool = False

    @property
    def added(self) -> list[pa.Field]:
        """The columns: all but the text may be null."""
        columns = {self.text: pa.string()}
        if self.response_format == "verbose_json":
            columns.update(segments=SEGMENTS, **({"words": WORDS} if self.words else {}))
            columns.update(language=pa.string(), duration=pa.float64())
        if self.response_format == "diarized_json":
            columns.update(segments=SPEAKERS, duration=pa.float64())
        if self.logprobs:
            columns["logprobs"] = LOGPROBS
        return [pa.field(name, kind) for name, kind in columns.items()]

    def read(self, response: Response, what: str) -> Answer:
        """The columns of the one row that was asked for.

        Raises:
          BadAnswerError: it holds no text.
        """
        if self.response_format in PLAIN:
            return Answer([[_plain(response, what)]])
        said = answers.decode(response.body, _decoder, what)
        others = [[_fitting(said.get(field.name), field.type)] for field in self.added[1:]]
        return Answer([[_text(said, what)], *others], **answers.usage_of(said.get("usage")))


_decoder = msgspec.json.Decoder(dict[str, Any])


def _text(said: Mapping[str, Any], what: str) -> str:
    text = said.get("text")
    if not isinstance(text, str):
        raise BadAnswerError(f"{what}: the answer has no text")
    return text


def _plain(response: Response, what: str) -> str:
    """The body as it came."""
    if response.headers.get("content-type", "").startswith("text/html"):
        raise BadAnswerError(f"{what}: the answer is a page of HTML, and no text that was heard")
    try:
        return str(response.body, "utf-8")
    except UnicodeDecodeError as error:
        raise BadAnswerError(f"{what}: the answer is not UTF-8") from error


def _fitting(value: Any, kind: pa.DataType) -> Any:
    """The value as far as it is of the type, null where it is not: what stands beside the text must not cost the text."""
    if pa.types.is_list(kind):
        return [_fitting(one, kind.value_type) for one in value] if isinstance(value, list) else None
    if pa.types.is_struct(kind):
        return {field.name: _fitting(value.get(field.name), field.type) for field in kind} if _is_map(value) else None
    return _SCALARS[kind](value)


def _is_map(value: Any) -> bool:
    return isinstance(value, dict)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


_SCALARS: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.string(): lambda value: value if isinstance(value, str) else None,
    pa.int64(): answers.integer,
    pa.float64(): _number,
}
