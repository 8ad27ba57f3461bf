"""Images drawn to prompts: what is asked, what answers are taken for, and whole runs."""

import base64
import json
import re
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, run
from hypothesis import given
from hypothesis import strategies as st
from test_cli import run as command

from beam_openai import API, Quota, column, errors, service
from beam_openai.client import Response
from beam_openai.emulator.media.pngs import picture, read_header
from beam_openai.endpoints.images import Images
from beam_openai.errors import BadAnswerError
from beam_openai.pictures import families

pytestmark = pytest.mark.usefixtures("clean")

PNG = picture(b"seed", 16, 16)


def made(model="dall-e-2", **options):
    return Images(model=model, **options)


def prompts(*texts, **columns):
    return pa.table({"prompt": pa.array(texts, pa.string()), **columns})


def answer(*images, **more):
    return json.dumps({"created": 1, "data": list(images), **more}).encode()


def encoded(data=PNG):
    return {"b64_json": base64.b64encode(data).decode()}


def read(body, fetched=None, rows=None, **options):
    endpoint = made(**options)
    response = Response(200, {}, body, 0.1, fetched or {})
    return endpoint.columns(response, rows or prompts("a"))


def values(found):
    return [column if isinstance(column, list) else column.to_pylist() for column in found.columns]


# What is asked


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("dall-e-2", {"n": 11}),
        ("dall-e-2", {"n": 0}),
        ("dall-e-2", {"size": "300x300"}),
        ("dall-e-2", {"size": "auto"}),
        ("dall-e-2", {"quality": "hd"}),
        ("dall-e-2", {"style": "vivid"}),
        ("dall-e-2", {"background": "opaque"}),
        ("dall-e-2", {"response_format": "png"}),
        ("dall-e-3", {"n": 2}),
        ("dall-e-3", {"size": "512x512"}),
        ("dall-e-3", {"style": "grim"}),
        ("dall-e-3", {"quality": "high"}),
        ("gpt-image-1", {"response_format": "b64_json"}),
        ("gpt-image-1", {"size": "256x256"}),
        ("gpt-image-1", {"quality": "hd"}),
        ("gpt-image-1", {"style": "vivid"}),
        ("gpt-image-1", {"output_compression": 101}),
        ("gpt-image-1", {"output_compression": 50}),
        ("gpt-image-1", {"background": "transparent", "output_format": "jpeg"}),
        ("gpt-image-1.5", {"moderation": "high"}),
        ("gpt-image-2", {"size": "1000x1000"}),
        ("gpt-image-2", {"size": "3840x1200"}),
        ("gpt-image-2", {"size": "3856x2160"}),
        ("gpt-image-2", {"size": "3840x3840"}),
        ("painter", {"n": 0}),
        ("painter", {"n": 1.5}),
        ("painter", {"response_format": "jpeg"}),
        ("painter", {"prompt": "{"}),
    ],
    ids=str,
)
def test_what_a_model_can_never_do_is_refused_with_its_value(model, options):
    value = list(options.values())[-1]
    with pytest.raises(ValueError, match=str(value)[:8].replace("{", r"\{")):
        made(model, **options)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("dall-e-2", {"n": 10, "size": "256x256"}),
        ("dall-e-3", {"n": 1, "size": "1792x1024", "quality": "hd", "style": "natural"}),
        ("gpt-image-1", {"size": "auto", "quality": "low", "output_format": "webp", "output_compression": 50}),
        ("gpt-image-2-2026-04-21", {"size": "1536x864"}),
        ("gpt-image-2", {"size": "auto"}),
        ("painter", {"n": 40, "size": "77x77", "quality": "superb", "style": "mine"}),
        ("dall-e-2", {"size": column("size")}),
        (column("model"), {"size": "77x77", "style": "vivid"}),
    ],
    ids=str,
)
def test_what_it_may_do_is_not(model, options):
    made(model, **options)


@pytest.mark.parametrize(
    ("model", "sent"), [("dall-e-2", "b64_json"), ("dall-e-3", "b64_json"), ("gpt-image-1", None), ("painter", None)]
)
def test_the_format_is_said_where_a_model_has_a_choice_and_we_know_it(model, sent):
    body = made(model).request(prompts("a")).body
    assert body.get("response_format") == sent
    assert body == {"model": model, "prompt": "a", **({"response_format": sent} if sent else {})}


def test_a_column_says_each_rows_model_and_size():
    endpoint = made(column("model"), size=column("size"))
    rows = prompts("a", "b", model=["dall-e-2", "gpt-image-1"], size=["256x256", None])
    assert endpoint.request(rows[:1]).body == {
        "model": "dall-e-2",
        "size": "256x256",
        "prompt": "a",
        "response_format": "b64_json",
    }
    assert endpoint.request(rows[1:]).body == {"model": "gpt-image-1", "prompt": "b"}


def test_a_prompt_is_a_template_over_columns():
    endpoint = made(prompt="A {animal} in {place}")
    rows = pa.table({"animal": ["cat", "dog", None], "place": ["Rome", "Paris", "Bern"]})
    assert endpoint.inputs == ["animal", "place"]
    assert endpoint.invalid(rows) == {2: "animal is null"}
    assert endpoint.request(rows[1:2]).body["prompt"] == "A dog in Paris"


@pytest.mark.parametrize(("model", "most"), [("dall-e-2", 1000), ("dall-e-3", 4000), ("gpt-image-1", 32_000)])
def test_a_prompt_may_have_so_many_characters_and_no_more(model, most):
    rows = prompts("é" * most, "🦊" * most, "x" * (most + 1), "é" * (most + 1))
    assert list(made(model).invalid(rows)) == [2, 3]
    assert f"{most + 1:,} characters" in made(model).invalid(rows)[2]
    assert made("painter").invalid(prompts("x" * 100_000)) == {}


def test_the_limit_is_that_of_each_rows_model():
    rows = prompts("x" * 2000, "x" * 2000, "x" * 2000, model=["dall-e-2", "dall-e-3", "mine"])
    assert list(made(column("model")).invalid(rows)) == [0]


def test_text_that_is_not_utf8_is_that_rows_trouble():
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 2], pa.int32()).buffers()[1], pa.py_buffer(b"\xff\xfe")]
    )
    rows = pa.table({"prompt": pa.chunked_array([broken, pa.array(["fine"])])})
    assert made().invalid(rows) == {0: "prompt is not valid UTF-8"}


def test_images_cost_tokens_where_a_model_counts_them():
    count = made("gpt-image-1", n=2, quality="low", size="1024x1536").answer_tokens(prompts("a", "b"))
    assert count.tolist() == [2 * 272 * 1.5] * 2
    assert made("gpt-image-1").answer_tokens(prompts("a")).tolist() == [1056]
    assert made("dall-e-3").answer_tokens(prompts("a")).tolist() == [0]
    rows = prompts("a", "b", quality=["high", None])
    assert made("gpt-image-1", quality=column("quality")).answer_tokens(rows).tolist() == [4160, 1056]


# What answers are taken for


@given(st.binary(min_size=1, max_size=400))
def test_base64_comes_back_as_the_bytes_that_it_was(data):
    text = base64.b64encode(data).decode()
    lines = base64.encodebytes(data).decode()
    for written in (text, lines, f"data:image/png;base64,{text}"):
        assert values(read(answer({"b64_json": written}))) == [[data]]
    escaped = answer({"b64_json": text}).replace(b"/", b"\\/")
    assert values(read(escaped)) == [[data]]


def test_n_images_are_a_list_and_one_is_not():
    body = answer(encoded(b"a"), encoded(b"b"))
    assert values(read(body, n=2)) == [[[b"a", b"b"]]]
    assert made(n=2).added == [pa.field("image", pa.list_(pa.binary()))]
    assert values(read(answer(encoded(b"a")), n=1)) == [[[b"a"]]]
    assert values(read(answer(encoded(b"a")))) == [[b"a"]]


@pytest.mark.parametrize("images", [0, 1, 3])
def test_more_or_fewer_than_were_asked_for_are_no_answer(images):
    with pytest.raises(BadAnswerError, match="where 2 were asked for"):
        read(answer(*[encoded()] * images), n=2)


@pytest.mark.parametrize("body", [b"", b"{}", b"<html>", b'{"data": null}', b'{"data": [1]}'])
def test_what_is_no_answer_has_no_links_and_is_refused(body):
    assert list(made().links(Response(200, {}, body, 0.1))) == []
    with pytest.raises(BadAnswerError):
        read(body)


@pytest.mark.parametrize("image", [{}, {"b64_json": "§"}, {"b64_json": 5}, {"b64_json": ""}, {"url": 5}, {"url": None}])
def test_an_image_that_is_none_makes_its_row_bad(image):
    found = read(answer(image))
    assert list(found.bad) == [0] and not found.bad[0].systematic


def test_a_revised_prompt_stands_beside_where_a_model_may_give_one():
    body = answer({**encoded(b"a"), "revised_prompt": "A better one"})
    assert [field.name for field in made("dall-e-3").added] == ["image", "revised_prompt"]
    assert values(read(body, model="dall-e-3")) == [[b"a"], ["A better one"]]
    assert values(read(answer(encoded(b"a")), model="painter")) == [[b"a"], [None]]
    assert len(read(body, model="dall-e-2").columns) == len(read(body, model="gpt-image-1").columns) == 1


def test_usage_is_told_where_there_is_any():
    body = answer(encoded(), usage={"input_tokens": 7, "output_tokens": 1056, "total_tokens": 1063})
    found = read(body, model="gpt-image-1")
    assert (found.prompt_tokens, found.completion_tokens) == (7, 1056)
    assert read(answer(encoded(), usage="free")).prompt_tokens is None


def test_links_are_of_images_that_are_not_there():
    body = answer({"url": "https://a/1"}, {**encoded(), "url": "https://a/2"}, {"b64_json": None, "url": "https://a/3"})
    assert list(made(n=3).links(Response(200, {}, body, 0.1))) == ["https://a/1", "https://a/3"]


URL = "https://blobs.example/img.png?sig=abc"


def test_what_was_fetched_is_the_image():
    assert values(read(answer({"url": URL}), {URL: memoryview(PNG)})) == [[PNG]]


@pytest.mark.parametrize(
    ("fetched", "says", "systematic"),
    [
        (b"<html>sorry</html>", "not PNG", False),
        (errors.PermissionDeniedError("GET https://blobs.example/img.png: 403"), "60 minutes.*403", False),
        (errors.BadAnswerError("GET ...: an answer of more than 256 MB"), "256 MB", False),
        (errors.APIConnectionError("GET ...: refused"), "refused.*b64_json", True),
        (errors.APITimeoutError("GET ...: timed out"), "b64_json", True),
    ],
    ids=str,
)
def test_an_image_that_could_not_be_fetched_fails_its_row_and_keeps_its_url(fetched, says, systematic):
    bad = read(answer({"url": URL}), {URL: fetched}).bad[0]
    assert re.search(says, bad.message)
    assert bad.systematic == systematic
    assert isinstance(fetched, bytes) or bad.raw == URL.encode()


# Whole runs


def endpoint(server, model="dall-e-2", **options):
    return made(model, **{"api": API(base_url=server.base_url), "retry": QUICK, **options})


def test_each_row_has_its_own_image_of_its_size(emulator):
    texts = [f"picture {n}" for n in range(12)]
    outcome = run([prompts(*texts)], endpoint(emulator, size="256x256"))
    rows = {row["prompt"]: row["image"] for row in outcome.rows()}
    assert set(rows) == set(texts) and len(set(rows.values())) == 12
    assert {(read_header(image).width, read_header(image).height) for image in rows.values()} == {(256, 256)}
    again = run([prompts(*texts)], endpoint(emulator, size="256x256"))
    assert {row["prompt"]: row["image"] for row in again.rows()} == rows


def test_urls_are_fetched_at_once_without_the_key_and_are_the_same_images(emulator, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    asked = prompts("a", "b", "c")
    fetched = run([asked], endpoint(emulator, response_format="url")).rows()
    assert emulator.ledger()["leaked_keys"] == 0
    assert emulator.requests()[0]["headers"]["authorization"] == "Bearer sk-secret-4711"
    sent = run([asked], endpoint(emulator, response_format="b64_json")).rows()
    assert sorted(row["image"] for row in fetched) == sorted(row["image"] for row in sent)


def test_a_dead_url_fails_its_row_says_why_and_is_not_paid_for_again(emulator):
    emulator.inject({"status": 403, "body": "<Error>expired</Error>"}, path="/files/images")
    outcome = run([prompts("a", "b")], endpoint(emulator, response_format="url", concurrency=1))
    (failed,) = outcome.rows("failed")
    assert failed["error"]["kind"] == "bad_answer" and failed["error"]["attempts"] == 1
    assert "60 minutes" in failed["error"]["message"] and "403" in failed["error"]["message"]
    assert failed["error"]["raw"].startswith("http://127.0.0.1") and "sig=" not in failed["error"]["message"]
    assert len(outcome.rows()) == 1
    assert emulator.ledger()["billed_inputs"] == emulator.ledger()["requests"] == 2


def test_a_fetch_is_tried_again_and_the_request_is_not(emulator):
    emulator.inject("server_error", times=2, path="/files/images")
    emulator.inject("reset", path="/files/images")
    outcome = run([prompts("a")], endpoint(emulator, response_format="url"))
    assert len(outcome.rows()) == 1
    assert emulator.ledger()["requests"] == 1 and emulator.ledger()["billed_twice"] == 0


def test_a_host_that_cannot_be_reached_stops_the_job_after_the_first_image(emulator):
    body = {"created": 1, "data": [{"url": "http://127.0.0.1:9/img.png"}]}
    emulator.inject({"body": body}, times=50, path="/images/generations")
    with pytest.raises(Exception, match="b64_json"):
        run([prompts(*map(str, range(20)))], endpoint(emulator, response_format="url"))
    assert emulator.ledger()["requests"] == 1


def test_a_forbidden_prompt_is_that_rows_trouble(emulator):
    outcome = run([prompts("fine", "FORBIDDEN", "x" * 1001)], endpoint(emulator))
    kinds = {row["prompt"][:9]: (row["error"]["kind"], row["error"]["code"]) for row in outcome.rows("failed")}
    assert kinds == {"FORBIDDEN": ("rejected", "content_policy_violation"), "xxxxxxxxx": ("invalid_input", None)}
    outcome = run([prompts("fine", "FORBIDDEN")], endpoint(emulator, "gpt-image-1"))
    assert outcome.rows("failed")[0]["error"]["code"] == "moderation_blocked"


def test_gpt_image_is_sent_no_format_and_its_tokens_are_counted(emulator):
    outcome = run([prompts("a", "b")], endpoint(emulator, "gpt-image-1", quality="low"))
    assert all("response_format" not in request["body"] for request in emulator.requests())
    assert outcome.counter("completion_tokens") == 2 * 272
    assert outcome.counter("prompt_tokens") + 2 * 272 == emulator.ledger()["tokens"]


def test_a_row_that_the_quota_can_never_pass_is_not_sent(emulator):
    outcome = run([prompts("a")], endpoint(emulator, "gpt-image-1", quota=Quota(tokens_per_minute=1000)))
    assert "1057 tokens" in outcome.rows("failed")[0]["error"]["message"]
    assert emulator.ledger()["requests"] == 0


def test_a_size_that_is_none_is_its_rows_trouble(emulator):
    rows = pa.table({"prompt": ["a", "b"], "size": ["1024x1024", "1024x1024px"]})
    outcome = run([rows], endpoint(emulator, "gpt-image-1", size=column("size")))
    assert [row["prompt"] for row in outcome.rows()] == ["a"]
    assert outcome.rows("failed")[0]["error"]["kind"] == "rejected"


def test_a_fetch_that_waits_ends_with_the_job(emulator):
    emulator.inject({"status": 503, "headers": {"retry-after": "60"}, "body": "-"}, times=50, path="/files/images")
    began = time.monotonic()

    def interrupt():
        while emulator.ledger()["requests"] < 1:
            time.sleep(0.05)
        time.sleep(1)
        service.stop_all(errors.APIError("interrupted"))

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Exception, match="interrupted"):
        run([prompts("a")], endpoint(emulator, response_format="url"))
    thread.join()
    assert time.monotonic() - began < 50


def test_more_images_a_request_than_the_quota_of_a_minute_are_refused_when_it_is_made():
    with pytest.raises(ValueError, match="the 4 images of a request never fit into images_per_minute=2"):
        Images(model="dall-e-2", n=4, quota=Quota(images_per_minute=2))


def test_a_model_that_refuses_an_option_stops_the_job_with_the_hint(emulator):
    body = {"error": {"message": "Unknown parameter: 'response_format'.", "type": "invalid_request_error",
                      "param": "response_format", "code": "unknown_parameter"}}  # fmt: skip
    emulator.inject({"status": 400, "body": body}, path="/images/generations")
    with pytest.raises(Exception, match="leave it unset"):
        run([prompts("a", "b")], endpoint(emulator, "painter", response_format="b64_json"))


def test_dall_e_3_tells_what_it_made_of_the_prompt(emulator):
    outcome = run(
        [{"prompt": "a"}, {"prompt": "b"}], endpoint(emulator, "dall-e-3", output={"revised_prompt": "meant"})
    )
    assert sorted(row["meant"][-2:] for row in outcome.rows()) == [" a", " b"]


def test_every_family_has_its_rules_by_its_name():
    assert families.family_of("gpt-image-1-mini") is families.family_of("chatgpt-image-latest") is families.GPT_IMAGE
    assert families.family_of("gpt-image-2-2026-04-21") is families.GPT_IMAGE_2
    assert families.family_of("dall-e-4") is families.family_of(column("model")) is None


# The command


def test_the_command_writes_rows_and_files(emulator, tmp_path):
    pq.write_table(pa.table({"prompt": ["a cat", "a dog"], "id": [1, 2]}), tmp_path / "prompts.parquet")
    ended = command(
        "images", "--input", tmp_path / "prompts.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "dall-e-2", "--size", "256x256", "--files-dir", tmp_path / "files", "--files-name", "id",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    rows = pq.read_table(tmp_path / "out").to_pylist()
    written = {path.name: path.read_bytes() for path in (tmp_path / "files").iterdir()}
    assert written == {f"{row['id']}.png": row["image"] for row in rows} and len(rows) == 2
    assert str(tmp_path / "files") in ended.stdout


def test_names_of_files_that_are_not_there_are_missed_before_anything_is_paid_for(emulator, tmp_path):
    pq.write_table(pa.table({"prompt": ["a cat"]}), tmp_path / "prompts.parquet")
    ended = command(
        "images", "--input", tmp_path / "prompts.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "dall-e-2", "--files-dir", tmp_path / "files",
    )  # fmt: skip
    assert ended.returncode == 1 and "no column 'name' to name files after; they have: prompt" in ended.stderr
    assert emulator.ledger()["requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n", "11"], "n must be a whole number from 1 to 10, not 11"),
        (["--size", "300x300"], "300x300"),
        (["--files-dir", "{out}"], "--files-dir must be a folder of its own"),
    ],
)
def test_wrong_usage_is_said_before_anything_is_sent(emulator, tmp_path, arguments, says):
    pq.write_table(pa.table({"prompt": ["a cat"], "name": ["a"]}), tmp_path / "prompts.parquet")
    arguments = [argument.replace("{out}", str(tmp_path / "out")) for argument in arguments]
    ended = command(
        "images", "--input", tmp_path / "prompts.parquet", "--output", tmp_path / "out", "--base-url", emulator.base_url,
        "--model", "dall-e-2", *arguments,
    )  # fmt: skip
    assert ended.returncode == 2 and says in ended.stderr
    assert emulator.ledger()["requests"] == 0
