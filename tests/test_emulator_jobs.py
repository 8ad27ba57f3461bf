"""The emulator's fine-tunes, fine-tuning jobs and batches, which go by a clock that the tests turn."""

import asyncio
import csv
import json
import threading
import time

import pytest
import requests

from beam_openai.emulator import Emulator
from beam_openai.emulator.clock import Clock
from beam_openai.emulator.jobs.agenda import Agenda, Timeline

EXAMPLE = {"prompt": "a", "completion": "b"}
CHAT = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
TASK = {"messages": [{"role": "user", "content": "a"}]}
PREFERENCE = {"input": TASK, "preferred_output": [], "non_preferred_output": []}
GRADER = {"type": "string_check", "name": "same", "operation": "eq", "input": "a", "reference": "b"}


@pytest.fixture(scope="module")
def shared():
    with Emulator(models={"tiny": 8, "small": 4, "written": "chat+completion"}) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def ask(server, method, path, **arguments):
    return requests.request(method, server.base_url + path, timeout=30, **arguments)


def get(server, path, **query):
    answer = ask(server, "GET", path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def error(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


def upload(server, rows, purpose="fine-tune"):
    text = "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else rows
    answer = ask(server, "POST", "/files", files={"file": ("a.jsonl", text)}, data={"purpose": purpose})
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


# Fine-tunes of 2022


def fine_tune(server, rows=None, **fields):
    asked = {"training_file": upload(server, rows or [EXAMPLE] * 20), **fields}
    return ask(server, "POST", "/fine-tunes", json=asked)


def test_a_fine_tune_is_pending_then_running_then_has_succeeded(server):
    made = fine_tune(server).json()
    assert made["object"] == "fine-tune" and made["id"].startswith("ft-") and made["model"] == "curie"
    assert made["status"] == "pending" and made["fine_tuned_model"] is None and made["result_files"] == []
    assert made["training_files"][0]["purpose"] == "fine-tune" and made["validation_files"] == []
    path = f"/fine-tunes/{made['id']}"
    for seconds, status in ((58, "pending"), (2, "running"), (538, "running"), (2, "succeeded")):
        server.turn_clock(seconds)
        assert get(server, path)["status"] == status
    done = get(server, path)
    assert done["fine_tuned_model"].startswith("curie:ft-emulator-20")
    assert done["hyperparams"] == {
        "n_epochs": 4,
        "batch_size": 1,
        "learning_rate_multiplier": 0.05,
        "prompt_loss_weight": 0.01,
    }
    assert done["updated_at"] == made["created_at"] + 600
    assert [event["message"] for event in done["events"]] == [
        f"Created fine-tune: {made['id']}",
        "Fine-tune costs $0.00",
        "Fine-tune enqueued. Queue number: 0",
        "Fine-tune is in the queue. Queue number: 0",
        "Fine-tune started",
        *(f"Completed epoch {epoch}/4" for epoch in range(1, 5)),
        f"Uploaded model: {done['fine_tuned_model']}",
        f"Uploaded result file: {done['result_files'][0]['id']}",
        "Fine-tune succeeded",
    ]
    times = [event["created_at"] - made["created_at"] for event in done["events"]]
    assert times == [0, 20, 20, 40, 60, 190, 320, 450, 580, 590, 595, 600]


def test_the_results_of_a_fine_tune_are_a_table(server):
    made = fine_tune(server, n_epochs=2, batch_size=8, validation_file=upload(server, [EXAMPLE])).json()
    server.turn_clock(600)
    file = get(server, f"/fine-tunes/{made['id']}")["result_files"][0]
    assert file["purpose"] == "fine-tune-results" and file["filename"] == "compiled_results.csv"
    rows = list(csv.DictReader(ask(server, "GET", f"/files/{file['id']}/content").text.splitlines()))
    assert [row["elapsed_examples"] for row in rows] == ["8", "16", "24", "32", "40"]
    assert float(rows[0]["training_loss"]) > float(rows[-1]["training_loss"])
    assert float(rows[0]["validation_loss"]) > 0


def test_a_fine_tuned_model_does_the_work_of_its_base_until_it_is_deleted(server):
    made = fine_tune(server, model="ada", suffix="My Model!").json()
    server.turn_clock(600)
    name = get(server, f"/fine-tunes/{made['id']}")["fine_tuned_model"]
    assert name.startswith("ada:ft-emulator:my-model-20")
    model = get(server, f"/models/{name}")
    assert model["owned_by"] == "org-emulator" and model["created"] == made["created_at"] + 590
    assert name not in [engine["id"] for engine in get(server, "/engines")["data"]]
    answer = ask(server, "POST", "/completions", json={"model": name, "prompt": "a", "max_tokens": 3})
    assert answer.status_code == 200 and answer.json()["model"] == name
    again = fine_tune(server, model=name).json()
    assert again["model"] == name
    assert ask(server, "DELETE", f"/models/{name}").json() == {"id": name, "object": "model", "deleted": True}
    error(ask(server, "DELETE", f"/models/{name}"), 404)


def test_models_of_one_second_have_names_of_their_own(server):
    made = [fine_tune(server, suffix="twin").json()["id"] for _ in range(3)]
    server.turn_clock(600)
    assert len({get(server, f"/fine-tunes/{each}")["fine_tuned_model"] for each in made}) == 3


def test_a_list_of_fine_tunes_has_no_events(server):
    made = fine_tune(server).json()
    listed = get(server, "/fine-tunes")["data"]
    expected = {name: value for name, value in made.items() if name != "events"}
    assert next(tune for tune in listed if tune["id"] == made["id"]) == expected


@pytest.mark.parametrize(
    "rows, message, seconds",
    [
        ([EXAMPLE] * 9 + [{**EXAMPLE, "prompt": "FAIL-TRAINING"}], "Fine-tune failed. For help, ", 190),
        ([EXAMPLE, {"prompt": "a"}], "line 2: expected prompt/completion keys", 20),
        ([CHAT] * 10, "line 1: expected prompt/completion keys", 20),
    ],
)
def test_a_fine_tune_fails_and_says_so_in_its_last_event(server, rows, message, seconds):
    made = fine_tune(server, rows).json()
    server.turn_clock(1000)
    failed = get(server, f"/fine-tunes/{made['id']}")
    assert failed["status"] == "failed" and failed["fine_tuned_model"] is None and failed["result_files"] == []
    last = failed["events"][-1]
    assert message in last["message"] and last["level"] == "error"
    assert last["created_at"] == made["created_at"] + seconds


@pytest.mark.parametrize("seconds", [0, 100])
def test_a_cancelled_fine_tune_stays_cancelled(server, seconds):
    made = fine_tune(server).json()
    server.turn_clock(seconds)
    path = f"/fine-tunes/{made['id']}"
    cancelled = ask(server, "POST", f"{path}/cancel").json()
    assert cancelled["status"] == "cancelled" and cancelled["events"][-1]["message"] == "Fine-tune cancelled"
    server.turn_clock(1000)
    assert get(server, path) == {**cancelled, "training_files": get(server, path)["training_files"]}
    message = error(ask(server, "POST", f"{path}/cancel"), 400)["message"]
    assert message == f'Cannot cancel a job {made["id"]} that already has status "cancelled".'


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"n_epochs": 0}, "0 is less than the minimum of 1 - 'n_epochs'"),
        ({"n_epochs": "4"}, "'4' is not of type 'integer' - 'n_epochs'"),
        ({"batch_size": 257}, "257 is greater than the maximum of 256 - 'batch_size'"),
        ({"learning_rate_multiplier": 0}, "0 is less than or equal to the minimum of 0 - 'learning_rate_multiplier'"),
        ({"prompt_loss_weight": -1}, "-1 is less than the minimum of 0 - 'prompt_loss_weight'"),
        ({"suffix": ""}, "'' is too short - 'suffix'"),
        ({"suffix": "a" * 41}, " is too long - 'suffix'"),
        ({"model": "gpt-4"}, "Invalid base model: gpt-4 (model must be one of ada, babbage, curie, davinci)"),
        ({"compute_classification_metrics": True}, "'validation_file' is required to compute"),
        ({"classification_betas": [-1]}, "-1 is less than the minimum of 0 - 'classification_betas.0'"),
        ({"hyperparams": {}}, "Unrecognized request argument supplied: hyperparams"),
    ],
)
def test_a_fine_tune_that_cannot_be_is_refused(server, fields, expected):
    assert expected in error(fine_tune(server, **fields), 400)["message"]


def test_classes_are_needed_to_measure_classification(server):
    asked = {"validation_file": upload(server, [EXAMPLE]), "compute_classification_metrics": True}
    assert "'classification_n_classes'" in error(fine_tune(server, **asked), 400)["message"]
    made = fine_tune(server, **asked, classification_positive_class=" yes", classification_betas=[1, 2]).json()
    assert made["hyperparams"]["classification_betas"] == [1, 2]


def test_a_fine_tune_needs_a_file_for_fine_tuning(server):
    refused = ask(server, "POST", "/fine-tunes", json={"model": "ada"})
    assert error(refused, 400)["message"] == "'training_file' is a required property"
    refused = ask(server, "POST", "/fine-tunes", json={"training_file": "file-x"})
    assert error(refused, 404)["message"] == "No such File object: file-x"
    other = upload(server, [{"text": "a"}], "search")
    refused = ask(server, "POST", "/fine-tunes", json={"training_file": other})
    assert "expected 'fine-tune', but got 'search'" in error(refused, 400)["message"]


@pytest.mark.parametrize("method, path", [("GET", ""), ("POST", "/cancel"), ("GET", "/events")])
def test_a_fine_tune_that_is_not_there_is_named(server, method, path):
    assert error(ask(server, method, f"/fine-tunes/ft-x{path}"), 404)["message"] == "No such FineTune object: ft-x"


# The stream of a fine-tune's events


def read_stream(server, fine_tune_id):
    """Messages of the events, and whether the stream ended as it should."""
    messages = []
    url = f"{server.base_url}/fine-tunes/{fine_tune_id}/events"
    with requests.get(url, params={"stream": "true"}, stream=True, timeout=20) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        for line in response.iter_lines():
            if line == b"data: [DONE]":
                return messages, True
            if line.startswith(b"data: "):
                messages.append(json.loads(line.removeprefix(b"data: "))["message"])
    return messages, False


@pytest.mark.parametrize("style", ["plain", "awkward"])
def test_a_stream_has_all_events_as_they_happen_and_ends_with_the_job(style):
    with Emulator(stream_style=style) as server:
        made = fine_tune(server).json()["id"]
        server.turn_clock(60)
        read = []
        thread = threading.Thread(target=lambda: read.append(read_stream(server, made)))
        thread.start()
        for _ in range(6):
            time.sleep(0.1)
            server.turn_clock(90)
        thread.join(20)
        events = [event["message"] for event in get(server, f"/fine-tunes/{made}/events")["data"]]
        assert read == [(events, True)] and len(events) == 12
        # What has ended is told at once, from the beginning.
        assert read_stream(server, made) == (events, True)


def test_a_stream_of_a_cancelled_fine_tune_ends(server):
    made = fine_tune(server).json()["id"]
    ask(server, "POST", f"/fine-tunes/{made}/cancel")
    assert read_stream(server, made) == ([f"Created fine-tune: {made}", "Fine-tune cancelled"], True)


def test_a_stream_says_now_and_then_that_it_is_there(server):
    made = fine_tune(server).json()["id"]
    url = f"{server.base_url}/fine-tunes/{made}/events?stream=true"
    with requests.get(url, stream=True, timeout=10) as response:
        assert any(line.startswith(b": keep-alive") for line in response.iter_lines())
    for _ in range(100):
        if server.ledger()["in_flight"] == 0:
            break
        time.sleep(0.1)
    assert server.ledger()["in_flight"] == 0  # it noticed that nobody listens


def test_a_stream_that_is_cut_gets_further_each_time():
    with Emulator(drop_stream_after=5) as server:
        made = fine_tune(server).json()["id"]
        server.turn_clock(1000)
        read, ends = [], []
        while not ends or not ends[-1]:
            try:
                messages, end = read_stream(server, made)
            except requests.exceptions.RequestException:
                ends.append(False)
                continue
            read.append(messages)
            ends.append(end)
        assert ends == [False, False, True] and len(read[-1]) == 12


# Jobs of fine-tuning


def tuning(server, rows=None, **fields):
    asked = {"model": "gpt-4o-mini", "training_file": upload(server, rows or [CHAT] * 10), **fields}
    return ask(server, "POST", "/fine_tuning/jobs", json=asked)


def test_a_job_goes_through_its_stages(server):
    made = tuning(server, suffix="mine", seed=7, metadata={"run": "1"}).json()
    assert made["object"] == "fine_tuning.job" and made["id"].startswith("ftjob-")
    assert made["model"] == "gpt-4o-mini-2024-07-18" and made["seed"] == 7 and made["metadata"] == {"run": "1"}
    assert made["hyperparameters"] == dict.fromkeys(("n_epochs", "batch_size", "learning_rate_multiplier"), "auto")
    assert made["method"] == {"type": "supervised", "supervised": {"hyperparameters": made["hyperparameters"]}}
    path, seen = f"/fine_tuning/jobs/{made['id']}", [made["status"]]
    for seconds in (30, 30, 538, 2):
        server.turn_clock(seconds)
        seen.append(get(server, path)["status"])
    assert seen == ["validating_files", "queued", "running", "running", "succeeded"]
    done = get(server, path)
    name = f"ft:gpt-4o-mini-2024-07-18:emulator:mine:{made['id'][-8:]}"
    assert done["fine_tuned_model"] == name and done["error"] is None
    assert done["finished_at"] == made["created_at"] + 600 and done["estimated_finish"] is None
    assert done["hyperparameters"] == {"n_epochs": 3, "batch_size": 1, "learning_rate_multiplier": 1.8}
    assert done["trained_tokens"] == round(len(json.dumps(CHAT)) * 10 * 3 / 4)
    table = ask(server, "GET", f"/files/{done['result_files'][0]}/content").text
    assert len(list(csv.DictReader(table.splitlines()))) == 30
    assert get(server, f"/models/{name}")["owned_by"] == "org-emulator"


def test_there_is_a_checkpoint_for_each_epoch_which_is_a_model(server):
    made = tuning(server, validation_file=upload(server, [CHAT]), hyperparameters={"n_epochs": 4, "batch_size": 2})
    path = f"/fine_tuning/jobs/{made.json()['id']}/checkpoints"
    server.turn_clock(320)
    assert [point["step_number"] for point in get(server, path)["data"]] == [10, 5]
    server.turn_clock(280)
    pages = [get(server, path, limit=3)]
    assert pages[0]["has_more"] and pages[0]["first_id"] == pages[0]["data"][0]["id"]
    pages.append(get(server, path, limit=3, after=pages[0]["last_id"]))
    points = pages[0]["data"] + pages[1]["data"]
    assert [point["step_number"] for point in points] == [20, 15, 10, 5] and not pages[1]["has_more"]
    assert points[1]["fine_tuned_model_checkpoint"].endswith(":ckpt-step-15")
    assert {"step", "train_loss", "full_valid_loss"} <= points[0]["metrics"].keys()
    for point in points:
        assert get(server, f"/models/{point['fine_tuned_model_checkpoint']}")


def test_events_are_listed_newest_first_and_page_by_page(server):
    made = tuning(server).json()
    server.turn_clock(600)
    path, events, after = f"/fine_tuning/jobs/{made['id']}/events", [], {}
    while True:
        page = get(server, path, limit=7, **after)
        events += page["data"]
        if not page["has_more"]:
            break
        after = {"after": events[-1]["id"]}
    assert [event["message"] for event in events[-4:]] == [
        "Fine-tuning job started",
        "Files validated, moving job to queued state",
        f"Validating training file: {made['training_file']}",
        f"Created fine-tuning job: {made['id']}",
    ]
    assert events[0]["message"] == "The job has successfully completed"
    metrics = [event for event in events if event["type"] == "metrics"]
    assert len(metrics) == 30 and metrics[0]["data"]["step"] == 30 and metrics[0]["data"]["total_steps"] == 30
    assert [event["created_at"] for event in events] == sorted((e["created_at"] for e in events), reverse=True)


@pytest.mark.parametrize(
    "rows, fields, expected",
    [
        ([CHAT] * 9, {}, ("invalid_n_examples", "training_file", "has 9 example(s), but must have at least 10")),
        ([{"messages": [{}]}] * 10, {}, ("invalid_training_file", "training_file", "'role' is missing")),
        ([TASK] * 10, {}, ("invalid_training_file", "training_file", "line 1: expected a message of the role")),
        ([CHAT] * 9 + [{}], {}, ("invalid_training_file", "training_file", "line 10: expected either")),
        ([CHAT] * 10, {"method": {"type": "dpo"}}, ("invalid_training_file", "training_file", "method dpo")),
        ([EXAMPLE] * 9 + [{**EXAMPLE, "prompt": "FAIL-TRAINING"}], {}, ("server_error", None, "internal error")),
    ],
)
def test_a_job_that_fails_says_why(server, rows, fields, expected):
    made = tuning(server, rows, **fields).json()
    server.turn_clock(600)
    failed = get(server, f"/fine_tuning/jobs/{made['id']}")
    code, param, message = expected
    assert failed["status"] == "failed" and failed["finished_at"] and failed["fine_tuned_model"] is None
    assert failed["error"]["code"] == code and failed["error"]["param"] == param
    assert message in failed["error"]["message"]
    assert get(server, f"/fine_tuning/jobs/{made['id']}/events")["data"][0]["level"] == "error"


@pytest.mark.parametrize(
    "method, row, chosen",
    [
        ({"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.5}}}, PREFERENCE, {"beta": 0.5, "n_epochs": 3}),
        (
            {"type": "reinforcement", "reinforcement": {"grader": GRADER}},
            TASK,
            {"reasoning_effort": "default", "eval_samples": 1},
        ),
        ({"type": "supervised"}, CHAT, {"n_epochs": 3}),
    ],
)
def test_each_method_has_its_examples_and_hyperparameters(server, method, row, chosen):
    made = tuning(server, [row] * 10, method=method).json()
    server.turn_clock(600)
    done = get(server, f"/fine_tuning/jobs/{made['id']}")
    assert done["status"] == "succeeded" and done["method"]["type"] == method["type"]
    assert chosen.items() <= done["method"][method["type"]]["hyperparameters"].items()
    assert "auto" not in done["method"][method["type"]]["hyperparameters"].values()


def test_a_paused_job_waits_and_then_takes_as_long_as_it_would_have(server):
    made = tuning(server).json()["id"]
    path = f"/fine_tuning/jobs/{made}"
    message = error(ask(server, "POST", f"{path}/pause"), 400)["message"]
    assert message == f'Cannot pause a job {made} that already has status "validating_files".'
    server.turn_clock(300)
    assert ask(server, "POST", f"{path}/pause").json()["status"] == "paused"
    server.turn_clock(100_000)
    assert get(server, path)["status"] == "paused"
    error(ask(server, "POST", f"{path}/pause"), 400)
    assert ask(server, "POST", f"{path}/resume").json()["status"] == "running"
    error(ask(server, "POST", f"{path}/resume"), 400)
    server.turn_clock(297)
    assert get(server, path)["status"] == "running"
    server.turn_clock(4)
    assert get(server, path)["status"] == "succeeded"


def test_a_cancelled_job_cannot_be_cancelled_again(server):
    made = tuning(server).json()["id"]
    server.turn_clock(100)
    ask(server, "POST", f"/fine_tuning/jobs/{made}/pause")
    cancelled = ask(server, "POST", f"/fine_tuning/jobs/{made}/cancel").json()
    assert cancelled["status"] == "cancelled" and cancelled["finished_at"]
    server.turn_clock(1000)
    assert get(server, f"/fine_tuning/jobs/{made}")["status"] == "cancelled"
    for what in ("cancel", "pause", "resume"):
        error(ask(server, "POST", f"/fine_tuning/jobs/{made}/{what}"), 400)


def test_jobs_are_listed_and_found_by_their_metadata(server):
    made = [tuning(server, metadata=metadata).json()["id"] for metadata in ({"a": "1", "b": "2"}, {"a": "1"}, {})]
    listed = get(server, "/fine_tuning/jobs", limit=2)
    assert [job["id"] for job in listed["data"]] == made[:0:-1] and listed["has_more"]
    assert get(server, "/fine_tuning/jobs", limit=1, after=made[1])["data"][0]["id"] == made[0]

    def found(query):
        return [job["id"] for job in get(server, "/fine_tuning/jobs", limit=100, **query)["data"]]

    assert found({"metadata[a]": "1"})[:2] == made[1::-1]
    assert found({"metadata[a]": "1", "metadata[b]": "2"}) == made[:1]
    assert found({"metadata[a]": "2"}) == []
    assert made[2] in found({"metadata": "null"}) and made[0] not in found({"metadata": "null"})


@pytest.mark.parametrize(
    "fields, code, param",
    [
        ({"model": "gpt-9"}, "model_not_available", "model"),
        ({"model": "gpt-5"}, "model_not_available", "model"),
        ({"training_file": "file-x"}, None, "training_file"),
        ({"validation_file": "file-x"}, None, "validation_file"),
        ({"suffix": "a" * 65}, "string_above_max_length", "suffix"),
        ({"suffix": ""}, "empty_string", "suffix"),
        ({"seed": -1}, "integer_below_min_value", "seed"),
        ({"seed": 2**31}, "integer_above_max_value", "seed"),
        ({"hyperparameters": {"n_epochs": 51}}, "integer_above_max_value", "hyperparameters.n_epochs"),
        ({"hyperparameters": {"batch_size": 0}}, "integer_below_min_value", "hyperparameters.batch_size"),
        (
            {"hyperparameters": {"learning_rate_multiplier": 0}},
            "decimal_below_min_value",
            "hyperparameters.learning_rate_multiplier",
        ),
        ({"hyperparameters": {"beta": 1}}, "unknown_parameter", "hyperparameters.beta"),
        ({"hyperparameters": {}, "method": {"type": "dpo"}}, "invalid_value", "hyperparameters"),
        ({"method": {"type": "x"}}, "invalid_value", "method.type"),
        ({"method": {}}, "missing_required_parameter", "method.type"),
        ({"method": {"type": "dpo", "supervised": {}}}, "unknown_parameter", "method.supervised"),
        ({"method": {"type": "reinforcement"}}, "missing_required_parameter", "method.reinforcement.grader"),
        ({"integrations": [{"type": "wandb"}]}, "missing_required_parameter", "integrations[0].wandb"),
        (
            {"integrations": [{"type": "wandb", "wandb": {"project": "p"}}] * 6},
            "array_above_max_length",
            "integrations",
        ),
        ({"metadata": dict.fromkeys(map(str, range(17)), "x")}, "object_above_max_properties", "metadata"),
    ],
)
def test_a_job_that_cannot_be_is_refused(server, fields, code, param):
    refused = error(tuning(server, **fields), 400)
    assert (refused["code"], refused["param"]) == (code, param)


@pytest.mark.parametrize("base, root", [("davinci-002", "davinci-002"), ("written", "written")])
def test_a_fine_tuned_model_can_be_tuned_further(server, base, root):
    made = tuning(server, [EXAMPLE] * 10, model=base).json()["id"]
    server.turn_clock(600)
    first = get(server, f"/fine_tuning/jobs/{made}")["fine_tuned_model"]
    assert first == f"ft:{root}:emulator::{made[-8:]}"
    again = tuning(server, [EXAMPLE] * 10, model=first).json()
    server.turn_clock(600)
    done = get(server, f"/fine_tuning/jobs/{again['id']}")
    assert done["model"] == root and done["fine_tuned_model"] == f"ft:{root}:emulator::{again['id'][-8:]}"


@pytest.mark.parametrize(
    "method, path",
    [("GET", ""), ("GET", "/events"), ("GET", "/checkpoints"), *(("POST", f"/{what}") for what in ("cancel", "pause"))],
)
def test_a_job_that_is_not_there_is_named(server, method, path):
    refused = error(ask(server, method, f"/fine_tuning/jobs/ftjob-x{path}"), 404)
    assert refused["message"] == "Could not find fine tune: ftjob-x" and refused["code"] == "fine_tune_not_found"


# Batches


def line(number, text=None, **changes):
    body = {"model": "tiny", "input": f"text {number}" if text is None else text}
    return {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/embeddings", "body": body, **changes}


def batch(server, rows, endpoint="/v1/embeddings", **fields):
    asked = {"input_file_id": upload(server, rows, "batch"), "endpoint": endpoint, "completion_window": "24h", **fields}
    return ask(server, "POST", "/batches", json=asked)


def content(server, file_id):
    return [json.loads(row) for row in ask(server, "GET", f"/files/{file_id}/content").text.splitlines()]


def test_a_batch_goes_through_its_stages_and_every_line_is_answered(server):
    rows = [line(number) for number in range(50)]
    rows[7] = line(7, "POISON-400")
    made = batch(server, rows, metadata={"run": "1"}).json()
    assert made["object"] == "batch" and made["status"] == "validating" and made["model"] is None
    assert made["expires_at"] == made["created_at"] + 86_400 and made["metadata"] == {"run": "1"}
    path, seen = f"/batches/{made['id']}", []
    for seconds in (10, 30, 30, 5):
        server.turn_clock(seconds)
        now = get(server, path)
        seen.append((now["status"], *now["request_counts"].values()))
    assert seen == [
        ("in_progress", 50, 0, 0),
        ("in_progress", 50, 24, 1),
        ("finalizing", 50, 49, 1),
        ("completed", 50, 49, 1),
    ]
    done = get(server, path)
    times = [done[f"{stage}_at"] - made["created_at"] for stage in ("in_progress", "finalizing", "completed")]
    assert times == [10, 70, 75] and done["model"] == "tiny" and done["errors"] is None
    assert done["usage"]["input_tokens"] == done["usage"]["total_tokens"] == 49 * 2
    answers = content(server, done["output_file_id"])
    ids = [answer["custom_id"] for answer in answers]
    assert sorted(ids) == sorted(row["custom_id"] for row in rows if row != rows[7]) and ids != sorted(ids, key=len)
    by_id = {answer["custom_id"]: answer for answer in answers}
    direct = ask(server, "POST", "/embeddings", json={"model": "tiny", "input": "text 3"}).json()
    assert by_id["row-3"]["response"]["body"] == direct
    assert by_id["row-3"]["response"]["status_code"] == 200 and by_id["row-3"]["error"] is None
    [failed] = content(server, done["error_file_id"])
    assert failed["custom_id"] == "row-7" and failed["error"] is None and failed["response"]["status_code"] == 400
    assert failed["response"]["body"]["error"]["type"] == "invalid_request_error"
    # Each was billed once, and what failed was not.
    assert server.billed([f"text {number}" for number in range(4, 50)]) == [1] * 3 + [0] + [1] * 42
    file = get(server, f"/files/{done['output_file_id']}")
    assert file["purpose"] == "batch_output" and file["expires_at"] == file["created_at"] + 30 * 86_400
    assert file["created_at"] == done["completed_at"]


@pytest.mark.parametrize(
    "endpoint, body, where",
    [
        ("/v1/completions", {"model": "written", "prompt": "a", "max_tokens": 2}, ("choices", 0, "text")),
        (
            "/v1/chat/completions",
            {"model": "written", "messages": [{"role": "user", "content": "a"}]},
            ("choices", 0, "message", "content"),
        ),
        ("/v1/moderations", {"input": "a"}, ("results", 0, "flagged")),
    ],
)
def test_lines_are_answered_by_the_routes_that_answer_requests(server, endpoint, body, where):
    made = batch(server, [line(1, url=endpoint, body=body)], endpoint).json()["id"]
    server.turn_clock(75)
    done = get(server, f"/batches/{made}")
    [answer] = content(server, done["output_file_id"])
    direct = ask(server, "POST", endpoint.removeprefix("/v1"), json=body).json()
    found = answer["response"]["body"]
    for key in where:
        found, direct = found[key], direct[key]
    assert found == direct


def test_pictures_of_a_batch_are_where_their_addresses_say(server):
    body = {"model": "dall-e-2", "prompt": "a cat", "size": "256x256"}
    endpoint = "/v1/images/generations"
    made = batch(server, [line(1, url=endpoint, body=body)], endpoint).json()["id"]
    server.turn_clock(75)
    [answer] = content(server, get(server, f"/batches/{made}")["output_file_id"])
    fetched = requests.get(answer["response"]["body"]["data"][0]["url"], timeout=10)
    assert fetched.status_code == 200 and fetched.content.startswith(b"\x89PNG")


def test_a_batch_of_failures_has_no_output_and_one_without_any_no_errors(server):
    bad, good = batch(server, [line(1, "")]).json()["id"], batch(server, [line(1)]).json()["id"]
    server.turn_clock(75)
    bad, good = get(server, f"/batches/{bad}"), get(server, f"/batches/{good}")
    assert bad["status"] == "completed" and bad["output_file_id"] is None and bad["error_file_id"]
    assert good["output_file_id"] and good["error_file_id"] is None


def test_a_batch_does_not_stream(server):
    body = {"model": "written", "prompt": "a", "stream": True}
    made = batch(server, [line(1, url="/v1/completions", body=body)], "/v1/completions").json()["id"]
    server.turn_clock(75)
    [failed] = content(server, get(server, f"/batches/{made}")["error_file_id"])
    assert failed["response"]["body"]["error"]["param"] == "stream"


@pytest.mark.parametrize(
    "rows, expected",
    [
        ("\n", [("invalid_json_line", 1, None)]),
        (
            json.dumps(line(1)) + "\n\n" + json.dumps(line(2)) + "\n[1]\n\n",
            [("invalid_json_line", number, None) for number in (2, 4, 5)],
        ),
        ("\ufeff" + json.dumps(line(1)), [("invalid_json_line", 1, None)]),
        ([line(1), line(2), line(1)], [("duplicate_custom_id", 3, "custom_id")]),
        ([line(1, custom_id=None)], [("missing_required_parameter", 1, "custom_id")]),
        ([{}], [("missing_required_parameter", 1, name) for name in ("custom_id", "method", "url", "body")]),
        ([line(1, method="GET")], [("invalid_value", 1, "method")]),
        ([line(1), line(2, url="/v1/completions")], [("invalid_url", 2, "url")]),
        ([line(1, body={"model": "none"})], [("model_not_found", 1, "body.model")]),
        ([line(1), line(2, body={"model": "small", "input": "a"})], [("mismatched_model", 2, "body.model")]),
        ([line(1, ["a"] * 25_001), line(2, ["a"] * 25_000)], [("too_many_embedding_inputs", None, None)]),
    ],
)
def test_a_batch_with_a_wrong_line_fails_and_no_line_is_answered(server, rows, expected):
    made = batch(server, rows).json()["id"]
    server.turn_clock(75)
    failed = get(server, f"/batches/{made}")
    assert failed["status"] == "failed" and failed["failed_at"] and failed["output_file_id"] is None
    errors = failed["errors"]
    assert errors["object"] == "list"
    assert [(each["code"], each["line"], each["param"]) for each in errors["data"]] == expected
    assert server.ledger()["billed_inputs"] == 0


def test_a_batch_has_at_most_fifty_thousand_requests(server):
    made = batch(server, [line(number) for number in range(50_001)]).json()["id"]
    server.turn_clock(10)
    codes = [each["code"] for each in get(server, f"/batches/{made}")["errors"]["data"]]
    assert codes == ["too_many_requests", "too_many_embedding_inputs"]


def test_a_cancelled_batch_keeps_what_was_answered(server):
    made = batch(server, [line(number) for number in range(20)]).json()["id"]
    server.turn_clock(40)
    path = f"/batches/{made}"
    for _ in range(2):
        assert ask(server, "POST", f"{path}/cancel").json()["status"] == "cancelling"
    server.turn_clock(10)
    done = get(server, path)
    assert done["status"] == "cancelled" and done["cancelled_at"] == done["cancelling_at"] + 10
    assert done["request_counts"] == {"total": 20, "completed": 10, "failed": 0}
    undone = content(server, done["error_file_id"])
    assert {row["error"]["code"] for row in undone} == {"batch_cancelled"} and undone[0]["response"] is None
    ids = [row["custom_id"] for row in content(server, done["output_file_id"]) + undone]
    assert sorted(ids) == sorted(f"row-{number}" for number in range(20))
    message = error(ask(server, "POST", f"{path}/cancel"), 409)["message"]
    assert message == "Cannot cancel a batch with status 'cancelled'."


def test_a_batch_that_is_cancelled_while_it_is_validated_has_no_files(server):
    made = batch(server, [line(1)]).json()["id"]
    ask(server, "POST", f"/batches/{made}/cancel")
    server.turn_clock(100)
    done = get(server, f"/batches/{made}")
    assert done["status"] == "cancelled" and done["output_file_id"] is done["error_file_id"] is None


def test_a_batch_that_takes_longer_than_a_day_expires_with_what_there_is():
    with Emulator(models={"tiny": 8}, batch_seconds=200_000) as server:
        made = batch(server, [line(number) for number in range(10)]).json()["id"]
        server.turn_clock(86_400)
        done = get(server, f"/batches/{made}")
        assert done["status"] == "expired" and done["expired_at"] == done["expires_at"]
        assert done["request_counts"] == {"total": 10, "completed": 4, "failed": 0}
        undone = content(server, done["error_file_id"])
        assert len(undone) == 6 and {row["error"]["code"] for row in undone} == {"batch_expired"}
        assert len(content(server, done["output_file_id"])) == 4
        assert server.ledger()["billed_inputs"] == 4
        error(ask(server, "POST", f"/batches/{made}/cancel"), 409)


def test_unfinished_batches_of_a_model_share_a_limit_of_tokens():
    with Emulator(models={"tiny": 8, "small": 4}, batch_queue_tokens=30) as server:
        rows = [line(number) for number in range(10)]
        first, second = batch(server, rows).json()["id"], batch(server, rows).json()["id"]
        other = batch(server, [line(n, body={"model": "small", "input": "text"}) for n in range(30)]).json()["id"]
        server.turn_clock(10)
        assert get(server, f"/batches/{first}")["status"] == get(server, f"/batches/{other}")["status"] == "in_progress"
        [failed] = get(server, f"/batches/{second}")["errors"]["data"]
        assert failed["code"] == "token_limit_exceeded" and failed["message"] == (
            "Enqueued token limit reached for tiny in organization org-emulator. Limit: 30 enqueued tokens. Please "
            "try again once some in_progress batches have been completed."
        )
        server.turn_clock(65)
        again = batch(server, rows).json()["id"]
        server.turn_clock(75)
        assert get(server, f"/batches/{again}")["status"] == "completed"


def test_a_batch_outlives_the_file_that_it_was_made_of(server):
    made = batch(server, "\n".join(json.dumps(line(n, "x" * 100_000)) for n in range(20))).json()
    ask(server, "DELETE", f"/files/{made['input_file_id']}")
    server.turn_clock(75)
    done = get(server, f"/batches/{made['id']}")
    assert done["status"] == "completed" and done["request_counts"]["total"] == 20


def test_files_of_answers_expire_when_they_were_told_to(server):
    asked = {"anchor": "created_at", "seconds": 3600}
    made = batch(server, [line(1)], output_expires_after=asked).json()["id"]
    server.turn_clock(75)
    file_id = get(server, f"/batches/{made}")["output_file_id"]
    file = get(server, f"/files/{file_id}")
    assert file["expires_at"] == file["created_at"] + 3600


def test_batches_are_listed_newest_first_and_page_by_page(server):
    made = [batch(server, [line(1)]).json()["id"] for _ in range(3)]
    first = get(server, "/batches", limit=2)
    assert [each["id"] for each in first["data"]] == made[:0:-1] and first["has_more"]
    assert first["first_id"] == made[2] and first["last_id"] == made[1]
    assert get(server, "/batches", limit=1, after=made[1])["data"][0]["id"] == made[0]


@pytest.mark.parametrize(
    "fields, status, param",
    [
        ({"endpoint": "/v1/edits"}, 400, "endpoint"),
        ({"completion_window": "1h"}, 400, "completion_window"),
        ({"input_file_id": "file-x"}, 404, "input_file_id"),
        ({"metadata": {"a": 1}}, 400, "metadata.a"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, 400, "output_expires_after.seconds"),
    ],
)
def test_a_batch_that_cannot_be_is_refused(server, fields, status, param):
    asked = {"endpoint": "/v1/embeddings", **fields}
    assert error(batch(server, [line(1)], **asked), status)["param"] == param


def test_a_batch_needs_a_file_of_its_purpose(server):
    asked = {"input_file_id": upload(server, [EXAMPLE]), "endpoint": "/v1/embeddings", "completion_window": "24h"}
    assert "expected 'batch', but got 'fine-tune'" in error(ask(server, "POST", "/batches", json=asked), 400)["message"]
    for path in ("", "/cancel"):
        refused = ask(server, "POST" if path else "GET", f"/batches/batch_x{path}")
        assert error(refused, 404)["message"] == "No batch found with id 'batch_x'."


def test_others_are_served_while_a_large_batch_is_answered():
    with Emulator(models={"tiny": 8}) as server:
        made = batch(server, [line(number) for number in range(20_000)]).json()["id"]
        server.turn_clock(75)
        waiting = threading.Thread(target=get, args=(server, f"/batches/{made}"))
        waiting.start()
        time.sleep(0.2)
        assert ask(server, "POST", "/embeddings", json={"model": "tiny", "input": "a"}).status_code == 200
        busy = waiting.is_alive()
        waiting.join(60)
        assert get(server, f"/batches/{made}")["request_counts"]["completed"] == 20_000
        assert busy


# The agenda, alone


class Hands(Clock):
    """A clock that stands still until it is turned."""

    def __init__(self):
        super().__init__(lambda: 0.0)


def test_steps_happen_in_the_order_of_their_times_however_late_one_looks():
    clock, seen = Hands(), []
    agenda = Agenda(clock)
    Timeline(agenda, 0, [(1, lambda when: seen.append(("a", when))), (5, lambda when: seen.append(("b", when)))])
    Timeline(agenda, 2, [(1, lambda when: seen.append(("c", when))), (9, lambda when: seen.append(("d", when)))])
    asyncio.run(agenda.catch_up())
    assert seen == []
    clock.turn(10)
    asyncio.run(agenda.catch_up())
    assert seen == [("a", 1), ("c", 3), ("b", 5)]
    asyncio.run(agenda.catch_up())
    assert len(seen) == 3


def test_a_timeline_that_is_paused_goes_on_later_and_one_that_is_stopped_never():
    clock, seen = Hands(), []
    agenda = Agenda(clock)
    paused = Timeline(agenda, 0, [(5, seen.append), (10, seen.append)])
    stopped = Timeline(agenda, 0, [(5, seen.append)])
    paused.pause(2)
    stopped.stop()
    clock.turn(100)
    asyncio.run(agenda.catch_up())
    assert seen == []
    paused.resume(100)
    assert paused.end() == 108
    clock.turn(8)
    asyncio.run(agenda.catch_up())
    assert seen == [103, 108]


def test_a_step_may_take_its_time_and_stop_what_follows():
    clock, seen = Hands(), []
    agenda = Agenda(clock)

    async def slow(when):
        await asyncio.sleep(0)
        seen.append(when)
        timeline.stop()

    timeline = Timeline(agenda, 0, [(1, slow), (2, seen.append)])
    clock.turn(5)
    asyncio.run(agenda.catch_up())
    assert seen == [1]
