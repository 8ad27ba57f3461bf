"""FineTuningData: rows -> examples that keep to the rules -> files, and the rows that break one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import msgspec
import numpy as np
import pyarrow as pa
from apache_beam import pvalue
from apache_beam.metrics import Metrics

from beam_openai import prices, sources, tables, tokens
from beam_openai.parquet import sink
from beam_openai.training_data import limits
from beam_openai.training_data.messages import BrokenRule
from beam_openai.training_data.reading import example_of, form_of, values_of
from beam_openai.training_data.report import Example, Report
from beam_openai.training_data.rules import FORMS, text_in, tokens_beside
from beam_openai.training_data.writing import Files

_ROWS = 1024


class Outputs(NamedTuple):
    """What comes of `FineTuningData`.

    Attributes:
      files: the paths of the files, when they are there.
      failed: the rows that break a rule, of the kind that they were, with `error`.
      summary: one dict, of the numbers and warnings.
    """

    files: beam.PCollection
    failed: beam.PCollection
    summary: beam.PCollection


@dataclasses.dataclass(eq=False)
class FineTuningData(beam.PTransform):
    r"""Writes rows as examples for OpenAI's fine-tuning: `part-*.jsonl`, one JSON object a line, ready to be uploaded.

    A row is an example of one of three forms, told by its columns: `messages` (and where they are there `tools`,
    `parallel_tool_calls`, `functions`) for chat; `prompt` and `completion`; `input`, `preferred_output` and
    `non_preferred_output` for a choice between two answers (DPO). What is not text is a list of structs, or JSON. Other
    columns are left out, and so are nulls.

    Gives `.files`, `.failed` and `.summary`. A row that breaks a rule of OpenAI's goes to `failed` with `error` as at every
    endpoint: kind `invalid_input`, the name of the rule first in its message. What OpenAI only recommends is in the
    summary's `warnings`: nothing is repaired, cut or dropped for it, not duplicates either.

    The summary is a dict: `files`, `form`, `examples`, `failed`, `duplicates`, `tokens`, `longest` (tokens of an example),
    `epochs`, `training_tokens` (of all epochs), `price` (dollars as Decimal; None where there is none), `warnings`. Tokens
    are those of tiktoken where it is installed, else an estimate of one in three bytes.

    One worker writes, because a job takes one file: there are as few as `file_bytes` allows, none with fewer examples than
    a job needs if there are others. They appear when all is written; where the job fails there are none (only a
    `_beam-temp-*` folder, which `parquet.clear_temporary` removes).

    Attributes:
      directory: where the files go, on any filesystem that Beam knows; created if it is not there.
      model: to be trained. By its name there is a limit for the tokens of an example.
      form: "chat", "completion" or "preference", where the columns could be of several.
      overwrite: replace the files in the directory. They stay until the new ones are in place. What runs on this machine
        have left there that were killed goes with them.
      max_tokens: tokens of an example at most; default the model's, where it is known.
      epochs: how often the job will train on each example; default as OpenAI would choose.
      file_bytes: of one file at most. OpenAI takes 512 MB.
      min_examples: with fewer the job fails, as OpenAI's would.
      prices: a price list of your own, with `Price(training=...)`: `beam_openai.prices.PRICES` has none for training.
      temporary: is in the name of the temporary folder.

    Raises:
      ValueError: while running: there are fewer than `min_examples`, or examples of two forms; rows have the columns of no
        form, or of several.
      FileExistsError: the directory has files and `overwrite` is off.
    """

    directory: str
    _: dataclasses.KW_ONLY
    model: str
    form: Literal["chat", "completion", "preference"] | None = None
    overwrite: bool = False
    max_tokens: int | None = None
    epochs: int | None = None
    file_bytes: int = limits.MOST_FILE_BYTES
    min_examples: int = limits.LEAST_EXAMPLES
    prices: Mapping[str, prices.Price] = dataclasses.field(default_factory=lambda: prices.PRICES)
    temporary: str = "parts"

    def __post_init__(self) -> None:
        super().__init__()
        if not self.directory:
            raise ValueError("directory must name a folder, not be empty")
        if not isinstance(self.model, str) or not self.model:
            raise ValueError(f"model must be a model's name, not {self.model!r}")
        if self.form is not None and self.form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, not {self.form!r}")
        for name, least in (("max_tokens", 1), ("epochs", 1), ("file_bytes", 1), ("min_examples", 0)):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
                raise ValueError(f"{name} must be a whole number {least} or more, not {value!r}")
        if not isinstance(self.prices, Mapping) or not all(isinstance(of, prices.Price) for of in self.prices.values()):
            raise ValueError("prices must be a mapping of models' names to beam_openai.prices.Price")

    def expand(self, rows: pvalue.PCollection) -> Outputs:
        if not rows.is_bounded:
            raise ValueError("FineTuningData writes bounded data: its files appear when all is written")
        directory = self.directory.rstrip("/") or "/"
        sink.check_free(directory, "jsonl", self.overwrite)
        sink.check_writable(directory)
        most = self.max_tokens if self.max_tokens is not None else limits.example_tokens(self.model)
        checked = rows | "Check" >> beam.ParDo(_Check(self.model, self.form, most)).with_outputs(
            "failed", main="examples"
        )
        checked.failed.element_type = pa.Table if rows.element_type is pa.Table else Any
        files = Files(directory, self.overwrite, self.file_bytes, self.min_examples, self.temporary)
        report = checked.examples | "Write" >> beam.io.Write(files)
        failed = (
            checked.failed
            | "Global" >> beam.WindowInto(beam.window.GlobalWindows())
            | "Rows" >> beam.Map(_rows).with_output_types(int)
            | "Sum" >> beam.CombineGlobally(sum)
        )
        summary = report | "Summary" >> beam.Map(
            _summary, self.model, self.epochs, pvalue.AsSingleton(failed), dict(self.prices)
        )
        return Outputs(report | "Files" >> beam.FlatMap(_files), checked.failed, summary)


def _rows(element: Any) -> int:
    return element.num_rows if isinstance(element, pa.Table) else 1


def _files(report: str) -> list[str]:
    return msgspec.json.decode(report, type=Report).files


def _summary(
    report: str, model: str, epochs: int | None, failed: int, list_of_prices: Mapping[str, prices.Price]
) -> dict[str, Any]:
    return msgspec.json.decode(report, type=Report).summary(model, epochs, failed, list_of_prices)


class _Check(beam.DoFn):
    """A table, or a row of another kind, to examples and rows that are none."""

    def __init__(self, model: str, form: str | None, most_tokens: int | None) -> None:
        self._model = model
        self._form = form
        self._most = most_tokens
        self._counters = {name: Metrics.counter("FineTuningData", name) for name in ("examples", "rows_failed")}
        self._count: tokens.Estimate | tokens.Exact = None  # type: ignore[assignment]  # from setup on

    def setup(self) -> None:
        self._count = tokens.counter(limits.base(self._model))

    def process(self, element: Any) -> Iterator[Any]:
        if isinstance(element, pa.Table):
            element = sources.without_error(element)
            for start in range(0, element.num_rows, _ROWS):
                yield from self._table(element.slice(start, _ROWS))
        else:
            yield from self._row(element)

    def _table(self, table: pa.Table) -> Iterator[Any]:
        form = form_of(table.column_names, self._form)
        names = [name for name in FORMS[form] if name in table.column_names]
        columns = [values_of(table[name]) for name in names]
        examples, failures = self._checked(form, [dict(zip(names, row)) for row in zip(*columns, strict=True)])
        yield from examples
        if failures:
            yield pvalue.TaggedOutput("failed", sources.with_failures(table, failures))

    def _row(self, row: Any) -> Iterator[Any]:
        fields = tables.as_dict(row)
        sources.check_error_is_free(fields)
        form = form_of(fields, self._form)
        example = {name: fields[name] for name in FORMS[form] if name in fields}
        examples, failures = self._checked(form, [example])
        yield from examples
        if failures:
            yield pvalue.TaggedOutput("failed", tables.extend(row, {"error": failures[0]}))

    def _checked(self, form: str, rows: list[dict[str, Any]]) -> tuple[list[Example], dict[int, sources.Failure]]:
        """Those that are examples; and why others are none, by position."""
        good: list[tuple[int, Mapping[str, Any], bytes]] = []
        failures: dict[int, sources.Failure] = {}
        for position, row in enumerate(rows):
            try:
                good.append((position, *example_of(form, row)))
            except BrokenRule as broken:
                failures[position] = sources.failure("invalid_input", str(broken))
        examples = []
        counts = self._tokens([example for _, example, _ in good])
        for (position, _, line), count in zip(good, counts, strict=True):
            if self._most is not None and count > self._most:
                failures[position] = sources.failure("invalid_input", self._too_long(count))
            else:
                examples.append(Example(form, line, count))
        self._counters["examples"].inc(len(examples))
        self._counters["rows_failed"].inc(len(failures))
        return examples, dict(sorted(failures.items()))

    def _tokens(self, examples: list[Mapping[str, Any]]) -> list[int]:
        said = self._count(pa.array(map(text_in, examples), pa.large_string()))
        beside = np.array([tokens_beside(example) for example in examples], dtype=np.int64)
        counts: list[int] = (said + beside).tolist()
        return counts

    def _too_long(self, count: int) -> str:
        estimated = isinstance(self._count, tokens.Estimate)
        about = (
            f"about {count} tokens by its bytes (install tiktoken to count them)" if estimated else f"{count} tokens"
        )
        return f"too_long: {about}, more than the {self._most} of an example for {self._model}"
