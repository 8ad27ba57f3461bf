"""POST /moderations: whether each text, or image, is harmful, and in which ways; many texts in one request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from beam_openai import answers, media, texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint
from beam_openai.client import Request, Response
from beam_openai.tokens import Counts, as_plain, byte_lengths

CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""Those of omni-moderation, which the columns always have; others that a server has come behind them."""

_TYPES = {
    "categories": pa.bool_(),
    "category_scores": pa.float32(),
    "category_applied_input_types": pa.list_(pa.string()),
}
_USUAL_ROWS = 32
_COLUMN = "text"


@dataclasses.dataclass(kw_only=True, eq=False)
class Moderations(Endpoint):
    """Adds to each row whether it is harmful: `flagged: bool`, and in which ways, by category.

    Added too: `categories: struct<bool>`, `category_scores: struct<float>` (0 to 1) and, except for text-moderation
    models, `category_applied_input_types: struct<list<string>>` ("text", "image"). Their fields are the 13 categories of
    omni-moderation, null where a model has not got them, and behind these what other categories a server has. One that
    first comes up in the middle of a run is null, or not there, in rows that were answered before; docs/recipes.md shows how
    Parquet parts that differ so are read with all their fields.

    OpenAI does not say how many texts a request may have: 32 go together unless `max_batch_size` says otherwise; with
    `images` one row. Rows that are null or empty fail before anything is sent. A row that makes the server refuse a
    request is found by halving.

    Attributes:
      input: the column to judge: text.
      images: a column with an image for each row, or a list of them: bytes (PNG, JPEG, GIF, WebP) or URLs. For omni
        models, which take one. The text is judged with it: it may then be null, and the column `text` need not be there.
      output: the name of the column `flagged`; or names for any of the columns added, by their own.
      max_batch_size: rows of one request at most.
    """

    path: ClassVar[str] = "/moderations"
    row_fields: ClassVar[frozenset[str]] = frozenset({"input"})
    most_rows: ClassVar[int] = 2048

    input: str = _COLUMN
    images: str | None = None
    output: str | dict[str, str] = "flagged"
    max_batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.images is not None and self.images == self.input:
            raise ValueError(
                f"images={self.images!r} is the column of the texts, too: name the one that holds the images"
            )

    @property
    def inputs(self) -> list[str]:
        own = [] if self.optional_inputs else [self.input]
        return [*own, self.images] if self.images else own

    @property
    def optional_inputs(self) -> list[str]:
        # A name of the user's own is of a column that is there, and so is one that an option is taken from.
        is_there = self.input != _COLUMN or _COLUMN in self.columns_of_options.values()
        return [self.input] if self.images and not is_there else []

    @property
    def added(self) -> list[pa.Field]:
        structs = [pa.field(name, _struct(kind, CATEGORIES)) for name, kind in _TYPES.items()]
        is_old = isinstance(self.model, str) and self.model.startswith("text-moderation")
        return [pa.field("flagged", pa.bool_()), *(structs[:-1] if is_old else structs)]

    @property
    def is_text(self) -> bool:
        return not self.images

    @property
    def batch_size(self) -> int:
        return 1 if self.images else self.max_batch_size or _USUAL_ROWS

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        if not self.images:
            return texts.unusable(rows[self.input], self.input)
        found = media.unusable_images(rows[self.images], self.images)
        empty = np.ones(rows.num_rows, dtype=bool)
        if self.input in rows.column_names:
            found.update(texts.unusable(rows[self.input], self.input, empty=True, null=True))
            if texts.is_text(as_plain(rows[self.input]).type):
                empty = byte_lengths(rows[self.input]) == 0
        nothing = empty & (media.how_many(rows[self.images]) == 0)
        return {**dict.fromkeys(np.flatnonzero(nothing).tolist(), f"{self.input} and {self.images} are empty"), **found}

    def prepared(self, rows: pa.Table) -> pa.Table:
        columns = {"input": self.input, "images": self.images}
        return pa.table({name: rows[own] for name, own in columns.items() if own in rows.column_names})

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return count(rows["input"]) if "input" in rows.column_names else np.zeros(rows.num_rows, dtype=np.int64)

    def request(self, rows: pa.Table) -> Request:
        given = rows["input"].to_pylist() if "input" in rows.column_names else [None]
        if self.images:
            given = _parts(given[0], media.several(rows["images"][0].as_py()))
        return Request(self.path, {**self.options(rows), "input": given})

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        answer = answers.decode(response.body, _decoder, self.path)
        results = answers.in_order(answer.results, [None] * len(answer.results), rows.num_rows, self.path)
        columns = [pa.array([result.flagged for result in results], pa.bool_())]
        for field in self.added[1:]:
            said = [getattr(result, field.name) for result in results]
            kind, decoder = _TYPES[field.name], _decoders.get(field.name)
            columns.append(_by_writing(said, kind, decoder) if decoder else _by_category(said, kind))
        usage: Any = answers.usage_of(answer.usage)
        return Answer(columns, **usage)


class _Result(msgspec.Struct, gc=False):
    flagged: bool
    categories: msgspec.Raw
    category_scores: dict[str, float | None]
    category_applied_input_types: msgspec.Raw = msgspec.Raw(b"null")


class _Moderation(msgspec.Struct):
    results: list[_Result]
    usage: Any = None


_decoder = msgspec.json.Decoder(_Moderation)
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "categories": msgspec.json.Decoder(dict[str, bool | None]),
    "category_applied_input_types": msgspec.json.Decoder(dict[str, list[str] | None] | None),
}


def _by_writing(said: Sequence[msgspec.Raw], kind: pa.DataType, decoder: msgspec.json.Decoder[Any]) -> pa.Array:
    """The same of what is written alike in most rows: each writing is read once, which takes a third of the time."""
    numbers: dict[bytes, int] = {}
    positions = [numbers.setdefault(bytes(one), len(numbers)) for one in said]
    read = [answers.decode(one, decoder, Moderations.path) for one in numbers]
    return _by_category(read, kind).take(pa.array(positions, pa.int32()))


def _by_category(said: Sequence[dict[str, Any] | None], kind: pa.DataType) -> pa.Array:
    """Values by category as structs, those categories that are not known behind those that are."""
    others = sorted({name for one in said if one for name in one} - set(CATEGORIES))
    return pa.array(said, _struct(kind, [*CATEGORIES, *others]))


def _struct(kind: pa.DataType, categories: Sequence[str]) -> pa.StructType:
    return pa.struct([(category, kind) for category in categories])


def _parts(text: str | None, images: list[bytes | str]) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
    return [*parts, *({"type": "image_url", "image_url": {"url": media.image_url(image)}} for image in images)]
