"""What every request says beside its rows: the options of an endpoint, each a value or a column."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


@dataclasses.dataclass(frozen=True)
class Column:
    """A column whose values stand for an option; made by `column`."""

    name: str


def column(name: str) -> Column:
    """An option that has its own value in each row: `model=column("model")`.

    Rows with the same values share a request where an endpoint takes several rows; where the value is null, the option
    is not sent, nor is what is null in a struct. Bytes, NaN and what is not UTF-8 fail their rows before anything is sent,
    and so do fractions for a whole number; 20.0, as pandas has it in a column with gaps, is sent as 20.
    """
    if not isinstance(name, str) or not name:
        raise ValueError(f"column() takes a column's name, not {name!r}")
    return Column(name)


def option(default: Any = None, sent_as: str | None = None) -> Any:
    """A field of an endpoint that is sent in the request's body, if it is set, under its own name or another."""
    return dataclasses.field(default=default, metadata={"sent_as": sent_as} if sent_as else {"wire": True})


def sent(endpoint: Any) -> dict[str, Any]:
    """The options of an endpoint that are set, by their names in the body: values and columns."""
    kind: Any = type(endpoint)
    return {name: value for name, field in _wire(kind).items() if (value := getattr(endpoint, field)) is not None}


@functools.cache
def _wire(kind: type) -> dict[str, str]:
    """The names in the body, and the fields that are sent under them."""
    marked = [field for field in dataclasses.fields(kind) if field.metadata.keys() & {"wire", "sent_as"}]
    return {field.metadata.get("sent_as", field.name): field.name for field in marked}


def whole_numbers(endpoint: Any) -> frozenset[str]:
    """The options of an endpoint that are whole numbers, by their declared types."""
    kind: Any = type(endpoint)
    return _whole(kind)


@functools.cache
def _whole(kind: type) -> frozenset[str]:
    types = {field.name: set(re.findall(r"\w+", str(field.type))) for field in dataclasses.fields(kind)}
    wire = _wire(kind).items()
    return frozenset(name for name, field in wire if "int" in types[field] and not types[field] & {"float", "str"})


def of_row(options: dict[str, Any], rows: pa.Table, whole: Set[str] = frozenset()) -> dict[str, Any]:
    """The options with the values that the first row has for those that are columns.

    Args:
      options: by their names.
      rows: those of a request.
      whole: the options that are whole numbers, and so sent where a column holds them as 20.0.
    """
    if not any(isinstance(value, Column) for value in options.values()):
        return options
    # Not at the top: it brings Arrow with it, which a command line that reads no rows does without.
    from beam_openai import values

    found = dict(options)
    for name, value in options.items():
        if isinstance(value, Column):
            read = values.read(rows[value.name][0])
            found[name] = values.as_whole(read) if name in whole else read
    return {name: value for name, value in found.items() if value is not None}


def number(option: Any, unset: float, rows: pa.Table) -> Any:
    """An option that is a number, or each row's of a column; `unset` where it is not sent, or is no number."""
    if not isinstance(option, Column):
        return float(unset if option is None else option)
    try:
        return rows[option.name].cast("float64").fill_null(unset).to_numpy().clip(min=0.0)
    except (ValueError, NotImplementedError):  # Arrow's errors are such
        return float(unset)


def constant(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are no columns."""
    return {name: value for name, value in options.items() if not isinstance(value, Column)}


def of_each(value: Any, rows: pa.Table) -> list[Any]:
    """The value of an option in each row; None where it cannot be read."""
    from beam_openai import values

    return values.of_column(rows[value.name])[0] if isinstance(value, Column) else [value] * rows.num_rows


def check(name: str, value: Any, least: float, most: float, whole: bool = False) -> None:
    """Refuses a number that can never work; None and columns pass.

    Raises:
      ValueError: it is not from `least` to `most`, or not a whole number where it has to be.
    """
    if value is None or isinstance(value, Column):
        return
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        kind = "a whole number" if whole else "a number"
        bounds = f"{least:g} or more" if most == float("inf") else f"from {least:g} to {most:g}"
        raise ValueError(f"{name} must be {kind} {bounds}, not {value!r}")


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Refuses what is none of the choices; None and columns pass.

    Raises:
      ValueError: it is another value.
    """
    if value is not None and not isinstance(value, Column) and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, not {value!r}")


def check_sampling(endpoint: Any) -> None:
    """Refuses what can never work of the options by which tokens are chosen, as far as an endpoint has them.

    Raises:
      ValueError: one of them is beyond what OpenAI's API reference allows.
    """
    for name, (least, most) in _SAMPLING.items():
        check(name, getattr(endpoint, name, None), least, most)
    for token, bias in (getattr(endpoint, "logit_bias", None) or {}).items():
        check(f"logit_bias[{token}]", bias, -100, 100)
    check_stop(getattr(endpoint, "stop", None))


_SAMPLING = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}


def check_stop(stop: Any) -> None:
    """Refuses what is not a text, up to four of them, or a column.

    Raises:
      ValueError: it can never work.
    """
    if isinstance(stop, (str, Column, type(None))):
        return
    if not isinstance(stop, list) or not 1 <= len(stop) <= 4 or not all(isinstance(text, str) for text in stop):
        raise ValueError(f"stop must be a text, or one to four of them, not {stop!r}")
