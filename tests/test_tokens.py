"""How many tokens a text will cost."""

import os
import socket
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_openai import tokens
from beam_openai.tokens import Estimate, Exact, byte_lengths, counter

TEXTS = ["", "abc", "é", "日本", "🦊", None]
BYTES = [0, 3, 2, 6, 4, 0]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_bytes_are_counted_whatever_type_the_texts_have(kind):
    texts = pa.array(TEXTS).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(TEXTS, kind)
    for column in (texts, texts[1:], pa.chunked_array([texts, texts[:2], texts[:0]]), pa.chunked_array([], kind)):
        expected = [len((text or "").encode()) for text in column.to_pylist()]
        assert byte_lengths(column).tolist() == expected
        assert Estimate()(column).tolist() == [max(1, -(-size // 3)) for size in expected]
    assert byte_lengths(texts).tolist() == BYTES and byte_lengths(texts).dtype == np.int64


def test_a_column_of_nulls_counts_nothing():
    assert byte_lengths(pa.nulls(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.int32()), pa.list_(pa.int64(), 2)], ids=str)
def test_token_ids_count_one_each_by_any_counter(kind):
    ids = pa.array([[1, 2], None, [3, 4]], kind)
    assert byte_lengths(ids).tolist() == [2, 0, 2]
    unsure = Estimate()
    unsure.learn(10, 40)
    for count in (unsure, Exact(encode)):
        assert count(pa.chunked_array([ids])).tolist()[::2] == [2, 2]


@given(st.lists(st.text(), max_size=20))
def test_an_estimate_begins_at_a_token_in_three_bytes_and_is_at_least_one(texts):
    assert Estimate()(pa.array(texts, pa.string())).tolist() == [max(1, -(-len(t.encode()) // 3)) for t in texts]


@pytest.mark.parametrize("truth", [1 / 8, 1 / 4, 1 / 2, 1.0, 1.5])
def test_learning_comes_to_the_truth(truth):
    count, texts = Estimate(), pa.array(["x" * 300] * 100)
    for _ in range(60):
        count.learn(float(count(texts).sum()), truth * 30_000)
    assert count.ratio == pytest.approx(truth, rel=0.02)


@given(st.lists(st.tuples(st.floats(-10, 1e9), st.floats(-10, 1e9)), max_size=50))
def test_learning_is_bounded_whatever_is_said(answers):
    count = Estimate()
    for estimated, used in answers:
        count.learn(estimated, used)
        assert 0.02 <= count.ratio <= 2.0


def test_one_odd_answer_among_many_moves_little():
    count = Estimate()
    for _ in range(50):
        count.learn(100, 100)
    count.learn(100, 100_000)
    assert count.ratio < 0.45


# Exact


def tiny():
    """A vocabulary of the 256 bytes, "hello", and one special token."""
    tiktoken = pytest.importorskip("tiktoken")

    ranks = {bytes([byte]): byte for byte in range(256)}
    for rank, merged in enumerate((b"he", b"ll", b"hell", b"hello"), 256):
        ranks[merged] = rank
    return tiktoken.Encoding("tiny", pat_str=r"\S+|\s+", mergeable_ranks=ranks, special_tokens={"<|endoftext|>": 999})


def encode(texts):
    return tiny().encode_batch(list(texts), disallowed_special=())


def test_exact_counts_are_tiktoken_s_and_at_least_one():
    texts = ["hello", "hello a", "", None, "<|endoftext|>", "日本"]
    expected = [1, 3, 1, 1, 13, 6]
    for column in (
        pa.array(texts),
        pa.array(texts, pa.string_view()),
        pa.array(texts).dictionary_encode(),
        pa.chunked_array([texts[:2], texts[2:]]),
    ):
        assert Exact(encode)(column).tolist() == expected


def test_a_text_that_is_not_utf8_fails_no_other_s_count():
    offsets = pa.array([0, 2, 7], pa.int32()).buffers()[1]
    texts = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"\xff\xfehello")])
    assert Exact(encode)(texts).tolist()[1] == 1
    assert Estimate()(texts).tolist() == [1, 2]


def test_exact_counts_are_what_a_text_surely_has_and_there_is_nothing_to_learn():
    exact = Exact(encode)
    exact.learn(1, 100)
    assert exact.at_least(np.array([3]), np.array([900.0])).tolist() == [3]
    assert Estimate.at_least(np.array([300]), np.array([900.0])).tolist() == [900 / 128]


# Where there is no vocabulary


def test_an_unknown_model_is_estimated():
    assert isinstance(counter("no-such-model"), Estimate)


def test_without_a_network_tokens_are_estimated(tmp_path):
    code = "from beam_openai.tokens import *; print(type(counter('text-embedding-3-small')).__name__)"
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **nowhere, "TIKTOKEN_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ran.stdout.strip() == "Estimate"


def test_a_network_that_never_answers_is_waited_for_no_longer_than_said(tmp_path, monkeypatch):
    pytest.importorskip("tiktoken")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
        for name in ("HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(tokens, "_DOWNLOAD_SECONDS", 0.3)
        assert isinstance(counter("gpt-4o"), Estimate)
