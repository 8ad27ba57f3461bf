"""What /embeddings is asked, and what its answers are taken for: no server, no Beam pipeline."""

import base64
import json
import math
import struct
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_openai.client import Response
from beam_openai.endpoints.embeddings import Embeddings
from beam_openai.errors import BadAnswerError
from beam_openai.options import column
from beam_openai.tokens import byte_lengths


def made(model="tiny", **options):
    return Embeddings(model=model, **options)


def rows(*texts, kind=None):
    texts = pa.array(texts) if kind is None else kind if isinstance(kind, pa.Array) else pa.array(texts, kind)
    return pa.table({"text": texts})


def packed(numbers):
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def item(vector, index=None, **more):
    return {"object": "embedding", "embedding": vector, **({} if index is None else {"index": index}), **more}


def body(*data, usage=None, **more):
    answer = {"object": "list", "data": list(data), "model": "tiny", **more}
    return json.dumps(answer | ({"usage": usage} if usage is not None else {})).encode()


def read(raw, count, **options):
    """(vectors, by row, None where bad; the answer)."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = made(**options).columns(Response(200, {}, raw, 0.1), rows(*"x" * count))
    vectors = [None if row in answer.bad else vector for row, vector in enumerate(answer.columns[0].to_pylist())]
    return vectors, answer


def refused(raw, count):
    with pytest.raises(BadAnswerError) as caught:
        read(raw, count)
    return str(caught.value)


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"dimensions": 0},
        {"dimensions": -1},
        {"dimensions": "64"},
        {"dimensions": 64.0},
        {"dimensions": 1537, "model": "text-embedding-3-small"},
        {"encoding_format": "int8"},
        {"max_batch_size": 0},
        {"max_batch_size": 2049},
        {"max_batch_size": 1.5},
        {"model": " "},
    ],
)
def test_options_that_can_never_work_are_refused_with_their_value(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        made(**options)


def test_what_is_not_set_is_not_sent():
    assert made().options() == {"model": "tiny", "encoding_format": "base64"}
    assert made(encoding_format=None).options() == {"model": "tiny"}
    assert made(dimensions=64, encoding_format="float", user="me").options() == {
        "model": "tiny",
        "dimensions": 64,
        "encoding_format": "float",
        "user": "me",
    }


def test_params_are_sent_verbatim_and_win():
    params = {"truncate": True, "encoding_format": "int8", "nested": {"a": [1, None]}}
    sent = made(params=params).request(rows("a")).body
    assert sent == {"model": "tiny", **params, "input": ["a"]}


def test_the_length_of_a_vector_is_known_for_known_models_and_where_it_is_asked_for():
    assert made("text-embedding-3-small").fields[0].type == pa.list_(pa.float32(), 1536)
    assert made("text-embedding-3-large", dimensions=5).fields[0].type == pa.list_(pa.float32(), 5)
    assert made(dimensions=7, output="v").fields == [pa.field("v", pa.list_(pa.float32(), 7))]
    assert made().fields[0].type == pa.null()


def test_rows_of_models_whose_vectors_have_other_lengths_are_not_sent():
    names = ["text-embedding-3-small", "text-embedding-3-large", "tiny", None, "text-embedding-ada-002"]
    table = pa.table({"text": ["a"] * 5, "m": names})
    (reason,) = made(column("m")).invalid(table).items()
    assert (
        reason[0] == 1
        and "m is a model whose vectors have 3072 numbers, where those of most rows have 1536" in reason[1]
    )
    assert made(column("m"), dimensions=256).invalid(table) == {}
    assert made(column("m")).invalid(table.slice(1, 3)) == {}


# Rows


ODD = ["🦊", "a\x00b", "\u2028\u2029", "مرحبا", "\\ \"'/ \t\n\r", "\x7f\x1b", " ", "e\u0301", "x" * 1_000_000]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_texts_are_sent_as_they_are_whatever_their_type(kind):
    texts = pa.array(ODD).dictionary_encode() if pa.types.is_dictionary(kind) else pa.array(ODD, kind)
    table, endpoint = pa.table({"text": texts, "other": range(len(ODD))}), made()
    assert endpoint.invalid(table) == {}
    request = endpoint.request(table)
    assert request.body["input"] == ODD
    assert (request.path, request.method, request.content_type) == ("/embeddings", "POST", "application/json")
    assert endpoint.tokens(table, byte_lengths).tolist() == [len(text.encode()) for text in ODD]
    empty = table.slice(0, 0)
    assert endpoint.invalid(empty) == {} and endpoint.tokens(empty, byte_lengths).tolist() == []


@given(st.lists(st.text()))
def test_any_text_comes_out_of_the_request_as_it_went_in(texts):
    table = rows(*texts, kind=pa.string())
    assert made().request(table).body["input"] == texts
    assert made().invalid(table) == {row: "text is empty" for row, text in enumerate(texts) if not text}


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_null_and_empty_rows_are_invalid_and_say_why(kind):
    table = rows("a", "", None, " ", kind=kind)
    assert made().invalid(table) == {1: "text is empty", 2: "text is null"}
    assert made().invalid(pa.table({"text": pa.array(["a", None, ""]).dictionary_encode()})).keys() == {1, 2}


def test_a_column_of_nulls_is_null_in_every_row():
    table = rows(None, None)
    assert made().invalid(table) == dict.fromkeys(range(2), "text is null")
    assert made().tokens(table, byte_lengths).tolist() == [0, 0]


@pytest.mark.parametrize(
    "values",
    [[1, 2], [1.5], [True], [b"a"], [["a"]], [[1.5]], [{"a": 1}], [[[1]]]],
    ids=str,
)
def test_a_column_of_another_type_is_invalid_in_every_row_and_counts_nothing(values):
    table = rows(kind=pa.array(values))
    reasons = made().invalid(table)
    assert len(reasons) == len(values) and all("not text" in why for why in reasons.values())
    assert made().tokens(table, byte_lengths).tolist() == [0] * len(values)
    assert made().invalid(table.slice(0, 0)) == {}


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.uint16()), pa.list_(pa.int32(), 2)], ids=str)
def test_lists_of_token_ids_are_sent_as_lists(kind):
    table = rows([1, 2], [3, 4], kind=kind)
    assert made().invalid(table) == {}
    assert made().request(table).body["input"] == [[1, 2], [3, 4]]
    assert made().tokens(table, byte_lengths).tolist() == [2, 2]


def test_token_ids_that_are_null_empty_or_have_holes_are_invalid():
    table = rows([1], [], None, [1, None], kind=pa.list_(pa.int64()))
    assert sorted(made().invalid(table)) == [1, 2, 3]


def test_a_text_that_is_not_utf8_is_invalid_and_no_other_row_suffers():
    offsets = pa.array([0, 2, 5, 8], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"ab\xed\xa0\x80\xc3\xa9c")])
    for texts in (broken, broken.cast(pa.large_string(), safe=False)):
        table = pa.table({"text": pa.chunked_array([texts, texts])})
        assert list(made().invalid(table)) == [1, 4]
        assert made().tokens(table, byte_lengths).tolist() == [2, 3, 3] * 2


# Answers


VECTORS = [[1.0, -0.5], [0.25, 3.0], [-1.0, 0.0]]


def test_a_packed_vector_is_little_endian_float32():
    assert packed([1.0, -0.5]) == "AACAPwAAAL8="
    vectors, answer = read(body(item("AACAPwAAAL8=", 0)), 1)
    assert vectors == [[1.0, -0.5]] and answer.columns[0].type == pa.list_(pa.float32(), 2)


matrices = st.integers(1, 8).flatmap(
    lambda width: st.lists(
        st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=width, max_size=width),
        min_size=1,
        max_size=12,
    )
)


@given(matrices, st.data())
def test_any_order_of_indexes_and_any_way_to_write_vectors_give_the_same(vectors, data):
    written = [item(packed(v) if data.draw(st.booleans()) else v, i) for i, v in enumerate(vectors)]
    got, answer = read(body(*data.draw(st.permutations(written))), len(vectors))
    assert got == vectors and not answer.bad


@given(matrices)
def test_without_any_index_the_position_counts(vectors):
    assert read(body(*(item(packed(vector)) for vector in vectors)), len(vectors))[0] == vectors
    assert read(body(*({"embedding": vector, "index": None} for vector in vectors)), len(vectors))[0] == vectors


@pytest.mark.parametrize("write", [float, str])
def test_an_index_that_is_written_oddly_is_still_an_index(write):
    data = [item(VECTORS[index], write(index)) for index in (2, 0, 1)]
    assert read(body(*data), 3)[0] == VECTORS


@pytest.mark.parametrize(
    "indexes",
    [
        [0, 1],
        [0, 1, 1],
        [0, 1, 3],
        [1, 2, 3],
        [0, 1, 2, 3],
        [0, 1, 2, 2],
        [0, 0, 0],
        [-1, 0, 1],
        [0, None, 2],
        [None, 1, None],
        [0, 1, 2.5],
        [0, 1, "two"],
        [0, 1, [2]],
        [0, 1, {"a": 2}],
        [False, True, 2],
        [0, 1, 1e300],
        [0, 1, 10**25],
        [],
    ],
    ids=str,
)
def test_an_answer_whose_indexes_are_not_the_rows_is_no_answer(indexes):
    message = refused(body(*(item([1.0, 2.0], index) for index in indexes)), 3)
    assert "/embeddings: " in message and "answers" in message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b'{"data":null}',
        b'{"data":{}}',
        b'{"data":[null]}',
        b'{"data":[[1]]}',
        b'{"data":[1]}',
        b'{"data":"x"}',
        b"<html>",
        b"\xff",
        b'{"data":[{"embedding":[1],"index":0}]',
        b'{"data":' + b"[" * 100_000,
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"data":[]}',
        b'{"data":NaN}',
        b'{"data":[{"embedding":"A',
    ],
    ids=lambda raw: raw[:20].decode("latin-1"),
)
def test_what_is_no_list_of_vectors_is_no_answer(raw):
    refused(raw, 1)
    refused(memoryview(raw), 1)


@pytest.mark.parametrize(
    "vector",
    [
        [1.0],
        [1.0, 2.0, 3.0],
        [],
        "",
        packed([1.0]),
        packed([1.0, 2.0, 3.0]),
        "AACAPwAA",
        "AACAPwAAAL8",
        "AACAPwAAAL8==",
        "A*CAPwAAAL8=",
        "AACA-wAA_L8=",
        "é",
        None,
        1.5,
        True,
        {},
        [[1.0, 2.0]],
        ["1", "2"],
        [True, False],
        [None, 1.0],
        [1e39, 0.0],
        [-1e300, 0.0],
        packed([math.nan, 1.0]),
        packed([math.inf, -math.inf]),
        packed([math.inf, 1.0]),
    ],
    ids=str,
)
def test_a_vector_that_cannot_be_used_is_its_row_s_trouble_alone(vector):
    raw = body(item(VECTORS[0], 0), item(vector, 1), item(packed(VECTORS[2]), 2), usage={"prompt_tokens": 3})
    for text in (raw, memoryview(raw)):
        vectors, answer = read(text, 3)
        assert vectors == [VECTORS[0], None, VECTORS[2]] and answer.prompt_tokens == 3
        assert json.loads(answer.bad[1].raw) == vector and answer.bad[1].message
        assert answer.columns[0].type == pa.list_(pa.float32(), 2) and len(answer.columns[0]) == 3


def test_a_row_without_a_vector_is_its_own_trouble_too():
    vectors, answer = read(body(item(VECTORS[0], 0), {"index": 1}), 2)
    assert vectors == [VECTORS[0], None] and list(answer.bad) == [1]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "1" * 400])
def test_a_number_that_is_not_json_or_no_number_fails_its_row_alone(number):
    text = body(item(VECTORS[2], 2), item([123456.5, 1.0], 1), item(VECTORS[0], 0)).decode()
    vectors, answer = read(text.replace("123456.5", number).encode(), 3)
    assert vectors == [VECTORS[0], None, VECTORS[2]] and list(answer.bad) == [1]


def test_a_bare_nan_spoils_neither_order_nor_packed_neighbours_nor_usage():
    text = body(item(packed(VECTORS[1]), 1), item([123456.5, 1.0], 0), usage={"prompt_tokens": 7}, x=[1e30, 2**70])
    vectors, answer = read(text.decode().replace("123456.5", "NaN").encode(), 2)
    assert vectors == [None, VECTORS[1]] and answer.prompt_tokens == 7


def test_vectors_so_large_that_their_sum_overflows_are_good():
    vectors, answer = read(body(item([3e38, 3e38], 0), item([3e38, -3e38], 1)), 2)
    assert not answer.bad and vectors[0] == pytest.approx([3e38, 3e38])


def test_base64_may_have_escaped_slashes_and_line_breaks():
    numbers = [struct.unpack("<f", struct.pack("<I", 0x3F_FF_FF_FF - i))[0] for i in range(60)]
    text = packed(numbers)
    assert "/" in text
    for written in (
        text.replace("/", "\\/"),
        "\\n".join(text[at : at + 76] for at in range(0, len(text), 76)),
        f" {text} ",
    ):
        raw = b'{"data": [ {"embedding" :  "' + written.encode() + b'" , "index": 0 } ] }'
        assert read(raw, 1)[0] == [numbers]


def test_the_length_of_most_vectors_is_right_where_none_is_known():
    data = [item(packed([1.0]), 0), *(item(packed(VECTORS[0]), index) for index in range(1, 6))]
    vectors, answer = read(body(*data), 6)
    assert list(answer.bad) == [0] and answer.bad[0].systematic and vectors[1:] == [VECTORS[0]] * 5


def test_another_length_than_was_asked_for_is_a_bad_row_that_says_what_to_set():
    vectors, answer = read(body(item(VECTORS[0], 0)), 1, dimensions=3)
    assert vectors == [None] and answer.bad[0].systematic and "dimensions" in answer.bad[0].message
    assert answer.columns[0].type == pa.list_(pa.float32(), 3)


def test_when_no_vector_can_be_read_all_rows_are_bad():
    vectors, answer = read(body(item(None, 0), item("x", 1)), 2)
    assert vectors == [None, None] and len(answer.bad) == 2


@pytest.mark.parametrize(
    "usage, tokens",
    [
        ({"prompt_tokens": 12, "total_tokens": 12}, 12),
        ({"prompt_tokens": 12.0}, 12),
        ({"prompt_tokens": "12"}, 12),
        ({"prompt_tokens": 0}, 0),
        ({"total_tokens": 9}, 9),
        ({"prompt_tokens": None, "total_tokens": 9}, 9),
        ({"prompt_tokens": -1}, None),
        ({"prompt_tokens": 12.5}, None),
        ({"prompt_tokens": True}, None),
        ({"prompt_tokens": "many"}, None),
        ({"prompt_tokens": [12]}, None),
        ({"prompt_tokens": {"text": 12}}, None),
        ({"prompt_tokens": 1e300}, None),
        ({"prompt_tokens": 10**25}, None),
        ({}, None),
        ([], None),
        ("free", None),
        (0, None),
        (None, None),
    ],
    ids=str,
)
def test_usage_that_is_odd_never_costs_the_answer(usage, tokens):
    for raw in (
        body(item(VECTORS[0], 0), usage=usage),
        json.dumps({"data": [item(VECTORS[0], 0)], "usage": usage}).encode(),
    ):
        vectors, answer = read(raw, 1)
        assert vectors == [VECTORS[0]] and answer.prompt_tokens == tokens


def test_fields_that_are_missing_or_unknown_or_odd_do_not_matter():
    plain = json.dumps({"data": [{"embedding": VECTORS[0]}]}).encode()
    odd = body(
        item(VECTORS[0], 0, object=7, x={"y": [1.5]}),
        object=None,
        created=1.7e9,
        id=None,
        model=["other"],
        warnings=[{"deep": [[[]]]}],
        usage={"prompt_tokens": 1, "prompt_tokens_details": {"x": 1.5}},
    )
    for raw in (plain, odd, b" \n" + plain + b"\n "):
        assert read(raw, 1)[0] == [VECTORS[0]]


GOOD = body(*(item(packed(vector), index) for index, vector in enumerate(VECTORS)), usage={"prompt_tokens": 3})


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=300)
def test_an_answer_that_was_cut_off_is_no_answer(length):
    refused(GOOD[:length], 3)


@given(st.integers(0, len(GOOD) - 1), st.binary(max_size=3), st.integers(0, 6))
@settings(max_examples=500, deadline=None)
def test_no_damage_raises_another_error_or_makes_a_row_without_reason(at, inserted, removed):
    raw = GOOD[:at] + inserted + GOOD[at + removed :]
    try:
        vectors, answer = read(raw, 3)
    except BadAnswerError:
        return
    assert len(vectors) == 3 and all(vector is None or np.isfinite(vector).all() for vector in vectors)
    assert answer.columns[0].type.list_size > 0


floating = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=2, max_size=2)
junk = st.none() | st.text(max_size=4) | st.lists(st.none() | st.text(max_size=2), min_size=1, max_size=3)


@given(st.lists(floating | junk, min_size=1, max_size=9), st.randoms())
def test_good_rows_are_answered_with_their_own_vector_whatever_the_others_are(vectors, chance):
    good = {row: vector for row, vector in enumerate(vectors) if vector and all(isinstance(n, float) for n in vector)}
    written = [item(vector, row) for row, vector in enumerate(vectors)]
    chance.shuffle(written)
    got, _ = read(body(*written), len(vectors), dimensions=2)
    assert {row: vector for row, vector in enumerate(got) if vector is not None} == good


def test_an_answer_of_2048_vectors_is_read_exactly():
    matrix = np.random.default_rng(0).standard_normal((2048, 256), np.float32)
    order = np.random.default_rng(1).permutation(2048)
    raw = body(*(item(base64.b64encode(matrix[row].tobytes()).decode(), int(row)) for row in order))
    answer = made(dimensions=256).columns(Response(200, {}, raw, 0.1), rows(*"x" * 2048))
    np.testing.assert_array_equal(answer.columns[0].flatten().to_numpy().reshape(2048, 256), matrix)


def test_no_rows_make_an_empty_column():
    answer = made(dimensions=4).columns(Response(200, {}, b'{"data":[]}', 0.1), rows(kind=pa.array([], pa.string())))
    assert len(answer.columns[0]) == 0 and answer.columns[0].type == pa.list_(pa.float32(), 4)
