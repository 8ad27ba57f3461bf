"""What the server answers: a file for each group of operations, with a function `routes(state)`."""

from __future__ import annotations

from . import (
    answers,
    audio,
    batches,
    chat,
    classifications,
    completions,
    edits,
    embeddings,
    engines,
    files,
    fine_tunes,
    fine_tuning,
    images,
    models,
    moderations,
    responses,
    search,
    speech,
    uploads,
)

OPERATIONS = (
    answers,
    audio,
    batches,
    chat,
    classifications,
    completions,
    edits,
    embeddings,
    engines,
    files,
    fine_tunes,
    fine_tuning,
    images,
    models,
    moderations,
    responses,
    search,
    speech,
    uploads,
)
