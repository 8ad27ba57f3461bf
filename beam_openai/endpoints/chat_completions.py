"""POST /chat/completions: an answer to each row's prompt or messages, one row a request."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import msgspec
import pyarrow as pa

from beam_openai import answers, media, texts, values
from beam_openai.answers import TOOL_CALLS, TOP, USAGE, Answer, Bad
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check, check_sampling, number
from beam_openai.schemas import Schema
from beam_openai.tokens import IMAGE_TOKENS, MESSAGE_TOKENS, Counts

LOGPROBS = pa.list_(pa.struct([("token", pa.string()), ("logprob", pa.float64()), ("top_logprobs", pa.list_(TOP))]))


@dataclasses.dataclass(kw_only=True, eq=False)
class ChatCompletions(Endpoint):
    """Adds to each row a model's answer: `completion: string`, and what stands beside it.

    Added too: `finish_reason: string` ("length": it was cut), `refusal: string`, `tool_calls: list<struct<id, type, name,
    arguments>>` (arguments as JSON), `usage: struct<prompt_tokens, completion_tokens, total_tokens, cached_tokens,
    reasoning_tokens>`; with `logprobs` a list of tokens with theirs. Where `n` is set, all but `usage` are lists of n. With
    `schema` the answer's properties become columns of their types in place of `completion`; an answer that was cut or
    refused, that calls tools or does not fit fails its row: kind `bad_answer`, its text or calls in `error.raw`.

    One row a request, so a row that the server refuses costs nothing and takes no other with it; one that fails as
    `bad_answer` was paid for. Whatever else the server knows goes in `params`.

    Attributes:
      prompt: the user's message, a template over columns: "Summarise: {text}".
      system: the system message, a template too.
      messages: a column in place of `prompt`: a list of structs with role and content, or the same as JSON.
      images: a column with an image for the prompt, or a list of them: bytes (PNG, JPEG, GIF, WebP) or URLs.
      audio: a column with sound for the prompt: bytes (WAV or MP3).
      schema: what the answer is to look like: a `pa.Schema`, a JSON schema, a pydantic model or a dataclass.
      output: the name of the column `completion`; or names for any of the columns added, by their own.
      max_tokens, max_completion_tokens: tokens of an answer at most. A server that knows only the other of the two is
        sent that one.
      temperature: 0 to 2: how much chance there is in an answer.
      top_p: 0 to 1: only tokens within this share of the probability.
      n: answers for each row.
      stop: a text, or up to four, that end an answer.
      presence_penalty, frequency_penalty: -2 to 2: against tokens that are there, or often there, already.
      logit_bias: -100 to 100 for ids of tokens: how much likelier each is to be.
      logprobs: whether the answer's tokens and their logarithmic probabilities are added.
      top_logprobs: with `logprobs`, how many other tokens of each place, up to 20.
      seed: the same gives the same answers, as far as the server can.
      tools: functions that the model may call, as the API describes them.
      tool_choice: "none", "auto", "required", or the one to call.
      parallel_tool_calls: whether one answer may call several.
      response_format: {"type": "json_object"}, say; with `schema` leave it unset.
      reasoning_effort: "none" to "max", for models that reason.
      verbosity: how long an answer is to be.
      service_tier: "auto", "default", "flex", "priority".
      store: whether the server keeps the answer.
      metadata: up to 16 pairs, kept with a stored answer.
      safety_identifier, user: an end user's id, for abuse monitoring.
      prompt_cache_key: requests with the same share a cache of prompts.
    """

    path: ClassVar[str] = "/chat/completions"
    main_input: ClassVar[str] = "prompt"
    row_fields: ClassVar[frozenset[str]] = frozenset({"messages", "stream"})
    other_names: ClassVar[dict[str, str]] = {
        "max_tokens": "max_completion_tokens",
        "max_completion_tokens": "max_tokens",
    }

    prompt: str = "{prompt}"
    system: str | None = None
    messages: str | None = None
    images: str | None = None
    audio: str | None = None
    schema: Any = None
    output: str | dict[str, str] = "completion"
    max_tokens: int | Column | None = option()
    max_completion_tokens: int | Column | None = option()
    temperature: float | Column | None = option()
    top_p: float | Column | None = option()
    n: int | None = option()
    stop: str | list[str] | Column | None = option()
    presence_penalty: float | Column | None = option()
    frequency_penalty: float | Column | None = option()
    logit_bias: dict[str, float] | None = option()
    logprobs: bool | None = option()
    top_logprobs: int | None = option()
    seed: int | Column | None = option()
    tools: list[dict[str, Any]] | None = option()
    tool_choice: str | dict[str, Any] | None = option()
    parallel_tool_calls: bool | None = option()
    response_format: dict[str, Any] | None = option()
    reasoning_effort: str | Column | None = option()
    verbosity: Literal["low", "medium", "high"] | None = option()
    service_tier: str | None = option()
    store: bool | None = option()
    metadata: dict[str, str] | None = option()
    safety_identifier: str | Column | None = option()
    prompt_cache_key: str | Column | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self._shape = Schema(self.schema) if self.schema is not None else None
        if self._shape is not None:
            self.schema = self._shape
            if self.response_format is not None or self.n is not None or "response_format" in self.params:
                raise ValueError("schema asks for one answer in its own form: leave response_format and n unset")
        self._prompt = texts.Template(self.prompt)
        self._system = texts.Template(self.system, "system") if self.system is not None else None
        if self.messages is not None and (self.prompt != "{prompt}" or self.images or self.audio):
            raise ValueError("messages takes the place of prompt, images and audio: set one of them")
        super().__post_init__()
        for name in ("max_tokens", "max_completion_tokens"):
            check(name, getattr(self, name), 1, float("inf"), whole=True)
        check("n", self.n, 1, 128, whole=True)
        check("top_logprobs", self.top_logprobs, 0, 20, whole=True)
        check_sampling(self)
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs=True")

    @property
    def inputs(self) -> list[str]:
        read = self._system.columns if self._system else []
        if self.messages is not None:
            return [self.messages, *read]
        return [*self._prompt.columns, *read, *(name for name in (self.images, self.audio) if name)]

    @property
    def added(self) -> list[pa.Field]:
        kinds = {"tool_calls": TOOL_CALLS, "logprobs": LOGPROBS}
        fields = [pa.field(name, kinds.get(name, pa.string())) for name in self._names]
        if self.n is not None:
            fields = [field.with_type(pa.list_(field.type)) for field in fields]
        return [*(self._shape.fields if self._shape is not None else ()), *fields, pa.field("usage", USAGE)]

    @property
    def is_text(self) -> bool:
        return not (self.images or self.audio)

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        found = self._system.unusable(rows) if self._system else {}
        if self.messages is not None:
            return {**found, **_unusable_messages(rows[self.messages], self.messages)}
        if self.images:
            found.update(media.unusable_images(rows[self.images], self.images))
        if self.audio:
            found.update(media.unusable_audio(rows[self.audio], self.audio))
        return {**found, **self._prompt.unusable(rows)}

    def prepared(self, rows: pa.Table) -> pa.Table:
        columns = {}
        if self._system:
            columns["system"] = self._system.fill(rows)
        if self.messages is not None:
            return pa.table({**columns, "messages": _as_json(rows[self.messages])})
        columns["prompt"] = self._prompt.fill(rows)
        columns.update({name: rows[own] for name, own in (("images", self.images), ("audio", self.audio)) if own})
        return pa.table(columns)

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        text = rows.select([name for name in ("system", "prompt", "messages") if name in rows.column_names])
        images = IMAGE_TOKENS * media.how_many(rows["images"]) if self.images else 0
        return super().tokens(text, count) + len(text.columns) * MESSAGE_TOKENS + images

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        most = self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens
        return number(most, 0, rows) * (self.n or 1)

    def request(self, rows: pa.Table) -> Request:
        row = {name: rows[name][0].as_py() for name in rows.column_names}
        said = [{"role": "system", "content": row["system"]}] if self._system else []
        if self.messages is not None:
            said += msgspec.json.decode(row["messages"])
        else:
            said.append({"role": "user", "content": _content(row)})
        return Request(self.path, {**self.options(rows), "messages": said})

    @property
    def made_options(self) -> dict[str, str]:
        return {"response_format": "schema"} if self._shape else {}

    def options(self, rows: pa.Table | None = None) -> dict[str, Any]:
        asked = {"response_format": self._shape.response_format} if self._shape else {}
        return {**asked, **super().options(rows)}

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        answer = answers.decode(response.body, _decoder, self.path)
        choices = answers.in_order(answer.choices, [choice.index for choice in answer.choices], self.n or 1, self.path)
        read = [_read(choice) for choice in choices]
        usage: Any = answers.usage_of(answer.usage)
        typed = _unusable(read) or self._typed(read[0])
        if isinstance(typed, Bad):
            return Answer([], {0: typed}, **usage)
        found = [[one[name] for one in read] if self.n is not None else read[0][name] for name in self._names]
        return Answer([*typed, *([value] for value in found), [answers.usage_struct(answer.usage, usage)]], **usage)

    @property
    def _names(self) -> list[str]:
        """What is added of each choice."""
        names = [] if self._shape is not None else ["completion"]
        return [*names, "finish_reason", "refusal", "tool_calls", *(["logprobs"] if self.logprobs else [])]

    def _typed(self, read: dict[str, Any]) -> list[Any] | Bad:
        """The columns of a schema, if there is one."""
        if self._shape is None:
            return []
        calls = answers.calls_as_json(read["tool_calls"])
        return answers.typed(self._shape, read["completion"], read["refusal"], calls, self._cut(read["finish_reason"]))

    def _cut(self, finish_reason: str | None) -> str | None:
        """Why an answer is not complete, and what would help."""
        if finish_reason == "content_filter":
            return "a content filter stopped it"
        is_old = self.max_tokens is not None and self.max_completion_tokens is None
        most = "max_tokens" if is_old else "max_completion_tokens"
        return f"raise {most}" if finish_reason == "length" else None


def _unusable(read: list[dict[str, Any]]) -> Bad | None:
    for one in read:
        said = one["completion"] is not None or one["refusal"] is not None or one["tool_calls"]
        if not said and one["finish_reason"] != "content_filter":
            return Bad("the answer has neither content, nor a refusal, nor tool calls", b"")
    return None


class _Message(msgspec.Struct):
    content: Any = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(msgspec.Struct):
    message: _Message
    index: Any = None
    finish_reason: Any = None
    logprobs: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Completion)


def _read(choice: _Choice) -> dict[str, Any]:
    """A choice as the columns have it."""
    message = choice.message
    content = message.content
    if isinstance(content, list):  # some servers answer in parts
        said = (part.get("text") for part in content if isinstance(part, dict))
        content = "".join(text for text in said if isinstance(text, str))
    if not isinstance(content, str | None) or not isinstance(message.refusal, str | None):
        raise BadAnswerError("/chat/completions: the content of the answer is not text")
    calls = message.tool_calls or (
        [{"type": "function", "function": message.function_call}] if message.function_call else []
    )
    if not isinstance(calls, list):
        raise BadAnswerError("/chat/completions: the tool calls of the answer are no list")
    logprobs = choice.logprobs.get("content") if isinstance(choice.logprobs, dict) else None
    return {
        "completion": content,
        "finish_reason": choice.finish_reason if isinstance(choice.finish_reason, str) else None,
        "refusal": message.refusal,
        "tool_calls": [_call(call) for call in calls] or None,
        "logprobs": [_likely(token) for token in logprobs] if isinstance(logprobs, list) else None,
    }


def _call(call: Any) -> dict[str, str | None]:
    call = call if isinstance(call, dict) else {}
    called = call.get("function") or call.get("custom")
    called = called if isinstance(called, dict) else {}
    arguments = called.get("arguments", called.get("input"))
    return answers.tool_call(call.get("id"), call.get("type"), called.get("name"), arguments)


def _likely(token: Any) -> dict[str, Any]:
    top = token.get("top_logprobs") if isinstance(token, dict) else None
    if not isinstance(token, dict) or not isinstance(top or [], list):
        raise BadAnswerError("/chat/completions: logprobs of something else than tokens")
    return {**_one(token), "top_logprobs": [_one(other) for other in top or []]}


def _one(token: Any) -> dict[str, Any]:
    """A token and its logprob, whatever stands where they should."""
    said = token if isinstance(token, dict) else {}
    text, logprob = said.get("token"), None
    if isinstance(number := said.get("logprob"), int | float) and not isinstance(number, bool):
        logprob = float(number)
    return {"token": text if isinstance(text, str) else None, "logprob": logprob}


# What is asked.


def _content(row: Mapping[str, Any]) -> Any:
    """The user's message: text, or parts where there are images or sound."""
    images, audio = media.several(row.get("images")), row.get("audio")
    if not images and audio is None:
        return row["prompt"]
    parts: list[dict[str, Any]] = [{"type": "text", "text": row["prompt"]}]
    parts += [{"type": "image_url", "image_url": {"url": media.image_url(image)}} for image in images]
    if audio is not None:
        sound = {"data": base64.b64encode(audio).decode(), "format": media.audio_format(audio)}
        parts.append({"type": "input_audio", "input_audio": sound})
    return parts


def _as_json(messages: pa.ChunkedArray) -> pa.Array:
    if texts.is_text(messages.type):
        return messages
    read, _ = values.of_column(messages)
    written = [None if value is None else msgspec.json.encode(value).decode() for value in read]
    return pa.array(written, pa.large_string())


def _unusable_messages(column: pa.ChunkedArray, name: str) -> dict[int, str]:
    if not texts.is_text(column.type) and not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        return dict.fromkeys(
            range(len(column)), f"{name} is {texts.written(column.type)}, not a list of messages, or JSON"
        )
    read, unreadable = values.of_column(column)
    reasons = {row: f"{name} {reason}" for row, reason in unreadable.items()}
    if texts.is_text(column.type):
        reasons.update(texts.unusable(column, name))
    for row, value in enumerate(read):
        if row not in reasons and (reason := _wrong_messages(value)):
            reasons[row] = f"{name} {reason}"
    return reasons


def _wrong_messages(value: Any) -> str | None:
    if value is None:
        return "is null"
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            return "is not JSON"
    if not isinstance(value, list) or not value:
        return "is not a list of messages"
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value):
        return "has a message without a role"
    return None
