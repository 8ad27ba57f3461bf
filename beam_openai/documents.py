"""What a question is asked about: lists of texts, or of pairs of them, the same for all rows or each row's own."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from beam_openai import answers, texts
from beam_openai.options import Column, column
from beam_openai.tokens import Counts

_OVERHEAD = 14


@dataclasses.dataclass(frozen=True)
class Texts:
    """What a list under this name may hold: so many texts, or pairs of texts."""

    name: str
    least: int
    most: int = 200
    pairs: bool = False

    def option(self, given: Any) -> list[Any] | Column | None:
        """A list as it is sent; the column that holds each row's, if a name is given.

        Raises:
          ValueError: a list that can never be sent.
        """
        if given is None or isinstance(given, Column):
            return given
        if isinstance(given, str):
            return column(given)
        if reason := self.wrong(given):
            raise ValueError(f"{self.name} {reason}: {reprlib.repr(given)}")
        return self.sent(given)

    def invalid(self, option: Any, rows: pa.Table) -> dict[int, str]:
        """Rows whose list cannot be sent, and why."""
        found: dict[int, str] = {}
        if isinstance(option, Column):
            for row, value in enumerate(rows[option.name]):
                reason = self.wrong(value.as_py()) if texts.is_whole(value) else "holds text that is not valid UTF-8"
                if reason:
                    found[row] = f"{option.name} {reason}"
        return found

    def sent(self, given: Any) -> list[Any]:
        """The list as JSON has it: a pair may be a struct of two fields, in their order."""
        if not self.pairs:
            return list(given)
        return [list(pair.values()) if isinstance(pair, Mapping) else list(pair) for pair in given]

    def wrong(self, given: Any) -> str | None:
        """Why it cannot be sent; None if it can."""
        what = "pairs of texts" if self.pairs else "texts"
        if given is None:
            return "is null"
        if not isinstance(given, list | tuple):
            return f"is not a list of {what}"
        if not self.least <= len(given) <= self.most:
            return f"has {len(given)} {what}, where {self.least} to {self.most} can be sent"
        at = next((at for at, item in enumerate(given) if not self._is_item(item)), None)
        return None if at is None else f"has at {at} what is not a {'pair of texts' if self.pairs else 'text'}"

    def _is_item(self, item: Any) -> bool:
        if not self.pairs:
            return _is_text(item)
        pair = list(item.values()) if isinstance(item, Mapping) else item
        return isinstance(pair, list | tuple) and len(pair) == 2 and all(_is_text(text) and text for text in pair)


def _is_text(item: Any) -> bool:
    """A text that UTF-8 can write."""
    if not isinstance(item, str):
        return False
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_source(name: str, given: Any, file: Any, params: Mapping[str, Any]) -> Any:
    """`given`; or the column of that name, if there is neither it, nor a file, nor one of them in `params`.

    Raises:
      ValueError: there is more than one of them.
    """
    told = [own for own, value in ((name, given), ("file", file)) if value is not None]
    told += [f"params[{own!r}]" for own in (name, "file") if own in params]
    if len(told) > 1:
        raise ValueError(f"set {name} or file, one of them and once; set are {' and '.join(told)}")
    return given if told else column(name)


def beside(options: Mapping[str, Any]) -> list[str]:
    """What these options ask an answer to hold beside itself: names of columns."""
    asked = options.get("expand")
    names = [name for name in ("completion", "file") if isinstance(asked, list) and name in asked]
    if options.get("logprobs") is not None and "completion" not in names:
        names.insert(0, "completion")
    return [*names, "prompt"] if options.get("return_prompt") else names


def check_expanded(names: Any, params: Mapping[str, Any]) -> None:
    """Refuses what is no list of the objects that the API can show whole.

    Raises:
      ValueError: it is not, or `params` says it, too.
    """
    if names is None:
        return
    if not isinstance(names, list) or not all(name in ("completion", "file") for name in names):
        raise ValueError(f'expanded must be a list of "completion", "file" or both, not {names!r}')
    if "expand" in params:
        raise ValueError("set expanded or params['expand'], one of them")


def invalid_texts(rows: pa.Table, *options: Any) -> dict[int, str]:
    """Rows without a text for one of the options that are columns."""
    found: dict[int, str] = {}
    for option in options:
        if isinstance(option, Column):
            found.update(texts.unusable(rows[option.name], option.name))
    return found


def tokens(rows: pa.Table, count: Callable[[pa.Array], Counts], question: str, *options: Any) -> Counts:
    """What each row counts where the first of the options is looked through for what fits the question.

    By OpenAI's price list of the time that reads the question, and 14 tokens, once for each text in the list and once more.
    """
    asked = count(rows[question])
    total = asked + _OVERHEAD
    for option in options:
        values = rows[option.name] if isinstance(option, Column) else [pa.scalar("".join(_in(option)))]
        joined = ["".join(_in(value.as_py())) if texts.is_whole(value) else "" for value in values]
        total = total + count(pa.array(joined, pa.large_string()))
    return total + _lengths(options[0], rows) * (asked + _OVERHEAD)


def _lengths(option: Any, rows: pa.Table) -> Counts:
    values = [option] * rows.num_rows
    if isinstance(option, Column):
        values = [value.as_py() if texts.is_whole(value) else None for value in rows[option.name]]
    return np.array([len(value) if isinstance(value, list) else 0 for value in values], dtype=np.int64)


def _in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _in(item)


# What an answer says of them.


def place(said: Any) -> int | None:
    """The number of a document, from 0; None where it is none."""
    number = answers.integer(said)
    return number if number is not None and number >= 0 else None


def written(said: Any) -> str | None:
    """What may be of any kind, as text: as it is, or as JSON."""
    return said if said is None or isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def selected(said: Any, kind: pa.ListType) -> pa.Array:
    """What was chosen among them, as a column of one row; null where the answer does not say.

    Args:
      said: the answer's list of objects.
      kind: a list of structs with the field `document`, and others that are texts.
    """
    if not isinstance(said, list) or not all(isinstance(item, Mapping) for item in said):
        return pa.nulls(1, kind)
    names = [field.name for field in kind.value_type]
    read = {"document": place}
    return pa.array([[{name: read.get(name, written)(item.get(name)) for name in names} for item in said]], kind)
