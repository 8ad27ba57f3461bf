"""Files, uploads, models, engines, fine-tunes and batches, managed on the emulator."""

import hashlib
import io
import json
import os
import random
import stat

import pytest
from conftest import open_sockets

from beam_openai import API, Retry, errors
from beam_openai.client import Request
from beam_openai.manage import Server, batches, engines, files, fine_tunes, fine_tuning, listing, models, uploads

TRAINING = b"".join(b'{"prompt": "question %d ->", "completion": " answer\\n"}\n' % n for n in range(20))
CHATS = b"".join(
    json.dumps({"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": "a"}]}).encode()
    + b"\n"
    for n in range(20)
)


def of(emulator):
    return API(base_url=emulator.base_url)


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def api(emulator):
    return of(emulator)


@pytest.fixture
def own(start_emulator):
    """An emulator whose clock may be turned."""
    return start_emulator()


@pytest.fixture
def put(tmp_path):
    def put(data, name="train.jsonl"):
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    return put


# Files


def test_a_file_goes_up_is_listed_comes_down_and_is_deleted(api, put, tmp_path):
    data = random.Random(0).randbytes(300_000)
    file = files.upload(api, put(data, 'Grüße "1".bin'), "vision")
    assert (file["bytes"], file["purpose"], file["object"]) == (300_000, "vision", "file")
    assert files.get(api, file["id"])["filename"] == file["filename"]
    for purpose, is_there in ((None, True), ("vision", True), ("batch", False)):
        assert (file["id"] in [one["id"] for one in files.list(api, purpose)]) == is_there
    assert files.content(api, file["id"], tmp_path / "down.bin") == 300_000
    assert (tmp_path / "down.bin").read_bytes() == data
    assert files.delete(api, file["id"]) == {"id": file["id"], "object": "file", "deleted": True}
    with pytest.raises(errors.NotFoundError, match="Check the id"):
        files.get(api, file["id"])


def test_one_json_line_comes_down_as_it_is(api, put, tmp_path):
    data = b'{"prompt":   "a", "completion": "\xc3\xa4"}'
    file = files.upload(api, put(data), "fine-tune")
    out = io.BytesIO()
    assert files.content(api, file["id"], out) == len(data) and out.getvalue() == data


def test_what_stood_where_a_download_goes_is_replaced_through_a_link_and_a_pipe_is_written_to(api, put, tmp_path):
    file = files.upload(api, put(TRAINING), "fine-tune")
    (tmp_path / "old").write_bytes(b"old")
    os.symlink(tmp_path / "old", tmp_path / "link")
    files.content(api, file["id"], tmp_path / "link")
    assert (tmp_path / "old").read_bytes() == TRAINING and (tmp_path / "link").is_symlink()
    assert not stat.S_IMODE(os.stat(tmp_path / "old").st_mode) & 0o111
    assert files.content(api, file["id"], "/dev/null") == len(TRAINING)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(IsADirectoryError):
        files.content(api, file["id"], tmp_path)


def test_a_download_that_fails_leaves_nothing_and_what_was_there(api, tmp_path):
    (tmp_path / "kept").write_bytes(b"kept")
    with pytest.raises(errors.NotFoundError):
        files.content(api, "file-none", tmp_path / "kept")
    with pytest.raises(errors.NotFoundError):
        files.content(api, "file-none", tmp_path / "none")
    assert os.listdir(tmp_path) == ["kept"] and (tmp_path / "kept").read_bytes() == b"kept"


def test_all_pages_are_listed_each_file_once(start_emulator, put):
    api, path = of(start_emulator()), put(b"x", "a.txt")
    with Server(api) as server:
        made = [files.upload(server, path, "vision")["id"] for _ in range(7)]
        found = [file["id"] for file in listing.every(server, "/files", {"limit": "3"})]
    assert found == made[::-1]


def test_progress_is_told_up_and_down(api, put, tmp_path):
    path, up, down = put(bytes(1_000_000), "a.bin"), [], []
    file = files.upload(api, path, "vision", on_progress=lambda sent, size: up.append((sent, size)))
    assert up[0] == (0, 1_000_000) and up[-1] == (1_000_000, 1_000_000) and up == sorted(up)
    files.content(api, file["id"], tmp_path / "b", lambda read, size: down.append(read))
    assert down[-1] == 1_000_000 and down == sorted(down)


def test_a_file_may_be_given_an_end(own, put):
    api = of(own)
    file = files.upload(api, put(b"x", "a.txt"), "user_data", expires_after=3600)
    assert file["expires_at"] == file["created_at"] + 3600
    own.turn_clock(3601)
    assert not list(files.list(api))


@pytest.mark.parametrize("path", ["none.jsonl", "."])
def test_a_file_that_is_none_is_an_error_before_anything_is_sent(emulator, api, tmp_path, path):
    with pytest.raises((OSError, ValueError)):
        files.upload(api, tmp_path / path, "fine-tune")
    with pytest.raises((OSError, ValueError)):
        uploads.create(api, tmp_path / path, "fine-tune")
    assert emulator.ledger()["requests"] == 0


def test_a_refusal_is_an_error_of_its_class_with_the_server_s_words(api, put):
    with pytest.raises(errors.BadRequestError, match="purpose"):
        files.upload(api, put(b"x"), "no-such-purpose")


@pytest.mark.parametrize("id", ["", "..", ".", "\udcff"])
def test_an_id_that_would_reach_another_path_is_refused(emulator, api, id):
    for function in (files.get, files.delete, models.delete, batches.cancel, fine_tunes.get, uploads.get):
        with pytest.raises(ValueError, match="not an id"):
            function(api, id)
    assert emulator.ledger()["requests"] == 0


@pytest.mark.parametrize(
    "text, is_local",
    [
        ("file-abc123", False), ("file-a_b-c", False), ("./file-abc123", True), ("train.jsonl", True),
        ("nowhere/train.jsonl", True), ("file-abc.jsonl", True), ("0b1f-uuid", False), ("~/a", True),
    ],
)  # fmt: skip
def test_an_id_and_a_path_are_told_apart_by_their_look(text, is_local):
    assert files.is_local(text) == is_local


def test_what_has_the_look_of_neither_is_a_path_where_it_is_there(put, tmp_path, monkeypatch):
    put(b"x", "corpus")
    monkeypatch.chdir(tmp_path)
    assert files.is_local("corpus") and not files.is_local("korpus")


# Uploads


@pytest.mark.parametrize("size, parts", [(1, 1), (100_000, 1), (100_001, 2), (950_000, 10)])
def test_an_upload_in_parts_is_the_file_byte_for_byte(emulator, api, put, tmp_path, size, parts):
    data, told = random.Random(size).randbytes(size), []
    path = put(data, "a.bin")
    upload = uploads.create(
        api, path, "vision", part_bytes=100_000, on_progress=lambda sent, size: told.append((sent, size))
    )
    assert upload["status"] == "completed" and upload["file"]["bytes"] == size
    assert upload["file"]["filename"] == "a.bin" and told[-1] == (size, size)
    assert sum(request["path"].endswith("/parts") for request in emulator.requests()) == parts
    complete = next(one["body"] for one in emulator.requests() if one["path"].endswith("/complete"))
    assert complete["md5"] == hashlib.md5(data).hexdigest() and len(complete["part_ids"]) == parts
    files.content(api, upload["file"]["id"], tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data
    assert uploads.get(api, upload["id"])["file"]["id"] == upload["file"]["id"]


def test_parts_are_sent_at_the_same_time(start_emulator, put):
    emulator = start_emulator(latency=1)
    uploads.create(of(emulator), put(bytes(80_000), "a.bin"), "vision", part_bytes=10_000, concurrency=4)
    assert emulator.ledger()["peak_in_flight"] == 4


def test_a_part_that_fails_is_tried_again_by_itself(emulator, api, put, tmp_path):
    data = random.Random(1).randbytes(500_000)
    emulator.inject("reset", times=1)
    emulator.inject("server_error", times=1)
    emulator.inject("reset_after", times=2)
    with Server(api, Retry(max_wait=0.05)) as server:
        upload = uploads.create(server, put(data, "a.bin"), "vision", part_bytes=50_000)
        files.content(server, upload["file"]["id"], tmp_path / "down")
    assert (tmp_path / "down").read_bytes() == data
    assert emulator.ledger()["faults"].get("reset") == 1


def test_an_upload_that_cannot_be_sent_is_cancelled(emulator, api, put):
    refusal = {"status": 400, "body": {"error": {"message": "not this part", "type": "invalid_request_error"}}}
    emulator.inject({"delay": 0})
    emulator.inject(refusal)
    with pytest.raises(errors.BadRequestError, match="not this part"):
        uploads.create(api, put(bytes(900_000), "a.bin"), "vision", part_bytes=1000, concurrency=2)
    asked = [one["path"] for one in emulator.requests(1000)]
    assert asked[-1].endswith("/cancel") and len(asked) < 100
    assert uploads.get(api, asked[-1].split("/")[3])["status"] == "cancelled"


def test_an_upload_that_is_interrupted_is_cancelled(start_emulator, put):
    emulator = start_emulator(latency=0.1)
    api = of(emulator)

    def interrupt(sent, size):
        if sent:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        uploads.create(api, put(bytes(900_000), "a.bin"), "vision", part_bytes=100_000, on_progress=interrupt)
    assert emulator.requests()[-1]["path"].endswith("/cancel")


def test_a_file_that_is_written_to_while_it_is_uploaded_is_an_error_and_the_upload_cancelled(emulator, api, put):
    path = put(bytes(300_000), "a.bin")

    def change(sent, size):
        with open(path, "ab") as file:
            file.write(b"x")

    with pytest.raises(errors.APIError, match="changed while it was sent"):
        uploads.create(api, path, "vision", part_bytes=100_000, on_progress=change)
    assert emulator.requests()[-1]["path"].endswith("/cancel")
    with pytest.raises(errors.APIError, match="changed while it was sent"):
        files.upload(api, path, "vision", on_progress=change)


@pytest.mark.parametrize("option", ["part_bytes", "concurrency"])
def test_options_of_an_upload_that_cannot_be_are_refused_by_their_names(api, put, option):
    with pytest.raises(ValueError, match=f"^{option} must be at least 1, not 0"):
        uploads.create(api, put(b"x"), "vision", **{option: 0})


def test_an_upload_that_was_begun_can_be_cancelled(api):
    asked = {"filename": "a", "purpose": "vision", "bytes": 3, "mime_type": "text/plain"}
    with Server(api) as server:
        upload = server.ask(Request("/uploads", asked))
    assert uploads.cancel(api, upload["id"])["status"] == "cancelled"


# Models and engines


def test_models_are_listed_and_got_and_a_fine_tuned_one_is_deleted(own, put):
    api = of(own)
    names = [model["id"] for model in models.list(api)]
    assert "text-embedding-3-small" in names and len(names) == len(set(names))
    assert models.get(api, "text-embedding-3-small")["object"] == "model"
    tune = fine_tunes.create(api, put(TRAINING), model="ada")
    own.turn_clock(86_400)
    model = fine_tunes.get(api, tune["id"])["fine_tuned_model"]
    assert models.delete(api, model)["deleted"] is True
    assert model not in [one["id"] for one in models.list(api)]
    with pytest.raises(errors.NotFoundError):
        models.get(api, "org/none")
    assert own.requests()[-1]["path"] == "/v1/models/org%2Fnone"


def test_engines_are_listed_and_got(api):
    names = [engine["id"] for engine in engines.list(api)]
    assert names and engines.get(api, names[0])["object"] == "engine"


# Fine-tunes


def test_a_fine_tune_of_a_local_file_is_made_listed_and_cancelled(own, put):
    api = of(own)
    tune = fine_tunes.create(
        api,
        put(TRAINING),
        model="ada",
        n_epochs=2,
        suffix="mine",
        batch_size=None,
        validation_file=put(TRAINING, "v.jsonl"),
    )
    assert tune["model"] == "ada" and tune["hyperparams"]["n_epochs"] == 2
    assert [file["filename"] for file in tune["training_files"] + tune["validation_files"]] == [
        "train.jsonl",
        "v.jsonl",
    ]
    assert [one["id"] for one in fine_tunes.list(api)] == [tune["id"]]
    assert fine_tunes.get(api, tune["id"])["id"] == tune["id"]
    assert fine_tunes.cancel(api, tune["id"])["status"] == "cancelled"
    assert [event["message"] for event in fine_tunes.events(api, tune["id"])]
    body = next(one["body"] for one in own.requests() if one["method"] == "POST" and one["path"] == "/v1/fine-tunes")
    assert "batch_size" not in body


def test_a_fine_tune_of_a_file_s_id_uploads_nothing(own, put):
    api = of(own)
    file = files.upload(api, put(TRAINING), "fine-tune")
    fine_tunes.create(api, file["id"])
    assert len(list(files.list(api))) == 1


@pytest.mark.parametrize("style", ["plain", "awkward"])
def test_a_fine_tune_is_followed_to_its_end_each_event_once(start_emulator, put, style):
    emulator = start_emulator(stream_style=style)
    api = of(emulator)
    tune = fine_tunes.create(api, put(TRAINING), model="ada")
    found = fine_tunes.follow(api, tune["id"], poll=0.05)
    messages = [next(found)["message"]]
    emulator.turn_clock(86_400)
    messages += [event["message"] for event in found]
    assert messages == [event["message"] for event in fine_tunes.events(api, tune["id"])]
    assert len(messages) > 5 and fine_tunes.get(api, tune["id"])["status"] == "succeeded"


def test_a_stream_that_is_cut_again_and_again_gives_each_event_once(start_emulator, put):
    emulator = start_emulator(drop_stream_after=2)
    api = of(emulator)
    tune = fine_tunes.create(api, put(TRAINING), model="ada")
    emulator.turn_clock(86_400)
    with Server(api, sleep=lambda seconds: None) as server:
        messages = [event["message"] for event in fine_tunes.follow(server, tune["id"])]
    assert messages == [event["message"] for event in fine_tunes.events(api, tune["id"])]


def test_following_a_fine_tune_that_is_not_there_is_an_error(api):
    with pytest.raises(errors.NotFoundError):
        list(fine_tunes.follow(api, "ft-none"))


def test_a_job_is_made_paused_resumed_cancelled_and_listed(own, put):
    api = of(own)
    model = "gpt-4o-mini-2024-07-18"
    job = fine_tuning.create(api, put(CHATS), model, suffix="mine", seed=7, metadata={"run": "1"})
    assert job["object"] == "fine_tuning.job" and job["seed"] == 7 and job["metadata"] == {"run": "1"}
    assert [one["id"] for one in fine_tuning.list(api)] == [job["id"]]
    own.turn_clock(60)
    assert fine_tuning.pause(api, job["id"])["status"] == "paused"
    assert fine_tuning.resume(api, job["id"])["status"] != "paused"
    assert fine_tuning.cancel(api, job["id"])["status"] == "cancelled"
    assert fine_tuning.get(api, job["id"])["status"] == "cancelled"


def test_a_job_is_followed_to_its_end_oldest_event_first_each_once(own, put):
    api = of(own)
    job = fine_tuning.create(api, put(CHATS), "gpt-4o-mini-2024-07-18")
    with Server(api, sleep=lambda seconds: own.turn_clock(600)) as server:
        found = list(fine_tuning.follow(server, job["id"]))
    assert [event["id"] for event in found] == [event["id"] for event in fine_tuning.events(api, job["id"])][::-1]
    assert fine_tuning.get(api, job["id"])["status"] == "succeeded"
    assert list(fine_tuning.checkpoints(api, job["id"]))


# Batches


def requests_file(put, count=5):
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/embeddings",
         "body": {"model": "text-embedding-3-small", "input": f"text {n}"}}
        for n in range(count)
    ]  # fmt: skip
    return put("".join(json.dumps(line) + "\n" for line in lines).encode(), "batch.jsonl")


def test_a_batch_of_a_local_file_is_made_waited_for_and_its_answers_come_down(own, put):
    api = of(own)
    batch = batches.create(api, requests_file(put), "/v1/embeddings", metadata={"run": "1"})
    assert batch["metadata"] == {"run": "1"} and batch["endpoint"] == "/v1/embeddings"
    shown = []
    with Server(api, sleep=lambda seconds: own.turn_clock(3600)) as server:
        done = batches.wait(server, batch["id"], on_change=lambda batch: shown.append(batch["status"]))
    assert done["status"] == "completed" == shown[-1] and done["request_counts"]["completed"] == 5
    out = io.BytesIO()
    files.content(api, done["output_file_id"], out)
    assert {json.loads(line)["custom_id"] for line in out.getvalue().splitlines()} == set("01234")


def test_batches_are_listed_over_pages_and_cancelled(own, put):
    api, path = of(own), requests_file(put)
    file = files.upload(api, path, "batch")["id"]
    made = [batches.create(api, file, "/v1/embeddings", metadata={"n": str(n)})["id"] for n in range(3)]
    assert [batch["id"] for batch in batches.list(api)] == made[::-1]
    assert batches.cancel(api, made[0])["status"] in ("cancelling", "cancelled")
    assert batches.get(api, made[1])["id"] == made[1]


# Nothing is made twice


def made_by(family, api, put):
    """Makes one of a family, and lists what of it there is."""
    if family == "files":
        return files.upload(api, put(TRAINING), "fine-tune"), files.list(api)
    if family == "uploads":
        return uploads.create(api, put(TRAINING), "fine-tune")["file"], files.list(api)
    if family == "fine-tunes":
        return fine_tunes.create(api, put(TRAINING), model="ada", n_epochs=2, batch_size=4), fine_tunes.list(api)
    if family == "fine-tuning":
        return fine_tuning.create(api, put(CHATS), "gpt-4o-mini-2024-07-18", suffix="mine"), fine_tuning.list(api)
    return batches.create(api, requests_file(put), "/v1/embeddings", metadata={"run": "1"}), batches.list(api)


@pytest.mark.parametrize("fault", ["reset_after", "reset", "short_body", "server_error", "gateway_timeout"])
@pytest.mark.parametrize(
    "family, path",
    [
        ("files", "/files"), ("uploads", "/uploads"), ("fine-tunes", "/fine-tunes"),
        ("fine-tuning", "/fine_tuning/jobs"), ("batches", "/batches"),
    ],
)  # fmt: skip
def test_what_a_fault_hides_is_made_once(own, put, family, path, fault):
    own.inject(fault, path=path)
    with Server(of(own), Retry(max_wait=0.02)) as server:
        made, listed = made_by(family, server, put)
        assert [one["id"] for one in listed] == [made["id"]]
    assert own.ledger()["faults"] == {fault: 1}


# Calls


def test_what_asks_is_tried_again_after_the_wait_that_the_server_asks_for(emulator, api):
    waits, told = [], []
    emulator.inject({"status": 429, "headers": {"retry-after-ms": "1500"}, "body": {"error": {"message": "slow"}}})
    emulator.inject("reset")
    with Server(api, sleep=waits.append, on_wait=lambda error, seconds: told.append(error)) as server:
        assert models.get(server, "text-embedding-3-small")
    assert 1.5 <= waits[0] <= 1.65 and len(waits) == 2
    assert [type(error) for error in told] == [errors.RateLimitError, errors.APIConnectionError]


def test_a_wait_that_is_too_long_and_attempts_that_are_spent_are_errors(emulator, api):
    waits = []
    with Server(api, Retry(attempts=3), sleep=waits.append) as server:
        emulator.inject({"status": 429, "headers": {"retry-after": "86400"}, "body": {}})
        with pytest.raises(errors.RateLimitError, match="86400 s, longer than Retry"):
            models.get(server, "x")
        assert not waits
        emulator.inject("server_error", times=9)
        with pytest.raises(errors.InternalServerError):
            models.get(server, "text-embedding-3-small")
        assert len(waits) == 2
    emulator.clear()


def test_a_job_that_failed_is_no_failed_call(emulator, api):
    job = {"id": "ftjob-1", "object": "fine_tuning.job", "status": "failed", "error": {"code": "x", "message": "why"}}
    emulator.inject({"status": 200, "body": job})
    assert fine_tuning.get(api, "ftjob-1") == job


@pytest.mark.parametrize(
    "body, kind",
    [
        ({"error": {"message": "no", "type": "invalid_request_error"}}, errors.BadRequestError),
        ({"object": "error", "message": "no", "type": "BadRequestError", "code": 400}, errors.BadRequestError),
        ("<html>", errors.BadAnswerError),
        ("[1]", errors.BadAnswerError),
        ("", errors.BadAnswerError),
    ],
)
def test_a_200_that_is_no_answer_is_an_error(emulator, api, body, kind):
    emulator.inject({"status": 200, "body": body}, times=2)
    with Server(api, Retry(attempts=2), sleep=lambda seconds: None) as server, pytest.raises(kind):
        models.get(server, "x")
    emulator.clear()


def test_a_key_that_is_not_where_it_should_be_names_the_place():
    with pytest.raises(errors.AuthenticationError, match="NOT_SET"):
        models.get(API(base_url="http://127.0.0.1:1", key="NOT_SET"), "x")


def test_listing_begins_when_it_is_read_and_leaves_no_connection(api, emulator):
    before, found = open_sockets(), models.list(api)
    assert emulator.ledger()["requests"] == 0
    next(found)
    found.close()
    assert open_sockets() == before
