"""What a process has learned of a server from its answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pyarrow as pa

from beam_openai import errors, structs, tokens

_FAR_OFF = 10


class Learned:
    """What answers taught about a server.

    Attributes:
      count: counts the tokens of texts.
      most_rows, most_tokens, most_bytes: what a request may hold, where the server turned out to take less than its
        documentation says.
      types: of the added columns, as they are declared or as the first answer had them; None until there was one.
      names: other names that turned out to be known in place of some in a request's body.
      answer_tokens: of an answer to a row, lately.
      audio_bytes: of a recording, lately.
      answered: whether any row ever was.
      refused: whether a request ever was, because it was too large.
    """

    def __init__(self, count: tokens.Estimate | tokens.Exact, types: Sequence[pa.DataType | None]) -> None:
        self.count = count
        self.most_rows = float("inf")
        self.most_tokens = float("inf")
        self.most_bytes = float("inf")
        self.types = list(types)
        self.names: dict[str, str] = {}
        self._answers, self._recordings = _Lately(), _Lately()
        self.answered = False
        self.refused = False
        self._lock = threading.Lock()

    def rows(self, most: int) -> int:
        return int(min(most, self.most_rows))

    def settle(self, types: Sequence[pa.DataType]) -> list[pa.DataType]:
        """The types that all answers must have: those declared, else those given, if they are the first.

        Structs may gain fields.
        """
        with self._lock:
            pairs = zip(self.types, types, strict=True)
            self.types = [structs.merged(known, type) if known else type for known, type in pairs]
            return self.types

    @property
    def answer_tokens(self) -> float:
        return self._answers.mean

    @property
    def audio_bytes(self) -> float:
        return self._recordings.mean

    def learn_answers(self, tokens: float) -> None:
        """So many tokens a row had an answer."""
        self._answers.add(tokens)

    def learn_audio(self, size: float) -> None:
        """So many bytes had a recording."""
        self._recordings.add(size)

    def rename(self, name: str, other: str) -> bool:
        """From now on `other` is sent for `name`; False if it was tried before, the other way round."""
        with self._lock:
            if other in self.names:
                return False
            self.names = {**self.names, name: other}
            return True

    def too_large(self, error: errors.RequestTooLargeError, rows: int, tokens: float, size: float) -> None:
        """A request of so many rows, tokens and bytes was more than the server takes."""
        self.refused = True
        if error.counts == "rows":
            self.most_rows = min(self.most_rows, max(1, error.most or rows // 2))
        elif error.counts == "bytes":
            self.most_bytes = min(self.most_bytes, max(1.0, size / 2))
        elif error.most and tokens <= error.most:
            # It was packed to fit: the estimate is what is wrong.
            self.count.raise_to(tokens, error.had or 1.2 * error.most)
        else:
            self.most_tokens = min(self.most_tokens, max(1.0, error.most or tokens / 2))


class _Lately:
    """The mean of the first values, and of later ones lately. Of what is far off, only a part counts.

    Two threads at once may lose one of many: no harm is done.
    """

    def __init__(self) -> None:
        self.mean = 0.0
        self._values = 0

    def add(self, value: float) -> None:
        self._values += 1
        if self._values > 1:
            value = min(value, _FAR_OFF * self.mean + 1000)
        self.mean += (value - self.mean) / min(self._values, 20)
