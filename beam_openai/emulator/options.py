"""What an emulator can be told: one dataclass, and the same as command line flags.

Imports nothing heavy: a command line's `--help` must not pay for aiohttp or numpy.
"""

from __future__ import annotations

import argparse
import dataclasses
from dataclasses import dataclass
from typing import Any

from .faults import KINDS, parse
from .models import KINDS as MODEL_KINDS

CHANGEABLE = (
    "rpm",
    "tpm",
    "ipm",
    "audio_mbpm",
    "tenant_share",
    "ratelimit_headers",
    "retry_after",
    "slots",
    "queue",
    "latency",
    "latency_per_token",
)
"""What may be changed while a server runs."""

_ABOVE_0 = (
    "rpm",
    "tpm",
    "ipm",
    "audio_mbpm",
    "bucket_seconds",
    "quantum_seconds",
    "slow_factor",
    "bytes_per_token",
    "batch_seconds",
)
_NOT_NEGATIVE = (
    "header_lag",
    "queue",
    "latency",
    "latency_per_token",
    "stall_seconds",
    "drip_seconds",
    "drop_stream_after",
    "keep_requests",
    "keep_decisions",
)
_AT_LEAST_1 = ("slots", "max_inputs", "max_tokens_per_input", "max_tokens_per_request", "max_body_bytes")
_SHARES = ("tenant_share", "slow_share")


def _flag(default: Any, help: str, **arguments: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, **arguments})


@dataclass(frozen=True, kw_only=True)
class Options:
    """How one emulator behaves. Every field is a flag with dashes: `slow_share`, `--slow-share`.

    Raises:
        ValueError: when a value can never work; the value is in the message.
    """

    host: str = _flag("127.0.0.1", "address to listen on")
    port: int = _flag(0, "port to listen on; 0 takes a free one", type=int)
    key: str | None = _flag(None, "the only API key that is accepted (default: any, or none)")
    rpm: float | None = _flag(None, "requests per minute and model (default: no limit)", type=float)
    tpm: float | None = _flag(None, "tokens per minute and model (default: no limit)", type=float)
    ipm: float | None = _flag(None, "images per minute and model, drawn at /images (default: no limit)", type=float)
    audio_mbpm: float | None = _flag(
        None, "megabytes (of 1,000,000 bytes) of recordings per minute and model (default: no limit)", type=float
    )
    bucket_seconds: float = _flag(
        60.0,
        "seconds of quota that a bucket holds: 60 as documented, 1 to forbid bursts",
        type=float,
    )
    quantum_seconds: float | None = _flag(
        None,
        "also admit no more in each period of so many seconds than its share of the minute, of which no header tells: "
        "with 1, 60000 a minute are 1000 in each second of the clock (default: by the minute only)",
        type=float,
    )
    tenant_share: float = _flag(0.0, "share of all limits that another tenant uses up evenly, 0 to 1", type=float)
    ratelimit_headers: str = _flag(
        "all",
        "which x-ratelimit headers are sent: of requests and tokens, of one of them, none; `full`: always as if "
        "nothing had been used",
        choices=("all", "requests", "tokens", "none", "full"),
    )
    header_lag: float = _flag(0.0, "x-ratelimit headers tell how it was so many seconds ago", type=float)
    retry_after: str = _flag(
        "both",
        "where a 429 for a limit says how long to wait: in the header retry-after, in its message (`Please try again "
        "in 20s`), in both, or nowhere",
        choices=("both", "header", "message", "none"),
    )
    retry_after_ms: bool = _flag(False, "send retry-after-ms beside retry-after on a 429")
    slots: int | None = _flag(
        None,
        "requests to models that are served at a time, as by a server of one's own; others wait in order, and "
        "their latency begins when they are served (default: any number)",
        type=int,
    )
    queue: int | None = _flag(
        None,
        "requests that may wait for a slot; more are refused, with no x-ratelimit headers (default: any)",
        type=int,
    )
    queue_status: int = _flag(429, "what those are refused with", type=int, choices=(429, 503))
    latency: float = _flag(0.0, "seconds from a request's arrival to its answer", type=float)
    latency_per_token: float = _flag(0.0, "seconds more for each token that is used", type=float)
    slow_share: float = _flag(0.0, "share of answers that are slower, 0 to 1", type=float)
    slow_factor: float = _flag(5.0, "how many times slower those are", type=float)
    faults: str = _flag("", "KIND=PROBABILITY,... per request; the kinds are listed below")
    stall_seconds: float = _flag(30.0, "how long the fault `stall` holds an answer", type=float)
    drip_seconds: float = _flag(2.0, "how long the fault `slow_body` takes for a body", type=float)
    seed: int = _flag(0, "of faults, slow answers and request ids", type=int)
    models: str = _flag("", "more models, as NAME:DIMENSIONS,... for embeddings and NAME:KIND+KIND,... for other work")
    max_inputs: int = _flag(2048, "inputs in one request for embeddings or moderations", type=int)
    max_tokens_per_input: int = _flag(8192, "tokens of one input", type=int)
    max_tokens_per_request: int = _flag(300_000, "tokens of all inputs of a request", type=int)
    max_body_bytes: int = _flag(26_214_400, "bytes of a request's body", type=int)
    bytes_per_token: float = _flag(4.0, "a text is max(1, ceil(utf8 bytes / this)) tokens", type=float)
    style: str = _flag("openai", "whose error bodies and statuses", choices=("openai", "vllm", "tei"))
    no_dimensions: bool = _flag(False, "refuse `dimensions`, as servers without matryoshka do")
    no_encoding_format: bool = _flag(False, "refuse `encoding_format`, as some servers do")
    ignore_encoding_format: bool = _flag(False, "answer float lists whatever is asked for")
    only_max_tokens: bool = _flag(False, "refuse `max_completion_tokens`, as older servers do")
    stream_style: str = _flag(
        "awkward",
        "`awkward`: server-sent events in pieces that end anywhere, with comments and CRLF; `plain`: one by one",
        choices=("awkward", "plain"),
    )
    vectors: str = _flag(
        "features",
        "`features`: hashed words and trigrams, so that neighbours make lexical sense; "
        "`cheap`: from a hash of the text, for benchmarks",
        choices=("features", "cheap"),
    )
    more_categories: str = _flag("", "further categories of moderations, NAME,...: each is flagged by its own name")
    drop_stream_after: int = _flag(
        0, "events after which a stream of a fine-tune's events is cut, again and again (0: never)", type=int
    )
    batch_seconds: float = _flag(60.0, "how long the requests of a batch take, by the server's clock", type=float)
    batch_queue_tokens: int | None = _flag(
        None, "input tokens that the unfinished batches of a model may have (default: no limit)", type=int
    )
    keep_requests: int = _flag(200, "recent requests to remember", type=int)
    keep_decisions: int = _flag(
        100_000, "admitted and refused requests to remember: when each was, and what it cost", type=int
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata.get("choices")
            if choices and value not in choices:
                raise ValueError(f"{field.name} must be one of {', '.join(map(str, choices))}, not {value!r}")
            if value is None:
                continue
            if field.name in _ABOVE_0 and not value > 0:
                raise ValueError(f"{field.name} must be above 0, not {value}")
            if field.name in _NOT_NEGATIVE and not value >= 0:
                raise ValueError(f"{field.name} must not be negative: {value}")
            if field.name in _AT_LEAST_1 and value < 1:
                raise ValueError(f"{field.name} must be 1 or more, not {value}")
            if field.name in _SHARES and not 0 <= value <= 1:
                raise ValueError(f"{field.name} must be from 0 to 1, not {value}")
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port must be from 0 to 65535, not {self.port}")
        if self.queue is not None and self.slots is None:
            raise ValueError(f"queue ({self.queue}) is for those who wait for a slot: say how many slots there are")
        if self.retry_after_ms and self.retry_after in ("message", "none"):
            raise ValueError(f"retry_after_ms is a header, and with retry_after={self.retry_after!r} there is none")
        parse(self.faults)
        self.models_by_name()

    def models_by_name(self) -> dict[str, int | str]:
        """The models of `models`: name -> length of a vector, or kinds of work with + between."""
        pairs = [pair.strip() for pair in self.models.split(",") if pair.strip()]
        found: dict[str, int | str] = {}
        for pair in pairs:
            name, _, what = pair.rpartition(":")
            if name and what.isdigit() and int(what) > 0:
                found[name] = int(what)
            elif name and set(what.split("+")) <= set(MODEL_KINDS):
                found[name] = what
            else:
                raise ValueError(f"models takes NAME:DIMENSIONS or NAME:KIND,..., not {pair!r}")
        return found

    def category_names(self) -> list[str]:
        """The categories of `more_categories`."""
        return [name.strip() for name in self.more_categories.split(",") if name.strip()]

    def arguments(self) -> list[str]:
        """The command line that says the same."""
        line = []
        for field in dataclasses.fields(self):
            value, flag = getattr(self, field.name), "--" + field.name.replace("_", "-")
            if value is True:
                line.append(flag)
            elif value != field.default or field.name == "port":
                line.append(f"{flag}={value}")
        return line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the emulator's flags to `parser`. Here the port defaults to 8080."""
    for field in dataclasses.fields(Options):
        settings = dict(field.metadata, default=field.default)
        if isinstance(field.default, bool):
            settings["action"] = "store_true"
        elif field.default not in (None, ""):
            settings["help"] += " (default: %(default)s)"
        parser.add_argument("--" + field.name.replace("_", "-"), **settings)
    parser.add_argument("--until-stdin-closes", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(port=8080)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "faults:\n" + "\n".join(f"  {kind:18} {what}" for kind, what in KINDS.items())


def from_arguments(args: argparse.Namespace) -> Options:
    """The options that `add_arguments` had parsed; other attributes of `args` are left alone."""
    return Options(**{field.name: getattr(args, field.name) for field in dataclasses.fields(Options)})
