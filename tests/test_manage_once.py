"""What makes something makes it once, whatever becomes of the connection; on a server that really makes it."""

import email.utils
import io
import json
import os
import threading
import time
import urllib.parse

import pytest
from wire import Wire

from beam_openai import API, Retry, errors
from beam_openai.manage import Server, batches, files, fine_tunes, fine_tuning, models, uploads

QUICK = Retry(attempts=4, max_wait=0.02)
CUT, CLOSED = "cut", "closed"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class Office(Wire):
    """Makes, lists and deletes; what becomes of the answer to each request that changes something is said beforehand.

    Args:
      fates: of one request after the other, then all is well. `CLOSED`: not carried out, no answer. `CUT`: carried out,
        no answer. A number: carried out, and answered with this status. A negative one: not carried out, and that status.
        Bytes: carried out, and answered so.
      ahead: of its clock, in seconds; None for one that does not tell its time.
      shows: whether one upload can be asked for.
    """

    def __init__(self, *fates, ahead=0.0, shows=True):
        super().__init__(self._act)
        self.fates, self.ahead, self.shows = list(fates), ahead, shows
        self.objects, self.carried, self._numbers = {}, [], iter(range(1, 100))

    def api(self):
        return API(base_url=self.url, timeout=5)

    def server(self, **options):
        return Server(self.api(), QUICK, **options)

    def now(self):
        return int(time.time() + (self.ahead or 0))

    def made(self, path):
        return [one for one in self.objects.values() if one["_"] == path]

    def _act(self, connection):
        line, headers, body = self.requests[-1]
        method, target, _ = line.split()
        path = urllib.parse.urlsplit(target).path.removeprefix("/v1")
        if method == "GET":
            return self._send(connection, *self._get(path))
        fate = self.fates.pop(0) if self.fates else 200
        if fate == CLOSED:
            return "close"
        if isinstance(fate, int) and fate < 0:
            return self._send(connection, -fate, {"error": {"message": "not now", "type": "server_error"}})
        status, answer = self._carry_out(method, path, headers, body)
        if fate == CUT:
            return "close"
        if isinstance(fate, bytes):
            connection.sendall(fate)
            return "close"
        if fate != 200:
            return self._send(connection, fate, {"error": {"message": "oh", "type": "server_error"}})
        return self._send(connection, status, answer)

    def _get(self, path):
        if path in self.objects:
            shown = self.shows or self.objects[path]["_"] != "/uploads"
            return (200, self.objects[path]) if shown else (404, {"error": {"message": "Unknown request URL"}})
        listed = sorted(self.made(path), key=lambda one: one["number"], reverse=True)
        return 200, {"object": "list", "data": listed, "has_more": False}

    def _carry_out(self, method, path, headers, body):
        if method == "DELETE":
            one = self.objects.pop(path, None)
            return (200, {"id": one["id"], "deleted": True}) if one else (404, {"error": {"message": "No such thing"}})
        self.carried.append(path)
        if path in ("/files", "/fine-tunes", "/fine_tuning/jobs", "/batches", "/uploads"):
            return 200, self.make(path, **self._told(path, headers, body))
        path, _, verb = path.rpartition("/")
        one = self.objects[path]
        if verb == "parts":
            return 200, {"id": f"part-{len(self.carried)}", "object": "upload.part"}
        if one["status"] == verb:
            return 400, {"error": {"message": f"is {verb} already", "type": "invalid_request_error"}}
        one["status"] = verb
        if verb == "complete":
            one["status"] = "completed"
            named = {name: one[name] for name in ("filename", "bytes", "purpose")}
            one["file"] = self.make("/files", **named)
        elif verb == "cancel":
            one["status"] = "cancelled"
        return 200, one

    def make(self, path, **told):
        number = next(self._numbers)
        one = {"_": path, "number": number, "id": f"id-{number}", "created_at": self.now(), "status": "pending", **told}
        self.objects[f"{path}/{one['id']}"] = one
        return one

    def _told(self, path, headers, body):
        if path == "/files":
            boundary = headers["Content-Type"].partition("boundary=")[2].encode()
            *_, purpose, file, _ = body.split(b"--" + boundary)
            head, _, data = file.partition(b"\r\n\r\n")
            name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
            return {"filename": name, "bytes": len(data) - 2, "purpose": purpose.split(b"\r\n")[3].decode()}
        told = json.loads(body)
        if path == "/fine-tunes":
            told = {
                "model": told.get("model", "curie"),
                "training_files": [{"id": told["training_file"]}],
                "validation_files": [{"id": told["validation_file"]}] if "validation_file" in told else [],
                "hyperparams": {"n_epochs": told.get("n_epochs", 4), "batch_size": None},
            }
        if path == "/fine_tuning/jobs":
            told["model"] += "-2024-07-18"
        return told

    def _send(self, connection, status, answer):
        body = json.dumps(answer).encode()
        head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        if self.ahead is not None:
            head.append(f"Date: {email.utils.formatdate(self.now(), usegmt=True)}")
        connection.sendall("\r\n".join([*head, "", ""]).encode() + body)
        return None


@pytest.fixture
def path(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"x" * 1000)
    return str(tmp_path / "a.jsonl")


MAKES = {
    "/files": lambda server, path: files.upload(server, path, "batch"),
    "/fine-tunes": lambda server, path: fine_tunes.create(server, "file-1", model="ada", n_epochs=2, batch_size=8),
    "/fine_tuning/jobs": lambda server, path: fine_tuning.create(server, "file-1", "gpt", seed=3, metadata={"a": "b"}),
    "/batches": lambda server, path: batches.create(server, "file-1", "/v1/embeddings", metadata={"run": "7"}),
}
LOST = [
    CUT,
    500,
    503,
    b"",
    b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    b'HTTP/1.1 200 OK\r\nContent-Length: 37\r\n\r\n{"error":{"message":"","code":"x_y"}} ',
]


@pytest.mark.parametrize("where", MAKES)
@pytest.mark.parametrize("fate", LOST, ids=repr)
@pytest.mark.parametrize("ahead", [0, -86_400, 7200.5, None])
def test_what_was_carried_out_though_its_answer_was_lost_is_found_and_not_made_again(path, where, fate, ahead):
    with Office(fate, ahead=ahead) as office, office.server() as server:
        made = MAKES[where](server, path)
        assert [made] == office.made(where) and office.carried == [where]


@pytest.mark.parametrize("where", MAKES)
@pytest.mark.parametrize("fate", [CLOSED, -500, -503, -409, -429])
def test_what_was_not_carried_out_is_sent_again(path, where, fate):
    with Office(fate, fate, ahead=5) as office, office.server() as server:
        made = MAKES[where](server, path)
        assert [made] == office.made(where) and office.carried == [where]
        assert sum(line.startswith("POST") for line, _, _ in office.requests) == 3


def test_what_was_refused_is_sent_again_without_looking(path):
    with Office(-429, -429) as office, office.server() as server:
        files.upload(server, path, "batch")
        assert [line.split()[0] for line, _, _ in office.requests] == ["POST"] * 3


def test_once_an_answer_was_lost_every_later_attempt_looks_first(path):
    class Slow(Office):
        """Shows what it made only the third time it is asked."""

        asked = 0

        def _get(self, path):
            self.asked += 1
            return super()._get(path) if self.asked > 2 else (200, {"object": "list", "data": [], "has_more": False})

    with Slow(CUT, -429, -429) as office, office.server() as server:
        files.upload(server, path, "batch")
        assert len(office.made("/files")) == 1


def test_an_attempt_that_was_the_last_is_looked_for_too(path):
    with Office(CUT) as office, Server(office.api(), Retry(attempts=1)) as server:
        assert [files.upload(server, path, "batch")] == office.made("/files")


def test_spent_attempts_are_the_error_of_the_last_one(path):
    with Office(*[CLOSED] * 9) as office, office.server() as server, pytest.raises(errors.APIConnectionError):
        files.upload(server, path, "batch")


def test_where_it_cannot_be_looked_for_the_error_says_that_it_may_have_been_done(path):
    class Blind(Office):
        def _get(self, path):
            return 403, {"error": {"message": "not for you"}}

    with Blind(CUT) as office, office.server() as server, pytest.raises(errors.APIConnectionError) as caught:
        files.upload(server, path, "batch")
    assert "may have been carried out" in str(caught.value) and "not for you" in str(caught.value)
    assert office.carried == ["/files"]


@pytest.mark.parametrize("ahead", [0, 7200])
@pytest.mark.parametrize("where", MAKES)
def test_an_older_one_that_is_just_like_it_is_not_taken_for_it(path, where, ahead):
    with Office(ahead=ahead) as office:
        with office.server() as server:
            MAKES[where](server, path)
        old = office.made(where)[0]
        old["created_at"] -= 3
        office.fates = [CLOSED]
        with office.server() as server:
            assert MAKES[where](server, path)["id"] != old["id"]
        assert len(office.made(where)) == 2


def test_what_the_same_server_was_answered_for_is_not_taken_for_another(path):
    with Office() as office, office.server() as server:
        first = files.upload(server, path, "batch")
        office.fates = [CLOSED]
        assert files.upload(server, path, "batch")["id"] != first["id"]


@pytest.mark.parametrize(
    "where, told",
    [
        ("/files", {"filename": "b.jsonl", "bytes": 1000, "purpose": "batch"}),
        ("/files", {"filename": "a.jsonl", "bytes": 1001, "purpose": "batch"}),
        ("/files", {"filename": "a.jsonl", "bytes": 1000, "purpose": "vision"}),
        ("/fine-tunes", {"model": "ada", "training_files": [{"id": "file-2"}], "hyperparams": {"n_epochs": 2}}),
        ("/fine-tunes", {"model": "curie", "training_files": [{"id": "file-1"}], "hyperparams": {"n_epochs": 2}}),
        ("/fine-tunes", {"model": "ada", "training_files": [{"id": "file-1"}], "hyperparams": {"n_epochs": 4}}),
        ("/fine_tuning/jobs", {"model": "gpt", "training_file": "file-2", "seed": 3, "metadata": {"a": "b"}}),
        ("/fine_tuning/jobs", {"model": "gpt4", "training_file": "file-1", "seed": 3, "metadata": {"a": "b"}}),
        ("/fine_tuning/jobs", {"model": "gpt", "training_file": "file-1", "seed": 4, "metadata": {"a": "b"}}),
        ("/fine_tuning/jobs", {"model": "gpt", "training_file": "file-1", "seed": 3, "metadata": {"a": "c"}}),
        ("/batches", {"input_file_id": "file-2", "endpoint": "/v1/embeddings", "metadata": {"run": "7"}}),
        ("/batches", {"input_file_id": "file-1", "endpoint": "/v1/moderations", "metadata": {"run": "7"}}),
        ("/batches", {"input_file_id": "file-1", "endpoint": "/v1/embeddings", "metadata": {"run": "8"}}),
        ("/batches", {}),
    ],
)
def test_another_one_made_at_the_same_time_is_not_taken_for_it(path, where, told):
    with Office(CLOSED) as office, office.server() as server:
        other = office.make(where, **{"completion_window": "24h", **told}) | {"created_at": office.now() + 60}
        office.objects[f"{where}/{other['id']}"] = other
        assert MAKES[where](server, path)["id"] != other["id"]


def test_a_job_is_found_by_its_suffix_where_the_server_tells_it(path):
    with Office(CUT) as office, office.server() as server:
        office.make("/fine_tuning/jobs", model="gpt", training_file="file-1", user_provided_suffix="other")
        assert fine_tuning.create(server, "file-1", "gpt", suffix="mine")["suffix"] == "mine"
        assert len(office.made("/fine_tuning/jobs")) == 2


def test_two_files_that_differ_are_both_made(tmp_path):
    with Office(CUT, CUT) as office:
        for name in ("a.jsonl", "b.jsonl"):
            (tmp_path / name).write_bytes(b"x" * 500)
            assert files.upload(office.api(), tmp_path / name, "batch")["filename"] == name
        assert len(office.made("/files")) == 2


# Changes


@pytest.mark.parametrize(
    "where, cancel",
    [
        ("/fine-tunes", fine_tunes.cancel), ("/fine_tuning/jobs", fine_tuning.cancel), ("/batches", batches.cancel),
        ("/uploads", uploads.cancel),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fate", [CUT, 502])
def test_a_cancellation_whose_answer_was_lost_is_not_sent_again(where, cancel, fate):
    with Office(fate) as office, office.server() as server:
        one = office.make(where)
        assert cancel(server, one["id"])["status"] == "cancelled"
        assert office.carried == [f"{where}/{one['id']}/cancel"]


@pytest.mark.parametrize("delete, where", [(files.delete, "/files"), (models.delete, "/models")])
def test_a_deletion_whose_answer_was_lost_is_done_and_one_of_nothing_is_an_error(delete, where):
    with Office(CUT) as office, office.server() as server:
        one = office.make(where)
        assert delete(server, one["id"]) == {"id": one["id"], "deleted": True}
        with pytest.raises(errors.NotFoundError):
            delete(server, one["id"])


@pytest.mark.parametrize("shows", [True, False])
@pytest.mark.parametrize(
    "fates", [[CUT], [200, CUT], [200, 200, CUT], [200, 200, 500], [CLOSED] * 2, [200, 200, CLOSED]]
)
def test_an_upload_in_parts_makes_one_file_whatever_is_lost(path, shows, fates):
    with Office(*fates, shows=shows) as office, office.server() as server:
        upload = uploads.create(server, path, "batch", concurrency=1)
        assert upload["status"] == "completed"
        assert [upload["file"]["id"]] == [file["id"] for file in office.made("/files")]


def test_an_upload_whose_id_is_not_told_is_begun_again(path):
    nameless = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    with Office(nameless, nameless) as office, office.server() as server:
        assert uploads.create(server, path, "batch")["status"] == "completed"
    with Office(*[nameless] * 4) as office, office.server() as server, pytest.raises(errors.BadAnswerError, match="id"):
        uploads.create(server, path, "batch")


# Listings and downloads that misbehave


def answer(body, *headers):
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Says(Wire):
    """Answers each request with the next of these, the last for ever; with a tuple it closes behind the first."""

    def __init__(self, *answers):
        super().__init__(self._act)
        self._answers = list(answers)

    def _act(self, connection):
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        connection.sendall(said[0] if isinstance(said, tuple) else said)
        return "close" if isinstance(said, tuple) else None

    def server(self, **options):
        return Server(API(base_url=self.url, timeout=2), QUICK, **options)


def page(*ids, **more):
    return answer(json.dumps({"object": "list", "data": [{"id": id} for id in ids], **more}).encode())


def asked(wire):
    return [
        urllib.parse.parse_qs(urllib.parse.urlsplit(line.split()[1]).query).get("after") for line, _, _ in wire.requests
    ]


@pytest.mark.parametrize(
    "pages, ids",
    [
        ([page("a", "b", has_more=True), page("c", has_more=False)], "abc"),
        ([page("a", "b", has_more=True), page("b", "c", has_more=True), page(has_more=True)], "abc"),
        ([page("a", "b"), page("c"), page()], "abc"),
        ([page("a", "b"), page("a", "b")], "ab"),
        ([page("a", "a", has_more=False)], "a"),
        ([page(has_more=True)], ""),
    ],
)
def test_a_listing_ends_where_it_ends_and_gives_each_once(pages, ids):
    with Says(*pages) as wire, wire.server() as server:
        assert "".join(one["id"] for one in files.list(server)) == ids
        assert len(wire.requests) == len(pages)
        assert asked(wire)[0] is None and asked(wire)[1:2] in ([], [["b"]])


def test_a_listing_that_goes_round_in_a_circle_is_an_error_after_what_it_gave():
    with Says(page("a", "b", has_more=True)) as wire, wire.server() as server:
        found = files.list(server)
        assert [next(found)["id"], next(found)["id"]] == ["a", "b"]
        with pytest.raises(errors.BadAnswerError, match="more after b"):
            next(found)
        assert len(wire.requests) == 2


@pytest.mark.parametrize("body", [b'{"object":"list"}', b'{"object":"list","data":[1]}', b'{"id":1,"data":{}}'])
def test_what_is_no_listing_is_an_error(body):
    with Says(answer(body)) as wire, wire.server() as server, pytest.raises(errors.BadAnswerError, match="no list"):
        list(files.list(server))


def test_a_page_that_fails_is_asked_for_again():
    cut = (page("b", "c", has_more=False)[:-9],)
    with Says(page("a", has_more=True), cut, page("b", has_more=False)) as wire, wire.server() as server:
        assert [one["id"] for one in files.list(server)] == ["a", "b"]
        assert asked(wire) == [None, ["a"], ["a"]]


DATA = bytes(range(256)) * 4000


@pytest.mark.parametrize("cut", [1, 100, 300_000, len(DATA)])
def test_a_download_that_is_cut_is_begun_again_and_comes_out_whole(tmp_path, cut):
    with Says((answer(DATA)[:-cut],), (answer(DATA)[: -cut // 2],), answer(DATA)) as wire, wire.server() as server:
        assert files.content(server, "file-1", tmp_path / "to") == len(DATA)
        assert (tmp_path / "to").read_bytes() == DATA and os.listdir(tmp_path) == ["to"]
    with Says((answer(DATA)[:-cut],), answer(DATA)) as wire, wire.server() as server:
        out = io.BytesIO()
        assert files.content(server, "file-1", out) == len(DATA) and out.getvalue() == DATA


def test_a_download_that_never_comes_whole_leaves_nothing(tmp_path):
    with Says((answer(DATA)[:-1],)) as wire, wire.server() as server:
        with pytest.raises(errors.APIConnectionError):
            files.content(server, "file-1", tmp_path / "to")
        assert os.listdir(tmp_path) == [] and len(wire.requests) == QUICK.attempts


def test_a_download_that_is_another_file_the_second_time_is_an_error(tmp_path):
    with Says((answer(DATA)[:-1],), answer(DATA[:1000])) as wire, wire.server() as server:
        with pytest.raises(errors.BadAnswerError, match="1000 bytes"):
            files.content(server, "file-1", tmp_path / "to")
        assert os.listdir(tmp_path) == []


def test_what_is_written_is_not_in_place_before_it_is_whole(tmp_path):
    go = threading.Event()

    def act(connection):
        connection.sendall(answer(DATA)[:-1])
        go.wait(10)
        connection.sendall(DATA[-1:])

    with Wire(act) as wire:
        server = Server(API(base_url=wire.url))
        thread = threading.Thread(target=lambda: files.content(server, "file-1", tmp_path / "to"))
        thread.start()
        while not os.listdir(tmp_path):
            time.sleep(0.01)
        assert "to" not in os.listdir(tmp_path)
        go.set()
        thread.join(10)
        assert os.listdir(tmp_path) == ["to"]


# Streams of events that misbehave


def event(message, at=1):
    return {"object": "fine-tune-event", "created_at": at, "level": "info", "message": message}


def stream(*events, done=False, cut=0):
    data = b"".join(b"data: %b\n\n" % json.dumps(one, ensure_ascii=False).encode() for one in events)
    data += b"data: [DONE]\n\n" if done else b""
    return (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n" + data[: len(data) - cut],)


def job(status):
    return answer(json.dumps({"id": "ft-1", "object": "fine-tune", "status": status}).encode())


def listed(*events):
    return answer(json.dumps({"object": "list", "data": events}).encode())


A, B, C = event("Wörter: ä"), event("𝄞", 2), event("𝄞", 2)


RUNNING, ENDED = job("running"), job("succeeded")
NO_STREAM = b"HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "answers",
    [
        [stream(A, B, C, done=True), ENDED],
        [
            stream(A, cut=8),
            RUNNING,
            listed(),
            stream(A, B, cut=7),
            RUNNING,
            listed(A),
            stream(A, B, C, done=True),
            ENDED,
        ],
        [stream(A, B), RUNNING, listed(A, B), stream(A, B, C), job("cancelled"), listed(A, B, C)],
        [(b"",), RUNNING, listed(A), listed(), job("failed"), listed(A, B, C)],
        [stream({"error": {"message": "x"}}), ENDED, listed(A, B, C)],
        [stream(A, done=True), RUNNING, listed(A), stream(A, B, C, done=True), ENDED],
        [NO_STREAM, job("no-such-status"), listed(A, B), stream(), ENDED, listed(A, B, C)],
    ],
    ids=["whole", "cut in a character", "no end", "no stream", "error", "done too early", "refused"],
)
def test_following_gives_each_event_once_however_the_stream_breaks(answers):
    waits = []
    with Says(*answers) as wire, wire.server(sleep=waits.append) as server:
        assert list(fine_tunes.follow(server, "ft-1", poll=7)) == [A, B, C]
        assert len(wire.requests) == len(answers) and set(waits) <= {7}


def test_following_ends_when_the_server_says_no():
    refusal = b'HTTP/1.1 401 No\r\nContent-Length: 32\r\n\r\n{"error":{"message":"bad key!!"}}'
    with Says(stream(A), refusal) as wire, wire.server() as server:
        found = fine_tunes.follow(server, "ft-1")
        assert next(found) == A
        with pytest.raises(errors.AuthenticationError):
            next(found)
