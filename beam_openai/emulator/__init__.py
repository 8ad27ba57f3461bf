"""A strict local server that speaks the OpenAI API, for tests, demonstrations and benchmarks.

`with Emulator(rpm=3000, tpm=1_000_000, latency=0.2) as server:` runs one at `server.base_url`;
`python -m beam_openai.emulator` runs one in the foreground. It checks requests as the real service
does, keeps rate limits, injects faults, and keeps a ledger of what it billed. Its answers are
deterministic; no model is behind them.
"""

from __future__ import annotations

import argparse
import sys

from .options import Options, add_arguments, from_arguments
from .process import Emulator

__all__ = ["Emulator", "Options", "add_arguments", "run", "serve"]


def run(args: argparse.Namespace) -> int:
    """Serves as the flags of `add_arguments` say, until Ctrl-C. Returns the exit status."""
    try:
        serve(from_arguments(args), args.until_stdin_closes)
    except (ValueError, OSError, ImportError) as error:
        print(f"emulator: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    return 0


def serve(options: Options, until_stdin_closes: bool = False) -> None:
    """Serves in this process until SIGINT or SIGTERM; see `foreground.serve`.

    Raises:
        ImportError: the server's library is not installed; the message says what to install.
    """
    try:
        import aiohttp  # noqa: F401
    except ImportError as error:
        message = "it needs aiohttp: pip install beam-openai[emulator]"
        raise ImportError(message) from error
    from . import foreground

    foreground.serve(options, until_stdin_closes)
