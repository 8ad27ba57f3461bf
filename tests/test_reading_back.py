"""What transforms answered, written with WriteTables, as other programs find it: DuckDB and pandas."""

import apache_beam as beam
import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import QUICK, fn_api, vectors

from beam_openai import (
    API,
    ChatCompletions,
    Completions,
    Embeddings,
    Images,
    Moderations,
    Search,
    Speech,
    Transcriptions,
    WriteTables,
)

pytestmark = pytest.mark.usefixtures("clean")
SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["good", "bad"]},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["label", "score", "tags"],
    "additionalProperties": False,
}


@pytest.fixture
def answered(emulator, tmp_path):
    """Runs a transform over a table, or what another one answered, and writes both outputs: their folders."""

    def run(rows, kind, name="out", **options):
        transform = kind(**{"api": API(base_url=emulator.base_url), "retry": QUICK, **options})
        with fn_api() as p:
            outputs = p | beam.Create([rows], reshuffle=False) | transform
            outputs.answered | "Answered" >> WriteTables(str(tmp_path / name))
            outputs.failed | "Failed" >> WriteTables(str(tmp_path / f"{name}.failed"))
        return tmp_path / name

    return run


def sql(query, folder):
    return duckdb.sql(query.format(f"read_parquet('{folder}/*.parquet')"))


def types(folder):
    return {name: kind for name, kind, *_ in sql("DESCRIBE SELECT * FROM {}", folder).fetchall()}


def test_vectors(answered):
    texts = [f"text {n}" for n in range(30)]
    folder = answered(pa.table({"id": range(30), "text": texts}), Embeddings, model="tiny")
    assert types(folder)["embedding"] in ("FLOAT[8]", "FLOAT[]")
    near = sql(
        "SELECT text FROM {} ORDER BY list_distance(embedding::FLOAT[], ?) LIMIT 1".replace(
            "?", str(vectors(["text 7"])[0])
        ),
        folder,
    )
    assert near.fetchall() == [("text 7",)]
    frame = pd.read_parquet(folder).sort_values("id")
    matrix = np.stack(frame["embedding"])
    assert matrix.dtype == np.float32 and matrix.tolist() == vectors(texts)
    assert pq.read_schema(next(folder.glob("*.parquet"))).field("embedding").type == pa.list_(pa.float32(), 8)


def test_structs_and_lists_of_structs(answered):
    rows = pa.table({"id": [1, 2], "query": ["a cat", "a dog"], "documents": [["a dog", "a cat"], ["a dog", "b"]]})
    folder = answered(rows, Search, model="ada")
    kinds = types(folder)
    assert kinds["results"] == 'STRUCT("document" BIGINT, score DOUBLE, "text" VARCHAR)[]'
    assert kinds["documents"] == "VARCHAR[]"
    best = sql("SELECT id, results[1].document, results[1].text FROM {} ORDER BY id", folder).fetchall()
    assert best == [(1, 1, "a cat"), (2, 0, "a dog")]
    each = sql("SELECT id, unnest(results, recursive := true) FROM {}", folder).df()
    assert len(each) == 4 and each["score"].dtype == np.float64
    frame = pd.read_parquet(folder).set_index("id")
    assert [result["document"] for result in frame.loc[1, "results"]] == [1, 0]


def test_answers_of_a_schema_are_columns_of_its_types(answered):
    folder = answered(pa.table({"prompt": ["one", "two"]}), ChatCompletions, model="gpt-4o-mini", schema=SCHEMA)
    kinds = types(folder)
    assert (kinds["label"], kinds["score"], kinds["tags"]) == ("VARCHAR", "DOUBLE", "VARCHAR[]")
    assert kinds["usage"].startswith("STRUCT(prompt_tokens BIGINT, completion_tokens BIGINT")
    assert sql("SELECT count(*), min(usage.prompt_tokens) > 0, sum(score) IS NOT NULL FROM {}", folder).fetchall() == [
        (2, True, True)
    ]
    frame = pd.read_parquet(folder)
    assert set(frame["label"]) <= {"good", "bad"} and frame["usage"][0]["total_tokens"] > 0


def test_several_answers_are_lists(answered):
    folder = answered(pa.table({"prompt": ["one", "two"]}), ChatCompletions, model="gpt-4o-mini", n=3)
    kinds = types(folder)
    assert kinds["completion"] == "VARCHAR[]" and kinds["finish_reason"] == "VARCHAR[]"
    assert sql("SELECT len(completion) FROM {}", folder).fetchall() == [(3,), (3,)]


def test_tool_calls_and_columns_that_are_null_throughout_have_their_types(answered):
    folder = answered(pa.table({"prompt": ["one"]}), ChatCompletions, model="gpt-4o-mini")
    kinds = types(folder)
    assert kinds["refusal"] == "VARCHAR"
    assert kinds["tool_calls"] == 'STRUCT(id VARCHAR, "type" VARCHAR, "name" VARCHAR, arguments VARCHAR)[]'
    assert sql("SELECT refusal, tool_calls FROM {}", folder).fetchall() == [(None, None)]


def test_logprobs(answered):
    rows = pa.table({"prompt": ["one"]})
    folder = answered(rows, ChatCompletions, model="gpt-4o-mini", logprobs=True, top_logprobs=2)
    tokens = sql("SELECT each.token FROM (SELECT unnest(logprobs) AS each FROM {})", folder).fetchall()
    assert "".join(token for (token,) in tokens) == sql("SELECT completion FROM {}", folder).fetchall()[0][0]
    assert sql("SELECT len(logprobs[1].top_logprobs) FROM {}", folder).fetchall() == [(2,)]


def test_categories_are_fields_of_a_struct(answered):
    rows = pa.table({"text": ["I like cats", "I will kill you"]})
    folder = answered(rows, Moderations, model="omni-moderation-latest")
    kinds = types(folder)
    assert kinds["flagged"] == "BOOLEAN" and "FLOAT" in kinds["category_scores"]
    found = sql("SELECT flagged, categories.violence, category_scores.violence > 0.5 FROM {} ORDER BY text", folder)
    assert found.fetchall() == [(False, False, False), (True, True, True)]
    frame = pd.read_parquet(folder)
    assert frame["flagged"].dtype == bool and frame["category_scores"][0].keys() >= {"hate", "violence"}


def test_bytes(answered):
    folder = answered(pa.table({"prompt": ["a red cat"]}), Images, model="gpt-image-1")
    assert types(folder)["image"] == "BLOB"
    ((image,),) = sql("SELECT image FROM {}", folder).fetchall()
    assert image.startswith(b"\x89PNG") and pd.read_parquet(folder)["image"][0] == image


def test_bytes_go_from_one_transform_to_the_next_through_files(answered):
    spoken = answered(
        pa.table({"text": ["hello there"]}), Speech, "spoken", model="tts-1", voice="alloy", response_format="wav"
    )
    assert types(spoken)["speech"] == "BLOB"
    rows = pq.read_table(spoken).append_column("name", pa.array(["a.wav"]))
    heard = answered(rows, Transcriptions, "heard", model="whisper-1", audio="speech")
    assert types(heard)["transcription"] == "VARCHAR"
    assert sql("SELECT transcription FROM {}", heard).fetchall()[0][0]


def test_what_failed_has_its_reason_as_a_struct(answered):
    rows = pa.table({"id": [1, 2], "prompt": ["POISON-400", None]})
    folder = answered(rows, Completions, model="davinci-002")
    failed = folder.with_name("out.failed")
    kind = types(failed)["error"]
    assert kind.startswith('STRUCT(kind VARCHAR, status BIGINT, code VARCHAR, "type" VARCHAR, message VARCHAR')
    assert sql("SELECT id, error.kind, error.status FROM {} ORDER BY id", failed).fetchall() == [
        (1, "rejected", 400),
        (2, "invalid_input", None),
    ]
    frame = pd.read_parquet(failed).set_index("id")
    assert frame.loc[1, "error"]["attempts"] == 1 and frame.loc[2, "error"]["raw"] is None


def test_columns_that_were_there_before_come_back_as_they_were(answered):
    rows = pa.table(
        {
            "text": ["a", "b"],
            "when": pa.array([0, 1], pa.timestamp("us", "UTC")),
            "price": pa.array(["1.50", "2.25"]).cast(pa.decimal128(9, 2)),
            "kind": pa.array(["x", "y"]).dictionary_encode(),
            "nested": [{"a": [1, 2], "b": None}, {"a": [], "b": "c"}],
        }
    )
    folder = answered(rows, Embeddings, model="tiny")
    kinds = types(folder)
    assert kinds["when"] == "TIMESTAMP WITH TIME ZONE" and kinds["price"] == "DECIMAL(9,2)"
    assert kinds["nested"] == "STRUCT(a BIGINT[], b VARCHAR)"
    assert pq.read_table(folder).drop_columns("embedding").sort_by("text").to_pylist() == rows.to_pylist()
