"""POST /images/variations: another image like each row's, one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Form, Request, Response, form_fields
from beam_openai.options import Column, constant, of_each
from beam_openai.pictures import FILE_TYPES, answered, families, uploaded
from beam_openai.tokens import Counts


@dataclasses.dataclass(kw_only=True, eq=False)
class ImageVariations(Endpoint):
    """Adds to each row a variation of its image: `variation: binary`, the bytes of a PNG.

    Where `n` is set, `variation` is a list of n. Images at URLs are fetched as `Images` does. Of OpenAI's models only
    dall-e-2 does this, for square PNGs of fewer than 4 MB; rows with others fail before anything is sent.

    Attributes:
      image: the column with the image's bytes.
      output: the name of the column added.
      n: images for each row, 1 to 10.
      size: "256x256", "512x512" or "1024x1024".
      response_format: how images travel: "b64_json" or "url". Unset, it is "b64_json" for dall-e-2, and not sent for others.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/images/variations"
    main_input: ClassVar[str] = "image"
    row_fields: ClassVar[frozenset[str]] = frozenset({"image", "stream"})
    takes_files: ClassVar[frozenset[str]] = FILE_TYPES
    gives_files: ClassVar[bool] = True
    advice: ClassVar[dict[str, str]] = {
        "response_format": "This server or model does not know response_format: leave it unset",
    }

    image: str = "image"
    output: str = "variation"
    n: int | None = option()
    size: str | Column | None = option()
    response_format: Literal["url", "b64_json"] | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        if families.family_of(self.model) not in (None, families.DALL_E_2):
            raise ValueError(f"model must be dall-e-2 or none of OpenAI's, not {self.model!r}")
        families.check_options(self)
        super().__post_init__()
        form_fields(constant(self.options()))

    @property
    def inputs(self) -> list[str]:
        return [self.image]

    @property
    def added(self) -> list[pa.Field]:
        return answered.fields("variation", self.n)

    @property
    def is_text(self) -> bool:
        return False

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        return uploaded.unusable(rows[self.image], self.image, of_each(self.model, rows))

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return np.zeros(rows.num_rows, dtype=np.int64)

    def images_made(self, rows: int) -> float:
        return float(rows * (self.n or 1))

    def request(self, rows: pa.Table) -> Request:
        options = self.options(rows)
        fields = {**families.default_format(options.get("model")), **options}
        return Request(self.path, Form(form_fields(fields), uploaded.files(rows[self.image][0])))

    def links(self, response: Response) -> Sequence[str]:
        return answered.links(response.body, self.path)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        return answered.columns(response, self.added, self.n, self.path)
