"""One call, over real sockets."""

import base64
import contextlib
import gzip
import http.client
import json
import os
import pickle
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib

import pytest
import urllib3
from wire import Wire, closed_meanwhile, sends

from beam_openai import errors
from beam_openai.client import API, Client, Request, failures
from beam_openai.client import http as client_module
from beam_openai.emulator import Emulator

KEY = 'sk-proj-a/b"c\\d-0123456789'
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "AZURE_")) or name.lower().endswith("_proxy") or "CA_BUNDLE" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("THE_KEY", KEY)


def made(url, timeout=10.0, **options):
    return Client(API(base_url=url, timeout=timeout, **options), 4)


def post(client, body=b"{}", path="/embeddings"):
    return client.send(Request(path, body))


def failure(client, **request):
    with pytest.raises(errors.APIError) as caught:
        post(client, **request)
    return caught.value


# Where the server is


@pytest.mark.parametrize(
    "base_url, url",
    [
        ("https://example.com/v1", "https://example.com/v1/embeddings"),
        ("https://example.com/v1/", "https://example.com/v1/embeddings"),
        (" https://example.com/v1 ", "https://example.com/v1/embeddings"),
        ("http://localhost:8080", "http://localhost:8080/embeddings"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x/embeddings"),
        ("https://example.com/v1?api-version=1#frag", "https://example.com/v1/embeddings?api-version=1"),
        ("https://example.com/v1/?a=b&c", "https://example.com/v1/embeddings?a=b&c"),
        ("https://example.com/@cf/v1", "https://example.com/@cf/v1/embeddings"),
    ],
)
def test_the_path_follows_the_base_and_its_query_is_kept(base_url, url):
    assert API(base_url=base_url).url("/embeddings") == url


def test_the_base_defaults_to_the_environment_and_then_to_openai(monkeypatch):
    assert API().url("/models") == "https://api.openai.com/v1/models"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://here/v2/")
    assert API().url("/models") == "http://here/v2/models"
    assert API(base_url="http://there").url("/models") == "http://there/models"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "ftp://example.com",
        "example.com/v1",
        "http://",
        "http://[::1",
        "http://a:port",
        "http://a:0",
        "http://a b/v1",
        "x",
    ],
)
def test_what_is_no_address_is_refused_with_the_value(base_url, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1")
    with pytest.raises(ValueError, match="base_url") as caught:
        API(base_url=base_url)
    assert repr(base_url) in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    ["https://me:hunter2@example.com", "https://hunter2@example.com", "https://me:hunter2@a:b", "me:hunter2@a"],
)
def test_a_password_in_the_address_is_refused_without_repeating_it(base_url):
    with pytest.raises(ValueError, match="must not hold") as caught:
        API(base_url=base_url)
    assert "hunter2" not in str(caught.value)


def test_organization_and_project_default_to_the_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj_1")
    assert (API().organization, API().project) == ("org-1", "proj_1")
    assert (API(organization="org-2").organization, API(project="proj_2").project) == ("org-2", "proj_2")


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf")])
def test_a_timeout_that_cannot_be_is_refused(timeout):
    with pytest.raises(ValueError, match="timeout"):
        API(timeout=timeout)


@pytest.mark.parametrize("headers", [{"X-A": "a\nb"}, {"X-A": "é"}, {"X A": "a"}, {"": "a"}, {"X-A": 1}])
def test_a_header_that_cannot_be_sent_is_refused_without_its_value(headers):
    with pytest.raises(ValueError, match="cannot be sent") as caught:
        API(headers=headers)
    assert "é" not in str(caught.value)


@pytest.mark.parametrize("name", ["Authorization", "api-key", "X-API-Key", "Cookie"])
def test_a_header_that_holds_a_secret_is_refused(name):
    with pytest.raises(ValueError, match="key=") as caught:
        API(headers={name: "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_an_organization_that_cannot_be_sent_is_refused():
    with pytest.raises(ValueError, match="organization"):
        API(organization="a\nb")


# Where the key is


class Vault:
    """A secret as Beam's are: by duck type."""

    def __init__(self, value=None, place="one"):
        self._value, self.place = KEY.encode() if value is None else value, place

    def get_secret_bytes(self):
        if isinstance(self._value, Exception):
            raise self._value
        return self._value

    def __repr__(self):
        return f"Vault({self._value!r})"


@pytest.mark.parametrize("content", [KEY, KEY + "\n", f"  {KEY}\r\n"])
def test_a_key_is_found_in_the_environment_a_file_or_a_secret_and_stripped(content, monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_KEY", content)
    (tmp_path / "key").write_text(content)
    assert API(key="SOME_KEY").find_key() == KEY
    assert API(key=str(tmp_path / "key")).find_key() == KEY
    assert API(key=Vault(content.encode())).find_key() == KEY
    monkeypatch.setenv("HOME", str(tmp_path))
    assert API(key="~/key").find_key() == KEY


def test_openai_api_key_is_the_default_and_only_openai_itself_needs_one(monkeypatch):
    with pytest.raises(errors.AuthenticationError, match="environment variable OPENAI_API_KEY"):
        API().find_key()
    assert API(base_url="http://localhost:8080/v1").find_key() is None
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert API().find_key() == API(base_url="http://localhost:8080/v1").find_key() == KEY


@pytest.mark.parametrize(
    "key, place",
    [
        ("NOT_SET", "environment variable NOT_SET"),
        ("/nowhere/key.txt", "file /nowhere/key.txt"),
        (Vault(b" \n"), "Vault"),
        (Vault(OSError("no route")), "Vault cannot be read: no route"),
    ],
)
def test_a_key_that_is_not_there_is_an_error_that_names_the_place(key, place):
    with pytest.raises(errors.AuthenticationError, match=place):
        API(key=key).find_key()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "does not exist"),
        ("folder", "is a folder, not a file"),
        ("empty", "is empty"),
        ("blank", "is empty"),
        ("empty/key", r"cannot be read \(Not a directory\)"),
        ("loop", r"cannot be read \(Too many levels of symbolic links\)"),
    ],
)
def test_of_a_file_without_a_key_it_is_said_what_it_lacks(tmp_path, name, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").write_text("")
    (tmp_path / "blank").write_text(" \n")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(
        errors.AuthenticationError, match=f"no API key: the file {tmp_path}/{name} {says} on this worker"
    ):
        API(key=f"{tmp_path}/{name}").find_key()


@pytest.mark.parametrize("content", [b"\xff\xfehunter2", b"hunter2\xff"])
def test_a_file_that_is_not_utf_8_holds_no_key(tmp_path, content):
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(errors.AuthenticationError, match="special characters") as caught:
        API(key=str(tmp_path / "key")).find_key()
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "content", ["hunter2 hunter3", "hunter2\nX-Evil: 1", "hunter2é", "hunter2\x00", "\ufeffhunter2"]
)
def test_what_cannot_be_a_key_is_refused_without_repeating_it(content, tmp_path):
    (tmp_path / "key").write_text(content, encoding="utf-8")
    with pytest.raises(errors.AuthenticationError, match="special characters") as caught:
        API(key=str(tmp_path / "key")).find_key()
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-hunter2", "hunter2", "", "Bearer hunter2", b"sk-hunter2", 7, "sk-A/hunter2"])
def test_a_key_in_place_of_its_place_is_refused_without_repeating_it(key):
    with pytest.raises(ValueError, match="where the key is") as caught:
        API(key=key)
    assert "hunter2" not in str(caught.value)


def test_no_form_of_an_address_shows_a_secret(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    for api in (API(), API(key="THE_KEY"), API(key=Vault())):
        assert KEY not in repr(api) + str(api) + f"{api}"
    assert KEY.encode() not in pickle.dumps(API(key="THE_KEY"))
    assert "key='THE_KEY'" in repr(API(key="THE_KEY")) and "key=<Vault>" in repr(API(key=Vault()))


def test_addresses_that_mean_the_same_have_the_same_identity():
    def again(api):
        return pickle.loads(pickle.dumps(api))

    for api in (API(), API(key="THE_KEY"), API(key=Vault()), API(headers={"X-A": "1"}, api_version="2")):
        assert again(api).identity() == api.identity()
    different = [
        API(),
        API(key="THE_KEY"),
        API(key=Vault()),
        API(key=Vault(place="two")),
        API(base_url="http://a"),
        API(timeout=1),
        API(api_version="1"),
        API(headers={"X-A": "1"}),
    ]
    assert len({api.identity() for api in different}) == len(different)


# What is sent


@pytest.fixture
def wire():
    with Wire(sends(OK)) as wire:
        yield wire


def sent(wire, **options):
    client = made(wire.url, **options)
    post(client, b'{"a":1}')
    client.close()
    line, headers, body = wire.requests[-1]
    assert body == b'{"a":1}' and headers["Content-Length"] == "7" and headers["Content-Type"] == "application/json"
    return line, {name.lower(): value for name, value in headers.items()}


def test_the_key_travels_as_a_bearer_and_the_rest_as_headers(wire):
    line, headers = sent(wire, key="THE_KEY", organization="org-1", project="proj_1", headers={"X-Mine": "yes"})
    assert line == "POST /v1/embeddings HTTP/1.1"
    assert headers["authorization"] == f"Bearer {KEY}" and "api-key" not in headers
    assert (headers["openai-organization"], headers["openai-project"], headers["x-mine"]) == ("org-1", "proj_1", "yes")


def test_without_a_key_no_header_for_one_is_sent(wire):
    _, headers = sent(wire)
    assert not {"authorization", "api-key"} & headers.keys()


def test_an_azure_address_has_the_version_in_its_query_and_the_key_in_api_key(wire):
    line, headers = sent(wire, key="THE_KEY", api_version="2024-10-21")
    assert line == "POST /v1/embeddings?api-version=2024-10-21 HTTP/1.1"
    assert headers["api-key"] == KEY and "authorization" not in headers


def raw(**options):
    """The request as it goes over the wire."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen = []

        def answer():
            connection, _ = listener.accept()
            seen.append(connection.recv(1 << 16))
            while not seen[0].endswith(b"{}"):
                seen[0] += connection.recv(1 << 16)
            connection.sendall(OK)

        threading.Thread(target=answer, daemon=True).start()
        post(made(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", **options))
    return seen[0].decode().lower()


@pytest.mark.parametrize(
    "name, value",
    [
        ("user-agent", "mine"),
        ("ACCEPT-ENCODING", "identity"),
        ("openai-organization", "org-2"),
        ("HOST", "example.com"),
    ],
)
def test_a_header_of_the_user_s_takes_the_place_of_ours_in_whichever_case_it_is_written(name, value):
    lines = raw(headers={name: value}, organization="org-1").split("\r\n")
    assert [line for line in lines if line.startswith(f"{name.lower()}:")] == [f"{name.lower()}: {value}"]


def test_what_a_body_is_and_how_long_no_header_of_the_user_s_says():
    lines = raw(headers={"content-type": "text/plain", "CONTENT-LENGTH": "7"}).split("\r\n")
    assert [line for line in lines if line.startswith("content-")] == [
        "content-type: application/json",
        "content-length: 2",
    ]


def test_no_cookie_is_kept_from_one_call_to_the_next():
    with Wire(sends(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 2\r\n\r\n{}")) as wire:
        client = made(wire.url)
        assert post(client).headers["set-cookie"] == "a=b; Path=/"
        post(client)
        assert "Cookie" not in wire.requests[1][1] and wire.connections == 1


def test_a_get_has_no_body(wire):
    made(wire.url).send(Request("/models", method="GET"))
    line, headers, body = wire.requests[-1]
    assert line.startswith("GET ") and body == b"" and "Content-Length" not in headers and "Content-Type" not in headers


def test_a_body_of_many_megabytes_arrives_and_comes_back_byte_for_byte():
    data = random.Random(0).randbytes(5_000_000)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data) + data
    with Wire(sends(answer)) as wire:
        client, announced = made(wire.url), []
        for _ in range(3):
            body = client.send(Request("/x", data), announced.append).body
            assert wire.requests[-1][2] == data == bytes(body)
        assert announced == [len(data)] * 3 and wire.connections == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_server_that_reads_slowly_may_take_longer_than_a_connection_may(scheme, request, monkeypatch):
    monkeypatch.setattr(client_module, "_CONNECT_SECONDS", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    context = None
    if scheme == "https":
        certificate = request.getfixturevalue("certificate")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
        context = serving(certificate)

    def read_late():
        connection, _ = listener.accept()
        if context:
            connection = context.wrap_socket(connection, server_side=True)
        reader = connection.makefile("rb")
        for _ in range(2):
            reader.readline()
            length = int(http.client.parse_headers(reader)["content-length"])
            time.sleep(0.8)
            reader.read(length)
            connection.sendall(OK)

    threading.Thread(target=read_late, daemon=True).start()
    client = made(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
    for _ in range(2):  # the second one on the connection that is there
        assert post(client, bytes(8_000_000)).status == 200
    listener.close()


@pytest.mark.parametrize("body, records", [(b"{}", 1), (None, 1), (bytes(100_000), 8)], ids=["small", "none", "large"])
def test_the_head_of_a_request_goes_with_a_small_body(body, records, certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        read = []

        def serve():
            connection = serving(certificate).wrap_socket(listener.accept()[0], server_side=True)
            while len(b"".join(read).partition(b"\r\n\r\n")[2]) < len(body or b"") or not read:
                read.append(connection.recv(1 << 20))  # one record of TLS, never more
            connection.sendall(OK)

        threading.Thread(target=serve, daemon=True).start()
        client = made(f"https://127.0.0.1:{listener.getsockname()[1]}")
        assert client.send(Request("/x", body)).status == 200
    assert len(read) == records


# What comes back


def plain(body, *headers):
    lines = ["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def chunked(body, size=1000, *headers):
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    lines = ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked", *headers]
    return (
        "\r\n".join(lines).encode()
        + b"\r\n\r\n"
        + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        + b"0\r\n\r\n"
    )


def deflate(body):
    return zlib.compress(body)


TEXT = b"".join(b'{"row":%d}' % row for row in range(60_000))  # compresses well: a chunk in, many out
GZIP, DEFLATE = "Content-Encoding: gzip", "Content-Encoding: deflate"


@pytest.mark.parametrize("body", [b"", b"{}", TEXT[:1000], TEXT], ids=["empty", "small", "medium", "large"])
@pytest.mark.parametrize(
    "answer, keeps",
    [
        (plain, True),
        (chunked, True),
        (lambda body: plain(gzip.compress(body), GZIP), True),
        (lambda body: plain(deflate(body), DEFLATE), True),
        (lambda body: chunked(gzip.compress(body), 7, GZIP), True),
        (lambda body: chunked(body, 1 << 20, f"Content-Length: {len(body) // 2}"), True),
        (lambda body: (plain(body, "Connection: close"), None), False),
        (lambda body: (b"HTTP/1.1 200 OK\r\n\r\n" + body, None), False),
        (lambda body: (b"HTTP/1.0 200 OK\r\n\r\n" + body, None), False),
        (lambda body: (b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(body), None), False),
        (lambda body: (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n" + body, None), False),
        (lambda body: (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + body, None), False),
    ],
    ids=[
        "plain",
        "chunked",
        "gzip",
        "deflate",
        "gzip-chunked",
        "both",
        "close",
        "no-length",
        "http10",
        "http10-gzip",
        "no-number",
        "negative",
    ],
)
def test_a_body_is_read_whole_however_it_is_sent_and_its_connection_kept_if_it_can_be(answer, keeps, body):
    with Wire(sends(answer(body))) as wire:
        client = made(wire.url)
        for _ in range(2):
            lengths = []
            assert bytes(client.send(Request("/x", b"{}"), lengths.append).body) == body
            assert len(lengths) == 1 and 0 <= lengths[0] <= len(body) + 100
        # What is told to have no bytes may have some all the same, and they would be the next call's.
        assert wire.connections == (1 if keeps and (body or answer is not plain) else 2)


INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n"


@pytest.mark.parametrize(
    "before", [INTERIM, b"HTTP/1.1 102 Processing\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + 5 * INTERIM]
)
@pytest.mark.parametrize("status", [b"200 OK", b"500 No"])
def test_interim_answers_are_passed_over_and_none_is_taken_for_the_answer(before, status):
    def answer(body):
        return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)

    with Wire(sends(before + answer(b'{"row":1}'), answer(b'{"row":2}'), before + answer(b'{"row":3}'))) as wire:
        client = made(wire.url)
        for row in (1, 2, 3):
            if status == b"200 OK":
                assert post(client).body == b'{"row":%d}' % row
            else:
                assert str({"row": row}) in str(failure(client))
        assert wire.connections == 1


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n", 200 * INTERIM, INTERIM]
)
def test_an_answer_that_never_comes_after_interim_ones_is_a_connection_error(answer):
    with Wire(sends((answer, None), OK)) as wire:
        client = made(wire.url)
        assert type(failure(client)) is errors.APIConnectionError
        assert post(client).body == b"{}" and wire.connections == 2


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "500 No"])
def test_an_answer_without_a_body_is_the_last_of_its_connection(status):
    """Its body may come late, and would be taken for the answer to the next request."""

    def act(connection):
        if len(wire.requests) == 1:
            connection.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
            time.sleep(0.2)
            connection.sendall(OK.replace(b"{}", b"[]"))
        else:
            connection.sendall(OK)

    with Wire(act) as wire:
        client = made(wire.url)
        with contextlib.suppress(errors.APIError):
            post(client)
        assert post(client).body == b"{}" and wire.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_fails_no_call():
    with Wire(sends((OK, None))) as wire:
        client = made(wire.url)
        for calls in (1, 2):
            assert post(client).body == b"{}"
            while wire.closed < calls:
                time.sleep(0.01)
            assert wire.connections == calls


def test_headers_are_in_lower_case_and_of_one_name_the_last_counts():
    head = b"HTTP/1.1 201 Created\r\nX-RateLimit-Limit-Requests: 3\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\n"
    with Wire(sends(head + b"{}")) as wire:
        response = post(made(wire.url))
    assert (response.status, response.body) == (201, b"{}") and response.seconds >= 0
    assert response.headers == {"x-ratelimit-limit-requests": "3", "x-a": "2", "content-length": "2"}


def test_a_length_that_no_memory_could_hold_is_not_believed():
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n{}"
    with Wire(sends((answer, None))) as wire:
        lengths = []
        with pytest.raises(errors.APIConnectionError):
            made(wire.url).send(Request("/x", b"{}"), lengths.append)
        assert lengths == [0]


@pytest.mark.parametrize(
    "answer",
    [
        plain(TEXT)[:-1],
        plain(b"{}")[:-1],
        chunked(TEXT)[:-100],
        chunked(b"{}")[:-5],
        plain(gzip.compress(TEXT), GZIP)[:-10],
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"",
    ],
    ids=[
        "short",
        "short-small",
        "short-chunks",
        "no-last-chunk",
        "short-gzip",
        "two-lengths",
        "no-size",
        "no-http",
        "many",
        "long",
        "none",
    ],
)
def test_an_answer_that_is_cut_off_or_is_not_http_is_a_connection_error_and_the_next_call_connects_anew(answer):
    with Wire(sends((answer, None), OK)) as wire:
        client = made(wire.url)
        error = failure(client)
        assert type(error) is errors.APIConnectionError and error.reached
        assert "POST /embeddings: no answer from 127.0.0.1:" in str(error)
        assert post(client).body == b"{}" and wire.connections == 2


def test_a_body_that_is_not_compressed_as_it_says_is_a_connection_error():
    with Wire(sends(plain(b"this is no gzip", GZIP), OK)) as wire:
        client = made(wire.url)
        assert type(failure(client)) is errors.APIConnectionError
        assert post(client).body == b"{}"


def test_before_body_is_called_before_the_body_is_read_and_its_error_closes_the_connection():
    with Wire(sends(plain(TEXT))) as wire:
        client = made(wire.url)

        def refuse(length):
            raise MemoryError(length)

        with pytest.raises(MemoryError, match=str(len(TEXT))):
            client.send(Request("/x", b"{}"), refuse)
        assert bytes(post(client).body) == TEXT and wire.connections == 2


def test_the_time_that_before_body_takes_is_none_of_the_server_s():
    with Wire(sends(plain(TEXT))) as wire:
        client = made(wire.url, timeout=1)
        assert bytes(client.send(Request("/x", b"{}"), lambda length: time.sleep(1.5)).body) == TEXT


def test_many_calls_use_one_connection_also_after_errors_with_a_body():
    with Emulator() as server:
        client = made(server.base_url)
        before = server.ledger()["connections"]
        server.inject({"status": 500, "body": {"error": {"message": "x"}}}, times=5)
        for _ in range(5):
            assert isinstance(failure(client), errors.InternalServerError)
        for _ in range(20):
            client.send(Request("/models", method="GET"))
        assert server.ledger()["connections"] - before == 3  # ours, the injection's, the ledger's


@pytest.mark.parametrize(
    "fault, kind",
    [
        ("reset", errors.APIConnectionError),
        ("reset_after", errors.APIConnectionError),
        ("short_body", errors.APIConnectionError),
        ("server_error", errors.InternalServerError),
        ("bad_gateway", errors.InternalServerError),
        ("gateway_timeout", errors.InternalServerError),
        ("empty_520", errors.InternalServerError),
        ("unavailable", errors.InternalServerError),
        ("rate_limit", errors.RateLimitError),
        ("rate_limit_ms", errors.RateLimitError),
        ("rate_limit_message", errors.RateLimitError),
        ("insufficient_quota", errors.QuotaExceededError),
    ],
)
def test_each_fault_of_a_server_is_its_error_and_the_next_call_works(emulator, fault, kind):
    body = json.dumps({"model": "text-embedding-3-small", "input": ["a"] * 50}).encode()
    emulator.inject(fault)
    client = made(emulator.base_url)
    assert type(failure(client, body=body)) is kind
    assert post(client, body).status == 200


@pytest.fixture(scope="module")
def emulator():
    with Emulator() as emulator:
        yield emulator


def test_a_200_with_an_error_in_it_is_told_by_error_in(emulator):
    emulator.inject("error_200")
    body = b'{"model":"text-embedding-3-small","input":"a"}'
    client, request = made(emulator.base_url), Request("/embeddings", body)
    response = client.send(request)
    assert isinstance(client.error_in(response, request), errors.InternalServerError)


# What goes wrong on the way


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return "close"


def reset_in_the_body(connection):
    connection.sendall(plain(TEXT)[:50_000])
    return reset(connection)


@pytest.mark.parametrize("act", [reset, reset_in_the_body, lambda connection: "close"])
def test_a_reset_is_a_connection_error(act):
    with Wire(act) as wire:
        error = failure(made(wire.url))
        assert type(error) is errors.APIConnectionError and error.reached and error.action == "wait"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("url", [f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid"])
def test_a_server_that_is_not_there_was_not_reached(url):
    error = failure(made(url))
    assert isinstance(error, errors.APIConnectionError) and not error.reached and "object at" not in str(error)


def test_a_server_that_accepts_no_connection_is_a_timeout_and_was_not_reached(monkeypatch):
    monkeypatch.setattr(client_module, "_CONNECT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        queued = [socket.socket() for _ in range(3)]
        for waiting in queued:
            waiting.setblocking(False)
            waiting.connect_ex(address)
        error = failure(made(f"http://127.0.0.1:{address[1]}"))
        assert isinstance(error, errors.APITimeoutError) and not error.reached and "timed out" in str(error)
        for waiting in queued:
            waiting.close()


def test_a_host_whose_name_cannot_be_is_a_matter_of_configuration():
    assert isinstance(failure(made(f"http://{'a' * 64}.com")), errors.ConfigurationError)


def bounded(client, most):
    began = time.monotonic()
    error = failure(client)
    assert isinstance(error, errors.APITimeoutError) and error.reached
    assert time.monotonic() - began < most


def test_a_server_that_never_answers_is_a_timeout():
    with Wire(lambda connection: None) as wire:
        bounded(made(wire.url, timeout=0.3), most=5)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"])
def test_a_stall_in_the_body_is_a_timeout(head):
    with Wire(lambda connection: connection.sendall(head + b"{")) as wire:
        bounded(made(wire.url, timeout=0.3), most=5)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Encoding: gzip\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
    ],
)
def test_a_body_that_drips_is_a_timeout_although_something_always_comes(head):
    data = gzip.compress(random.Random(0).randbytes(900)) if b"gzip" in head else bytes(1000)
    with Wire(lambda connection: connection.sendall(head) or wire.drip(connection, data, 0.05)) as wire:
        bounded(made(wire.url, timeout=0.5), most=10)  # whole, it would take 50 s


def test_what_is_left_of_one_answer_s_time_is_not_the_next_one_s():
    def act(connection):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{}")
        time.sleep(1.2)
        connection.sendall(b"  ")

    with Wire(act) as wire:
        client = made(wire.url, timeout=2.2)
        for _ in range(3):
            assert post(client).body == b"{}  "
        assert wire.connections == 1


def test_closing_ends_a_blocked_call_at_once_and_no_other_begins():
    for head in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n"):
        with Wire(lambda connection, head=head: connection.sendall(head)) as wire:
            client = made(wire.url, timeout=60)
            came = closed_meanwhile(client, wire, lambda client=client: outcome(client), pause=0.05)
            assert isinstance(came, errors.APIConnectionError) or came.body == b""  # HTTP/1.0: that is an end
            assert "closed" in str(failure(client)) and len(wire.requests) == 1


def outcome(client):
    try:
        return post(client)
    except errors.APIError as error:
        return error


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("certificate")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -keyout key.pem -out cert.pem"
    extension = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    if subprocess.run([*command.split(), *extension], cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("needs an openssl with -addext")
    return folder


def serving(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


def tls(certificate, act):
    return Wire(act, serving(certificate))


def test_a_certificate_that_is_not_valid_stops_the_job(certificate):
    with tls(certificate, sends(OK)) as wire:
        error = failure(made(wire.url))
        assert isinstance(error, errors.ConfigurationError) and "certificate of 127.0.0.1" in str(error)
        assert not wire.requests


@pytest.fixture(params=["file", "folder"])
def bundle(request, certificate, tmp_path):
    if request.param == "file":
        return str(certificate / "cert.pem")
    command = ["openssl", "x509", "-hash", "-noout", "-in", certificate / "cert.pem"]
    name = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    shutil.copy(certificate / "cert.pem", tmp_path / f"{name}.0")
    return str(tmp_path)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_certificate_of_one_s_own_is_trusted_where_the_environment_says_so(
    variable, bundle, certificate, monkeypatch
):
    monkeypatch.setenv(variable, bundle)
    with tls(certificate, sends(plain(TEXT))) as wire:
        client = made(wire.url)
        for _ in range(3):
            assert bytes(post(client).body) == TEXT
        assert wire.connections == 1
        assert bytes(client.fetch(wire.url).body) == TEXT


def test_certificates_that_are_not_there_stop_the_job_before_the_first_call(monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/cert.pem")
    with pytest.raises(errors.ConfigurationError, match=r"example\.com .* /nowhere/cert\.pem"):
        made("https://example.com/v1")


def test_a_blocked_call_over_tls_ends_when_the_client_is_closed(certificate, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate / "cert.pem"))
    with tls(certificate, lambda connection: None) as wire:
        ends_when_closed(made(wire.url, timeout=60), wire)


def test_https_asked_of_a_server_without_it_was_not_reached():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse():
            connection, _ = listener.accept()
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=refuse, daemon=True).start()
        error = failure(made(f"https://127.0.0.1:{listener.getsockname()[1]}"))
    assert isinstance(error, errors.APIConnectionError) and not error.reached


# Redirects and proxies


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "location", ["{other}/v1/embeddings", "http://me:pw@elsewhere:1/x", "/login", "http://[::1", None]
)
def test_no_redirect_is_followed_and_no_key_goes_to_another_host(status, location):
    with Wire(sends(OK)) as other:
        headers = f"Location: {location.format(other=other.url)}\r\n" if location else ""
        answer = f"HTTP/1.1 {status} Moved\r\n{headers}Content-Length: 0\r\n\r\n".encode()
        with Wire(sends(answer)) as wire:
            error = failure(made(wire.url, key="THE_KEY"))
        assert isinstance(error, errors.NotFoundError) and "set base_url" in str(error) and "pw" not in str(error)
        assert not other.connections


@pytest.fixture
def proxied(monkeypatch):
    """Sets variables in both their spellings."""

    def set_variables(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
            monkeypatch.setenv(name.upper(), value)

    return set_variables


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
def test_a_proxy_of_the_environment_is_told_the_whole_url(variable, proxied):
    with Wire(sends(OK)) as proxy:
        proxied(**{variable: proxy.url})
        client = made("http://far.invalid/v1?a=b/c", key="THE_KEY")
        for _ in range(2):
            assert post(client).body == b"{}"
        line, headers, _ = proxy.requests[1]
        assert line == "POST http://far.invalid/v1/embeddings?a=b/c HTTP/1.1" and proxy.connections == 1
        assert headers["Host"] == "far.invalid" and headers["Authorization"] == f"Bearer {KEY}"
        assert client.fetch("http://other.invalid/a b?c").body == b"{}"
        assert proxy.requests[2][0] == "GET http://other.invalid/a%20b?c HTTP/1.1"


@pytest.mark.parametrize("hosts", ["localhost,127.0.0.1", "127.0.0.0/8", "*"])
def test_a_host_that_no_proxy_names_is_called_without_it(hosts, proxied):
    with Wire(sends(OK)) as proxy, Wire(sends(OK)) as near:
        proxied(http_proxy=proxy.url, no_proxy=hosts)
        client = made(near.url)
        assert post(client).body == client.fetch(near.url).body == b"{}"
        assert [line for line, _, _ in near.requests] == ["POST /v1/embeddings HTTP/1.1", "GET /v1 HTTP/1.1"]
        assert not proxy.connections


def test_a_name_and_password_of_a_proxy_are_told_it_with_each_request(proxied):
    with Wire(sends(OK)) as proxy:
        proxied(http_proxy=proxy.url.replace("//", "//me:hunter%402@"))
        client = made("http://far.invalid/v1")
        for _ in range(2):
            post(client)
        for _, headers, _ in proxy.requests:
            assert headers["Proxy-Authorization"] == "Basic " + base64.b64encode(b"me:hunter@2").decode()


def test_a_call_through_a_proxy_ends_when_the_client_is_closed(proxied):
    with Wire(lambda connection: None) as proxy:
        proxied(http_proxy=proxy.url)
        ends_when_closed(made("http://far.invalid/v1", timeout=60), proxy)


def ends_when_closed(client, wire):
    assert isinstance(closed_meanwhile(client, wire, lambda: outcome(client)), errors.APIConnectionError)


class Tunnel:
    """A proxy that connects everybody to `to`, whatever host they name, and keeps the heads of what it was asked."""

    def __init__(self, to, answer=b"HTTP/1.1 200 Connection established\r\n\r\n"):
        self._to, self._answer, self.asked = to, answer, []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += near.recv(1)
            self.asked.append(head.decode())
            near.sendall(self._answer)
            if b" 200 " not in self._answer:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", int(self._to.split(":")[2].split("/")[0])))
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=[source, sink], daemon=True).start()

    @staticmethod
    def _pass_on(source, sink):
        try:
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_https_goes_through_a_proxy_that_is_told_the_host_only(certificate, proxied):
    proxied(requests_ca_bundle=str(certificate / "cert.pem"))
    with tls(certificate, sends(OK)) as wire, Tunnel(wire.url) as proxy:
        proxied(https_proxy=proxy.url.replace("//", "//me:hunter2@"))
        client = made("https://localhost:7/v1?a=b", key="THE_KEY")
        for _ in range(3):
            assert post(client).body == b"{}"
        line, headers, _ = wire.requests[2]
        assert line == "POST /v1/embeddings?a=b HTTP/1.1" and headers["Host"] == "localhost:7"
        assert headers["Authorization"] == f"Bearer {KEY}" and "Proxy-Authorization" not in headers
        (head,) = proxy.asked
        assert head.startswith("CONNECT localhost:7 HTTP/1.")
        assert "Proxy-Authorization: Basic " + base64.b64encode(b"me:hunter2").decode() in head
        assert "embeddings" not in head and KEY not in head
        assert client.fetch("https://127.0.0.1:8/x").body == b"{}" and len(proxy.asked) == 2


def test_https_through_a_proxy_ends_when_the_client_is_closed(certificate, proxied):
    proxied(requests_ca_bundle=str(certificate / "cert.pem"))
    with tls(certificate, lambda connection: None) as wire, Tunnel(wire.url) as proxy:
        proxied(https_proxy=proxy.url)
        ends_when_closed(made("https://localhost:7/v1", timeout=60), wire)


@pytest.mark.parametrize("host", ["localhost", "example.com"])
def test_a_proxy_is_not_trusted_to_be_the_server(host, certificate, proxied):
    if host == "example.com":  # the certificate is trusted, but of another host
        proxied(requests_ca_bundle=str(certificate / "cert.pem"))
    with tls(certificate, sends(OK)) as wire, Tunnel(wire.url) as proxy:
        proxied(https_proxy=proxy.url)
        error = failure(made(f"https://{host}:7/v1"))
        assert isinstance(error, errors.ConfigurationError) and f"certificate of {host}:7" in str(error)
        assert not wire.requests


def test_behind_a_proxy_that_refuses_the_server_was_not_reached(proxied):
    with Tunnel("", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as proxy:
        proxied(https_proxy=proxy.url.replace("//", "//me:hunter2@"))
        error = failure(made("https://far.invalid/v1"))
        assert isinstance(error, errors.APIConnectionError) and not error.reached
        assert "407 Proxy Authentication Required" in str(error) and "hunter2" not in str(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_is_not_there_was_not_reached_and_its_password_is_not_shown(scheme, proxied):
    proxied(**{f"{scheme}_proxy": f"http://me:hunter2@127.0.0.1:{free_port()}"})
    error = failure(made(f"{scheme}://far.invalid/v1"))
    assert isinstance(error, errors.APIConnectionError) and not error.reached and "hunter2" not in str(error)


@pytest.mark.parametrize("proxy", ["ftp://me:hunter2@a:1", "http://me:hunter2@a:port", "me:hunter2@a:999999"])
def test_a_proxy_that_cannot_be_one_stops_the_job_and_its_password_is_not_shown(proxy, proxied):
    proxied(http_proxy=proxy)
    with pytest.raises(errors.ConfigurationError, match=r"far\.invalid .* proxy") as caught:
        made("http://far.invalid/v1")
    assert "hunter2" not in everything(caught.value)


# The key in what is echoed


def echoes(key):
    yield key
    yield json.dumps(key)[1:-1]
    yield json.dumps(key)[1:-1].replace("/", "\\/")


def everything(error):
    return repr((error.args, vars(error)))


@pytest.mark.parametrize("echo", list(echoes(KEY)))
@pytest.mark.parametrize(
    "body",
    [
        '{"error":{"message":"Incorrect key %s","code":"%s","type":"%s","param":"%s"}}',
        "<html>%s %s %s %s</html>",
        "%s%s%s%s",
        '{"error":{"message":"' + "x" * 490 + ' %s %s %s %s"}}',
        "x" * 3990 + " %s %s %s %s",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 500])
def test_a_key_that_is_echoed_is_taken_out_of_the_error(echo, body, status):
    head = f"x-request-id: {KEY}", f"x-echo: Bearer {KEY}"
    with Wire(sends(plain(body.replace("%s", echo).encode(), *head).replace(b"200 OK", b"%d No" % status))) as wire:
        error = failure(made(wire.url, key="THE_KEY"))
    assert "0123456789" not in everything(error) and "sk-proj" not in everything(error)
    assert "***" in error.headers["x-echo"] and error.status == status


def test_a_key_written_in_json_s_own_way_is_taken_out_too():
    odd = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    body = f'{{"error":{{"message":"{odd}"}}}}'.encode()
    with Wire(sends(plain(body).replace(b"200 OK", b"401 No"))) as wire:
        assert "0123456789" not in everything(failure(made(wire.url, key="THE_KEY")))


def test_an_error_found_later_can_be_scrubbed_too():
    error = errors.BadAnswerError(f"bad {KEY}", raw=json.dumps({"headers": KEY}).encode())
    assert "0123456789" not in everything(made("http://a", key="THE_KEY").scrubbed(error))


# What the transport raises


def families(kind):
    return {kind, *(found for sub in kind.__subclasses__() for found in families(sub))}


STOPS = {"LocationValueError", "LocationParseError", "ProxySchemeUnknown", "URLSchemeUnknown"}
LATE = {"TimeoutError", "ReadTimeoutError", "ConnectTimeoutError"}
BROKEN = {
    "BodyNotHttplibCompatible", "ClosedPoolError", "DecodeError", "EmptyPoolError", "FullPoolError", "HTTPError",
    "HeaderParsingError", "HostChangedError", "IncompleteRead", "InvalidChunkLength", "InvalidHeader", "MaxRetryError",
    "NameResolutionError", "NewConnectionError", "PoolError", "ProtocolError", "ProxyError",
    "ProxySchemeUnsupported", "RequestError", "ResponseError", "ResponseNotChunked", "SSLError", "TimeoutStateError",
    "UnrewindableBodyError",
}  # fmt: skip
UNREACHED = {"ConnectTimeoutError", "NameResolutionError", "NewConnectionError", "ProxyError", "SSLError"}


def test_every_exception_of_urllib3_is_one_that_was_thought_of():
    found = {kind for kind in families(urllib3.exceptions.HTTPError) if kind.__module__.startswith("urllib3.")}
    found = {kind for kind in found if not issubclass(kind, Warning)}
    assert {kind.__name__ for kind in found} <= STOPS | LATE | BROKEN
    for kind in found:

        class Plain(kind):
            def __init__(self):
                self.args = ("words",)

            def __str__(self):
                return "words"

        made = failures.from_transport(Plain(), "POST /x", "http://a/v1", is_answered=False)
        name = kind.__name__
        stops, late = errors.ConfigurationError, errors.APITimeoutError
        assert type(made) is (stops if name in STOPS else late if name in LATE else errors.APIConnectionError), kind
        assert "words" in str(made) and made.reached == (name not in UNREACHED)
        assert failures.from_transport(Plain(), "POST /x", "http://a/v1", is_answered=True).reached


@pytest.mark.parametrize("raised", [OSError("x"), ssl.SSLError("x"), ConnectionResetError("x"), TimeoutError("x")])
def test_what_a_socket_raises_is_a_connection_error(raised):
    made = failures.from_transport(raised, "POST /x", "http://a/v1", is_answered=False)
    assert isinstance(made, errors.APIConnectionError) and made.reached
    assert isinstance(made, errors.APITimeoutError) == isinstance(raised, TimeoutError)
