"""POST /audio/transcriptions: what is said in each row's recording, one row a request."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal

from beam_openai.call import Endpoint, option
from beam_openai.client import form_fields
from beam_openai.options import Column, check, constant
from beam_openai.recordings import heard
from beam_openai.recordings.recorded import Recorded
from beam_openai.recordings.sent import Recordings


@dataclasses.dataclass(kw_only=True, eq=False)
class Transcriptions(Recorded, Endpoint):
    """Adds to each row what is said in its recording: `transcription: string`.

    The recording is a column of bytes; its file's name, whose ending tells the format, is in the column `name` where there
    is one (where it is null, or there is none, the bytes tell it). Or `paths` names a column of paths, on any filesystem
    that Beam knows: files are read while they are sent, and never held as a whole.

    With `response_format` "text", "srt" or "vtt" the transcription is the answer as it came. With "verbose_json" there is
    added `segments: list<struct<id, seek, start, end, text, tokens, temperature, avg_logprob, compression_ratio,
    no_speech_prob>>`, with timestamp_granularities of "word" `words: list<struct<word, start, end>>`, `language: string`
    and `duration: double`; with "diarized_json" `segments: list<struct<id, start, end, text, speaker>>` and `duration`;
    with include of "logprobs" `logprobs: list<struct<token, logprob, bytes>>`. Times are seconds.

    Limits, by OpenAI's API reference: a file of 26,214,400 bytes whose name ends in flac, m4a, mp3, mp4, mpeg, mpga, oga,
    ogg, wav or webm. Rows beyond them, and paths where no file can be read, fail before anything is sent: kind
    `invalid_input`. A recording that the server refuses costs nothing.

    Attributes:
      audio: the column with the recording's bytes.
      name: the column with its file's name; the default one need not be there. None: not read.
      paths: a column of paths, in place of `audio` and `name`.
      output: the name of the column `transcription`; or names for any of the columns added, by their own.
      response_format: "json", "text", "srt", "verbose_json", "vtt" or "diarized_json"; which of them, the model decides.
      language: of what is said, as ISO 639-1 has it ("en").
      prompt: words to guide the model, a template over columns: "Names: {names}". A column that may be null is
        `column("names")`, and not sent then.
      temperature: 0 to 1.
      timestamp_granularities: ["word"], ["segment"] or both, with "verbose_json".
      include: ["logprobs"], with "json".
      chunking_strategy: "auto", or an object; models that tell speakers apart need it for more than 30 seconds.
    """

    path: ClassVar[str] = "/audio/transcriptions"

    audio: str = "audio"
    name: str | None = "name"
    paths: str | None = None
    output: str | dict[str, str] = "transcription"
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"] | None = option()
    language: str | Column | None = option()
    prompt: str | Column | None = option()
    temperature: float | Column | None = option()
    timestamp_granularities: list[str] | None = option()
    include: list[str] | None = option()
    chunking_strategy: str | dict[str, Any] | None = option()

    def __post_init__(self) -> None:
        self._recordings = Recordings(self.audio, self.name, self.paths, self.prompt)
        heard.check_formats(self.model, self.response_format)
        heard.check_details(self.model, self.response_format, self.timestamp_granularities, self.include)
        self._format = heard.Format(
            "transcription",
            self.response_format,
            words="word" in (self.timestamp_granularities or ()),
            logprobs="logprobs" in (self.include or ()),
        )
        super().__post_init__()
        check("temperature", self.temperature, 0, 1)
        form_fields(constant(self.options()))
