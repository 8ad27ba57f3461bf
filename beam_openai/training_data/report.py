"""What is to be said of all examples together. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from beam_openai import prices
from beam_openai.training_data import limits

_FEW = 50
_LONGEST_ENDING = 64
_SEPARATOR = r"\n\n###\n\n"


class Example(NamedTuple):
    """One that keeps to the rules: its form, its line in a file, and how many tokens it has."""

    form: str
    line: bytes
    tokens: int


class Tally:
    """Counts examples, and looks for what OpenAI recommends rather than asks for."""

    def __init__(self) -> None:
        self.forms: Counter[str] = Counter()
        self.tokens = 0
        self.longest = 0
        self.duplicates = 0
        self._seen: set[bytes] = set()
        self._endings: dict[str, str] = {}
        self._spaceless = 0

    @property
    def examples(self) -> int:
        return self.forms.total()

    def add(self, example: Example) -> None:
        self.forms[example.form] += 1
        self.tokens += example.tokens
        self.longest = max(self.longest, example.tokens)
        digest = hashlib.blake2b(example.line, digest_size=8).digest()
        self.duplicates += digest in self._seen
        self._seen.add(digest)
        if example.form == "completion":
            self._look_at(msgspec.json.decode(example.line))

    def _look_at(self, pair: Mapping[str, str]) -> None:
        self._spaceless += not pair["completion"][0].isspace()
        for name, text in pair.items():
            self._endings[name] = _common_ending(self._endings.get(name, text[-_LONGEST_ENDING:]), text)

    def warnings(self) -> list[str]:
        """What might make the training better; each begins with a name."""
        found = []
        if self.examples < _FEW:
            found.append(f"few_examples: {self.examples}, where OpenAI sees an effect from {_FEW} to 100 on")
        if self.duplicates:
            found.append(f"duplicates: {self.duplicates} examples are there already")
        if self._endings and self.examples > 1:
            found += self._of_pairs()
        return found

    def _of_pairs(self) -> list[str]:
        found = []
        if not self._endings["prompt"]:
            found.append(f"separator: the prompts have no ending in common: end each with one, such as {_SEPARATOR}")
        if not self._endings["completion"]:
            found.append(
                "stop: the completions have no ending in common: end each with one, so that it can be a stop sequence"
            )
        if self._spaceless:
            found.append(f"leading_space: {self._spaceless} completions do not begin with a space or a line's end")
        return found


def _common_ending(one: str, other: str) -> str:
    while not other.endswith(one):
        one = one[1:]
    return one


class Report(msgspec.Struct):
    """What was written: the paths, and the tally of it."""

    files: list[str] = msgspec.field(default_factory=list)
    forms: dict[str, int] = msgspec.field(default_factory=dict)
    tokens: int = 0
    longest: int = 0
    duplicates: int = 0
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def examples(self) -> int:
        return sum(self.forms.values())

    def check(self, least: int) -> None:
        """Refuses what no job could be made with.

        Raises:
          ValueError: there are too few examples, or of more than one form.
        """
        if self.examples < least:
            raise ValueError(
                f"{self.examples} examples keep to the rules, where fine-tuning needs {least}: nothing was written. "
                "The rows that failed say why"
            )
        if len(self.forms) > 1:
            counts = " and ".join(f"{number} of {form}" for form, number in sorted(self.forms.items()))
            raise ValueError(
                f"the rows are examples of two forms, {counts}: one file takes one form. Nothing was written"
            )

    def summary(
        self, model: str, epochs: int | None, failed: int, list_of_prices: Mapping[str, prices.Price]
    ) -> dict[str, Any]:
        """The numbers, by name; dollars as Decimal, None where there is no price."""
        times = epochs or limits.epochs(model, self.examples)
        form = next(iter(self.forms), None)
        unfit = form is not None and not limits.takes(model, form)
        price: Decimal | None = prices.training_cost(model, times * self.tokens, list_of_prices)
        return {
            "files": self.files,
            "form": form,
            "examples": self.examples,
            "failed": failed,
            "duplicates": self.duplicates,
            "tokens": self.tokens,
            "longest": self.longest,
            "epochs": times,
            "training_tokens": times * self.tokens,
            "price": price,
            "warnings": [
                *([f"form: a job for {model} does not take examples of {form}"] if unfit else []),
                *self.warnings,
            ],
        }
