"""POST /images/generations: images drawn to each row's prompt, one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

import pyarrow as pa

from beam_openai import texts
from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Request, Response
from beam_openai.options import Column, of_each
from beam_openai.pictures import answered, families
from beam_openai.tokens import Counts


@dataclasses.dataclass(kw_only=True, eq=False)
class Images(Endpoint):
    """Adds to each row the image that a model draws: `image: binary`, the bytes of a PNG (or JPEG, WebP).

    Where `n` is set, `image` is a list of n. `revised_prompt: string` is added as well, what dall-e-3 made of the prompt
    (null where a server gives none), unless the model is known to give none (dall-e-2, gpt-image).

    An image that the server gives the URL of is fetched at once, without the key, and again by itself if that fails: the
    request is not repeated, for it was paid for. Where no host of images can be reached at all, the job stops after the
    first; a URL that is dead (they live for 60 minutes) fails its row: kind `bad_answer`, the URL in `error.raw`.

    Limits, by OpenAI's API reference: a prompt of 1,000 characters for dall-e-2, 4,000 for dall-e-3, 32,000 for gpt-image;
    longer ones fail before anything is sent. Of other models nothing is presumed.

    Attributes:
      prompt: what is to be drawn, a template over columns: "A {animal} in a {place}".
      output: the name of the column `image`; or names for any of the columns added, by their own.
      n: images for each row, 1 to 10 (dall-e-3: 1).
      size: "1024x1024", say; dall-e-2 draws squares of 256, 512 and 1024, gpt-image-2 any size within its limits.
      quality: "low", "medium", "high" or "auto" for gpt-image, "standard" or "hd" for dall-e-3.
      style: "vivid" or "natural", dall-e-3 only.
      response_format: how images travel: "b64_json" or "url". Unset, it is "b64_json" for dall-e models, and not sent for
        others; gpt-image must not be sent it.
      background: "transparent", "opaque" or "auto", gpt-image only.
      output_format: "png", "jpeg" or "webp", gpt-image only.
      output_compression: 0 to 100, for jpeg and webp.
      moderation: "low" or "auto", gpt-image only.
      user: an end user's id, passed on for abuse monitoring.
    """

    path: ClassVar[str] = "/images/generations"
    main_input: ClassVar[str] = "prompt"
    row_fields: ClassVar[frozenset[str]] = frozenset({"prompt", "stream"})
    gives_files: ClassVar[bool] = True
    advice: ClassVar[dict[str, str]] = {
        "response_format": "This server or model does not know response_format: leave it unset",
    }

    prompt: str = "{prompt}"
    output: str | dict[str, str] = "image"
    n: int | None = option()
    size: str | Column | None = option()
    quality: str | Column | None = option()
    style: str | Column | None = option()
    response_format: Literal["url", "b64_json"] | None = option()
    background: str | Column | None = option()
    output_format: str | Column | None = option()
    output_compression: int | Column | None = option()
    moderation: str | Column | None = option()
    user: str | Column | None = option()

    def __post_init__(self) -> None:
        self._prompt = texts.Template(self.prompt)
        families.check_options(self)
        super().__post_init__()

    @property
    def inputs(self) -> list[str]:
        return self._prompt.columns

    @property
    def added(self) -> list[pa.Field]:
        is_revised = families.family_of(self.model) in (None, families.DALL_E_3)
        return answered.fields("image", self.n, ["revised_prompt"] if is_revised else [])

    def invalid(self, rows: pa.Table) -> dict[int, str]:
        models = of_each(self.model, rows)
        return {**families.too_long(self._prompt.fill(rows), models), **self._prompt.unusable(rows)}

    def tokens(self, rows: pa.Table, count: Callable[[pa.Array], Counts]) -> Counts:
        return count(self._prompt.fill(rows))

    def answer_tokens(self, rows: pa.Table) -> Counts | float:
        return families.answer_tokens(self, rows)

    def images_made(self, rows: int) -> float:
        return float(rows * (self.n or 1))

    def request(self, rows: pa.Table) -> Request:
        options = self.options(rows)
        prompt = self._prompt.fill(rows)[0].as_py()
        return Request(self.path, {**families.default_format(options.get("model")), **options, "prompt": prompt})

    def links(self, response: Response) -> Sequence[str]:
        return answered.links(response.body, self.path)

    def columns(self, response: Response, rows: pa.Table) -> Answer:
        return answered.columns(response, self.added, self.n, self.path)
