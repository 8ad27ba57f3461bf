"""`beam-openai fine-tunes`, `fine-tuning` and `batches`: what is begun now and ends later."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import Any

from beam_openai.cli import flags, showing
from beam_openai.cli.verbs import Verbs, file
from beam_openai.client import LocalFile
from beam_openai.manage import Object, Server, batches, files, fine_tunes, fine_tuning

_EVENT = ("created_at", "level", "message")


def add_fine_tunes(verbs: Verbs) -> None:
    create = verbs.add("create", "begin a fine-tune", _create_fine_tune, options=_FineTuneOptions)
    create.add_argument(
        "file", nargs="?", metavar="FILE", type=file, help="to train on: its id, or a local path, which is uploaded"
    )
    create.add_argument("--training-file", metavar="FILE", type=file, help="the same")
    columns = ("id", "status", "model", "fine_tuned_model", "created_at")
    verbs.add("list", "list all fine-tunes", lambda server, given: fine_tunes.list(server), columns)
    verbs.of(
        "fine-tune",
        ("get", "show a fine-tune", lambda server, given: fine_tunes.get(server, given.id)),
        ("cancel", "cancel a fine-tune", lambda server, given: fine_tunes.cancel(server, given.id)),
    )
    _add_events(verbs, "fine-tune", fine_tunes)


def add_fine_tuning(verbs: Verbs) -> None:
    create = verbs.add("create", "begin a fine-tuning job", _create_job, options=_JobOptions)
    create.add_argument(
        "file", metavar="FILE", type=file, help="to train on: its id, or a local path, which is uploaded"
    )
    columns = ("id", "status", "model", "fine_tuned_model", "created_at")
    verbs.add("list", "list all jobs", lambda server, given: fine_tuning.list(server), columns)
    verbs.of(
        "job",
        ("get", "show a job", lambda server, given: fine_tuning.get(server, given.id)),
        ("cancel", "cancel a job", lambda server, given: fine_tuning.cancel(server, given.id)),
        ("pause", "pause a job", lambda server, given: fine_tuning.pause(server, given.id)),
        ("resume", "go on with a job that is paused", lambda server, given: fine_tuning.resume(server, given.id)),
    )
    _add_events(verbs, "job", fine_tuning)
    checkpoints = verbs.add(
        "checkpoints",
        "list the models that a job made on its way",
        lambda server, given: fine_tuning.checkpoints(server, given.id),
        ("id", "step_number", "fine_tuned_model_checkpoint", "created_at"),
    )
    checkpoints.add_argument("id", metavar="ID", help="of the job")


def add_batches(verbs: Verbs) -> None:
    create = verbs.add("create", "begin a batch", _create_batch, options=_BatchOptions)
    create.add_argument(
        "file", metavar="FILE", type=file, help="the requests: its id, or a local path, which is uploaded"
    )
    columns = ("id", "status", "endpoint", "request_counts", "created_at", "output_file_id")
    verbs.add("list", "list all batches", lambda server, given: batches.list(server), columns)
    verbs.of(
        "batch",
        ("get", "show a batch", lambda server, given: batches.get(server, given.id)),
        ("cancel", "cancel a batch", lambda server, given: batches.cancel(server, given.id)),
    )


def _add_events(verbs: Verbs, what: str, family: Any) -> None:
    events = verbs.add("events", f"list what has happened to a {what}", _events, _EVENT, lines=True)
    events.add_argument("id", metavar="ID", help=f"of the {what}")
    events.add_argument(
        "--follow", action="store_true", help="and what happens until it has ended: 0 if it succeeded, else 1"
    )
    events.set_defaults(family=family)


def _events(server: Server, given: argparse.Namespace) -> Any:
    if not given.follow:
        return given.family.events(server, given.id)
    showing.show_lines(given.family.follow(server, given.id), _EVENT, showing.is_json(given.json))
    job = given.family.get(server, given.id)
    if job.get("status") == "succeeded":
        return 0
    why = job.get("error") or {}
    words = f": {why.get('message')} [{why.get('code')}]" if why.get("message") else ""
    print(f"{given.program}: {given.id} is {job.get('status')}{words}", file=sys.stderr)
    return 1


@dataclasses.dataclass(kw_only=True)
class _FineTuneOptions:
    """Options of the request.

    Attributes:
      validation_file: to validate on: its id, or a local path
      model: what is tuned: ada, babbage, curie, davinci, or a fine-tuned model (the server's default: curie)
      n_epochs: how often the training file is gone through
      batch_size: examples in one step
      learning_rate_multiplier: times the learning rate of the model's own training
      prompt_loss_weight: how much the prompt's tokens count
      compute_classification_metrics: compute accuracy and F-1 on the validation file
      classification_n_classes: how many classes there are
      classification_positive_class: of two classes, the one that F-beta is of
      classification_betas: of the F-beta scores
      suffix: up to 40 characters of the new model's name
      params: whatever else the server knows
    """

    validation_file: str | None = None
    model: str | None = None
    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None
    prompt_loss_weight: float | None = None
    compute_classification_metrics: bool | None = None
    classification_n_classes: int | None = None
    classification_positive_class: str | None = None
    classification_betas: list[float] | None = None
    suffix: str | None = None
    params: dict[str, Any] | None = None


@dataclasses.dataclass(kw_only=True)
class _JobOptions:
    """Options of the request.

    Attributes:
      model: what is tuned
      validation_file: to validate on: its id, or a local path
      suffix: up to 64 characters of the new model's name
      seed: of what is drawn at random
      method: how: {"type": "supervised", "supervised": {"hyperparameters": {...}}}
      metadata: of your own: up to 16 names and texts
      params: whatever else the server knows
    """

    model: str
    validation_file: str | None = None
    suffix: str | None = None
    seed: int | None = None
    method: dict[str, Any] | None = None
    metadata: dict[str, str] | None = None
    params: dict[str, Any] | None = None


@dataclasses.dataclass(kw_only=True)
class _BatchOptions:
    """Options of the request.

    Attributes:
      endpoint: what each line is a request to: /v1/embeddings, /v1/chat/completions ...
      completion_window: the time that it may take
      metadata: of your own: up to 16 names and texts
      params: whatever else the server knows
    """

    endpoint: str
    completion_window: str = "24h"
    metadata: dict[str, str] | None = None
    params: dict[str, Any] | None = None


_NAMED_OTHERWISE = {"api", "training_file", "input_file", "input_file_id", "on_progress"}


def _options(given: argparse.Namespace) -> dict[str, Any]:
    options = flags.chosen(given, given.option_fields)
    params = options.pop("params", {})
    if twice := sorted(options.keys() & params.keys()):
        raise ValueError(f"--params holds what has a flag of its own that is given too: {', '.join(twice)}")
    if others := sorted(_NAMED_OTHERWISE & params.keys()):
        raise ValueError(
            f"--params cannot hold {', '.join(others)}: the file is named by FILE, the server by its flags"
        )
    return {**options, **params}


def _create_fine_tune(server: Server, given: argparse.Namespace) -> Object:
    if (given.file is None) == (given.training_file is None):
        raise ValueError("name one file to train on: FILE, or --training-file FILE")
    options = _options(given)
    training_file, options = _uploaded(server, given.file or given.training_file, "fine-tune", options)
    return fine_tunes.create(server, training_file, **options)


def _create_job(server: Server, given: argparse.Namespace) -> Object:
    training_file, options = _uploaded(server, given.file, "fine-tune", _options(given))
    return fine_tuning.create(server, training_file, **options)


def _create_batch(server: Server, given: argparse.Namespace) -> Object:
    input_file, options = _uploaded(server, given.file, "batch", {"completion_window": "24h", **_options(given)})
    return batches.create(server, input_file, **options)


def _uploaded(server: Server, file: str, purpose: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The id of the file, and the options with that of the validation file; local ones are uploaded."""
    named = [name for name in (file, options.get("validation_file")) if name is not None]
    local = [name for name in dict.fromkeys(named) if files.is_local(name)]
    for name in local:
        _check(name)  # all, before one is sent
    ids = {**{name: name for name in named}, **{name: _upload(server, name, purpose) for name in local}}
    if "validation_file" in options:
        options = {**options, "validation_file": ids[options["validation_file"]]}
    return ids[file], options


def _check(path: str) -> None:
    try:
        LocalFile(path)
    except OSError as error:
        raise ValueError(str(error)) from error


def _upload(server: Server, path: str, purpose: str) -> str:
    with showing.Transfer(path) as line:
        id = str(files.upload(server, path, purpose, on_progress=line.show)["id"])
    # Said at once: should what follows fail, it need not be sent again.
    print(f"{path} is {id}", file=sys.stderr)
    return id
