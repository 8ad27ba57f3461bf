"""The models that a server has, and what each can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .replies import Refusal

KINDS = (
    "embedding",
    "chat",
    "completion",
    "edit",
    "moderation",
    "image",
    "transcription",
    "translation",
    "speech",
    "search",
)
"""What a model may be able to do. `search` is what answers and classifications rest on too."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """One model: `kinds` of work it does; `dimensions`, the length of an embedding model's vectors.

    `base` is what a fine-tuned model was made from.
    """

    name: str
    kinds: frozenset[str]
    dimensions: int = 0
    owned_by: str = "system"
    created: int = 1_705_948_997
    base: str | None = None


def _known() -> Iterator[Model]:
    for name, dimensions in (
        ("text-embedding-ada-002", 1536),
        ("text-embedding-3-small", 1536),
        ("text-embedding-3-large", 3072),
    ):
        owner = "openai-internal" if name == "text-embedding-ada-002" else "system"
        yield Model(name=name, kinds=frozenset({"embedding"}), dimensions=dimensions, owned_by=owner)
    for names, kinds in (
        ("gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-5 gpt-5-mini o3 o4-mini gpt-4 gpt-3.5-turbo", "chat"),
        ("gpt-3.5-turbo-instruct davinci-002 babbage-002 text-davinci-003 text-davinci-002", "completion"),
        ("ada babbage curie davinci", "completion search"),
        ("text-davinci-edit-001 code-davinci-edit-001", "edit"),
        ("omni-moderation-latest text-moderation-latest text-moderation-stable", "moderation"),
        ("dall-e-2 dall-e-3 gpt-image-1 gpt-image-1-mini", "image"),
        ("whisper-1", "transcription translation"),
        ("gpt-4o-transcribe gpt-4o-mini-transcribe gpt-4o-transcribe-diarize", "transcription"),
        ("tts-1 tts-1-hd gpt-4o-mini-tts", "speech"),
    ):
        for name in names.split():
            yield Model(name=name, kinds=frozenset(kinds.split()))


class Models:
    """All models by their names, those of the user's options included.

    Args:
        more: name -> an embedding model's dimensions, or kinds of work, `chat+completion`.
    """

    def __init__(self, more: Mapping[str, int | str]) -> None:
        self._by_name = {model.name: model for model in _known()}
        for name, what in more.items():
            if isinstance(what, int):
                self.add(Model(name=name, kinds=frozenset({"embedding"}), dimensions=what))
            else:
                self.add(Model(name=name, kinds=frozenset(what.split("+"))))

    def __iter__(self) -> Iterator[Model]:
        return iter(self._by_name.values())

    def find(self, name: str) -> Model:
        """The model of that name.

        Raises:
            Refusal: 404, there is none.
        """
        if name not in self._by_name:
            raise unknown_model(name)
        return self._by_name[name]

    def add(self, model: Model) -> None:
        """From now on it is there."""
        self._by_name[model.name] = model

    def remove(self, name: str) -> None:
        """From now on it is not there."""
        self._by_name.pop(name, None)

    def serving(self, name: object, kind: str) -> Model:
        """The model of a request's `model`, which must be able to do the work of `kind`.

        Raises:
            Refusal: 400 without a name, 404 for one that is not there, or that does other work.
        """
        if name is None or name == "":
            raise Refusal(400, "you must provide a model parameter")
        if not isinstance(name, str):
            raise Refusal(400, f"{name!r} is not of type 'string' - 'model'", param="model")
        model = self.find(name)
        if kind not in model.kinds:
            raise Refusal(404, _wrong_kind(model, kind), param="model")
        return model


def unknown_model(model: str) -> Refusal:
    """The 404 for a model that is not there."""
    return Refusal(
        404,
        f"The model `{model}` does not exist or you do not have access to it.",
        code="model_not_found",
    )


def _wrong_kind(model: Model, kind: str) -> str:
    if kind == "chat" and "completion" in model.kinds:
        return (
            "This is not a chat model and thus not supported in the v1/chat/completions endpoint. "
            "Did you mean to use v1/completions?"
        )
    if kind == "completion" and "chat" in model.kinds:
        return (
            "This is a chat model and not supported in the v1/completions endpoint. "
            "Did you mean to use v1/chat/completions?"
        )
    return f"The model `{model.name}` does not support this operation."
