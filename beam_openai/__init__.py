"""Apache Beam transforms that call an OpenAI-compatible API for every row of a dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_openai.client import API
    from beam_openai.endpoints.chat_completions import ChatCompletions
    from beam_openai.endpoints.classifications import Classifications
    from beam_openai.endpoints.embeddings import Embeddings
    from beam_openai.endpoints.question_answers import Answers
    from beam_openai.endpoints.search import Search
    from beam_openai.options import column
    from beam_openai.parquet import ReadTables, WriteTables
    from beam_openai.quota import Quota
    from beam_openai.retry import Retry

__all__ = [
    "API",
    "Answers",
    "ChatCompletions",
    "Classifications",
    "Embeddings",
    "Quota",
    "ReadTables",
    "Retry",
    "Search",
    "WriteTables",
    "column",
]

# Looked up when they are first used: Beam takes seconds to import, and `beam-openai --help` needs none of it.
_MODULES = {
    "API": "client",
    "Answers": "endpoints.question_answers",
    "ChatCompletions": "endpoints.chat_completions",
    "Classifications": "endpoints.classifications",
    "Embeddings": "endpoints.embeddings",
    "Quota": "quota",
    "ReadTables": "parquet",
    "Retry": "retry",
    "Search": "endpoints.search",
    "WriteTables": "parquet",
    "column": "options",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
