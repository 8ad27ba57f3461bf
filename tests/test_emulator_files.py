"""The emulator's files, uploads, models and engines, over real sockets."""

import glob
import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from beam_openai.emulator import Emulator
from beam_openai.emulator.blobs import IN_MEMORY, PIECE, Chain, Store
from beam_openai.emulator.jsonl import lines
from beam_openai.emulator.multipart import parse
from beam_openai.emulator.replies import Refusal

EXAMPLE = b'{"prompt": "a", "completion": "b"}\n'
MEGABYTE = os.urandom(1_000_000)


@pytest.fixture(scope="module")
def shared():
    with Emulator(models={"tiny": 8}) as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def ask(server, method, path, **arguments):
    return requests.request(method, server.base_url + path, timeout=30, **arguments)


def upload(server, data=EXAMPLE, purpose="fine-tune", name="data.jsonl", **fields):
    return ask(server, "POST", "/files", files={"file": (name, data)}, data={"purpose": purpose, **fields})


def error(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


# Files


def test_a_file_has_all_its_fields_and_comes_back_byte_for_byte(server):
    data = EXAMPLE + '{"prompt": "é\\u2028", "completion": "\\r\\n"}\r\n'.encode()
    made = upload(server, data).json()
    assert list(made) == [
        *("object", "id", "purpose", "filename", "bytes", "created_at", "expires_at", "status", "status_details")
    ]
    assert made["object"] == "file" and made["id"].startswith("file-")
    assert made["purpose"] == "fine-tune" and made["filename"] == "data.jsonl" and made["bytes"] == len(data)
    content = ask(server, "GET", f"/files/{made['id']}/content")
    assert content.content == data and content.headers["content-type"] == "application/octet-stream"


def test_a_file_is_processed_a_moment_after_it_was_uploaded(server):
    made = upload(server).json()
    assert made["status"] == "uploaded"
    server.turn_clock(1)
    assert ask(server, "GET", f"/files/{made['id']}").json() == {**made, "status": "processed"}


def test_a_large_file_is_streamed_from_the_disk(server):
    data = MEGABYTE * 3
    made = upload(server, data, "vision", "a.bin").json()
    content = ask(server, "GET", f"/files/{made['id']}/content")
    assert content.content == data and content.headers["transfer-encoding"] == "chunked"


@pytest.mark.parametrize("name", ["été 東京.jsonl", 'a"b.jsonl', "a;b=c.jsonl", "a b.jsonl"])
def test_any_name_of_a_file_is_kept(server, name):
    made = upload(server, name=name).json()
    assert made["filename"] == name
    content = ask(server, "GET", f"/files/{made['id']}/content")
    assert requests.utils.unquote(content.headers["content-disposition"]).endswith(name)


@pytest.mark.parametrize(
    "data",
    [
        b"x--boundary\r\n\r\n--\r\n",
        b"\r\n--boundaryless\r\n",
        b"\r\n\r\n",
        b"\r\n",
        bytes(range(256)),
    ],
)
def test_what_looks_like_a_boundary_and_is_none_belongs_to_the_file(data):
    body = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n--boundary--\r\n'
    form = parse(body % data, "multipart/form-data; boundary=boundary")
    assert form.files["file"][0].data == data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n",
        b"--b\r\nno head\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\ndata',
        b"--b\r\nContent-Disposition: attachment\r\n\r\ndata\r\n--b--",
    ],
)
def test_a_broken_form_is_refused(body):
    with pytest.raises(Refusal, match="Could not parse multipart form"):
        parse(body, "multipart/form-data; boundary=b")


def test_a_form_ends_with_its_last_boundary():
    assert parse(b"--b--\r\nan epilogue", "multipart/form-data; boundary=b").names() == []


@pytest.mark.parametrize(
    "arguments, status, expected",
    [
        ({"json": {"purpose": "batch"}}, 415, "only accepts 'multipart/form-data'"),
        ({"files": {"file": ("a", b"x")}}, 400, "'purpose' is a required property"),
        ({"files": {"other": ("a", b"x")}}, 400, "Unrecognized request argument supplied: other"),
        ({"files": {"purpose": (None, "batch")}}, 400, "'file' is a required property"),
    ],
)
def test_a_form_that_lacks_something_is_refused(server, arguments, status, expected):
    assert expected in error(ask(server, "POST", "/files", **arguments), status)["message"]


@pytest.mark.parametrize(
    "data, purpose, expected",
    [
        (b"x", "", "'' is not one of ['fine-tune', 'answers', 'search', 'classifications', "),
        (b"", "user_data", "File is empty."),
        (
            b'{"prompt": "a", "completion": "b"}\n{"p"\n',
            "fine-tune",
            "Expected file to have JSONL format, where every line is a JSON dictionary. Line 2 is not a dictionary "
            '(HINT: line starts with: "{"p...").',
        ),
        (b'"text"', "fine-tune", 'Line 1 is not a dictionary (HINT: line starts with: ""te...").'),
        (EXAMPLE + b"\n" + EXAMPLE, "fine-tune", "Line 2 is not a dictionary"),
        (EXAMPLE, "search", "JSONL format with text key and (optional) metadata key. Invalid format on line 1."),
        (b'{"text": 1}', "answers", "Invalid format on line 1."),
        (
            b'{"text": "a", "label": "b"}\n{"text": "a"}',
            "classifications",
            "Expected file to have JSONL format with text/label and (optional) metadata keys. Invalid format on line 2.",
        ),
    ],
)
def test_a_file_that_does_not_suit_its_purpose_is_refused(server, data, purpose, expected):
    assert expected in error(upload(server, data, purpose), 400)["message"]


def test_a_batch_must_be_called_jsonl_and_is_not_looked_at_when_it_is_uploaded(server):
    message = error(upload(server, purpose="batch", name="a.txt"), 400)["message"]
    assert message == "Invalid file format for Batch API. Must be .jsonl"
    assert upload(server, b"no json", "batch").status_code == 200


@pytest.mark.parametrize("purpose", ["assistants", "user_data"])
def test_some_files_can_be_uploaded_and_not_downloaded(server, purpose):
    made = upload(server, purpose=purpose).json()
    refused = error(ask(server, "GET", f"/files/{made['id']}/content"), 400)
    assert refused["message"] == f"Not allowed to download files of purpose: {purpose}"


@pytest.mark.parametrize("method, path", [("GET", ""), ("DELETE", ""), ("GET", "/content")])
def test_a_file_that_is_not_there_is_named(server, method, path):
    refused = error(ask(server, method, f"/files/file-abc123{path}"), 404)
    assert refused["message"] == "No such File object: file-abc123" and refused["param"] == "id"


def test_a_deleted_file_is_gone(server):
    file_id = upload(server).json()["id"]
    expected = {"object": "file", "id": file_id, "deleted": True}
    assert ask(server, "DELETE", f"/files/{file_id}").json() == expected
    error(ask(server, "DELETE", f"/files/{file_id}"), 404)
    assert file_id not in [file["id"] for file in ask(server, "GET", "/files").json()["data"]]


def test_files_expire_when_they_were_told_to_and_those_of_batches_after_thirty_days(server):
    kept, short = upload(server).json(), {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    soon, batch = upload(server, **short).json(), upload(server, purpose="batch").json()
    assert kept["expires_at"] is None
    assert soon["expires_at"] == soon["created_at"] + 3600
    assert batch["expires_at"] == batch["created_at"] + 30 * 86_400
    server.turn_clock(3600)
    error(ask(server, "GET", f"/files/{soon['id']}"), 404)
    assert ask(server, "GET", f"/files/{batch['id']}").status_code == 200
    server.turn_clock(30 * 86_400)
    left = {file["id"] for file in ask(server, "GET", "/files").json()["data"]}
    assert kept["id"] in left and not left & {soon["id"], batch["id"]}


@pytest.mark.parametrize(
    "fields, code",
    [
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "3599"}, "integer_below_min_value"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "2592001"}, "integer_above_max_value"),
        ({"expires_after[anchor]": "now", "expires_after[seconds]": "3600"}, "invalid_value"),
        ({"expires_after[anchor]": "created_at"}, "invalid_type"),
        ({"expires_after[anchor]": "created_at", "expires_after[seconds]": "x"}, "invalid_type"),
    ],
)
def test_an_expiry_that_cannot_be_is_refused(server, fields, code):
    assert error(upload(server, **fields), 400)["code"] == code


def test_files_are_listed_page_by_page(server):
    ids = [upload(server, purpose="evals", name=f"{number}.jsonl").json()["id"] for number in range(5)]
    query, pages = {"purpose": "evals", "limit": 2}, []
    while True:
        pages.append(ask(server, "GET", "/files", params=query).json())
        if not pages[-1]["has_more"]:
            break
        query["after"] = pages[-1]["last_id"]
    assert [[file["id"] for file in page["data"]] for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1]]
    assert all(page["first_id"] == page["data"][0]["id"] for page in pages)
    oldest = ask(server, "GET", "/files", params={"purpose": "evals", "order": "asc"}).json()
    assert [file["id"] for file in oldest["data"]] == ids and not oldest["has_more"]


def test_an_empty_page_has_no_ids(server):
    expected = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert ask(server, "GET", "/files", params={"purpose": "nothing"}).json() == expected


@pytest.mark.parametrize(
    "query, status, code",
    [
        ({"limit": "0"}, 400, "integer_below_min_value"),
        ({"limit": "10001"}, 400, "integer_above_max_value"),
        ({"limit": "x"}, 400, "invalid_type"),
        ({"order": "up"}, 400, "invalid_value"),
        ({"after": "file-none"}, 404, None),
    ],
)
def test_a_page_that_cannot_be_is_refused(server, query, status, code):
    assert error(ask(server, "GET", "/files", params=query), status)["code"] == code


def test_a_file_may_be_larger_than_other_bodies_and_not_too_large():
    with Emulator(max_body_bytes=10_000) as server:
        assert upload(server, b"x" * 20_000, "user_data").status_code == 200
        message = error(ask(server, "POST", "/embeddings", data=b"x" * 20_000), 413)["message"]
        assert message == "Maximum content size limit (10000) exceeded (20000 bytes read)"
        connection = http.client.HTTPConnection(server.base_url.split("/")[2], timeout=10)
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Content-Length", str(600_000_000))
        connection.endheaders()
        # It is refused for what it says it will be.
        assert connection.getresponse().status == 413
        connection.close()


def test_bodies_of_unknown_length_are_read_up_to_the_limit():
    with Emulator(max_body_bytes=10_000) as server:
        for size, status in ((9_000, 400), (11_000, 413)):
            pieces = (b"x" * 1000 for _ in range(size // 1000))
            assert ask(server, "POST", "/embeddings", data=pieces).status_code == status


def test_who_goes_away_in_the_middle_of_a_body_leaves_nothing_behind(capfd):
    with Emulator() as server:
        connection = http.client.HTTPConnection(server.base_url.split("/")[2], timeout=10)
        connection.putrequest("POST", "/v1/files")
        connection.putheader("Content-Length", "1000000")
        connection.endheaders(b"x" * 1000)
        for _ in range(100):
            if server.ledger()["in_flight"]:
                break
            time.sleep(0.02)
        connection.close()
        for _ in range(100):
            if not server.ledger()["in_flight"]:
                break
            time.sleep(0.02)
        ledger = server.ledger()
        assert ledger["in_flight"] == 0 and ledger["by_status"] == {"dropped": 1}
    assert capfd.readouterr().err == ""


def test_a_large_file_is_in_memory_once():
    """One copy of the body while it is read, none once it is on the disk."""
    with Emulator() as server:
        before = _peak_megabytes(server.pid)
        assert upload(server, b"x" * 100_000_000, "vision", "a.bin").status_code == 200
        assert _peak_megabytes(server.pid) - before < 160


def _peak_megabytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1000


def test_nothing_is_left_on_the_disk_when_the_server_has_ended():
    pattern = os.path.join(tempfile.gettempdir(), "beam-openai-emulator-*")
    before = set(glob.glob(pattern))
    with Emulator() as server:
        upload(server, MEGABYTE * 2, "vision", "a.bin")
        assert len(set(glob.glob(pattern)) - before) == 1
    assert set(glob.glob(pattern)) <= before


# Uploads


def begin(server, size, **fields):
    asked = {"filename": "a.bin", "purpose": "vision", "bytes": size, "mime_type": "image/png", **fields}
    return ask(server, "POST", "/uploads", json=asked)


def add(server, upload_id, data):
    return ask(server, "POST", f"/uploads/{upload_id}/parts", files={"data": ("part", data)})


def test_parts_that_come_at_the_same_time_become_one_file_in_the_order_that_is_asked_for(server):
    parts = [os.urandom(300_000 + number) for number in range(12)]
    whole = b"".join(parts)
    made = begin(server, len(whole)).json()
    assert made["object"] == "upload" and made["status"] == "pending" and made["file"] is None
    assert made["expires_at"] == made["created_at"] + 3600
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda part: add(server, made["id"], part).json(), parts))
    assert all(part["object"] == "upload.part" and part["upload_id"] == made["id"] for part in answers)
    asked = {"part_ids": [part["id"] for part in answers], "md5": hashlib.md5(whole).hexdigest()}
    done = ask(server, "POST", f"/uploads/{made['id']}/complete", json=asked).json()
    assert done["status"] == "completed" and done["file"]["bytes"] == len(whole)
    assert done == ask(server, "GET", f"/uploads/{made['id']}").json()
    assert ask(server, "GET", f"/files/{done['file']['id']}/content").content == whole


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"bytes": 0}, "Invalid 'bytes': integer below minimum value."),
        ({"bytes": 2**33 + 1}, "Expected a value <= 8589934592, but got 8589934593 instead."),
        ({"bytes": "7"}, "Invalid type for 'bytes': expected an integer, but got a string instead."),
        ({"purpose": "x"}, "Invalid value: 'x'. Supported values are: 'fine-tune', "),
        ({"filename": ""}, "Invalid 'filename'"),
        ({"more": 1}, "Unrecognized request argument supplied: more"),
        ({"expires_after": {"anchor": "created_at", "seconds": 1}}, "Invalid 'expires_after.seconds'"),
    ],
)
def test_an_upload_that_cannot_be_is_refused(server, fields, expected):
    assert expected in error(begin(server, 7, **fields), 400)["message"]


def test_an_upload_needs_all_that_is_said_of_it(server):
    refused = error(ask(server, "POST", "/uploads", json={"filename": "a"}), 400)
    assert refused["message"] == "Missing required parameter: 'purpose'."


@pytest.mark.parametrize(
    "completed, expected",
    [
        ({"part_ids": ["A"]}, "The number of bytes uploaded (4) does not match"),
        ({"part_ids": ["A", "A"]}, "is named more than once"),
        ({"part_ids": ["A", "part_x"]}, "Part part_x is not a part of upload"),
        ({"part_ids": []}, "Invalid 'part_ids': empty array."),
        ({"part_ids": ["A", "B"], "md5": "0" * 32}, "The md5 checksum of the uploaded bytes is"),
        ({"md5": "0" * 32}, "Missing required parameter: 'part_ids'."),
    ],
)
def test_an_upload_whose_parts_are_not_the_file_goes_on(server, completed, expected):
    made = begin(server, 7).json()["id"]
    ids = {name: add(server, made, data).json()["id"] for name, data in (("A", b"1234"), ("B", b"567"))}
    if "part_ids" in completed:
        completed = {**completed, "part_ids": [ids.get(part, part) for part in completed["part_ids"]]}
    assert expected in error(ask(server, "POST", f"/uploads/{made}/complete", json=completed), 400)["message"]
    right = {"part_ids": [ids["A"], ids["B"]], "md5": hashlib.md5(b"1234567").hexdigest().upper()}
    assert ask(server, "POST", f"/uploads/{made}/complete", json=right).json()["status"] == "completed"


def test_a_completed_upload_is_completed_once(server):
    made = begin(server, 4).json()["id"]
    completed = {"part_ids": [add(server, made, b"1234").json()["id"]]}
    assert ask(server, "POST", f"/uploads/{made}/complete", json=completed).status_code == 200
    for path, arguments in (
        ("complete", {"json": completed}),
        ("parts", {"files": {"data": b"x"}}),
        ("cancel", {}),
    ):
        message = error(ask(server, "POST", f"/uploads/{made}/{path}", **arguments), 400)["message"]
        assert message == f"Upload {made} is not pending: its status is 'completed'."


def test_a_cancelled_upload_takes_no_parts_and_can_be_cancelled_again(server):
    made = begin(server, 4).json()["id"]
    for _ in range(2):
        assert ask(server, "POST", f"/uploads/{made}/cancel").json()["status"] == "cancelled"
    assert "is 'cancelled'" in error(add(server, made, b"1234"), 400)["message"]


def test_an_upload_expires_after_an_hour(server):
    made = begin(server, 4).json()["id"]
    part = add(server, made, b"1234").json()["id"]
    server.turn_clock(3600)
    assert ask(server, "GET", f"/uploads/{made}").json()["status"] == "expired"
    error(ask(server, "POST", f"/uploads/{made}/complete", json={"part_ids": [part]}), 400)
    error(add(server, made, b"1234"), 400)


def test_what_is_uploaded_in_parts_must_suit_its_purpose_too(server):
    made = begin(server, 7, purpose="fine-tune").json()["id"]
    completed = {"part_ids": [add(server, made, b"no json").json()["id"]]}
    message = error(ask(server, "POST", f"/uploads/{made}/complete", json=completed), 400)["message"]
    assert "Line 1 is not a dictionary" in message


def test_parts_are_of_a_limited_size_and_of_one_field(server):
    made = begin(server, 7).json()["id"]
    assert "1 to 67108864 bytes" in error(add(server, made, b"x" * 67_108_865), 400)["message"]
    assert error(add(server, made, b"x" * 67_200_000), 413)["type"] == "server_error"
    for files, expected in (
        ({"data": (None, "text")}, "Missing required parameter: 'data'."),
        ({"file": b"x"}, "Unrecognized request argument supplied: file"),
    ):
        message = error(ask(server, "POST", f"/uploads/{made}/parts", files=files), 400)["message"]
        assert message == expected


@pytest.mark.parametrize("method, path", [("GET", ""), ("POST", "/parts"), ("POST", "/cancel"), ("POST", "/complete")])
def test_an_upload_that_is_not_there_is_named(server, method, path):
    message = error(ask(server, method, f"/uploads/upload_x{path}"), 404)["message"]
    assert message == "No such Upload object: upload_x"


# Models and engines


def test_engines_are_the_models_of_2022(server):
    listed = ask(server, "GET", "/engines").json()
    assert listed["object"] == "list" and {"ada", "davinci", "tiny"} <= {engine["id"] for engine in listed["data"]}
    expected = {
        "object": "engine",
        "id": "ada",
        "ready": True,
        "owner": "openai",
        "created": None,
        "permissions": None,
    }
    assert ask(server, "GET", "/engines/ada").json() == expected
    assert error(ask(server, "GET", "/engines/none"), 404)["code"] == "model_not_found"


def test_only_fine_tuned_models_can_be_deleted(server):
    message = error(ask(server, "DELETE", "/models/ada"), 403)["message"]
    assert message.startswith("You have insufficient permissions for this operation. Missing scopes: api.delete.")
    assert ask(server, "GET", "/models/ada").status_code == 200
    assert error(ask(server, "DELETE", "/models/none"), 404)["code"] == "model_not_found"


# What keeps bytes, alone


@pytest.mark.parametrize("size", [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY + 7])
def test_bytes_are_kept_in_memory_or_on_the_disk_and_read_again(size):
    store, data = Store(), os.urandom(size)
    blob = store.keep(data)
    assert blob.size == size and blob.at_hand == (size <= IN_MEMORY)
    assert blob.read() == data and b"".join(blob.pieces()) == data
    assert all(len(piece) <= PIECE for piece in blob.pieces())
    chain = Chain([blob, store.keep(b"end")])
    assert chain.read() == data + b"end" and chain.size == size + 3
    store.close()


def test_bytes_on_the_disk_go_with_the_last_who_holds_them():
    store = Store()
    blob = store.keep(b"x" * (IN_MEMORY + 1))
    folder = store.new_path().parent
    assert len(os.listdir(folder)) == 1
    del blob
    assert os.listdir(folder) == []
    store.close()
    assert not folder.exists()


def test_a_folder_goes_with_a_process_that_ends_without_a_word():
    program = (
        "from beam_openai.emulator.blobs import Store; store = Store(); "
        "blob = store.keep(b'x' * 2_000_000); print(store.new_path().parent)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() and not os.path.exists(run.stdout.strip())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_lines_are_the_same_however_the_text_is_cut(size):
    text = b"one\ntwo\r\n\nfour\n\nsix"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    assert list(lines(pieces)) == [b"one", b"two\r", b"", b"four", b"", b"six"]
    assert list(lines([b"one\n"])) == [b"one"] and list(lines([])) == []


def test_a_very_long_line_is_read_in_linear_time():
    begun = time.thread_time()
    assert len(next(lines([b"x" * PIECE] * 400))) == 400 * PIECE
    assert time.thread_time() - begun < 2
