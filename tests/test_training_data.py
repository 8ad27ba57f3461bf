"""FineTuningData: every rule by an example that breaks it, and files that a fine-tuning job takes."""

import json
from decimal import Decimal
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pytest
from conftest import Collect, _collected, _numbers, fn_api, metric, rows_of
from hypothesis import given
from hypothesis import strategies as st

from beam_openai import FineTuningData, tables
from beam_openai.parquet import ReadTables
from beam_openai.prices import Price
from beam_openai.sources import ERROR
from beam_openai.training_data import limits
from beam_openai.training_data.messages import BrokenRule
from beam_openai.training_data.reading import example_of, form_of, values_of
from beam_openai.training_data.report import Example, Tally
from beam_openai.training_data.rules import check, text_in, tokens_beside

MODEL = "gpt-4o-mini"


def said(*texts):
    """A conversation, the user first."""
    return [{"role": "assistant" if at % 2 else "user", "content": text} for at, text in enumerate(texts)]


CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
CALLED = {"role": "assistant", "tool_calls": [CALL]}
ANSWERED = {"role": "tool", "tool_call_id": "call_1", "content": "found"}
USER, ASSISTANT = said("q", "a")


def image(url="https://example.org/a.png", **more):
    return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url, **more}}]}


# Rules

GOOD = {
    "the shortest": {"messages": [ASSISTANT]},
    "many turns": {"messages": [{"role": "system", "content": "be kind"}, *said("a", "b", "c", "d")]},
    "a developer": {"messages": [{"role": "developer", "content": "be kind"}, USER, ASSISTANT]},
    "names and weights": {
        "messages": [{**USER, "name": "Ada_L-1"}, {**ASSISTANT, "weight": 0}, {**ASSISTANT, "weight": 1}]
    },
    "parts": {"messages": [{"role": "user", "content": [{"type": "text", "text": "q"}]}, ASSISTANT]},
    "a refusal": {"messages": [USER, {"role": "assistant", "refusal": "no"}]},
    "a call": {"messages": [USER, CALLED, ANSWERED, ASSISTANT], "tools": [TOOL], "parallel_tool_calls": False},
    "a call in the end": {"messages": [USER, {**CALLED, "content": None}]},
    "a call with empty content": {"messages": [USER, {**CALLED, "content": ""}, ANSWERED, ASSISTANT]},
    "a function": {
        "messages": [
            USER,
            {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
            {"role": "function", "name": "look", "content": "found"},
            ASSISTANT,
        ],
        "functions": [{"name": "look"}],
    },
    "images": {"messages": [image(detail="low"), image("data:image/webp;base64,AAAA"), ASSISTANT]},
    "spaces": {"messages": [{"role": "user", "content": " "}, ASSISTANT]},
}


@pytest.mark.parametrize("example", GOOD.values(), ids=GOOD)
def test_what_may_be_in_a_conversation(example):
    check("chat", example)


BAD = {
    "messages": [{"messages": None}, {"messages": []}, {"messages": "hello"}],
    "role": [
        {"messages": ["hello"]},
        {"messages": [{"content": "a"}]},
        {"messages": [{"role": "Assistant", "content": "a"}]},
        {"messages": [{"role": ["assistant"], "content": "a"}]},
    ],
    "key": [
        {"messages": [USER, {**ASSISTANT, "text": "b"}]},
        {"messages": [{**USER, "weight": 1}, ASSISTANT]},
        {"messages": [{**USER, "tool_calls": [CALL]}, ASSISTANT]},
    ],
    "name": [
        {"messages": [{**USER, "name": "Ada L."}, ASSISTANT]},
        {"messages": [{**USER, "name": "a" * 65}, ASSISTANT]},
        {"messages": [{**USER, "name": ""}, ASSISTANT]},
        {"messages": [USER, CALLED, ANSWERED, ASSISTANT], "tools": [{"type": "function", "function": {"name": "a b"}}]},
    ],
    "weight": [
        {"messages": [USER, {**ASSISTANT, "weight": 2}]},
        {"messages": [USER, {**ASSISTANT, "weight": 0.5}]},
        {"messages": [USER, {**ASSISTANT, "weight": True}]},
        {"messages": [USER, {**ASSISTANT, "weight": 0}]},
    ],
    "content": [
        {"messages": [USER, {"role": "assistant"}]},
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        {"messages": [USER, {"role": "assistant", "content": 5}]},
        {"messages": [{"role": "user", "content": []}, ASSISTANT]},
        {"messages": [{"role": "user"}, ASSISTANT]},
    ],
    "part": [
        {"messages": [{"role": "user", "content": ["hello"]}, ASSISTANT]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}, ASSISTANT]},
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, ASSISTANT]},
        {"messages": [USER, {"role": "assistant", "content": image()["content"]}]},
    ],
    "images": [
        {"messages": [image("a.png"), ASSISTANT]},
        {"messages": [image("data:image/gif;base64,AAAA"), ASSISTANT]},
        {"messages": [image("data:image/png;base64," + "A" * 13_400_000), ASSISTANT]},
        {"messages": [image(detail="huge"), ASSISTANT]},
        {"messages": [*[image()] * 11, ASSISTANT]},
    ],
    "refusal": [{"messages": [USER, {"role": "assistant", "refusal": ""}]}],
    "tool_calls": [
        {"messages": [USER, {"role": "assistant", "tool_calls": []}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [{**CALL, "id": ""}]}]},
        {"messages": [USER, {"role": "assistant", "tool_calls": [CALL, CALL]}]},
        {"messages": [USER, {"role": "assistant", "function_call": "look"}]},
    ],
    "arguments": [
        {"messages": [USER, {"role": "assistant", "function_call": {"name": "look", "arguments": {}}}]},
        {"messages": [USER, {"role": "assistant", "function_call": {"name": "look", "arguments": "at 1"}}]},
        {"messages": [USER, {"role": "assistant", "function_call": {"name": "look", "arguments": "[1]"}}]},
    ],
    "tool_call_id": [{"messages": [USER, CALLED, {"role": "tool", "content": "found"}, ASSISTANT]}],
    "order": [
        {"messages": [USER, ANSWERED, ASSISTANT]},
        {"messages": [USER, CALLED, ASSISTANT]},
        {"messages": [USER, CALLED, ANSWERED, ANSWERED, ASSISTANT]},
        {"messages": [USER, CALLED, {**ANSWERED, "tool_call_id": "call_2"}, ASSISTANT]},
        {"messages": [USER, {"role": "function", "name": "look", "content": "found"}, ASSISTANT]},
    ],
    "assistant": [{"messages": [USER]}],
    "last_message": [{"messages": [USER, ASSISTANT, USER]}, {"messages": [USER, CALLED, ANSWERED]}],
    "tools": [
        {"messages": [ASSISTANT], "tools": {"look": TOOL}},
        {"messages": [ASSISTANT], "tools": [{"type": "function"}]},
        {"messages": [ASSISTANT], "tools": [{"type": "retrieval"}]},
        {"messages": [ASSISTANT], "tools": [{"type": "function", "function": {"name": "a", "parameters": "{}"}}]},
        {"messages": [ASSISTANT], "tools": [TOOL] * 129},
    ],
    "functions": [{"messages": [ASSISTANT], "functions": []}, {"messages": [ASSISTANT], "functions": ["look"]}],
    "parallel_tool_calls": [{"messages": [ASSISTANT], "parallel_tool_calls": "yes"}],
}


@pytest.mark.parametrize(
    "rule, example",
    [(rule, example) for rule, examples in BAD.items() for example in examples],
    ids=lambda value: str(value)[:60],
)
def test_each_rule_of_a_conversation_is_kept(rule, example):
    with pytest.raises(BrokenRule, match=f"^{rule}: "):
        check("chat", example)


@pytest.mark.parametrize(
    "rule, example",
    [
        ("prompt", {"completion": "a"}),
        ("prompt", {"prompt": 5, "completion": "a"}),
        ("completion", {"prompt": "q"}),
        ("completion", {"prompt": "q", "completion": ""}),
        (None, {"prompt": "", "completion": "a"}),
        (None, {"prompt": "q", "completion": " "}),
    ],
)
def test_each_rule_of_a_prompt_and_its_completion_is_kept(rule, example):
    if rule is None:
        check("completion", example)
    else:
        with pytest.raises(BrokenRule, match=f"^{rule}: "):
            check("completion", example)


TWO = {
    "input": {"messages": [USER], "tools": [TOOL], "parallel_tool_calls": True},
    "preferred_output": [{"role": "assistant", "content": "good"}],
    "non_preferred_output": [{"role": "assistant", "content": "bad"}],
}


@pytest.mark.parametrize(
    "rule, changed",
    [
        (None, {}),
        ("input", {"input": [USER]}),
        ("messages", {"input": {"messages": []}}),
        ("key", {"input": {"messages": [USER], "model": "x"}}),
        ("images", {"input": {"messages": [image()]}}),
        ("messages", {"preferred_output": "good"}),
        ("outputs", {"preferred_output": [ASSISTANT, ASSISTANT]}),
        ("outputs", {"non_preferred_output": [USER]}),
        ("outputs", {"non_preferred_output": [{"role": "assistant", "content": "good"}]}),
        ("messages", {"non_preferred_output": None}),
    ],
)
def test_each_rule_of_two_answers_is_kept(rule, changed):
    if rule is None:
        check("preference", TWO)
    else:
        with pytest.raises(BrokenRule, match=f"^{rule}: "):
            check("preference", {**TWO, **changed})


# Reading


@pytest.mark.parametrize(
    "names, form, found",
    [
        (["id", "messages"], None, "chat"),
        (["prompt", "completion"], None, "completion"),
        (["input", "preferred_output", "non_preferred_output"], None, "preference"),
        (["messages", "prompt", "completion"], "completion", "completion"),
    ],
)
def test_the_columns_say_the_form(names, form, found):
    assert form_of(names, form) == found


@pytest.mark.parametrize(
    "names, form, message",
    [
        (["text"], None, "no columns messages or prompt, completion or input"),
        (["prompt"], None, "no columns prompt, completion; they have: prompt"),
        (["messages", "prompt"], None, "chat and completion: say which with form="),
        (["prompt", "completion"], "chat", "no columns messages"),
    ],
)
def test_columns_that_do_not_say_it_are_refused(names, form, message):
    with pytest.raises(ValueError, match=message):
        form_of(names, form)


def test_nulls_of_structs_are_left_out_and_whole_weights_are_integers():
    messages = [{**USER, "weight": None}, {**ASSISTANT, "weight": 1.0, "name": None}]
    column = pa.chunked_array([pa.array([messages])])
    _, line = example_of("chat", {"messages": values_of(column)[0], "tools": None})
    assert line == b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"a","weight":1}]}\n'


def test_json_is_read_and_its_nulls_stay():
    row = {"messages": json.dumps([USER, ASSISTANT]), "tools": json.dumps([{**TOOL, "x": None}])}
    example, line = example_of("chat", row)
    assert json.loads(line) == example and example["tools"][0]["x"] is None
    with pytest.raises(BrokenRule, match=r"^json: messages is not JSON"):
        example_of("chat", {"messages": "[{"})


def test_what_utf_8_cannot_write_breaks_a_rule():
    with pytest.raises(BrokenRule, match=r"^encoding: "):
        example_of("completion", {"prompt": "\ud800", "completion": "a"})
    broken = pa.chunked_array([pa.array([b"\xff", b"a"], pa.binary()).view(pa.string())])
    values = values_of(broken)
    with pytest.raises(BrokenRule, match=r"^encoding: prompt is not valid UTF-8"):
        example_of("completion", {"prompt": values[0], "completion": "a"})
    assert values[1] == "a"


@given(st.text(), st.text(min_size=1))
def test_a_line_is_the_example_and_one_line(prompt, completion):
    _, line = example_of("completion", {"prompt": prompt, "completion": completion})
    assert json.loads(line) == {"prompt": prompt, "completion": completion}
    assert line.count(b"\n") == 1 and line.endswith(b"\n")


# Numbers


def test_tokens_beside_the_texts_are_those_of_frames_names_and_images():
    example = {"messages": [{**USER, "name": "ada"}, image(), ASSISTANT]}
    assert tokens_beside(example) == 3 * 3 + 1 + 3 + 765
    assert text_in(example) == "userqada" + "user" + "assistanta"
    assert tokens_beside({"prompt": "q", "completion": "a"}) == 0
    assert tokens_beside(TWO) == 3 * 3 + 3


@pytest.mark.parametrize(
    "model, tokens",
    [
        ("gpt-4o-mini-2024-07-18", 65_536),
        ("gpt-4.1-mini-2025-04-14", 65_536),
        ("gpt-4.1-nano-2025-04-14", 32_768),
        ("gpt-3.5-turbo-0125", 16_385),
        ("gpt-3.5-turbo-0613", 4_096),
        ("ft:gpt-4o-mini-2024-07-18:org::id", 65_536),
        ("curie", 2_048),
        ("curie:ft-org-2022-01-01-00-00-00", 2_048),
        ("mine", None),
    ],
)
def test_limits_are_by_the_model_that_is_trained(model, tokens):
    assert limits.example_tokens(model) == tokens


@pytest.mark.parametrize(
    "model, form, takes",
    [
        ("gpt-4o-mini-2024-07-18", "completion", False),
        ("ft:gpt-3.5-turbo-0125:org::id", "completion", False),
        ("gpt-4o", "chat", True),
        ("gpt-4o", "preference", True),
        ("davinci-002", "chat", False),
        ("davinci-002", "completion", True),
        ("curie:ft-org-2022-01-01", "preference", False),
        ("mine", "completion", True),
        ("mine", "chat", True),
    ],
)
def test_a_form_that_the_model_is_not_trained_on_is_known(model, form, takes):
    assert limits.takes(model, form) == takes


@pytest.mark.parametrize(
    "model, examples, epochs",
    [
        (MODEL, 10, 10),
        (MODEL, 1, 25),
        (MODEL, 34, 3),
        (MODEL, 5000, 3),
        (MODEL, 20_000, 1),
        (MODEL, 10**6, 1),
        ("ada", 10, 4),
    ],
)
def test_epochs_are_chosen_as_openai_would(model, examples, epochs):
    assert limits.epochs(model, examples) == epochs


def tally(*pairs):
    found = Tally()
    for prompt, completion in pairs:
        found.add(Example("completion", example_of("completion", {"prompt": prompt, "completion": completion})[1], 7))
    return found


def names(found):
    return {warning.split(":")[0] for warning in found.warnings()}


def test_what_is_recommended_is_a_warning():
    assert names(tally(("a", "b"), ("c", "d"))) == {"few_examples", "separator", "stop", "leading_space"}
    assert names(tally(("a ->", " b\n"), ("c ->", " d\n"))) == {"few_examples"}
    assert names(tally(*[("a ->", " b\n")] * 60)) == {"duplicates"}
    assert tally(("a", "b"), ("a", "b"), ("a", "c")).duplicates == 1


@given(st.lists(st.tuples(st.text(), st.text(min_size=1)), min_size=2, max_size=8))
def test_endings_in_common_are_found(pairs):
    prompts = [prompt for prompt, _ in pairs]
    common = bool(all(prompts) and len({prompt[-1] for prompt in prompts}) == 1)
    assert ("separator" in names(tally(*pairs))) == (not common)


# In a pipeline


class Result:
    def __init__(self, elements, pipeline=fn_api, **options):
        number = next(_numbers)
        p = pipeline()
        source = beam.Create(elements, reshuffle=False) if isinstance(elements, list) else elements
        outputs = p | source | FineTuningData(**{"model": MODEL, **options})
        for tag, output in zip(("files", "failed", "summary"), outputs):
            output | f"Collect {tag}" >> beam.ParDo(Collect(number, tag))
        try:
            _collected[number] = {"files": [], "failed": [], "summary": []}
            self.result = p.run()
            self.result.wait_until_finish()
        finally:
            found = _collected.pop(number)
        self.files = sorted(out.value for out in found["files"])
        self.elements = [out.value for out in found["failed"]]
        self.failed = rows_of(self.elements)
        (self.summary,) = [out.value for out in found["summary"]]
        self.lines = [json.loads(line) for path in self.files for line in Path(path).read_bytes().splitlines()]


def chats(count, start=0):
    return [{"id": n, "messages": said(f"question {n}", f"answer {n}")} for n in range(start, start + count)]


def test_good_rows_are_lines_and_bad_ones_fail(tmp_path):
    rows = chats(20)
    rows[3]["messages"] = said("q")
    rows[7]["messages"] = []
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    table = pa.table({"id": range(20), "messages": pa.array([row["messages"] for row in rows], kind)})
    result = Result([table], directory=str(tmp_path / "out"))
    assert result.lines == [{"messages": row["messages"]} for n, row in enumerate(rows) if n not in (3, 7)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [Path(path).name for path in result.files]
    assert {row["id"]: row["error"]["message"].split(":")[0] for row in result.failed} == {
        3: "assistant",
        7: "messages",
    }
    assert {row["error"]["kind"] for row in result.failed} == {"invalid_input"}
    assert result.elements[0].schema.field("error").type == ERROR
    tokens = result.summary["tokens"]
    assert result.summary == {
        "files": result.files,
        "form": "chat",
        "examples": 18,
        "failed": 2,
        "duplicates": 0,
        "tokens": tokens,
        "longest": result.summary["longest"],
        "epochs": 5,
        "training_tokens": 5 * tokens,
        "price": None,
        "warnings": result.summary["warnings"],
    }
    assert 18 * 12 < tokens < 18 * 40 and 12 < result.summary["longest"] < 40
    assert metric(result.result, "examples") == 18 and metric(result.result, "rows_failed") == 2


@pytest.mark.parametrize("kind", ["dict", "beam.Row", "NamedTuple"])
def test_rows_of_any_kind_are_taken_and_fail_as_what_they_were(tmp_path, kind):
    make = {
        "dict": dict,
        "beam.Row": lambda row: beam.Row(**row),
        "NamedTuple": lambda row: tables._make("Named", tuple(row), tuple(row.values())),
    }[kind]
    rows = [{"id": n, "prompt": f"{n} ->", "completion": f" {n}\n"} for n in range(12)]
    rows[5]["completion"] = ""
    source = beam.Create([0]) | beam.FlatMap(lambda _: [make(row) for row in rows])
    result = Result(source, directory=str(tmp_path), model="davinci-002")
    assert result.lines == [
        {"prompt": row["prompt"], "completion": row["completion"]} for row in rows if row["id"] != 5
    ]
    (failed,) = result.elements
    assert type(failed).__name__ == type(make(rows[0])).__name__
    assert tables.as_dict(failed)["id"] == 5 and tables.as_dict(failed)["error"]["message"].startswith("completion: ")
    assert result.summary["warnings"] == ["few_examples: 11, where OpenAI sees an effect from 50 to 100 on"]


def test_tokens_over_the_limit_fail_a_row(tmp_path):
    rows = [{"prompt": "x" * (9000 if n == 3 else 10), "completion": "y"} for n in range(12)]
    result = Result(rows, directory=str(tmp_path), model="curie")
    (failed,) = result.failed
    assert failed["error"]["message"].startswith("too_long: ") and "2048" in failed["error"]["message"]
    assert len(result.lines) == 11
    result = Result(rows, directory=str(tmp_path / "more"), model="curie", max_tokens=10_000)
    assert not result.failed


def test_two_answers_are_written_as_they_are(tmp_path):
    rows = [{name: json.dumps(value) for name, value in TWO.items()} for _ in range(10)]
    result = Result(rows, directory=str(tmp_path))
    assert result.lines == [TWO] * 10
    assert result.summary["form"] == "preference" and result.summary["duplicates"] == 9


@pytest.mark.parametrize("good", [0, 9])
def test_too_few_examples_fail_the_job_and_leave_no_file(tmp_path, good):
    rows = [*chats(good), {"id": 99, "messages": []}]
    with pytest.raises(Exception, match=f"{good} examples keep to the rules, where fine-tuning needs 10"):
        Result(rows, directory=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_form_that_no_job_for_the_model_takes_is_warned_of(tmp_path):
    rows = [{"prompt": f"{n} ->", "completion": f" {n}\n"} for n in range(12)]
    result = Result(rows, directory=str(tmp_path), model="gpt-4o-mini")
    assert result.summary["warnings"][0] == "form: a job for gpt-4o-mini does not take examples of completion"


def test_fewer_may_be_enough(tmp_path):
    assert len(Result(chats(2), directory=str(tmp_path), min_examples=0).lines) == 2
    assert Result([{"messages": []}], directory=str(tmp_path / "none"), min_examples=0).summary["files"] == []


def test_two_forms_in_one_file_fail_the_job(tmp_path):
    rows = [*chats(10), *[{"prompt": "q", "completion": "a"}] * 3]
    with pytest.raises(Exception, match="two forms, 10 of chat and 3 of completion"):
        Result(rows, directory=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_files_are_below_their_size_and_each_has_enough_examples(tmp_path):
    rows = [{"prompt": f"{n:04}", "completion": "x" * 100} for n in range(103)]
    result = Result(rows, directory=str(tmp_path), model="davinci-002", file_bytes=4000)
    sizes = [Path(path).stat().st_size for path in result.files]
    counts = [len(Path(path).read_bytes().splitlines()) for path in result.files]
    assert max(sizes) <= 4000 and min(counts) >= 10 and sum(counts) == 103
    assert sorted(line["prompt"] for line in result.lines) == [f"{n:04}" for n in range(103)]
    assert result.summary["files"] == result.files


def test_files_that_are_there_are_replaced_only_where_it_is_said(tmp_path):
    first = Result(chats(10), directory=str(tmp_path))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        Result(chats(10), directory=str(tmp_path))
    second = Result(chats(12), directory=str(tmp_path), overwrite=True)
    assert [str(path) for path in tmp_path.iterdir()] == second.files != first.files
    with pytest.raises(Exception, match="needs 10"):
        Result(chats(3), directory=str(tmp_path), overwrite=True)
    assert [str(path) for path in tmp_path.iterdir()] == second.files


def test_rows_that_failed_before_may_be_tried_again(tmp_path):
    failed = {**dict.fromkeys(ERROR.names), "kind": "invalid_input", "message": "old"}
    rows = [{**row, "error": failed} for row in chats(11)]
    rows[2]["messages"] = []
    result = Result(rows, directory=str(tmp_path / "a"))
    assert [row["error"]["message"] for row in result.failed] == ["messages: messages is not a list of messages"]
    kind = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema([("id", pa.int64()), ("messages", kind), ("error", ERROR)])
    result = Result([pa.Table.from_pylist(rows, schema)], directory=str(tmp_path / "b"))
    assert [row["error"]["message"] for row in result.failed] == ["messages: messages is not a list of messages"]
    for taken in ([{**rows[0], "error": "mine"}], [pa.table({"messages": ["[]"], "error": ["mine"]})]):
        with pytest.raises(Exception, match="have a column 'error' already"):
            Result(taken, directory=str(tmp_path / "c"))


def test_what_was_written_is_read_by_anything_that_reads_json_lines(tmp_path):
    rows = [{"prompt": f"\u2028 {n} é😀\0", "completion": "a\nb\r\nc"} for n in range(10)]
    Result(rows, directory=str(tmp_path), model="davinci-002")
    number = next(_numbers)
    with fn_api() as p:
        p | ReadTables(str(tmp_path)) | beam.ParDo(Collect(number, "answered"))
    read = rows_of([out.value for out in _collected.pop(number)["answered"]])
    assert sorted(read, key=lambda row: row["prompt"]) == rows


def test_prices_may_be_ones_own(tmp_path):
    result = Result(
        chats(10),
        directory=str(tmp_path),
        model="mine",
        epochs=2,
        prices={"mine": Price(training=Decimal("0.5"))},
    )
    assert result.summary["price"] == Decimal("0.5") * 2 * result.summary["tokens"] / 1_000_000
    assert Result(chats(10), directory=str(tmp_path / "b"), model="mine").summary["price"] is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"directory": ""}, "directory"),
        ({"model": ""}, "model"),
        ({"form": "text"}, "form"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"epochs": 1.5}, "epochs"),
        ({"file_bytes": 0}, "file_bytes"),
        ({"min_examples": -1}, "min_examples"),
        ({"prices": {"m": 5}}, "prices"),
        ({"prices": None}, "prices"),
    ],
)
def test_options_that_can_never_work_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FineTuningData(**{"directory": "out", "model": MODEL, **options})


def test_unbounded_rows_are_refused(tmp_path):
    from apache_beam.testing.test_stream import TestStream

    with pytest.raises(ValueError, match="bounded"):
        beam.Pipeline() | TestStream().add_elements([{"messages": []}]) | FineTuningData(str(tmp_path), model=MODEL)
