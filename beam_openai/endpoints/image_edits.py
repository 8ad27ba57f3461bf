"""POST /images/edits: each row's image, or several, drawn anew to a prompt; one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import pyarrow as pa

from beam_openai import media, texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Form, Request, Response, form_fields
from beam_openai.options import Column, constant, of_each
from beam_openai.pictures import FILE_TYPES, answered, families, uploaded
from beam_openai.tokens import Counts


@dataclasses.dataclass(kw_only=True, eq=False)
class ImageEdits(Endpoint):
    """Adds to each row its image as a prompt changes it: `edited: binary`, the bytes of a PNG (or JPEG, WebP).

    The image is a column of bytes, or of lists of bytes for models that take several (gpt-image: up to 16). Where the rows
    have a column `mask`, its transparent parts say where the (first) image is changed; where it is null there is none.
    Where `n` is set, `edited` is a list of n. Images at URLs are fetched as `Images` does.

    Limits, by OpenAI's API reference: for dall-e-2 one square PNG of fewer than 4 MB, with an alpha channel where there is
    no mask; for gpt-image PNG, WebP or JPEG of fewer than 50 MB each; a mask is a PNG of fewer than 4 MB, as large as the
    image; a prompt has 1,000 characters (gpt-image: 32,000). Rows beyond them fail before anything is sent. Of other models
    nothing is presumed.

    Attributes:
      image: the column with the image's bytes, or a list of several images'.
      mask: the column with the mask's bytes; the default one need not be there. None: not read.
      prompt: what is to be changed, a template over columns.
      output: the name of the column added.
      n: images for each row, 1 to 10.
      size: "1024x1024", say; dall-e-2 draws squares of 256, 512 and 1024.
      quality: "low", "medium", "high" or "auto", gpt-image only.
      response_format: how images travel: "b64_json" or "url". Unset, it is "b64_json" for dall-e-2, and not sent for others;
        gpt-image must not be sent it.
      background: "transparent", "opaque" or "auto", gpt-image only.
      output_format: "png", "jpeg" or "webp", gpt-image only.
      output_compression: 0 to 100, for jpeg and webp.
      input_fidelity: "high" or "low", how closely the image is kept to, gpt-image only.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/images/edits"
    main_input: ClassVar[str] = "image"
    row_fields: ClassVar[frozenset[str]] = frozenset({"image", "mask", "prompt", "stream"})
    takes_files: ClassVar[frozenset[str]] = FILE_TYPES
    gives_files: ClassVar[bool] = True
    advice: ClassVar[dict[str, str]] = {
        "response_format": "This server or model does not know response_format: leave it unset",
    }

    image: str = "image"
    mask: str | None = "mask"
    prompt: str = "{prompt}"
    output: str = "edited"
    n: int | None = option()
    size: str | Column | None = option()
    quality: str | Column | None = option()
    response_format: Literal["url", "b64_json"] | None = option()
    background: str | Column | None = option()
    output_format: str | Column | None = option()
    output_compression: int | Column | None = option()
    input_fidelity: str | Column | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self._prompt = texts.Template(self.prompt)
        family = families.family_of(self.model)
        if family and not family.edits:
            raise ValueError(f"model must be one that edits images, not {self.model!r}")
        families.check_options(self)
        super().__post_init__()
        form_fields(constant(self.options()))

    @property
    def inputs(self) -> list[str]:
        named = [self.mask] if self.mask not in (None, "mask") else []
        return [self.image, *named, *self._prompt.columns]

    @property
    def optional_inputs(self) -> list[str]:
        return ["mask"] if self.mask == "mask" and "mask" not in self.inputs else []

    @property
    def added(self) -> list[pa.Field]:
        return answered.fields("edited", self.n)

    @property
    def is_text(self) -> bool:
        return False

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        models, images = of_each(self.model, rows), rows[self.image]
        return {
            **uploaded.unusable_masks(images, self._masks(rows), (self.image, self.mask or ""), models),
            **uploaded.unusable(images, self.image, models),
            **families.too_long(self._prompt.fill(rows), models),
            **self._prompt.unusable(rows),
        }

    def _masks(self, rows: pa.Table) -> pa.ChunkedArray | None:
        return rows[self.mask] if self.mask in rows.column_names else None

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return count(self._prompt.fill(rows)) + families.IMAGE_TOKENS * media.how_many(rows[self.image])

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        return families.answer_tokens(self, rows)

    def images_made(self, rows: int) -> float:
        return float(rows * (self.n or 1))

    def request(self, rows: pa.Table) -> Request:
        options, masks = self.options(rows), self._masks(rows)
        prompt = self._prompt.fill(rows)[0].as_py()
        fields = form_fields({**families.default_format(options.get("model")), **options, "prompt": prompt})
        files = uploaded.files(rows[self.image][0], None if masks is None else masks[0])
        return Request(self.path, Form(fields, files))

    def links(self, response: Response) -> Sequence[str]:
        return answered.links(response.body, self.path)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        return answered.columns(response, self.added, self.n, self.path)
