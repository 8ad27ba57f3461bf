"""Files, uploads, models, fine-tuning and batches of a server, by the current `openai` client.

`check_modern_jobs.py BASE_URL` ends with status 0 if the client understood every answer, and each was
what it should be. The server is an emulator: its clock is turned.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

import openai

CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
GRADER = {"type": "string_check", "name": "same", "operation": "eq", "input": "a", "reference": "b"}


def main() -> None:
    client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-of-nobody", max_retries=0)
    for check in (files, uploads, models, fine_tuning, preferences, paused, batches, cancelled):
        check(client)
        print(f"{check.__name__}: as it should be")


def turn_clock(client: openai.OpenAI, seconds: float) -> None:
    """Makes it later for the server."""
    url = str(client.base_url).removesuffix("/v1/") + "/emulator/clock"
    urllib.request.urlopen(url, json.dumps({"forward": seconds}).encode(), timeout=30).close()


def upload(client: openai.OpenAI, rows: list[object], purpose: str) -> str:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    return client.files.create(file=("rows.jsonl", text.encode()), purpose=purpose).id


def refused(kind: type[openai.APIStatusError], call: object, *args: object, **fields: object) -> openai.APIStatusError:
    """The error that a call must end with."""
    try:
        call(*args, **fields)
    except kind as error:
        return error
    raise AssertionError(f"{fields} was not refused")


def files(client: openai.OpenAI) -> None:
    data = b'{"text": "\xc3\xa9\xe2\x80\xa8"}\r\n'
    expiry = {"anchor": "created_at", "seconds": 7200}
    made = client.files.create(file=("\u00e9t\u00e9.jsonl", data), purpose="evals", expires_after=expiry)
    assert (made.filename, made.bytes, made.purpose) == ("\u00e9t\u00e9.jsonl", len(data), "evals")
    assert made.expires_at == made.created_at + 7200
    turn_clock(client, 1)
    assert client.files.wait_for_processing(made.id).status == "processed"
    assert client.files.retrieve(made.id).id == made.id
    assert client.files.content(made.id).read() == data
    ids = [made.id, *(upload(client, [{"text": "a"}], "evals") for _ in range(4))]
    listed = [file.id for file in client.files.list(purpose="evals", limit=2, order="asc")]
    first = client.files.list(purpose="evals", limit=2, order="asc")
    assert first.has_more and len(first.data) == 2 and first.get_next_page().data[0].id == listed[2]
    assert listed[-5:] == ids
    large = os.urandom(3_000_000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.bin"
        path.write_bytes(large)
        kept = client.files.create(file=path, purpose="vision")
        with client.files.with_streaming_response.content(kept.id) as response:
            assert b"".join(response.iter_bytes()) == large
    assert client.files.delete(made.id).deleted
    error = refused(openai.NotFoundError, client.files.retrieve, made.id)
    assert error.body["message"] == f"No such File object: {made.id}" and error.param == "id"
    assert "is not one of" in refused(openai.BadRequestError, client.files.create, file=b"x", purpose="nothing").message


def uploads(client: openai.OpenAI) -> None:
    data = os.urandom(2_500_000)
    made = client.uploads.upload_file_chunked(
        file=data,
        filename="large.bin",
        bytes=len(data),
        mime_type="image/png",
        purpose="vision",
        part_size=1_000_000,
        md5=hashlib.md5(data).hexdigest(),
    )
    assert made.status == "completed" and made.file.bytes == len(data)
    assert client.files.content(made.file.id).read() == data
    begun = client.uploads.create(filename="a", bytes=9, mime_type="image/png", purpose="vision")
    part = client.uploads.parts.create(begun.id, data=b"12345")
    assert part.upload_id == begun.id
    complete = client.uploads.complete
    assert "does not match" in refused(openai.BadRequestError, complete, begun.id, part_ids=[part.id]).message
    assert client.uploads.cancel(begun.id).status == "cancelled"
    refused(openai.BadRequestError, client.uploads.parts.create, begun.id, data=b"6789")


def models(client: openai.OpenAI) -> None:
    names = [model.id for model in client.models.list()]
    assert "gpt-4o-mini" in names and client.models.retrieve("gpt-4o-mini").object == "model"
    assert refused(openai.NotFoundError, client.models.retrieve, "none").code == "model_not_found"
    assert "api.delete" in refused(openai.PermissionDeniedError, client.models.delete, "gpt-4o-mini").message


def fine_tuning(client: openai.OpenAI) -> None:
    jobs, rows = client.fine_tuning.jobs, upload(client, [CHAT] * 10, "fine-tune")
    job = jobs.create(
        model="gpt-4o-mini", training_file=rows, validation_file=rows, suffix="mine", seed=7, metadata={"run": "one"}
    )
    assert job.status == "validating_files" and job.seed == 7 and job.hyperparameters.n_epochs == "auto"
    assert jobs.list(metadata={"run": "one"}).data[0].id == job.id
    turn_clock(client, 61)
    assert jobs.retrieve(job.id).status == "running" and jobs.retrieve(job.id).estimated_finish
    turn_clock(client, 540)
    done = jobs.retrieve(job.id)
    assert done.status == "succeeded" and done.error is None and done.trained_tokens > 0
    assert done.fine_tuned_model.startswith("ft:gpt-4o-mini-2024-07-18:emulator:mine:")
    assert done.method.supervised.hyperparameters.n_epochs == 3
    messages = [event.message for event in jobs.list_events(job.id, limit=5)]
    assert messages[0] == "The job has successfully completed" and messages[-1].startswith("Created fine-tuning job")
    assert len([point.step_number for point in jobs.checkpoints.list(job.id, limit=2)]) == 3
    table = client.files.content(done.result_files[0]).text
    assert next(csv.DictReader(table.splitlines()))["step"] == "1"
    answer = client.chat.completions.create(
        model=done.fine_tuned_model, messages=[{"role": "user", "content": "a"}], max_completion_tokens=16
    )
    assert answer.model == done.fine_tuned_model and answer.choices[0].message.content
    assert client.models.delete(done.fine_tuned_model).deleted
    error = refused(openai.BadRequestError, jobs.create, model="gpt-4o-mini", training_file="file-none")
    assert error.param == "training_file"
    short = jobs.create(model="gpt-4o-mini", training_file=upload(client, [CHAT], "fine-tune"))
    turn_clock(client, 60)
    assert jobs.retrieve(short.id).error.code == "invalid_n_examples"


def preferences(client: openai.OpenAI) -> None:
    jobs, row = client.fine_tuning.jobs, {"input": {"messages": []}, "preferred_output": [], "non_preferred_output": []}
    dpo = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 1}}}
    made = [jobs.create(model="gpt-4o", training_file=upload(client, [row] * 10, "fine-tune"), method=dpo)]
    task = {"messages": [{"role": "user", "content": "a"}]}
    learn = {"type": "reinforcement", "reinforcement": {"grader": GRADER}}
    made.append(jobs.create(model="o4-mini", training_file=upload(client, [task] * 10, "fine-tune"), method=learn))
    turn_clock(client, 600)
    done = [jobs.retrieve(job.id) for job in made]
    assert [job.status for job in done] == ["succeeded"] * 2
    assert done[0].method.dpo.hyperparameters.beta == 0.2
    assert done[1].method.reinforcement.grader.operation == "eq"


def paused(client: openai.OpenAI) -> None:
    jobs = client.fine_tuning.jobs
    job = jobs.create(model="gpt-4.1-mini", training_file=upload(client, [CHAT] * 10, "fine-tune"))
    turn_clock(client, 100)
    assert jobs.pause(job.id).status == "paused"
    turn_clock(client, 10_000)
    assert jobs.resume(job.id).status == "running"
    assert jobs.cancel(job.id).status == "cancelled"
    refused(openai.BadRequestError, jobs.cancel, job.id)


def lines(count: int) -> list[object]:
    texts = [f"text {number}" for number in range(count)]
    texts[1] = ""  # which no server embeds
    return [
        {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "text-embedding-3-small", "input": text},
        }
        for number, text in enumerate(texts)
    ]


def batches(client: openai.OpenAI) -> None:
    rows = upload(client, lines(20), "batch")
    made = client.batches.create(
        input_file_id=rows, endpoint="/v1/embeddings", completion_window="24h", metadata={"run": "one"}
    )
    assert made.status == "validating" and made.metadata == {"run": "one"}
    turn_clock(client, 75)
    done = client.batches.retrieve(made.id)
    assert done.status == "completed" and done.request_counts.completed == 19 and done.request_counts.failed == 1
    assert done.usage.input_tokens == done.usage.total_tokens > 0 and done.model == "text-embedding-3-small"
    answers = {}
    for file in (done.output_file_id, done.error_file_id):
        for line in client.files.content(file).text.splitlines():
            answers[json.loads(line)["custom_id"]] = json.loads(line)["response"]
    assert answers.keys() == {f"row-{number}" for number in range(20)}
    assert answers["row-1"]["status_code"] == 400
    direct = client.embeddings.create(model="text-embedding-3-small", input="text 5", encoding_format="float")
    assert answers["row-5"]["body"]["data"][0]["embedding"] == direct.data[0].embedding
    create = client.batches.create
    wrong = create(
        input_file_id=upload(client, lines(3) * 2, "batch"), endpoint="/v1/embeddings", completion_window="24h"
    )
    turn_clock(client, 75)
    errors = client.batches.retrieve(wrong.id).errors.data
    assert [(error.code, error.line) for error in errors] == [("duplicate_custom_id", line) for line in (4, 5, 6)]
    assert [batch.id for batch in client.batches.list(limit=1)][:2] == [wrong.id, made.id]


def cancelled(client: openai.OpenAI) -> None:
    rows = upload(client, lines(20), "batch")
    made = client.batches.create(input_file_id=rows, endpoint="/v1/embeddings", completion_window="24h")
    turn_clock(client, 40)
    assert client.batches.cancel(made.id).status == "cancelling"
    turn_clock(client, 10)
    done = client.batches.retrieve(made.id)
    assert done.status == "cancelled" and done.request_counts.total == 20
    assert done.request_counts.completed + done.request_counts.failed == 10
    error = refused(openai.ConflictError, client.batches.cancel, made.id)
    assert error.body["message"] == "Cannot cancel a batch with status 'cancelled'."


if __name__ == "__main__":
    main()
