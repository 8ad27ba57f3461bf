"""Completions and edits of the emulator over real sockets, and its streams as they come over the wire."""

import json
import random
import re
import socket
from urllib.parse import urlsplit

import pytest
import requests

from beam_openai.emulator import Emulator, sse, writing
from beam_openai.emulator.logprobs import chosen
from beam_openai.emulator.operations.edits import edited
from beam_openai.emulator.texts import count_tokens

MODEL = "davinci-002"
PROMPTS = ["Once upon a time", "été 東京 🦊", "?", "Summarise: the quick brown fox jumps over the lazy dog"]


@pytest.fixture(scope="module")
def shared():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def post(server, path="/completions", **body):
    return requests.post(f"{server.base_url}{path}", json=body, timeout=10)


def complete(server, prompt, **fields):
    response = post(server, model=MODEL, prompt=prompt, **fields)
    assert response.status_code == 200, response.text
    return response.json()


def texts(answer):
    return [choice["text"] for choice in answer["choices"]]


def events(response):
    """The data of server-sent events, read by the rules of their standard."""
    lines = re.split("\r\n|\n|\r", response.content.decode())
    data, found = [], []
    for line in lines:
        if not line and data:
            found.append("\n".join(data))
            data = []
        elif line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
    assert not data, "the last event has no end"
    return found


def pieces_on_the_wire(server, path, body):
    """The chunks in which a streamed body came."""
    address = urlsplit(server.base_url)
    data = json.dumps(body).encode()
    head = f"POST {address.path}{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len(data)}\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + data)
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    rest, found = received.partition(b"\r\n\r\n")[2], []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    assert found.pop() == b""
    return found


# Completions


def test_a_completion_has_the_shape_of_the_real_one(server):
    answer = complete(server, "Hello there", max_tokens=5)
    assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
    assert re.fullmatch("cmpl-[a-zA-Z0-9]{24}", answer["id"]) and answer["object"] == "text_completion"
    assert list(answer["choices"][0]) == ["text", "index", "logprobs", "finish_reason"]
    assert answer["model"] == MODEL and answer["choices"][0]["logprobs"] is None


def test_the_same_request_gets_the_same_answer(server):
    one, other = (complete(server, PROMPTS, n=3) for _ in range(2))
    assert one["choices"] == other["choices"] and one["usage"] == other["usage"]
    assert one["id"] != other["id"]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("most", [0, 1, 2, 16, 1000])
def test_max_tokens_are_kept_exactly_and_usage_is_what_was_sent(server, prompt, most):
    answer = complete(server, prompt, max_tokens=most)
    (choice,) = answer["choices"]
    whole = f" {writing.compose(prompt)}"
    sent = count_tokens(choice["text"], 4.0) if choice["text"] else 0
    assert whole.startswith(choice["text"])
    assert choice["finish_reason"] == ("stop" if choice["text"] == whole else "length")
    assert choice["finish_reason"] == "stop" or sent == most
    prompt_tokens = count_tokens(prompt, 4.0)
    assert answer["usage"] == {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": sent,
        "total_tokens": prompt_tokens + sent,
    }


def test_sixteen_tokens_are_the_default(server):
    lengths = {choice["finish_reason"]: choice for choice in complete(server, PROMPTS, n=8)["choices"]}
    assert count_tokens(lengths["length"]["text"], 4.0) == 16


def test_prompt_i_has_the_choices_from_i_times_n_on(server):
    answer = complete(server, PROMPTS, n=3, max_tokens=200)
    assert [choice["index"] for choice in answer["choices"]] == list(range(12))
    assert texts(answer) == [f" {writing.compose(prompt, k)}" for prompt in PROMPTS for k in range(3)]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_choices_differ_unless_the_temperature_is_zero(server, prompt):
    assert len(set(texts(complete(server, prompt, n=20)))) == 20
    assert len(set(texts(complete(server, prompt, n=20, temperature=0)))) == 1


def test_a_seed_draws_another_text_and_the_same_seed_the_same_one(server):
    plain, one, other = (complete(server, "a prompt", seed=seed) for seed in (None, 7, 7))
    assert texts(one) == texts(other) != texts(plain)


def test_a_text_ends_before_what_stops_it(server):
    (whole,) = texts(complete(server, "Once upon a time", max_tokens=200))
    (choice,) = complete(server, "Once upon a time", max_tokens=200, stop=["§", ". "])["choices"]
    assert choice["text"] == whole[: whole.index(". ")] and choice["finish_reason"] == "stop"
    (cut,) = complete(server, "Once upon a time", max_tokens=2, stop=". ")["choices"]
    assert cut["text"] == whole[:8] and cut["finish_reason"] == "length"


def test_an_echo_stands_before_and_costs_nothing_more(server):
    plain, echoed = complete(server, PROMPTS), complete(server, PROMPTS, echo=True)
    assert texts(echoed) == [prompt + text for prompt, text in zip(PROMPTS, texts(plain))]
    assert plain["usage"] == echoed["usage"]


@pytest.mark.parametrize("many", range(6))
@pytest.mark.parametrize("echo", [False, True])
def test_logprobs_are_four_lists_over_the_tokens_of_the_text(server, many, echo):
    for prompt, choice in zip(PROMPTS, complete(server, PROMPTS, logprobs=many, echo=echo)["choices"]):
        lists = choice["logprobs"]
        assert sorted(lists) == ["text_offset", "token_logprobs", "tokens", "top_logprobs"]
        assert "".join(lists["tokens"]) == choice["text"]
        assert len({len(each) for each in lists.values()}) == 1
        scored = zip(lists["tokens"], lists["token_logprobs"], lists["top_logprobs"], lists["text_offset"])
        offset = 0 if echo else len(prompt)
        for number, (token, score, top, at) in enumerate(scored):
            assert at == offset
            offset += len(token)
            if echo and number == 0:
                assert score is None and top is None
            else:
                assert score <= 0 and top[token] == score == max(top.values()) and len(top) == max(1, many)


def test_best_of_gives_those_with_the_likeliest_tokens(server):
    every = texts(complete(server, "Once", n=6))
    best = texts(complete(server, "Once", n=2, best_of=6))

    def likelihood(text):
        tokens = writing.pieces(text, 4.0)
        return sum(chosen(tokens)) / len(tokens)

    assert best == sorted(every, key=likelihood, reverse=True)[:2]


def test_token_ids_are_one_prompt_and_lists_of_them_are_many(server):
    assert len(complete(server, [1, 2, 3])["choices"]) == 1
    answer = complete(server, [[1, 2, 3], [4]], echo=True)
    assert len(answer["choices"]) == 2 and answer["usage"]["prompt_tokens"] == 4
    assert answer["choices"][0]["text"].startswith(" ".join(["", *(writing.VOCABULARY[at] for at in (1, 2, 3))]))
    assert server.billed([[1, 2, 3], [4]]) == [2, 1]


def test_null_is_the_end_of_a_text(server):
    assert complete(server, None)["choices"] == complete(server, "<|endoftext|>")["choices"]


def test_a_suffix_changes_the_answer(server):
    assert texts(complete(server, "a")) != texts(complete(server, "a", suffix="the end"))


def test_what_a_filter_stops_breaks_off(server):
    (choice,) = complete(server, "FILTERED please", max_tokens=200)["choices"]
    assert choice["finish_reason"] == "content_filter"
    whole = f" {writing.compose('FILTERED please')}"
    assert choice["text"] == whole[: len(whole) // 2]


def test_each_prompt_is_billed_once_however_many_choices_it_has(server):
    complete(server, ["a", "b", "a"], n=4)
    assert server.billed(["a", "b", "c"], MODEL) == [2, 1, 0]


def test_limits_are_charged_prompt_and_max_tokens_for_each_choice(start_emulator):
    with start_emulator(tpm=1000) as server:
        response = post(server, model=MODEL, prompt=["x" * 40, "y" * 8], max_tokens=10, n=2, best_of=3)
        assert response.headers["x-ratelimit-remaining-tokens"] == str(1000 - 12 - 2 * 3 * 10)


REFUSED = [
    ({"prompt": []}, "prompt", "empty_array"),
    ({"prompt": 3}, "prompt", "invalid_type"),
    ({"prompt": ["a", 3]}, "prompt", None),
    ({"prompt": [[1], []]}, "prompt", None),
    ({"prompt": [-1]}, "prompt", None),
    ({"temperature": 2.1}, "temperature", "decimal_above_max_value"),
    ({"temperature": -0.1}, "temperature", "decimal_below_min_value"),
    ({"temperature": "1"}, "temperature", "invalid_type"),
    ({"temperature": True}, "temperature", "invalid_type"),
    ({"top_p": 1.1}, "top_p", "decimal_above_max_value"),
    ({"n": 0}, "n", "integer_below_min_value"),
    ({"n": 129}, "n", "integer_above_max_value"),
    ({"n": 1.5}, "n", "invalid_type"),
    ({"max_tokens": -1}, "max_tokens", "integer_below_min_value"),
    ({"logprobs": 6}, "logprobs", "integer_above_max_value"),
    ({"logprobs": True}, "logprobs", "invalid_type"),
    ({"stop": list("abcde")}, "stop", "array_above_max_length"),
    ({"stop": []}, "stop", "empty_array"),
    ({"stop": ""}, "stop", "empty_string"),
    ({"stop": ["a", 1]}, "stop[1]", "invalid_type"),
    ({"stop": 1}, "stop", "invalid_type"),
    ({"presence_penalty": 2.1}, "presence_penalty", "decimal_above_max_value"),
    ({"frequency_penalty": -2.1}, "frequency_penalty", "decimal_below_min_value"),
    ({"best_of": 21}, "best_of", "integer_above_max_value"),
    ({"best_of": 0}, None, None),
    ({"n": 2, "best_of": 1}, None, None),
    ({"n": 1, "best_of": 2, "stream": True}, None, None),
    ({"echo": "yes"}, "echo", "invalid_type"),
    ({"suffix": 1}, "suffix", "invalid_type"),
    ({"logit_bias": {"a": 1}}, "logit_bias", None),
    ({"logit_bias": {"50256": 101}}, "logit_bias.50256", "decimal_above_max_value"),
    ({"user": None}, "user", "invalid_type"),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"stream": True, "stream_options": {"x": True}}, "stream_options.x", "unknown_parameter"),
    ({"max_completion_tokens": 3}, None, None),
]


@pytest.mark.parametrize("fields, param, code", REFUSED, ids=[json.dumps(case[0]) for case in REFUSED])
def test_a_wrong_completion_is_refused(server, fields, param, code):
    response = post(server, **{"model": MODEL, "prompt": "a", **fields})
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["code"], error["type"]) == (param, code, "invalid_request_error")
    assert server.ledger()["billed_inputs"] == 0


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"n": 3, "best_of": 2},
            "You requested that the server return more choices than it will generate (HINT: you must set 'n' (currently "
            "3) to be at most 'best_of' (currently 2), or omit either parameter if you don't specifically want to use "
            "them.)",
        ),
        ({"foo": 1}, "Unrecognized request argument supplied: foo"),
        ({"n": 0}, "Invalid 'n': integer below minimum value. Expected a value >= 1, but got 0 instead."),
        ({"n": "two"}, "Invalid type for 'n': expected an integer, but got a string instead."),
        (
            {"model": "gpt-4o"},
            "This is a chat model and not supported in the v1/completions endpoint. Did you mean to use "
            "v1/chat/completions?",
        ),
        (
            {"prompt": ["good", "x" * 16_000], "max_tokens": 98},
            "This model's maximum context length is 4097 tokens, however you requested 4098 tokens (4000 in your prompt; "
            "98 for the completion). Please reduce your prompt; or completion length.",
        ),
    ],
)
def test_the_words_are_those_of_the_real_service(server, fields, message):
    response = post(server, **{"model": MODEL, "prompt": "a", **fields})
    assert response.json()["error"]["message"] == message


def test_a_prompt_is_required_and_the_longest_one_that_fits_is_allowed(server):
    assert post(server, model=MODEL).json()["error"]["message"] == "Missing required parameter: 'prompt'."
    assert post(server, model=MODEL, prompt="x" * 16_000, max_tokens=97).status_code == 200


@pytest.mark.parametrize("status", [400, 500])
def test_a_poisoned_prompt_spoils_its_request(server, status):
    assert post(server, model=MODEL, prompt=["fine", f"POISON-{status}"]).status_code == status
    assert server.billed(["fine"]) == [0]


# Streams


@pytest.mark.parametrize("fields", [{}, {"n": 3, "logprobs": 2, "echo": True}, {"stop": "."}, {"max_tokens": 0}])
def test_a_stream_says_the_same_as_the_whole(server, fields):
    whole = complete(server, PROMPTS, **fields)
    response = post(server, model=MODEL, prompt=PROMPTS, stream=True, stream_options={"include_usage": True}, **fields)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *told, done = events(response)
    *chunks, last = map(json.loads, told)
    assert done == "[DONE]"
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        deltas = [each for chunk in chunks for each in chunk["choices"] if each["index"] == choice["index"]]
        assert "".join(delta["text"] for delta in deltas) == choice["text"]
        reasons = [delta["finish_reason"] for delta in deltas]
        assert reasons[-1] == choice["finish_reason"] and set(reasons[:-1]) <= {None}
        if "logprobs" in fields:
            tokens = [token for delta in deltas if delta["logprobs"] for token in delta["logprobs"]["tokens"]]
            assert tokens == choice["logprobs"]["tokens"]
    assert all(chunk["usage"] is None and chunk["object"] == "text_completion" for chunk in chunks)
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_choices_come_in_turns(server):
    response = post(server, model=MODEL, prompt=["one", "two"], max_tokens=3, stream=True)
    told = [json.loads(each)["choices"][0]["index"] for each in events(response)[:-1]]
    assert told[:4] == [0, 1, 0, 1]


def test_a_stream_without_usage_has_none(server):
    told = [json.loads(each) for each in events(post(server, model=MODEL, prompt="a", stream=True))[:-1]]
    assert all("usage" not in chunk and len(chunk["choices"]) == 1 for chunk in told)


def test_a_stream_is_billed(server):
    post(server, model=MODEL, prompt="a", stream=True)
    assert server.billed(["a"]) == [1]


def test_a_stream_is_cut_where_nobody_would(server):
    whole = []
    for number in range(8):
        body = {"model": MODEL, "prompt": f"東京 🦊 {number}", "max_tokens": 200, "stream": True}
        whole.append(pieces_on_the_wire(server, "/completions", body))
    pieces = [piece for each in whole for piece in each]
    wire = b"".join(pieces)
    long = [each for each in whole if not b"".join(each).isascii()]
    assert len(long) > 4 and all(any(_breaks_a_character(piece) for piece in each) for each in long)
    assert any(piece.count(b"data: ") > 1 for piece in pieces)
    assert any(piece and not piece.endswith(b"\n") for piece in pieces)
    assert b": keep-alive" in wire and b"\r\n\r\n" in wire and b"}\n\n" in wire
    assert wire.decode().count("[DONE]") == 8


def _breaks_a_character(piece):
    try:
        piece.decode()
    except UnicodeDecodeError:
        return True
    return False


def test_a_stream_is_cut_the_same_way_each_time(server):
    body = {"model": MODEL, "prompt": "東京", "stream": True}
    one, other = ([len(piece) for piece in pieces_on_the_wire(server, "/completions", body)] for _ in range(2))
    assert one == other


def test_a_plain_stream_has_an_event_in_each_piece(start_emulator):
    with start_emulator(stream_style="plain") as server:
        pieces = pieces_on_the_wire(server, "/completions", {"model": MODEL, "prompt": "été", "stream": True})
    assert all(piece.startswith(b"data: ") and piece.endswith(b"\n\n") and piece.count(b"\n") == 2 for piece in pieces)
    assert pieces[-1] == b"data: [DONE]\n\n"


def test_a_stream_that_is_reset_ends_early(server):
    server.inject("reset_after")
    with pytest.raises(requests.exceptions.RequestException):
        post(server, model=MODEL, prompt="a", stream=True)


def test_events_are_the_same_however_they_are_cut():
    told = [sse.data({"text": "é東🦊" * number}) for number in range(20)] + [sse.DONE]
    for seed in range(50):
        wire = b"".join(sse.awkward(told, random.Random(seed))).replace(b"\r\n", b"\n")
        assert wire.replace(b": keep-alive\n\n", b"") == b"".join(sse.plain(told))


# What is written


@pytest.mark.parametrize("size", [1.0, 2.5, 3.0, 4.0, 7.0])
def test_tokens_together_are_the_text_and_as_many_as_are_counted(size):
    for prompt in PROMPTS:
        text = writing.compose(prompt)
        tokens = writing.pieces(text, size)
        assert "".join(tokens) == text and len(tokens) == writing.count(text, size) == count_tokens(text, size)
        for most in range(40):
            written = writing.finish(text, (), most, size)
            assert written.tokens == writing.count(written.text, size) <= most or written.finish_reason == "stop"
            assert text.startswith(written.text)


def test_a_text_is_of_its_prompts_words_and_of_the_vocabulary():
    words = {word.lower() for word in re.findall(r"\w+", writing.compose("zebra quagga", 3))}
    assert words <= {*writing.VOCABULARY, "zebra", "quagga"} and words & {"zebra", "quagga"}
    assert 6 <= len(writing.compose("zebra quagga", 3).split()) <= 37


# Edits


def test_an_edit_has_the_shape_of_the_real_one(server):
    response = post(
        server, "/edits", model="text-davinci-edit-001", input="what day of  the wek is it?", instruction="Fix it."
    )
    answer = response.json()
    assert list(answer) == ["object", "created", "choices", "usage"] and answer["object"] == "edit"
    assert answer["choices"] == [{"text": "What day of the wek is it?", "index": 0}]
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16}
    assert server.billed(["what day of  the wek is it?"]) == [1]


@pytest.mark.parametrize(
    "text, instruction, choice, expected",
    [
        ("hello world", "Make it nice", 0, "Hello world."),
        ("hello world", "Write it in UPPERCASE", 0, "HELLO WORLD"),
        ("Hello World", "make it lower case", 0, "hello world"),
        ("hello", "Make it nice", 2, f"{writing.VOCABULARY[2].capitalize()}."),
        ("", "Write a poem", 0, writing.compose("Write a poem")),
    ],
)
def test_an_edit_does_what_is_said(text, instruction, choice, expected):
    assert edited(text, instruction, choice) == expected


def test_edits_are_as_many_as_were_asked_for(server):
    answer = post(server, "/edits", model="code-davinci-edit-001", input="a b c d", instruction="x", n=5).json()
    assert [choice["index"] for choice in answer["choices"]] == list(range(5))
    assert len(set(texts(answer))) == 5


@pytest.mark.parametrize(
    "fields, status, message",
    [
        ({"instruction": None}, 400, "None is not of type 'string' - 'instruction'"),
        ({"n": 21}, 400, "21 is greater than the maximum of 20 - 'n'"),
        ({"n": 0}, 400, "0 is less than the minimum of 1 - 'n'"),
        ({"temperature": "hot"}, 400, "'hot' is not of type 'number' - 'temperature'"),
        ({"top_p": 2}, 400, "2 is greater than the maximum of 1 - 'top_p'"),
        ({"max_tokens": 5}, 400, "Unrecognized request argument supplied: max_tokens"),
        ({"model": MODEL}, 404, f"The model `{MODEL}` does not support this operation."),
        ({"model": None}, 400, "you must provide a model parameter"),
        (
            {"input": "x" * 12_000},
            400,
            "This model's maximum context length is 3000 tokens, however you requested 3001 tokens (3001 in your prompt; "
            "0 for the completion). Please reduce your prompt; or completion length.",
        ),
    ],
)
def test_a_wrong_edit_is_refused_in_the_words_of_its_time(server, fields, status, message):
    response = post(server, "/edits", **{"model": "text-davinci-edit-001", "instruction": "x", **fields})
    assert (response.status_code, response.json()["error"]["message"]) == (status, message)


def test_an_instruction_is_required(server):
    response = post(server, "/edits", model="text-davinci-edit-001")
    assert response.json()["error"]["message"] == "'instruction' is a required property"
