"""Elements of every kind come out as what they were, once, where and when they were; their other columns untouched."""

from __future__ import annotations

import datetime
import decimal
from collections import Counter
from typing import NamedTuple

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms import window
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming, WindowedValue
from conftest import RUNNERS, direct, embeddings, fn_api, needs_prism, prism, rows_of, run, texts_table, vectors

from beam_openai import tables
from beam_openai.sources import ERROR

pytestmark = pytest.mark.usefixtures("clean")

TestStream.__test__ = False  # it is no test


class Named(NamedTuple):
    id: int
    text: str


def close(one, other):
    return np.allclose(np.array(one, dtype=np.float32), np.array(other, dtype=np.float32), atol=1e-6)


# Kinds of elements


def test_a_table_comes_back_with_its_columns_and_a_vector_for_each_row(emulator):
    table = texts_table(["one", "two", "three"], id=[1, 2, 3])
    outcome = run([table], embeddings(emulator))
    (out,) = outcome.answered
    assert out.value.column_names == ["text", "id", "embedding"]
    assert out.value.schema.field("embedding").type == pa.list_(pa.float32(), 8)
    assert out.value.select(["text", "id"]) == table
    assert close(out.value["embedding"].to_pylist(), vectors(["one", "two", "three"]))
    assert not outcome.failed


def test_a_dict_comes_back_as_a_dict(emulator):
    outcome = run([{"id": 1, "text": "one"}, {"text": "", "id": 2}], embeddings(emulator))
    (row,), (failed,) = outcome.rows(), outcome.rows("failed")
    assert list(row) == ["id", "text", "embedding"] and close(row["embedding"], vectors(["one"])[0])
    assert list(failed) == ["text", "id", "error"] and failed["error"]["kind"] == "invalid_input"


def test_a_row_of_a_fixed_type_that_failed_before_is_answered_without_its_old_error(emulator):
    old = {**dict.fromkeys(ERROR.names), "kind": "rejected", "message": "the old one"}
    rows = beam.Create([1]) | beam.Map(lambda _: beam.Row(text="one", error=old))
    (row,) = run(rows, embeddings(emulator)).rows()
    assert row.error is None and close(row.embedding, vectors(["one"])[0])


@pytest.mark.parametrize("name", ["the vector", "class", "_vector"])
def test_a_name_that_no_field_can_have_is_refused_before_anything_is_sent(emulator, name):
    with pytest.raises(Exception, match=f"no field of a NamedTuple can be named '{name}'"):
        run([Named(1, "one")], embeddings(emulator, output=name))
    assert emulator.ledger()["requests"] == 0
    assert close(run([{"text": "one"}], embeddings(emulator, output=name)).rows()[0][name], vectors(["one"])[0])


def test_a_beam_row_comes_back_as_a_beam_row(emulator):
    # Beam itself makes NamedTuples of the rows that it encodes: these are made where they are used.
    source = beam.Create([(1, "one"), (2, "")]) | beam.MapTuple(lambda id, text: beam.Row(id=id, text=text))
    outcome = run(source, embeddings(emulator))
    (row,), (failed,) = outcome.rows(), outcome.rows("failed")
    assert isinstance(row, beam.Row) and (row.id, row.text) == (1, "one") and close(row.embedding, vectors(["one"])[0])
    assert isinstance(failed, beam.Row) and failed.error["message"] == "text is empty"


def test_a_named_tuple_comes_back_as_one_of_the_same_name_and_survives_a_shuffle(emulator):
    class Shuffled(beam.PTransform):
        def expand(self, pcoll):
            outputs = pcoll | embeddings(emulator)
            outputs.answered | "Shuffle" >> beam.Reshuffle()
            return outputs

    outcome = run([Named(1, "one"), Named(2, "")], Shuffled())
    (row,), (failed,) = outcome.rows(), outcome.rows("failed")
    assert type(row).__name__ == "Named" and row._fields == ("id", "text", "embedding")
    assert close(row.embedding, vectors(["one"])[0])
    assert failed._fields == ("id", "text", "error") and failed.error["kind"] == "invalid_input"


def test_an_element_of_another_kind_is_a_clear_type_error(emulator):
    with pytest.raises(TypeError, match=r"rows must be pa\.Table, dict, beam\.Row or NamedTuple, not str"):
        run(["just text"], embeddings(emulator))
    assert emulator.ledger()["requests"] == 0


def test_an_empty_collection_sends_nothing_and_gives_two_empty_ones(emulator):
    outcome = run([], embeddings(emulator))
    assert not outcome.answered and not outcome.failed
    assert emulator.ledger()["requests"] == 0


def test_tables_and_rows_of_other_kinds_may_be_mixed(emulator):
    outcome = run([texts_table(["a"]), {"text": "b"}], embeddings(emulator))
    assert Counter(type(out.value) for out in outcome.answered) == {pa.Table: 1, dict: 1}


# Columns


def test_columns_of_every_type_pass_through_untouched_also_beside_failed_rows(emulator):
    texts = ["a", None, "b", "", "c", "a"]
    table = pa.table(
        {
            "text": texts,
            "nested": [{"a": [1, 2], "b": {"c": "x"}}, None, {"a": [], "b": None}, {"a": None, "b": {"c": None}}]
            + [{"a": [3], "b": {"c": "y"}}] * 2,
            "category": pa.array(["k", "l", None, "k", "l", "k"]).dictionary_encode(),
            "when": pa.array(
                [datetime.datetime(2026, 1, day, 1) for day in range(1, 7)], pa.timestamp("us", tz="Asia/Tokyo")
            ),
            "price": pa.array([decimal.Decimal(f"{n}.50") for n in range(6)], pa.decimal128(20, 2)),
            "blob": pa.array([b"\0", None, b"", b"x" * 100, b"y", b"z"], pa.large_binary()),
            "map": pa.array([[("k", 1)], [], None, [("a", 2)], [], []], pa.map_(pa.string(), pa.int8())),
            "view": pa.array(["v", "w", None, "x", "a long one that is not inlined", "z"], pa.string_view()),
            "half": pa.array(np.arange(6, dtype=np.float16)),
            "nothing": pa.nulls(6),
            "list": pa.array([[1.0] * 3] * 6, pa.list_(pa.float64(), 3)),
        }
    ).replace_schema_metadata({"origin": "here"})
    outcome = run([table], embeddings(emulator))
    answered, failed = outcome.answered[0].value, outcome.failed[0].value
    assert answered.drop_columns("embedding").schema.equals(table.schema, check_metadata=True)
    assert failed.drop_columns("error").schema.equals(table.schema, check_metadata=True)
    rows = table.to_pylist()
    assert answered.drop_columns("embedding").to_pylist() == [rows[n] for n in (0, 2, 4, 5)]
    assert failed.drop_columns("error").to_pylist() == [rows[n] for n in (1, 3)]
    assert close(answered["embedding"].to_pylist(), vectors(["a", "b", "c", "a"]))


def test_a_chunked_table_keeps_its_rows_in_order(emulator):
    texts = [f"text {n}" for n in range(100)]
    pieces = [texts_table(texts[start : start + 7]) for start in range(0, 100, 7)]
    outcome = run([pa.concat_tables(pieces)], embeddings(emulator, max_batch_size=9))
    assert Counter(row["text"] for row in outcome.rows()) == Counter(texts)
    assert close([row["embedding"] for row in outcome.rows()], vectors([row["text"] for row in outcome.rows()]))


def test_a_slice_of_a_table_carries_only_its_own_rows(emulator):
    table = texts_table([f"text {n}" for n in range(1000)], id=list(range(1000)))
    outcome = run([table.slice(990)], embeddings(emulator))
    assert [row["id"] for row in outcome.rows()] == list(range(990, 1000))
    assert emulator.ledger()["billed_inputs"] == 10


@pytest.mark.parametrize(
    "type_", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())], ids=str
)
def test_text_is_embedded_however_arrow_holds_it(emulator, type_):
    column = pa.array(["one", "two", "one", None]).cast(type_)
    outcome = run([pa.table({"text": column})], embeddings(emulator))
    assert outcome.answered[0].value.schema.field("text").type == type_
    assert close([row["embedding"] for row in outcome.rows()], vectors(["one", "two", "one"]))
    assert len(outcome.rows("failed")) == 1


def test_tables_whose_text_is_held_in_different_ways_share_a_pipeline(emulator):
    one = pa.table({"text": pa.array(["a"], pa.string())})
    two = pa.table({"text": pa.array(["b"], pa.large_string())})
    three = pa.table({"text": pa.array(["c"]).dictionary_encode()})
    four = pa.table({"text": pa.array([[1, 2, 3]], pa.list_(pa.int32()))})
    outcome = run([one, two, three, four, one], embeddings(emulator))
    assert len(outcome.rows()) == 5 and not outcome.failed


def test_a_table_without_rows_or_without_columns(emulator):
    outcome = run([texts_table([])], embeddings(emulator))
    assert not outcome.rows() and not outcome.rows("failed")
    with pytest.raises(ValueError, match=r"no column 'text'; they have: none"):
        run([texts_table(["a"]).select([])], embeddings(emulator))


def test_a_missing_column_is_an_error_that_names_those_there_are(emulator):
    with pytest.raises(ValueError, match=r"no column 'text'; they have: title, body"):
        run([pa.table({"title": ["a"], "body": ["b"]})], embeddings(emulator))
    with pytest.raises(ValueError, match=r"no column 'text'; they have: title, body"):
        run([{"title": "a"}, {"body": "b"}], embeddings(emulator))
    assert emulator.ledger()["requests"] == 0


@pytest.mark.parametrize("element", [pa.table({"text": ["a"], "embedding": [1]}), {"text": "a", "embedding": 1}])
def test_an_added_column_that_is_there_already_is_an_error(emulator, element):
    with pytest.raises(ValueError, match=r"have a column 'embedding' already: name the added one with output="):
        run([element], embeddings(emulator))
    outcome = run([element], embeddings(emulator, output="vector"))
    assert outcome.rows()[0]["embedding"] == 1 and len(outcome.rows()[0]["vector"]) == 8


# Rows that cannot be asked


def test_null_empty_and_unusable_values_fail_alone_and_cost_nothing(emulator):
    values = [
        "good",
        "",
        None,
        7,
        b"bytes",
        1.5,
        float("nan"),
        True,
        ["list"],
        {"a": 1},
        "\ud800",
        ...,
        " ",
        "good too",
    ]
    rows = [{"id": n, "text": value} for n, value in enumerate(values)] + [{"id": 99}]
    # Made where they are used, by the runner that writes nothing between stages: Beam has no code for a lone surrogate.
    outcome = run(beam.Create([0]) | beam.FlatMap(lambda _: rows), embeddings(emulator), direct)
    assert [row["id"] for row in outcome.rows()] == [0, 12, 13]
    failed = outcome.rows("failed")
    assert sorted(row["id"] for row in failed) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 99]
    reasons = {row["id"]: row["error"]["message"] for row in failed}
    assert reasons[1] == "text is empty" and reasons[2] == reasons[99] == "text is null"
    assert reasons[4] == "text is binary, not text" and "surrogate" in reasons[10]
    for row in failed:
        assert row["error"]["kind"] == "invalid_input" and row["error"]["attempts"] is None
        assert row["error"].keys() == {"kind", "status", "code", "type", "message", "request_id", "attempts", "raw"}
    assert emulator.ledger()["billed_inputs"] == 3 and emulator.ledger()["requests"] == 1
    assert outcome.counter("rows_failed") == 12 and outcome.counter("rows_answered") == 3


def test_bytes_beside_text_fail_alone(emulator):
    outcome = run([{"text": "good"}, {"text": b"bytes"}], embeddings(emulator))
    assert [row["text"] for row in outcome.rows()] == ["good"]
    assert outcome.rows("failed")[0]["error"]["message"] == "text is binary, not text"


@pytest.mark.parametrize(
    "values",
    [[1, 2**70, True], [b"a", b"b"], [["a"], [1]], [{"a": 1}, {"a": "x"}], [..., ...], [None, None], [[1], ["b"]]],
    ids=str,
)
def test_rows_none_of_which_is_text_all_come_out_with_a_reason_that_repeats_no_value(emulator, values):
    secret = ["do not repeat me"]
    outcome = run([{"text": value} for value in [*values, secret]], embeddings(emulator))
    assert len(outcome.rows("failed")) + len(outcome.rows()) == len(values) + 1
    for row in outcome.rows("failed"):
        assert row["error"]["message"] and "do not repeat" not in row["error"]["message"]


def test_a_table_whose_column_is_no_text_fails_row_by_row(emulator):
    outcome = run([pa.table({"text": [1, 2, None]})], embeddings(emulator))
    assert outcome.rows("failed")[0]["error"]["message"] == "text is int64, not text"
    assert len(outcome.rows("failed")) == 3 and emulator.ledger()["requests"] == 0


def test_lists_of_token_ids_are_inputs(emulator):
    outcome = run([pa.table({"text": [[1, 2, 3], [], [4]]})], embeddings(emulator))
    assert close([row["embedding"] for row in outcome.rows()], vectors(["1 2 3", "4"]))
    assert len(outcome.rows("failed")) == 1
    outcome = run([{"text": [5, 6]}], embeddings(emulator))
    assert close(outcome.rows()[0]["embedding"], vectors(["5 6"])[0])


@pytest.mark.parametrize("kind", ["table", "dicts"])
def test_failed_rows_may_be_run_again_with_their_error_column(emulator, kind):
    rows = [{"id": 1, "text": ""}, {"id": 2, "text": None}, {"id": 3, "text": "good"}]
    elements = [pa.Table.from_pylist(rows)] if kind == "table" else rows
    failed = run(elements, embeddings(emulator)).failed
    again = run([out.value for out in failed], embeddings(emulator))
    assert not again.answered
    assert sorted(row["id"] for row in again.rows("failed")) == [1, 2]
    assert [name for name in again.rows("failed")[0]].count("error") == 1
    mended = [{**row, "text": "mended"} for row in rows_of([out.value for out in failed])]
    assert len(run(mended, embeddings(emulator)).rows()) == 2


# Sizes


def test_2049_short_rows_are_two_requests(emulator):
    texts = [f"t{n}" for n in range(2049)]
    outcome = run([texts_table(texts)], embeddings(emulator))
    assert emulator.ledger()["requests"] == 2
    assert sorted(row["text"] for row in outcome.rows()) == sorted(texts)
    assert sorted(len(request["body"]["input"]) for request in emulator.requests()) == [1, 2048]


def test_rows_of_many_small_elements_share_requests(emulator):
    outcome = run([texts_table([f"t{n}"]) for n in range(3000)], embeddings(emulator))
    assert emulator.ledger()["requests"] == 2 and len(outcome.answered) == 3000
    emulator.clear()
    outcome = run([{"text": f"t{n}"} for n in range(3000)], embeddings(emulator))
    assert emulator.ledger()["requests"] == 2 and len(outcome.answered) == 3000


def test_identical_texts_each_get_their_row(emulator):
    outcome = run(
        [texts_table(["same"] * 50_000, id=range(at, at + 50_000)) for at in (0, 50_000)], embeddings(emulator)
    )
    assert sorted(row["id"] for row in outcome.rows()) == list(range(100_000))
    assert all(row["text"] == "same" for row in outcome.rows())
    assert emulator.billed(["same"])[0] <= 100_000


def test_a_text_of_a_megabyte_travels_byte_for_byte(start_emulator):
    server = start_emulator(max_tokens_per_input=10**7, max_tokens_per_request=10**7)
    text = "z\u0000\u2028\U0001f600\u202e é" * 80_000
    outcome = run([texts_table([text, "short"])], embeddings(server))
    assert sorted(len(row["text"]) for row in outcome.rows()) == [5, len(text)]
    assert close([row["embedding"] for row in outcome.rows()], vectors([row["text"] for row in outcome.rows()]))
    assert server.billed([text]) == [1]


def test_requests_hold_no_more_tokens_than_documented(emulator):
    texts = [f"{n} " + "word " * 1500 for n in range(200)]  # about 1,875 tokens each, 375,000 in all
    outcome = run([texts_table(texts)], embeddings(emulator))
    assert len(outcome.rows()) == 200 and set(emulator.billed(texts)) == {1}
    assert emulator.ledger()["by_status"] == {"200": 2}


def test_tables_with_much_beside_the_text_do_not_wait_for_each_other(emulator):
    """The rows held are more than may be, before one request is full."""
    wide = pa.array([b"\0" * 800_000] * 30)
    tables = [texts_table([f"{at} {n}" for n in range(30)], wide=wide) for at in range(3)]
    outcome = run(tables, embeddings(emulator))
    assert len(outcome.rows()) == 90


# Where and when


def windows_of(outs):
    return sorted((row["id"], float(out.window.start)) for out in outs for row in rows_of([out.value]))


@pytest.mark.parametrize("pipeline", RUNNERS)
@pytest.mark.parametrize("kind", ["table", "dict"])
def test_each_row_keeps_its_own_time_and_window_though_they_share_requests(emulator, pipeline, kind):
    make = (
        (lambda n: pa.table({"id": [n], "text": [f"t{n}"]}))
        if kind == "table"
        else (lambda n: {"id": n, "text": f"t{n}"})
    )
    source = (
        beam.Create(list(range(50)), reshuffle=False)
        | beam.Map(lambda n: window.TimestampedValue(make(n), n * 7))
        | beam.WindowInto(window.FixedWindows(10))
    )
    outcome = run(source, embeddings(emulator), pipeline)
    assert windows_of(outcome.answered) == sorted((n, n * 7 // 10 * 10) for n in range(50))
    for out in outcome.answered:
        (row,) = rows_of([out.value])
        assert out.timestamp == row["id"] * 7
        assert close(row["embedding"], vectors([f"t{row['id']}"])[0])
    assert emulator.ledger()["billed_inputs"] == 50 and emulator.ledger()["requests"] < 25


@pytest.mark.parametrize("pipeline", RUNNERS)
def test_a_row_in_several_windows_is_paid_for_once_and_comes_out_in_all(emulator, pipeline):
    source = (
        beam.Create(list(range(12)), reshuffle=False)
        | beam.Map(lambda n: window.TimestampedValue({"id": n, "text": "" if n == 5 else f"t{n}"}, n * 10))
        | beam.WindowInto(window.SlidingWindows(30, 10))
    )
    outcome = run(source, embeddings(emulator), pipeline)
    expected = sorted((n, float(n * 10 - back)) for n in range(12) for back in (0, 10, 20))
    assert windows_of(outcome.answered) == [pair for pair in expected if pair[0] != 5]
    assert windows_of(outcome.failed) == [pair for pair in expected if pair[0] == 5]
    assert emulator.billed([f"t{n}" for n in range(12) if n != 5]) == [1] * 11


class WithPane(beam.DoFn):
    def process(self, n):
        pane = PaneInfo(False, False, PaneInfoTiming.LATE, n, n - 1)
        yield WindowedValue({"id": n, "text": f"t{n}"}, Timestamp(n), (window.GlobalWindow(),), pane)


def test_each_row_keeps_its_pane(emulator):
    outcome = run(beam.Create([3, 5]) | beam.ParDo(WithPane()), embeddings(emulator))
    assert {(out.value["id"], out.pane.index, out.pane.timing) for out in outcome.answered} == {
        (3, 3, PaneInfoTiming.LATE),
        (5, 5, PaneInfoTiming.LATE),
    }


@pytest.mark.parametrize("pipeline", [direct, pytest.param(prism, marks=needs_prism)])
def test_rows_of_a_stream_keep_their_windows(emulator, pipeline):
    stream = TestStream()
    for n in range(5):
        stream = stream.add_elements([window.TimestampedValue({"id": n, "text": f"t{n}"}, n)]).advance_watermark_to(
            n + 1
        )
    outcome = run(
        stream.advance_watermark_to_infinity() | beam.WindowInto(window.FixedWindows(1)),
        embeddings(emulator),
        lambda: pipeline(streaming=True),
    )
    assert windows_of(outcome.answered) == [(n, float(n)) for n in range(5)]


@needs_prism
def test_rows_of_a_stream_do_not_wait_for_rows_of_later_bundles(emulator):
    start = Timestamp.now()
    source = PeriodicImpulse(start, start + 2, fire_interval=0.5) | beam.Map(lambda at: {"text": f"at {at}"})
    outcome = run(source, embeddings(emulator), lambda: prism(streaming=True))
    assert len(outcome.answered) == emulator.ledger()["billed_inputs"] >= 4
    arrived = [request["at"] for request in emulator.requests()]
    assert len(arrived) > 1 and arrived[-1] - arrived[0] >= 0.4


# Between stages


def test_a_table_is_written_between_stages_as_its_own_rows_only():
    table = texts_table([f"text {n}" for n in range(100_000)])
    written = tables.TableCoder().encode(table.slice(10, 5))
    assert len(written) < 2000
    assert tables.TableCoder().decode(written) == table.slice(10, 5)


def test_both_outputs_of_tables_are_typed_as_tables(emulator):
    p = fn_api()
    outputs = p | beam.Create([texts_table(["a"])]) | embeddings(emulator)
    assert outputs.answered.element_type is pa.Table and outputs.failed.element_type is pa.Table
    assert isinstance(beam.coders.registry.get_coder(outputs.answered.element_type), tables.TableCoder)
