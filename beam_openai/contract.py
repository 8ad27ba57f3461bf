"""What an endpoint says of itself: its options, its limits, what it asks and what it answers.

Pure: knows no Beam, no HTTP, no threads, no time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from beam_openai.answers import Answer
from beam_openai.client import API, Request, Response
from beam_openai.options import Column, check, constant, of_row, sent, whole_numbers
from beam_openai.quota import Quota
from beam_openai.retry import Retry
from beam_openai.tokens import Counts, of_texts


@dataclasses.dataclass(kw_only=True, eq=False)
class Contract:
    """What the rest of the package needs to know of an endpoint in order to call it for rows.

    Attributes:
      model: the model's name, as the server knows it; or a column that holds each row's, `column("model")`.
      api: where the server is, and where its key is.
      retry: how often and how long to try.
      quota: a ceiling of your own for this model, beside what the server's headers say.
      concurrency: requests in flight at most, for all transforms of a process with the same api, model and quota; of
        several such, the largest counts. Not set: as many as the quota needs or the server answers best, 512 at most.
      journal: reserved for a folder that keeps answers for a re-run; not supported by this version, so it must be None.
      params: sent verbatim in every request's body: what the server knows and this library does not.

    Raises:
      ValueError: an option that can never work, when it is made.
    """

    path: ClassVar[str]
    main_input: ClassVar[str] = "input"
    """The field that says what is read first of all: the one that a command line's --column sets."""
    most_rows: ClassVar[int] = 1
    """Rows of one request, by the server's documentation."""
    most_tokens: ClassVar[float] = float("inf")
    """Tokens of one request."""
    most_bytes: ClassVar[int] = 32 << 20
    """Bytes of one request's input."""
    advice: ClassVar[Mapping[str, str]] = {}
    """For options that some servers do not know: what to set then."""
    row_fields: ClassVar[frozenset[str]] = frozenset()
    """Names in the body that hold the rows, which `params` cannot set."""
    other_names: ClassVar[Mapping[str, str]] = {}
    """Names in the body that some servers know by another: where one is refused, the other is sent from then on."""
    takes_files: ClassVar[frozenset[str]] = frozenset()
    """What the names of files end with whose bytes the main input may be: a command line reads folders of them."""
    gives_files: ClassVar[bool] = False
    """Whether the first column added holds the bytes of files, which a command line can write as such."""

    model: str | Column
    api: API = dataclasses.field(default_factory=API)
    retry: Retry = dataclasses.field(default_factory=Retry)
    quota: Quota = dataclasses.field(default_factory=Quota)
    concurrency: int | None = None
    journal: str | None = None
    params: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (isinstance(self.model, Column) or (isinstance(self.model, str) and self.model.strip())):
            raise ValueError(f"model must be a model's name, not {self.model!r}")
        for field in dataclasses.fields(self):
            if isinstance(getattr(self, field.name), Column) and "Column" not in str(field.type):
                raise ValueError(f"{field.name} must be the same in all rows: it cannot be a column")
        check("concurrency", self.concurrency, 1, float("inf"), whole=True)
        if self.journal is not None:
            raise ValueError("journal is not supported by this version")
        for name, kind in (("api", API), ("retry", Retry), ("quota", Quota), ("params", Mapping)):
            if not isinstance(getattr(self, name), kind):
                raise ValueError(f"{name} must be a {kind.__name__}, not a {type(getattr(self, name)).__name__}")
        check("max_batch_size", getattr(self, "max_batch_size", None), 1, self.most_rows, whole=True)
        most_images = self.quota.images_per_minute
        if most_images is not None and self.images_made(1) > most_images:
            raise ValueError(
                f"the {self.images_made(1):g} images of a request never fit into images_per_minute={most_images:g}: "
                "set a smaller n, or raise the quota"
            )
        if taken := self.row_fields & self.params.keys():
            raise ValueError(f"params must not hold {min(taken)!r}: the rows go there")
        if "n" in self.params and hasattr(self, "n"):
            raise ValueError("params must not hold 'n': answers are read by it, so set the option n")
        try:
            msgspec.json.encode(constant({**sent(self), **self.params}))
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError(f"an option, or something in params, cannot be written as JSON: {error}") from error
        names = self.outputs
        if "error" in names:
            raise ValueError("a column named 'error' is what failed rows have: name the output otherwise")
        if len(set(names)) < len(names) or not all(names):
            raise ValueError(
                f"output: the added columns need a name each, and they have {', '.join(map(repr, names))}: "
                "name one otherwise, output={...}"
            )

    # What an endpoint says of itself.

    @property
    def inputs(self) -> list[str]:
        """Names of the columns that are read."""
        raise NotImplementedError

    @property
    def optional_inputs(self) -> list[str]:
        """Names of columns that are read where the rows have them."""
        return []

    @property
    def added(self) -> list[pa.Field]:
        """The columns that are added, by their own names; of type null where only the first answer can tell."""
        raise NotImplementedError

    @property
    def is_text(self) -> bool:
        """Whether all that a request's tokens come from is text, so that an answer's usage corrects the estimate."""
        return True

    @property
    def most_input_tokens(self) -> int | None:
        """Tokens that one row may have, where the model's documentation says so."""
        return None

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        """Why rows, by their position, could never be carried by a request."""
        raise NotImplementedError

    def prepared(self, rows: pa.Table) -> pa.Table:
        """The rows as the methods below take them: done once for a table, so that it need not be for each request.

        Rows that are `invalid` come too, and must not make it raise.
        """
        return rows

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        """Tokens of each row's input; `count` counts texts."""
        return of_texts(rows, count)

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        """Tokens of each row's answer that count against tokens per minute before it is known."""
        return 0.0

    def images_made(self, rows: int) -> float:
        """Images that so many rows ask for, which count against images per minute."""
        return 0.0

    def audio_bytes(self, rows: pa.Table) -> Counts | float:
        """Bytes of each row's recording, which count against audio per minute; nan where only who reads it can tell."""
        return 0.0

    def request(self, rows: pa.Table) -> Request:
        """The request for some rows."""
        raise NotImplementedError

    def links(self, response: Response) -> Sequence[str]:
        """URLs in an answer, whose contents `columns` finds in `response.fetched`; none in what is no answer."""
        return ()

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        """What the answer holds for these rows.

        Raises:
          BadAnswerError: it is not an answer to them; nothing of it can be trusted.
        """
        raise NotImplementedError

    # What follows from that.

    @property
    def fields(self) -> list[pa.Field]:
        """The columns that are added, by the names that `output` gives them."""
        names: Any = getattr(self, "output", {})
        if isinstance(names, str):
            main = type(self).__dataclass_fields__["output"].default
            names = {main: names} if names != main else {}
        if unknown := names.keys() - {field.name for field in self.added}:
            raise ValueError(f"output: a column {min(unknown)!r} is not added, so it cannot have another name")
        # Where a property of a schema has the name of a column of the endpoint's own, that column is what is named.
        own = {field.name: at for at, field in enumerate(self.added)}
        return [
            field.with_name(names.get(field.name, field.name)) if own[field.name] == at else field
            for at, field in enumerate(self.added)
        ]

    @property
    def outputs(self) -> list[str]:
        """Names of the columns that are added."""
        return [field.name for field in self.fields]

    @property
    def batch_size(self) -> int:
        """Rows of one request at most."""
        return getattr(self, "max_batch_size", None) or self.most_rows

    @property
    def columns_read(self) -> list[str]:
        """Names of all columns that the rows must have."""
        return list(dict.fromkeys([*self.inputs, *self.columns_of_options.values()]))

    @property
    def columns_of_options(self) -> dict[str, str]:
        """The columns that stand for options, by the options' names."""
        given = {"model": self.model, **sent(self)}
        return {name: value.name for name, value in given.items() if isinstance(value, Column)}

    @property
    def whole_numbers(self) -> frozenset[str]:
        """The options that are whole numbers."""
        return whole_numbers(self)

    def options(self, rows: pa.Table | None = None) -> dict[str, Any]:
        """What a request's body holds beside the rows: the options that are set, and `params`.

        Args:
          rows: those of the request, where options are columns; they have the same values in each.
        """
        given = {"model": self.model, **sent(self)}
        if rows is not None:
            given = of_row(given, rows, self.whole_numbers)
        return {**given, **self.params}

    @property
    def made_options(self) -> Mapping[str, str]:
        """Options by what they become in the body, where they have another name there: {"response_format": "schema"}."""
        return {}

    def learns_for(self) -> tuple[object, ...]:
        """What two transforms must have in common to learn from each other's answers."""
        return (type(self).__name__, self.options(), self.fields)
