"""Forms as they go over the wire, read back by a parser nobody here wrote; streams, and what is fetched elsewhere."""

import email
import email.policy
import gzip
import io
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time

import pytest
from wire import Wire, closed_meanwhile, sends

from beam_openai import errors
from beam_openai.client import API, Client, File, Form, LocalFile, Request, form_fields, guess, multipart, segment

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("OPENAI_") or name.lower().endswith("_proxy") or "CA_BUNDLE" in name:
            monkeypatch.delenv(name)


@pytest.fixture
def wire():
    with Wire(sends(OK)) as wire:
        yield wire


def made(url, timeout=10.0, **options):
    return Client(API(base_url=url, timeout=timeout, **options), 4)


def failure(call):
    with pytest.raises(errors.APIError) as caught:
        call()
    return caught.value


class Held:
    """A source that may read other than it says."""

    def __init__(self, data, size=None):
        self.size = len(data) if size is None else size
        self._data, self.opened = data, []

    def open(self):
        self.opened.append(io.BytesIO(self._data))
        return self.opened[-1]


def parsed(head, body):
    """(name, filename, content type, bytes) of each part."""
    message = email.message_from_bytes(
        f"Content-Type: {head['Content-Type']}\r\n\r\n".encode() + body, policy=email.policy.HTTP
    )
    assert not message.defects
    return [
        (
            part.get_param("name", header="content-disposition"),
            part.get_filename(),
            part.get_content_type() if part.get_filename() else None,
            part.get_payload(decode=True),
        )
        for part in message.iter_parts()
    ]


def sent(wire, form):
    made(wire.url).send(Request("/files", form))
    line, head, body = wire.requests[-1]
    assert line == "POST /v1/files HTTP/1.1" and int(head["Content-Length"]) == len(body)
    assert "Transfer-Encoding" not in head
    return head, body


# Forms


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 262_144, 262_145, 3_000_000])
@pytest.mark.parametrize("kind", [bytes, memoryview, Held, lambda data: memoryview(data + b"more")[:-4]])
def test_a_form_arrives_with_its_fields_and_files_byte_for_byte(wire, size, kind):
    data = random.Random(size).randbytes(size)
    form = Form([("purpose", "batch"), ("n", "")], [File("file", "a.jsonl", "application/jsonl", kind(data))])
    assert parsed(*sent(wire, form)) == [
        ("purpose", None, None, b"batch"),
        ("n", None, None, b""),
        ("file", "a.jsonl", "application/jsonl", data),
    ]


def test_several_fields_and_files_of_one_name_keep_their_order(wire):
    files = [File("image[]", f"{number}.png", "image/png", bytes([number]) * 70_000) for number in range(3)]
    form = Form([("include[]", "a"), ("include[]", "b")], files)
    parts = parsed(*sent(wire, form))
    assert [part[3][:1] for part in parts] == [b"a", b"b", b"\x00", b"\x01", b"\x02"]
    assert [part[0] for part in parts] == ["include[]"] * 2 + ["image[]"] * 3


def test_a_form_of_nothing_is_still_a_form(wire):
    head, body = sent(wire, Form())
    assert body == b"--%b--\r\n" % head["Content-Type"].partition("boundary=")[2].encode()


@pytest.mark.parametrize(
    "name, written",
    [
        ("plain.png", b"plain.png"),
        ('a"; filename="b.png', b"a%22; filename=%22b.png"),
        ("a\r\nContent-Type: text/html\r\n\r\nx", b"a%0D%0AContent-Type: text/html%0D%0A%0D%0Ax"),
        ("Grüße 𝄞.png", "Grüße 𝄞.png".encode()),
        ("back\\slash.png", b"back\\slash.png"),
        (os.fsdecode(b"\xff.png"), b"\xff.png"),
    ],
)
def test_a_name_cannot_end_early_and_is_written_as_browsers_write_it(wire, name, written):
    _, body = sent(wire, Form([(name, "value")], [File("file", name, "image/png", b"data")]))
    assert body.count(b'; name="%b"\r\n\r\nvalue\r\n' % written) == 1
    assert body.count(b'; name="file"; filename="%b"\r\nContent-Type: image/png\r\n\r\ndata\r\n' % written) == 1


def test_text_is_sent_as_it_is_line_ends_too(wire):
    text = "one\ntwo\rthree\r\n--x\r\n\x00 \u2028 𝄞"
    assert parsed(*sent(wire, Form([("prompt", text)])))[0][3] == text.encode()


def test_text_that_utf8_has_no_bytes_for_is_a_value_error(wire):
    with pytest.raises(ValueError):
        made(wire.url).send(Request("/x", Form([("prompt", "\ud800")])))
    assert not wire.requests


@pytest.mark.parametrize("kind", ["image/png\r\nX: y", "", "image/pñg"])
def test_a_content_type_that_cannot_be_one_is_refused(kind):
    with pytest.raises(ValueError, match="content type"):
        File("file", "a", kind, b"")


def test_every_attempt_has_a_boundary_of_its_own_that_is_not_in_what_is_sent(monkeypatch):
    form = Form([("a", "b")], [File("file", "a", "image/png", b"data")])
    assert len({form.encode().content_type for _ in range(20)}) == 20
    tokens = ["1" * 32, "2" * 32, "3" * 32]
    monkeypatch.setattr(multipart.secrets, "token_hex", lambda size: tokens.pop(0))
    taken = memoryview(b"x--beam-openai-" + b"1" * 32)
    form = Form([("a", f"beam-openai-{'2' * 32}")], [File("file", "a", "image/png", taken)])
    assert form.encode().content_type.endswith("3" * 32)


def test_a_source_is_opened_for_each_attempt_and_closed_after_it(wire):
    source = Held(bytes(600_000))
    form = Form(files=[File("file", "a", "image/png", source)])
    client = made(wire.url)
    for _ in range(2):
        client.send(Request("/x", form))
    assert len(source.opened) == 2 and all(file.closed for file in source.opened)
    assert wire.requests[0][2][-100_000:-200] == wire.requests[1][2][-100_000:-200]


@pytest.mark.parametrize("size, says", [(700_001, "after 700000 bytes it ends"), (699_999, "it has more")])
def test_a_source_that_changes_while_it_is_sent_is_an_error_and_not_a_hang(wire, size, says):
    form = Form(files=[File("file", "corpus.jsonl", "image/png", Held(bytes(700_000), size))])
    client = made(wire.url)
    error = failure(lambda: client.send(Request("/x", form)))
    assert f"corpus.jsonl changed while it was sent: it had {size} bytes, and {says}" in str(error)
    assert error.action == "fail"
    time.sleep(0.1)
    assert not [head for _, head, body in wire.requests if int(head["Content-Length"]) == len(body)]
    assert client.send(Request("/x", b"{}")).status == 200  # on a connection of its own


@pytest.mark.parametrize("why", [PermissionError(13, "Permission denied"), RuntimeError("the store's own")])
def test_a_source_that_cannot_be_read_is_an_error_that_names_it(wire, why):
    class Broken(Held):
        def open(self):
            raise why

    form = Form(files=[File("file", "corpus.jsonl", "image/png", Broken(b"1"))])
    error = failure(lambda: made(wire.url).send(Request("/x", form)))
    assert "corpus.jsonl cannot be read" in str(error) and not isinstance(error, errors.APIConnectionError)


def test_a_local_file_is_a_source_and_what_is_none_is_refused(wire, tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(range(256)) * 2000)
    source = LocalFile(str(tmp_path / "a.bin"))
    assert source.size == 512_000
    head, body = sent(wire, Form(files=[File("file", "a.bin", "image/png", source)]))
    assert parsed(head, body)[0][3] == bytes(range(256)) * 2000
    with pytest.raises(FileNotFoundError):
        LocalFile(str(tmp_path / "b.bin"))
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="not a plain file"):
            LocalFile(str(path))


def test_a_server_that_answers_before_it_has_read_all_is_heard():
    refusal = b'{"error":{"message":"File is too large","code":null,"type":"invalid_request_error","param":"file"}}'
    listener = socket.create_server(("127.0.0.1", 0))

    def refuse():
        connection, _ = listener.accept()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: %d\r\n\r\n" % len(refusal) + refusal)
        while connection.recv(1 << 20):
            pass

    threading.Thread(target=refuse, daemon=True).start()
    form = Form(files=[File("file", "a", "image/png", Held(bytes(8_000_000)))])
    error = failure(lambda: made(f"http://127.0.0.1:{listener.getsockname()[1]}").send(Request("/x", form)))
    listener.close()
    assert error.status == 413 and "File is too large" in str(error)


def slow_server(seconds, pieces):
    """Reads a form in so many pieces with pauses between, and answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)

    def serve():
        connection, _ = listener.accept()
        left = 6_000_000
        for _ in range(pieces):
            time.sleep(seconds / pieces)
            want = left // pieces
            while want > 0:
                want -= len(connection.recv(min(want, 1 << 20)))
        while not connection.recv(1 << 20).endswith(b"--\r\n"):
            pass
        time.sleep(seconds / pieces)
        connection.sendall(OK)

    threading.Thread(target=serve, daemon=True).start()
    return listener


def test_what_is_streamed_may_take_longer_than_the_timeout_as_long_as_it_moves():
    with slow_server(1.5, 10) as listener:
        form = Form(files=[File("file", "a", "image/png", Held(bytes(6_000_000)))])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert made(url, timeout=0.9).send(Request("/x", form)).status == 200


def test_a_form_in_memory_is_one_attempt_and_has_its_time():
    with slow_server(3, 10) as listener:
        form = Form(files=[File("file", "a", "image/png", bytes(6_000_000))])
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert isinstance(failure(lambda: made(url, timeout=0.5).send(Request("/x", form))), errors.APITimeoutError)


def test_a_stalled_upload_is_a_timeout():
    listener = socket.create_server(("127.0.0.1", 0))
    form = Form(files=[File("file", "a", "image/png", Held(bytes(20_000_000)))])
    error = failure(lambda: made(f"http://127.0.0.1:{listener.getsockname()[1]}", 0.4).send(Request("/x", form)))
    listener.close()
    assert isinstance(error, errors.APITimeoutError)


# Options as fields


@pytest.mark.parametrize(
    "options, fields",
    [
        ({"model": "whisper-1", "n": 2}, [("model", "whisper-1"), ("n", "2")]),
        ({"temperature": 0.2}, [("temperature", "0.2")]),
        (
            {"temperature": 1e-7, "b": 1e22, "c": -0.5},
            [("temperature", "0.0000001"), ("b", "1" + "0" * 22), ("c", "-0.5")],
        ),
        ({"stream": True, "store": False}, [("stream", "true"), ("store", "false")]),
        ({"include": ["a", "b"], "none": []}, [("include[]", "a"), ("include[]", "b")]),
        (
            {"expires_after": {"anchor": "created_at", "seconds": 3600}},
            [("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600")],
        ),
        ({"a": {"b": [{"c": 1}, {"c": 2}]}}, [("a[b][][c]", "1"), ("a[b][][c]", "2")]),
        ({"text": 'as "it" is\n'}, [("text", 'as "it" is\n')]),
    ],
)
def test_options_become_fields(options, fields):
    assert form_fields(options) == fields


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), b"bytes", object()])
def test_what_a_form_cannot_hold_is_refused_with_its_name(value):
    with pytest.raises(ValueError, match=r"a\[b\]"):
        form_fields({"a": {"b": value}})


@pytest.mark.parametrize(
    "name, kind",
    [
        ("a.png", "image/png"), ("A.JPG", "image/jpeg"), ("a.b.jpeg", "image/jpeg"), ("a.webp", "image/webp"),
        ("a.mp3", "audio/mpeg"), ("a.m4a", "audio/mp4"), ("a.wav", "audio/wav"), ("a.flac", "audio/flac"),
        ("a.ogg", "audio/ogg"), ("a.webm", "audio/webm"), ("a.jsonl", "application/jsonl"),
        ("a.unknown", "application/octet-stream"), ("png", "image/png"), ("", "application/octet-stream"),
    ],
)  # fmt: skip
def test_the_content_type_is_told_by_the_name(name, kind):
    assert guess(name) == kind


# Paths and queries


@pytest.mark.parametrize(
    "id, written",
    [
        ("ft:gpt-4o:org::id", "ft:gpt-4o:org::id"),
        ("org/name", "org%2Fname"),
        ("a b?c#d%e", "a%20b%3Fc%23d%25e"),
        ("!$&'()*+,;=:@-._~", "!$&'()*+,;=:@-._~"),
        ("é", "%C3%A9"),
        ("a\r\nX: y", "a%0D%0AX:%20y"),
    ],
)
def test_an_id_is_one_segment_of_the_path(wire, id, written):
    assert segment(id) == written
    made(wire.url).send(Request(f"/models/{segment(id)}", method="DELETE"))
    assert wire.requests[-1][0] == f"DELETE /v1/models/{written} HTTP/1.1"


@pytest.mark.parametrize("id", ["", ".", ".."])
def test_an_id_that_would_lead_to_another_path_is_refused(id):
    with pytest.raises(ValueError, match="not an id"):
        segment(id)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_query_stands_beside_that_of_the_base_and_the_version(wire, method):
    client = Client(API(base_url=f"{wire.url}?a=b", api_version="2024-10-21"), 1)
    client.send(Request("/files", method=method, query={"after": "file-1&x=y", "limit": "2", "é": "ü"}))
    line, head, body = wire.requests[-1]
    assert line == (
        f"{method} /v1/files?a=b&api-version=2024-10-21&after=file-1%26x%3Dy&limit=2&%C3%A9=%C3%BC HTTP/1.1"
    )
    assert body == b"" and "Content-Type" not in head and "Content-Length" not in head


# Streams


def chunk(data):
    return b"%x\r\n%b\r\n" % (len(data), data)


def test_a_stream_gives_the_head_and_each_piece_when_it_comes():
    go = threading.Event()

    def act(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-Request-Id: r\r\n\r\n" + chunk(b"one"))
        go.wait(10)
        connection.sendall(chunk(b"two") + b"0\r\n\r\n")

    with Wire(act) as wire, made(wire.url).stream(Request("/x", method="GET")) as stream:
        assert (stream.status, stream.headers["x-request-id"]) == (200, "r")
        assert next(iter(stream)) == b"one"
        go.set()
        assert list(stream) == [b"two"]


def test_a_stream_that_was_read_gives_its_connection_back_and_one_that_was_not_closes_it():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 900000\r\n\r\n" + bytes(900_000)
    with Wire(sends(answer)) as wire:
        client = made(wire.url)
        for _ in range(3):
            with client.stream(Request("/x", method="GET")) as stream:
                assert sum(map(len, stream)) == 900_000
        assert wire.connections == 1
        for _ in range(2):
            with client.stream(Request("/x", method="GET")) as stream:
                next(iter(stream))
        with pytest.raises(ZeroDivisionError), client.stream(Request("/x", method="GET")) as stream:
            1 / 0  # noqa: B018
        assert bytes(client.send(Request("/x", method="GET")).body) == bytes(900_000)
        assert wire.connections == 4


def test_a_stream_is_decompressed():
    body = gzip.compress(b"row\n" * 100_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with Wire(sends(answer)) as wire, made(wire.url).stream(Request("/x", method="GET")) as stream:
        assert b"".join(stream) == b"row\n" * 100_000


def test_a_refusal_of_a_stream_is_the_error_that_send_raises(monkeypatch):
    monkeypatch.setenv("THE_KEY", "sk-hunter2")
    said = b'{"error":{"message":"No such File object: file-1, asked by sk-hunter2","type":"invalid_request_error"}}'
    with Wire(sends(b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n" % len(said) + said)) as wire:
        client = made(wire.url, key="THE_KEY")
        stream = client.stream(Request("/files/file-1/content", method="GET"))
        error = failure(stream.__enter__)
        assert type(error) is errors.NotFoundError and "No such File object" in str(error)
        assert str(error) == str(failure(lambda: client.send(Request("/files/file-1/content", method="GET"))))
        assert "hunter2" not in repr((error.args, vars(error)))
        assert wire.connections == 1


def read(client):
    with client.stream(Request("/x", method="GET")) as stream:
        return b"".join(stream)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"garbage",
    ],
)
def test_a_stream_that_is_cut_is_a_connection_error(answer):
    with Wire(sends((answer, None))) as wire:
        assert type(failure(lambda: read(made(wire.url)))) is errors.APIConnectionError


def test_a_stream_may_take_longer_than_the_timeout_but_no_piece_of_it():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"
    with Wire(lambda connection: connection.sendall(head) or wire.drip(connection, b"x" * 12, 0.25)) as wire:
        assert read(made(wire.url, timeout=2)) == b"x" * 12
    with Wire(lambda connection: connection.sendall(head + b"x")) as wire:
        began = time.monotonic()
        assert isinstance(failure(lambda: read(made(wire.url, timeout=0.3))), errors.APITimeoutError)
        assert time.monotonic() - began < 5


def test_closing_the_client_ends_a_blocked_stream():
    with Wire(lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")) as wire:
        client = made(wire.url, timeout=60)
        came = closed_meanwhile(client, wire, lambda: failure(lambda: read(client)))
        assert isinstance(came, errors.APIConnectionError)


# What is fetched elsewhere


@pytest.fixture
def known(wire, monkeypatch):
    """A client with everything by which it could be told."""
    monkeypatch.setenv("THE_KEY", "sk-hunter2")
    return Client(
        API(base_url=wire.url, key="THE_KEY", organization="org-1", project="proj_1", headers={"X-Mine": "yes"}), 4
    )


def test_an_image_is_fetched_without_anything_that_tells_who_asks(known):
    image = random.Random(0).randbytes(2_000_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nContent-Type: image/png\r\n\r\n" % len(image) + image
    with Wire(sends(answer)) as blobs:
        response = known.fetch(f"{blobs.url}/a%2Fb.png?sig=a%2Fb%3D&se=1")
        line, head, _ = blobs.requests[0]
        for _ in range(2):
            known.fetch(f"{blobs.url}/c.png")
        assert blobs.connections == 1
    assert response.body == image and response.headers["content-type"] == "image/png" and response.status == 200
    assert line == "GET /v1/a%2Fb.png?sig=a%2Fb%3D&se=1 HTTP/1.1"
    assert {name.lower() for name in head} <= {"host", "user-agent", "accept-encoding", "connection", "accept"}


def test_fetching_costs_the_api_no_connection(known, wire):
    with Wire(sends(OK)) as blobs:
        for _ in range(3):
            known.send(Request("/x", b"{}"))
            known.fetch(blobs.url)
        assert blobs.connections == wire.connections == 1


def moved(to, status=302):
    return f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n".encode()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_within_the_scheme_is_followed(known, status):
    with Wire(sends(OK)) as there, Wire(sends(moved(f"{there.url}/b?c=d", status), moved("/e"), OK)) as here:
        assert known.fetch(f"{here.url}/a?sig=1").body == b"{}"
        assert there.requests[0][0] == "GET /v1/b?c=d HTTP/1.1"
        assert known.fetch(f"{here.url}/a").body == b"{}"
        assert here.requests[-1][0] == "GET /e HTTP/1.1"


@pytest.mark.parametrize(
    "to, says",
    [
        ("https://elsewhere.invalid/x?sig=hunter2", "redirects to https://elsewhere.invalid/x, which is not followed"),
        ("file:///etc/passwd", "not followed"),
        ("ftp://a/b", "not followed"),
        ("http://[::1", "not followed"),
        ("http://me:hunter2@127.0.0.1:1/", "address"),
        ("/again", "redirect number 6"),
    ],
)
def test_a_redirect_that_leads_astray_is_an_error(known, to, says):
    with Wire(sends(moved(to))) as here:
        error = failure(lambda: known.fetch(f"{here.url}/a?sig=hunter2"))
        assert says in str(error) and "hunter2" not in repr((error.args, vars(error))) and error.action == "fail"
        assert len(here.requests) <= 6


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "data:image/png;base64,AAAA", "/a.png", "http://", "http://[::1", "http://a:0/", ""]
)
def test_what_is_no_address_is_an_error_of_the_row_and_not_of_the_job(known, url):
    error = failure(lambda: known.fetch(url))
    assert error.action == "fail" and "address" in str(error)


@pytest.mark.parametrize(
    "status, kind, action",
    [
        (403, errors.PermissionDeniedError, "fail"),
        (404, errors.NotFoundError, "fail"),
        (410, errors.BadRequestError, "fail"),
        (300, errors.NotFoundError, "fail"),
        (500, errors.InternalServerError, "wait"),
        (429, errors.RateLimitError, "wait"),
    ],
)
def test_a_refusal_elsewhere_is_of_its_class_but_stops_no_job(known, status, kind, action):
    said = b"<Error><Code>AuthenticationFailed</Code><Detail>se=1&sig=hunter2 has expired</Detail></Error>"
    with Wire(sends(b"HTTP/1.1 %d No\r\nContent-Length: %d\r\n\r\n" % (status, len(said)) + said)) as blobs:
        error = failure(lambda: known.fetch(f"{blobs.url}/a.png?se=1&sig=hunter2"))
    assert type(error) is kind and error.action == action and error.status == status
    assert str(error).startswith(f"GET {blobs.url}/a.png: {status} ") and "has expired" in str(error)
    assert "hunter2" not in str(error) + error.detail and "Check" not in str(error)


def test_what_is_larger_than_it_may_be_is_given_up(known):
    with Wire(sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n" + bytes(9_000_000))) as blobs:
        assert len(known.fetch(blobs.url).body) == 9_000_000
        error = failure(lambda: known.fetch(blobs.url, most=1 << 20))
        assert isinstance(error, errors.BadAnswerError) and "more than 1 MB" in str(error)


def test_a_host_that_is_not_there_or_stalls_is_a_connection_error_without_the_query(known):
    error = failure(lambda: known.fetch("http://no-such-host.invalid/a?sig=hunter2"))
    assert isinstance(error, errors.APIConnectionError) and error.action == "wait" and "hunter2" not in str(error)
    with Wire(lambda connection: None) as blobs:
        client = made(blobs.url, timeout=0.3)
        assert isinstance(failure(lambda: client.fetch(f"{blobs.url}/a?sig=hunter2")), errors.APITimeoutError)


def test_closing_the_client_ends_a_blocked_fetch(known):
    with Wire(lambda connection: None) as blobs:
        came = closed_meanwhile(known, blobs, lambda: failure(lambda: known.fetch(blobs.url)))
        assert isinstance(came, errors.APIConnectionError)


# Memory


class Discards:
    """Reads forms, and keeps nothing of them but their length; answers GETs with so many bytes."""

    def __init__(self, size):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._size = size
        self.received = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        room = bytearray(1 << 20)
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1)
            self.received = left = int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1])
            while left:
                left -= connection.recv_into(room, min(left, len(room)))
            answer = b'{"id": "file-1"}'
            size = len(answer) if self.received else self._size
            room[: len(answer)] = answer
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size)
            for at in range(0, size, len(room)):
                connection.sendall(memoryview(room)[: min(len(room), size - at)])
            connection.close()

    def close(self):
        self._listener.close()


MEASURED = """
import json, sys
from beam_openai.client import API, Client, File, Form, LocalFile, Request
from beam_openai.manage import Server, files

def resident():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

client = Client(API(base_url=sys.argv[1]), 1)
def send(path):
    client.send(Request("/files", Form([("purpose", "batch")], [File("file", "a", "a/b", LocalFile(path))])))
def read():
    with client.stream(Request("/files/1/content", method="GET")) as stream:
        return sum(map(len, stream))
send(__file__)
began = resident()
send(sys.argv[2])
sent = resident() - began
arrived = read()
with Server(API(base_url=sys.argv[1])) as server:
    files.upload(server, sys.argv[2], "batch", on_progress=lambda sent, size: None)
    assert files.content(server, "file-1", sys.argv[3]) == arrived
print(json.dumps([sent, arrived, resident() - began]))
"""


def test_200_megabytes_up_and_down_are_never_in_memory(tmp_path):
    size = 200 << 20
    with open(tmp_path / "sparse.bin", "wb") as file:
        file.truncate(size)
    (tmp_path / "measured.py").write_text(MEASURED)
    server = Discards(size)
    ended = subprocess.run(
        [sys.executable, tmp_path / "measured.py", server.url, tmp_path / "sparse.bin", tmp_path / "down"],
        capture_output=True, text=True, check=True, timeout=120, cwd=os.getcwd(),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    server.close()
    sent, arrived, both = json.loads(ended.stdout)
    assert arrived == size == os.path.getsize(tmp_path / "down")
    assert sent < 4 and both < 6, f"{sent} MB for the upload, {both} for all"
