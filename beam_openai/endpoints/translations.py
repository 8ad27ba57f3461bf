"""POST /audio/translations: what is said in each row's recording, in English; one row a request."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

from beam_openai.call import Endpoint, option
from beam_openai.client import form_fields
from beam_openai.options import Column, check, constant
from beam_openai.recordings import heard
from beam_openai.recordings.recorded import Recorded
from beam_openai.recordings.sent import Recordings


@dataclasses.dataclass(kw_only=True, eq=False)
class Translations(Recorded, Endpoint):
    """Adds to each row what is said in its recording, in English: `translation: string`.

    Recordings are read as `Transcriptions` reads them, within the same limits: from a column of bytes, with the names of
    their files in the column `name` where there is one; or from where the column `paths` says they are.

    With `response_format` "text", "srt" or "vtt" the translation is the answer as it came. With "verbose_json" there is
    added `segments: list<struct<id, seek, start, end, text, tokens, temperature, avg_logprob, compression_ratio,
    no_speech_prob>>`, `language: string` and `duration: double`. Times are seconds. Of OpenAI's models only whisper-1 does
    this.

    Attributes:
      audio: the column with the recording's bytes.
      name: the column with its file's name; the default one need not be there. None: not read.
      paths: a column of paths, in place of `audio` and `name`.
      output: the name of the column `translation`; or names for any of the columns added, by their own.
      response_format: "json", "text", "srt", "verbose_json" or "vtt".
      prompt: English words to guide the model, a template over columns: "Names: {names}". A column that may be null is
        `column("names")`, and not sent then.
      temperature: 0 to 1.
    """

    path: ClassVar[str] = "/audio/translations"

    audio: str = "audio"
    name: str | None = "name"
    paths: str | None = None
    output: str | dict[str, str] = "translation"
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] | None = option()
    prompt: str | Column | None = option()
    temperature: float | Column | None = option()

    def __post_init__(self) -> None:
        self._recordings = Recordings(self.audio, self.name, self.paths, self.prompt)
        heard.check_translates(self.model, self.response_format)
        self._format = heard.Format("translation", self.response_format)
        super().__post_init__()
        check("temperature", self.temperature, 0, 1)
        form_fields(constant(self.options()))
