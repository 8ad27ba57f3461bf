"""POST /completions: what a model writes behind each row's prompt, several rows in one request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import msgspec
import pyarrow as pa

from beam_openai import answers, texts
from beam_openai.answers import TOP, Answer, Bad
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.options import Column, check, check_sampling, number
from beam_openai.tokens import Counts

_MOST_CHOICES = 128
_USUAL_ROWS = 20
_MAX_TOKENS = 16
LOGPROBS = pa.struct(
    [
        ("tokens", pa.list_(pa.string())),
        ("token_logprobs", pa.list_(pa.float64())),
        ("top_logprobs", pa.list_(pa.list_(TOP))),
        ("text_offset", pa.list_(pa.int64())),
    ]
)


@dataclasses.dataclass(kw_only=True, eq=False)
class Completions(Endpoint):
    """Adds to each row what a model writes behind its prompt: `completion: string`, and `finish_reason: string`.

    `finish_reason` is "stop", "length" (it was cut at `max_tokens`) or "content_filter". With `logprobs` there is a
    column of that name too: `struct<tokens, token_logprobs, top_logprobs, text_offset>`, each a list with a place for
    each token, `top_logprobs` one of `list<struct<token, logprob>>`. Where `n` is set, all of them are lists of n.
    What a single row cost cannot be told, as rows share a request: the counters have the sums.

    OpenAI does not say how many prompts a request may have: 20 go together unless `max_batch_size` says otherwise, and
    fewer where `n` or `best_of` would make more than 128 choices of them. Rows that are null or empty fail before
    anything is sent, and cost nothing. A row that makes the server refuse a request is found by halving, at most
    2 * (log2(rows) + 1) requests more, none of them billed.

    Attributes:
      prompt: what is to be continued, a template over columns: "Translate to French: {text}"; or, as "{ids}" and nothing
        else, a column with lists of token ids.
      output: the name of the column `completion`; or names for any of the columns added, by their own.
      max_tokens: tokens of a completion at most; servers take 16 if it is not set.
      temperature: from 0, always the likeliest token, to 2.
      top_p: only the likeliest tokens, which have this share of the probability: 0 to 1.
      suffix: what is to come behind a completion, for models that insert.
      echo: whether a completion begins with its prompt.
      n: completions for each row.
      best_of: completions that are written for each row, of which the best n are given; all are paid for.
      logprobs: so many of the likeliest tokens at each place, 0 to 5.
      stop: up to four texts that end a completion.
      presence_penalty: above 0, up to 2, what was said is less likely to be said again; below 0, from -2, more likely.
      frequency_penalty: the same by how often it was said.
      logit_bias: for tokens by their ids, -100 to 100: how much more likely they are to be.
      seed: one seed gets one completion, as far as a server can.
      user: an end user's id, passed on for abuse monitoring.
      max_batch_size: rows of one request at most, 128 or less; 1 for servers that take no lists of prompts.
    """

    path: ClassVar[str] = "/completions"
    main_input: ClassVar[str] = "prompt"
    row_fields: ClassVar[frozenset[str]] = frozenset({"prompt", "stream"})
    most_rows: ClassVar[int] = _MOST_CHOICES

    prompt: str = "{prompt}"
    output: str | dict[str, str] = "completion"
    max_tokens: int | Column | None = option()
    temperature: float | Column | None = option()
    top_p: float | Column | None = option()
    n: int | None = option()
    best_of: int | None = option()
    echo: bool | None = option()
    logprobs: int | None = option()
    suffix: str | Column | None = option()
    stop: str | list[str] | Column | None = option()
    presence_penalty: float | Column | None = option()
    frequency_penalty: float | Column | None = option()
    logit_bias: dict[str, float] | None = option()
    seed: int | Column | None = option()
    user: str | Column | None = option()
    max_batch_size: int | None = None

    def __post_init__(self) -> None:
        self._prompt = texts.Template(self.prompt)
        check("max_tokens", self.max_tokens, 0, float("inf"), whole=True)
        check("n", self.n, 1, _MOST_CHOICES, whole=True)
        check("best_of", self.best_of, 1, 20, whole=True)
        check("logprobs", self.logprobs, 0, 5, whole=True)
        check_sampling(self)
        if self.best_of is not None and self.best_of < (self.n or 1):
            raise ValueError(f"best_of must be n or more: {self.best_of} is fewer than {self.n}")
        super().__post_init__()

    @property
    def inputs(self) -> list[str]:
        return self._prompt.columns

    @property
    def added(self) -> list[pa.Field]:
        columns = {"completion": pa.string(), "finish_reason": pa.string()}
        if self.logprobs is not None:
            columns["logprobs"] = LOGPROBS
        return [pa.field(name, pa.list_(kind) if self.n is not None else kind) for name, kind in columns.items()]

    @property
    def batch_size(self) -> int:
        return max(1, min(self.max_batch_size or _USUAL_ROWS, _MOST_CHOICES // self._written))

    @property
    def _written(self) -> int:
        """Completions that are written for each row."""
        return max(self.n or 1, self.best_of or 1)

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        if ids := self._token_ids(rows):
            return texts.unusable_token_ids(rows[ids], ids)
        return self._prompt.unusable(rows)

    def prepared(self, rows: pa.Table) -> pa.Table:
        ids = self._token_ids(rows)
        return pa.table({"prompt": rows[ids] if ids else self._prompt.fill(rows)})

    def _token_ids(self, rows: pa.Table) -> str | None:
        """The column of the prompts, if it holds token ids."""
        name = self._prompt.column
        return name if name is not None and texts.is_token_ids(rows[name].type) else None

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        total = count(rows["prompt"])
        if isinstance(self.suffix, Column):
            return total + super().tokens(rows.select([self.suffix.name]), count)
        return total + count(pa.array([self.suffix]))[0] if self.suffix else total

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        most: Counts | float = number(self.max_tokens, _MAX_TOKENS, rows) * self._written
        return most

    def request(self, rows: pa.Table) -> Request:
        prompts = rows["prompt"].to_pylist()
        # One alone goes as itself: some servers take no lists.
        return Request(self.path, {**self.options(rows), "prompt": prompts if len(prompts) > 1 else prompts[0]})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        answer = answers.decode(response.body, _decoder, self.path)
        n = self.n or 1
        indexes = [choice.index for choice in answer.choices]
        choices = answers.in_order(answer.choices, indexes, rows.num_rows * n, self.path)
        read = [_read(choice, self.logprobs is not None) for choice in choices]
        bad = {at // n: one for at, one in enumerate(read) if isinstance(one, Bad)}
        values: list[list[Any]] = []
        for field in self.added:
            flat = [None if isinstance(one, Bad) else one[field.name] for one in read]
            values.append(flat if self.n is None else [flat[at : at + n] for at in range(0, len(flat), n)])
        return Answer(values, bad, **answers.usage_of(answer.usage))


class _Logprobs(msgspec.Struct):
    tokens: list[str | None] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None
    text_offset: list[Annotated[int, msgspec.Meta(ge=0, lt=2**53)] | None] | None = None


class _Choice(msgspec.Struct):
    text: Any = None
    index: Any = None
    finish_reason: Any = None
    logprobs: Any = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Completion)


def _read(choice: _Choice, with_logprobs: bool) -> dict[str, Any] | Bad:
    """A choice as the columns have it; or why it is none."""
    if not isinstance(choice.text, str) and not (choice.text is None and choice.finish_reason == "content_filter"):
        return Bad("the answer has no text", msgspec.json.encode(choice))
    reason = choice.finish_reason if isinstance(choice.finish_reason, str) else None
    read = {"completion": choice.text, "finish_reason": reason}
    if not with_logprobs:
        return read
    try:
        return {**read, "logprobs": _as_arrow(msgspec.convert(choice.logprobs, _Logprobs | None))}
    except msgspec.ValidationError as error:
        return Bad(f"the logprobs of the answer cannot be read: {error}", msgspec.json.encode(choice))


def _as_arrow(logprobs: _Logprobs | None) -> dict[str, Any] | None:
    if logprobs is None:
        return None
    tops = logprobs.top_logprobs
    return {**msgspec.structs.asdict(logprobs), "top_logprobs": None if tops is None else [_top(top) for top in tops]}


def _top(top: dict[str, float | None] | None) -> list[dict[str, Any]] | None:
    return None if top is None else [{"token": token, "logprob": logprob} for token, logprob in top.items()]
