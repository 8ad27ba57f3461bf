"""POST /responses: a response to each row's prompt, one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal

import msgspec
import pyarrow as pa

from beam_openai import answers, media, texts
from beam_openai.answers import TOOL_CALLS, USAGE, Answer, Bad
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.errors import BadAnswerError
from beam_openai.options import Column, check, check_choice, check_sampling, number
from beam_openai.schemas import Schema
from beam_openai.tokens import IMAGE_TOKENS, MESSAGE_TOKENS, Counts

_UNFINISHED = ("queued", "in_progress", "cancelled")
_CUT = {"max_output_tokens": "raise max_output_tokens", "content_filter": "a content filter stopped it"}


@dataclasses.dataclass(kw_only=True, eq=False)
class Responses(Endpoint):
    """Adds to each row a model's response: `output_text: string`, and what stands beside it.

    Added too: `status: string` ("completed", or "incomplete") and `incomplete_reason: string` ("max_output_tokens": it
    was cut, "content_filter"), `refusal: string`, `tool_calls: list<struct<id, type, name, arguments>>` of your own
    tools (arguments as JSON), `usage: struct<prompt_tokens, completion_tokens, total_tokens, cached_tokens,
    reasoning_tokens>`. With `schema` the answer's properties become columns of their types in place of `output_text`;
    an answer that was cut or refused, that calls tools or does not fit fails its row: kind `bad_answer`, its text or
    calls in `error.raw`.

    One row a request, so a row that the server refuses costs nothing and takes no other with it. A response that failed
    though its HTTP status is 200 is asked for again where that was the server's trouble, and else fails its row: kind
    `rejected`. Whatever else the server knows goes in `params`.

    Attributes:
      prompt: the input, a template over columns: "Summarise: {text}".
      instructions: the system message, a template too.
      images: a column with an image for the prompt, or a list of them: bytes (PNG, JPEG, GIF, WebP) or URLs.
      schema: what the answer is to look like: a `pa.Schema`, a JSON schema, a pydantic model or a dataclass.
      output: the name of the column `output_text`; or names for any of the columns added, by their own.
      items: adds `output_items: string`, the whole output as JSON: what `include` asks for, summaries of reasoning,
        sources, calls of the server's own tools.
      max_output_tokens: tokens of a response at most, those of its reasoning included; 16 or more.
      temperature: from 0, always the likeliest token, to 2.
      top_p: only the likeliest tokens, which have this share of the probability: 0 to 1.
      tools: what the model may call, each as the API describes one.
      tool_choice: "auto", "none", "required", or the one that it is to call.
      parallel_tool_calls: whether there may be several calls in one response.
      max_tool_calls: calls of the server's own tools at most.
      reasoning_effort: how much a model that reasons is to do of it: "low", "medium", "high" and others.
      reasoning: all there is to say of reasoning, in place of `reasoning_effort`: {"effort": ..., "summary": ...}.
      verbosity: how long a text is to be.
      include: what more of the output there is to be: ["message.output_text.logprobs"]. Needs `items`.
      top_logprobs: so many of the likeliest tokens at each place, 0 to 20.
      truncation: "auto": the server cuts an input that is too long for the model; "disabled": it refuses it.
      previous_response_id: a response that was stored, to go on from.
      store: whether the server keeps the response. OpenAI's does unless told not to, so False is sent; None sends
        nothing. Where it is kept, `response_id: string` is added, from which `previous_response_id` can go on.
      metadata: up to 16 names and values that are stored with the response.
      service_tier: how soon, and for how much, it is answered: "flex", "priority" and others.
      safety_identifier: an end user's id, passed on for abuse monitoring.
      prompt_cache_key: prompts with one key, and one beginning, are cached together.
      user: what `safety_identifier` and `prompt_cache_key` have taken the place of.
    """

    path: ClassVar[str] = "/responses"
    main_input: ClassVar[str] = "prompt"
    row_fields: ClassVar[frozenset[str]] = frozenset({"input", "stream", "background"})

    prompt: str = "{prompt}"
    instructions: str | None = None
    images: str | None = None
    schema: Any = None
    output: str | dict[str, str] = "output_text"
    items: bool = False
    max_output_tokens: int | Column | None = option()
    temperature: float | Column | None = option()
    top_p: float | Column | None = option()
    tools: list[dict[str, Any]] | None = option()
    tool_choice: str | dict[str, Any] | None = option()
    parallel_tool_calls: bool | None = option()
    max_tool_calls: int | None = option()
    reasoning_effort: str | None = None
    reasoning: dict[str, Any] | Column | None = option()
    verbosity: Literal["low", "medium", "high"] | None = None
    include: list[str] | None = option()
    top_logprobs: int | None = option()
    truncation: Literal["auto", "disabled"] | None = option()
    previous_response_id: str | Column | None = option()
    store: bool | None = option(False)
    metadata: dict[str, str] | Column | None = option()
    service_tier: str | None = option()
    safety_identifier: str | Column | None = option()
    prompt_cache_key: str | Column | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self._shape = Schema(self.schema) if self.schema is not None else None
        self.schema = self._shape
        self._prompt = texts.Template(self.prompt)
        self._instructions = None
        if self.instructions is not None:
            self._instructions = texts.Template(self.instructions, "instructions")
        check("max_output_tokens", self.max_output_tokens, 16, float("inf"), whole=True)
        check("max_tool_calls", self.max_tool_calls, 1, float("inf"), whole=True)
        check("top_logprobs", self.top_logprobs, 0, 20, whole=True)
        check_sampling(self)
        check_choice("verbosity", self.verbosity, ("low", "medium", "high"))
        check_choice("truncation", self.truncation, ("auto", "disabled"))
        if self.reasoning_effort is not None and self.reasoning is not None:
            raise ValueError("reasoning says how much effort, too: set it or reasoning_effort")
        if self.include and not self.items:
            raise ValueError("include asks for more of the output, which is kept with items=True: set both")
        super().__post_init__()
        made = {*self._nested, *(["instructions"] if self._instructions else ())}
        if twice := made & self.params.keys():
            raise ValueError(f"params must not hold {min(twice)!r}: other options make it")

    @property
    def _nested(self) -> dict[str, Any]:
        """The options that stand inside of others in the body."""
        text: dict[str, Any] = {"verbosity": self.verbosity} if self.verbosity else {}
        if self._shape:
            text["format"] = self._shape.text_format
        nested = {"text": text} if text else {}
        return {**nested, "reasoning": {"effort": self.reasoning_effort}} if self.reasoning_effort else nested

    @property
    def made_options(self) -> dict[str, str]:
        made = {"reasoning": "reasoning_effort"} if self.reasoning_effort else {}
        if self._shape:
            made["text.format"] = "schema"
        if self.verbosity:
            made["text.verbosity"] = "verbosity"
        return {**made, "text": "schema" if self._shape else "verbosity"}

    def options(self, rows: pa.Table | None = None) -> dict[str, Any]:
        return {**self._nested, **super().options(rows)}

    @property
    def inputs(self) -> list[str]:
        read = self._instructions.columns if self._instructions else []
        return list(dict.fromkeys([*self._prompt.columns, *read, *([self.images] if self.images else ())]))

    @property
    def added(self) -> list[pa.Field]:
        columns = {"status": pa.string(), "incomplete_reason": pa.string(), "refusal": pa.string()}
        columns["tool_calls"] = TOOL_CALLS
        if self.items:
            columns["output_items"] = pa.string()
        if self.store is not False:
            columns["response_id"] = pa.string()
        columns["usage"] = USAGE
        typed = self._shape.fields if self._shape else [pa.field("output_text", pa.string())]
        return [*typed, *(pa.field(name, kind) for name, kind in columns.items())]

    @property
    def is_text(self) -> bool:
        return not self.images

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        found = self._instructions.unusable(rows) if self._instructions else {}
        if self.images:
            found.update(media.unusable_images(rows[self.images], self.images))
        return {**found, **self._prompt.unusable(rows)}

    def prepared(self, rows: pa.Table) -> pa.Table:
        columns = {"prompt": self._prompt.fill(rows)}
        if self._instructions:
            columns["instructions"] = self._instructions.fill(rows)
        if self.images:
            columns["images"] = rows[self.images]
        return pa.table(columns)

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        said = rows.select([name for name in ("prompt", "instructions") if name in rows.column_names])
        images = IMAGE_TOKENS * media.how_many(rows["images"]) if self.images else 0
        return super().tokens(said, count) + said.num_columns * MESSAGE_TOKENS + images

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        most: Counts | float = number(self.max_output_tokens, 0, rows)
        return most

    def request(self, rows: pa.Table) -> Request:
        said = {"input": rows["prompt"][0].as_py()}
        if self.images and (images := media.several(rows["images"][0].as_py())):
            said["input"] = [{"role": "user", "content": _parts(said["input"], images)}]
        if self._instructions:
            said["instructions"] = rows["instructions"][0].as_py()
        return Request(self.path, {**self.options(rows), **said})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        answer = answers.decode(response.body, _decoder, self.path)
        if answer.status == "failed":
            raise BadAnswerError(f"{self.path}: the response failed: {str(answer.error)[:200]}")
        items = answers.decode(answer.output, _output, self.path)
        usage: Any = answers.usage_of(answer.usage)
        read = {**_read(answer, items), "usage": answers.usage_struct(answer.usage, usage)}
        typed = _unusable(read, items) or self._typed(read)
        if isinstance(typed, Bad):
            return Answer([], {0: typed}, **usage)
        return Answer([*typed, *([read[field.name]] for field in self.added[len(typed) :])], **usage)

    def _typed(self, read: dict[str, Any]) -> list[Any] | Bad:
        """The columns of a schema, if there is one."""
        if self._shape is None:
            return []
        is_cut = read["status"] == "incomplete"
        cut = _CUT.get(read["incomplete_reason"], "the server does not say why") if is_cut else None
        calls = answers.calls_as_json(read["tool_calls"])
        if calls is None and cut is None and read["output_text"] is None:
            calls = read["output_items"]  # those of the server's own tools
        return answers.typed(self._shape, read["output_text"], read["refusal"], calls, cut)


class _Item(msgspec.Struct):
    type: Any = None
    content: Any = None
    call_id: Any = None
    name: Any = None
    arguments: Any = None
    input: Any = None


class _Response(msgspec.Struct):
    output: msgspec.Raw
    error: Any = None
    id: Any = None
    status: Any = None
    incomplete_details: Any = None
    usage: Any = None


_decoder = msgspec.json.Decoder(_Response)
_output = msgspec.json.Decoder(list[_Item])
_OWN_CALLS = {"function_call": "function", "custom_tool_call": "custom"}


def _read(answer: _Response, items: list[_Item]) -> dict[str, Any]:
    """A response as the columns have it."""
    parts = [part for item in items if item.type == "message" for part in _content(item)]
    details = answer.incomplete_details
    calls = [
        answers.tool_call(item.call_id, kind, item.name, item.arguments if item.arguments is not None else item.input)
        for item in items
        if isinstance(item.type, str) and (kind := _OWN_CALLS.get(item.type))
    ]
    return {
        "output_text": _joined(parts, "output_text", "text"),
        "status": _text(answer.status),
        "incomplete_reason": _text(details.get("reason")) if isinstance(details, dict) else None,
        "refusal": _joined(parts, "refusal", "refusal"),
        "tool_calls": calls or None,
        "output_items": _whole(answer.output),
        "response_id": _text(answer.id),
    }


def _content(item: _Item) -> Iterator[dict[str, Any]]:
    if isinstance(item.content, str):  # some servers answer without parts
        yield {"type": "output_text", "text": item.content}
    elif isinstance(item.content, list):
        yield from (part for part in item.content if isinstance(part, dict))


def _joined(parts: list[dict[str, Any]], kind: str, name: str) -> str | None:
    found = [text for part in parts if part.get("type") == kind and isinstance(text := part.get(name), str)]
    return "".join(found) if found else None


def _text(said: Any) -> str | None:
    return said if isinstance(said, str) else None


def _whole(output: msgspec.Raw) -> str:
    try:
        return str(output, "utf-8")
    except UnicodeDecodeError as error:
        raise BadAnswerError(f"/responses: the answer is not UTF-8: {error}") from error


def _unusable(read: dict[str, Any], items: list[_Item]) -> Bad | None:
    raw = read["output_items"].encode()
    if read["status"] in _UNFINISHED:
        return Bad(f"the response is {read['status']}, where a finished one was asked for", raw)
    is_silent = read["output_text"] is None and read["refusal"] is None and read["status"] != "incomplete"
    if is_silent and all(item.type in ("message", "reasoning") for item in items):
        return Bad("the response has neither text, nor a refusal, nor calls of tools", raw)
    return None


# What is asked.


def _parts(prompt: str, images: list[bytes | str]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "input_text", "text": prompt}]
    return [*parts, *({"type": "input_image", "image_url": media.image_url(image)} for image in images)]
