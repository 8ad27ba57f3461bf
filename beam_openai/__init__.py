"""Apache Beam transforms that call an OpenAI-compatible API for every row of a dataset."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from beam_openai.client import API
    from beam_openai.endpoints.chat_completions import ChatCompletions
    from beam_openai.endpoints.classifications import Classifications
    from beam_openai.endpoints.completions import Completions
    from beam_openai.endpoints.edits import Edits
    from beam_openai.endpoints.embeddings import Embeddings
    from beam_openai.endpoints.image_edits import ImageEdits
    from beam_openai.endpoints.image_variations import ImageVariations
    from beam_openai.endpoints.images import Images
    from beam_openai.endpoints.moderations import Moderations
    from beam_openai.endpoints.question_answers import Answers
    from beam_openai.endpoints.responses import Responses
    from beam_openai.endpoints.search import Search
    from beam_openai.endpoints.speech import Speech
    from beam_openai.endpoints.transcriptions import Transcriptions
    from beam_openai.endpoints.translations import Translations
    from beam_openai.folders import ReadFiles, WriteFiles
    from beam_openai.options import column
    from beam_openai.parquet import ReadTables, WriteTables
    from beam_openai.quota import Quota
    from beam_openai.retry import Retry
    from beam_openai.training_data import FineTuningData

__all__ = [
    "API",
    "Answers",
    "ChatCompletions",
    "Classifications",
    "Completions",
    "Edits",
    "Embeddings",
    "FineTuningData",
    "ImageEdits",
    "ImageVariations",
    "Images",
    "Moderations",
    "Quota",
    "ReadFiles",
    "ReadTables",
    "Responses",
    "Retry",
    "Search",
    "Speech",
    "Transcriptions",
    "Translations",
    "WriteFiles",
    "WriteTables",
    "column",
]

# Looked up when they are first used: Beam takes seconds to import, and `beam-openai --help` needs none of it.
_MODULES = {
    "API": "client",
    "Answers": "endpoints.question_answers",
    "ChatCompletions": "endpoints.chat_completions",
    "Classifications": "endpoints.classifications",
    "Completions": "endpoints.completions",
    "Edits": "endpoints.edits",
    "Embeddings": "endpoints.embeddings",
    "FineTuningData": "training_data",
    "ImageEdits": "endpoints.image_edits",
    "ImageVariations": "endpoints.image_variations",
    "Images": "endpoints.images",
    "Moderations": "endpoints.moderations",
    "Quota": "quota",
    "ReadFiles": "folders",
    "ReadTables": "parquet",
    "Responses": "endpoints.responses",
    "Retry": "retry",
    "Search": "endpoints.search",
    "Speech": "endpoints.speech",
    "Transcriptions": "endpoints.transcriptions",
    "Translations": "endpoints.translations",
    "WriteFiles": "folders",
    "WriteTables": "parquet",
    "column": "options",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
