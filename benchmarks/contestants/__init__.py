"""The same work done by each contestant: Parquet to Parquet, a vector for each row, a module each with its `run`.

In: `id: int64, text: string`. Out: these, and `embedding`. All ask for vectors in base64.
"""

from __future__ import annotations

import shutil

MODEL = "benchmark"
CHAT_MODEL = "gpt-4o-mini"
DIMENSIONS = 1536
API_ROWS = 2048
RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def clear(target: str) -> None:
    """Removes what an earlier run has written."""
    for folder in (target, f"{target}.failed"):
        shutil.rmtree(folder, ignore_errors=True)
