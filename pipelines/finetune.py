"""Fine-tunes a model on a dataset, and runs it over another: prepare, upload, train, follow, use.

python -m pipelines.finetune --train 'train/*.jsonl' --input 'questions/*.parquet' --output answered --folder tuning

Rows to train on have `messages`, or `prompt` and `completion` (for models that complete prompts). The file that is uploaded
is written to `tuning`, rows that cannot be trained on to `tuning.failed`; `tuning/summary.json` says how much it is.
With --prepare that is all. Otherwise the job is followed until it has ended, and its model answers the prompt of each row.
Rows of a form that the model is not trained on, as its name tells, are not uploaded unless --any-form says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import apache_beam as beam

from beam_openai import ChatCompletions, Completions, FineTuningData, ReadTables, WriteTables
from beam_openai.manage import Server, files, fine_tuning
from beam_openai.prices import Price
from pipelines import starting


def main(arguments: Sequence[str] | None = None) -> int:
    parser = starting.parser(__doc__, "gpt-4.1-mini-2025-04-14")
    parser.add_argument("--train", required=True, help="files of rows to train on")
    parser.add_argument("--folder", required=True, type=starting.folder, help="a local folder for what is uploaded")
    parser.add_argument("--epochs", type=int, help="how often each row is trained on (default: the server chooses)")
    parser.add_argument("--suffix", help="a word for the new model's name")
    parser.add_argument("--prompt", default="{prompt}", help="for the new model, a template (default: %(default)s)")
    parser.add_argument(
        "--price-per-million-tokens",
        type=dollars,
        metavar="DOLLARS",
        help="what training costs, for the summary's price (default: not known, there is none)",
    )
    parser.add_argument(
        "--any-form", action="store_true", help="upload rows of a form that the model does not take, too"
    )
    parser.add_argument("--prepare", action="store_true", help="write the file, and no more")
    parser.add_argument(
        "--poll", type=float, default=15.0, help="seconds between looks at the job (default: %(default)s)"
    )
    chosen, beams = starting.parse(parser, arguments)
    if not chosen.prepare:
        # Built once before anything is paid for: what is wrong with it should not be said when the model is trained.
        answer(starting.pipeline(beams), chosen.model, "chat", chosen)
    summary = prepare(chosen, beams)
    if chosen.prepare:
        return 0
    check_form(summary, chosen)
    with starting.begun():
        model = train(summary["files"], chosen)
        if model is None:
            return 1
        with starting.pipeline(beams) as p:
            answer(p, model, summary["form"], chosen)
    return 0


def dollars(text: str) -> Decimal:
    try:
        price = Decimal(text)
    except InvalidOperation:
        price = Decimal(-1)
    if not (price.is_finite() and price >= 0):
        raise argparse.ArgumentTypeError(f"not a price in dollars: {text!r}")
    return price


def check_form(summary: dict[str, Any], chosen: argparse.Namespace) -> None:
    """Refuses rows that would be uploaded for a job that cannot be."""
    for warning in summary["warnings"]:
        name, _, reason = warning.partition(": ")
        if name == "form" and not chosen.any_form:
            raise ValueError(f"{reason}: nothing was uploaded (--any-form uploads it all the same)")


def prepare(chosen: argparse.Namespace, beams: Sequence[str]) -> dict[str, Any]:
    """Checks the rows and writes the file; returns what there is to say of it."""
    price, options = chosen.price_per_million_tokens, {"epochs": chosen.epochs, "overwrite": chosen.overwrite}
    if price is not None:
        options["prices"] = {chosen.model: Price(training=price)}
    with starting.pipeline(beams) as p:
        data = p | ReadTables(chosen.train) | FineTuningData(chosen.folder, model=chosen.model, **options)
        data.failed | "WriteFailed" >> WriteTables(f"{chosen.folder}.failed", overwrite=chosen.overwrite)
        data.summary | "WriteSummary" >> beam.Map(write_summary, f"{chosen.folder}/summary.json")
    with open(f"{chosen.folder}/summary.json", encoding="utf-8") as written:
        summary: dict[str, Any] = json.load(written)
    print(json.dumps(summary, indent=2))
    return summary


def write_summary(summary: dict[str, Any], path: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        json.dump(summary, file, default=str, indent=2)


def train(paths: Sequence[str], chosen: argparse.Namespace) -> str | None:
    """Uploads the file and follows the job to its end; the new model's name, or None where there is none."""
    if len(paths) > 1:
        raise ValueError(f"{len(paths)} files, where a job takes one: train on fewer rows")
    with Server(starting.api(chosen)) as server:
        uploaded = files.upload(server, paths[0], "fine-tune")
        job = fine_tuning.create(
            server, uploaded["id"], chosen.model, suffix=chosen.suffix, method=supervised(chosen.epochs)
        )
        for event in fine_tuning.follow(server, job["id"], poll=chosen.poll):
            print(event["message"], flush=True)
        job = fine_tuning.get(server, job["id"])
    if job["status"] != "succeeded":
        print(f"the job {job['id']} has {job['status']}: {job.get('error')}", file=sys.stderr)
        return None
    return str(job["fine_tuned_model"])


def supervised(epochs: int | None) -> dict[str, Any] | None:
    if epochs is None:
        return None
    return {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": epochs}}}


def answer(p: beam.Pipeline, model: str, form: str, chosen: argparse.Namespace) -> None:
    """Runs the new model over the dataset, in the way that it was trained for."""
    kind = Completions if form == "completion" else ChatCompletions
    answered = p | ReadTables(chosen.input) | kind(model=model, api=starting.api(chosen), prompt=chosen.prompt)
    starting.write(answered, chosen)


if __name__ == "__main__":
    sys.exit(starting.run(main))
