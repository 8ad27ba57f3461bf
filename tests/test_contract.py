"""What every endpoint keeps to, whichever it is: one list of cases, one set of tests."""

from __future__ import annotations

import dataclasses
import email
import importlib
import pickle
import pkgutil

import apache_beam as beam
import pyarrow as pa
import pytest
from cases import CASES
from conftest import run

from beam_openai import ChatCompletions, Completions, Embeddings, Images, Quota, Retry, column, endpoints, tables
from beam_openai.call import Endpoint

SHARED = {"model", "api", "retry", "quota", "concurrency", "journal", "params"}

pytestmark = pytest.mark.usefixtures("clean")
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.kind.__name__)


def asked(emulator) -> list[dict]:
    """The requests that came, forms as their fields: a list where a name has brackets, a file by its name."""
    return [{**request, "body": body_of(request)} for request in emulator.requests()]


def body_of(request: dict):
    kind = request["headers"].get("content-type", "")
    if not kind.startswith("multipart/"):
        return request["body"]
    found: dict = {}
    for part in email.message_from_string(f"Content-Type: {kind}\r\n\r\n{request['body']}").get_payload():
        name = part.get_param("name", header="content-disposition")
        value = part.get_filename() or part.get_payload()
        if name.endswith("[]"):
            found.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            found[name] = value
    return found


def subclasses() -> set[type[Endpoint]]:
    for module in pkgutil.iter_modules(endpoints.__path__):
        importlib.import_module(f"{endpoints.__name__}.{module.name}")
    return set(Endpoint.__subclasses__())


def test_every_endpoint_has_a_case():
    assert {case.kind for case in CASES} == subclasses()


@each
def test_it_is_a_dataclass_of_keywords_whose_options_are_all_tested(case, emulator):
    fields = dataclasses.fields(case.kind)
    assert all(field.kw_only for field in fields)
    assert {field.name for field in fields} == SHARED | case.names
    wire = {field.name for field in fields if field.metadata.get("wire")}
    assert wire <= case.names - set(case.local)
    with pytest.raises(TypeError):
        case.kind(case.model)
    assert case.kind.__doc__ and case.kind.path.startswith("/")


@each
def test_it_can_be_pickled_and_printed_and_holds_no_key(case, emulator, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-4711")
    endpoint = case.make(emulator, quota=Quota(requests_per_minute=5), retry=Retry(attempts=3))
    again = pickle.loads(pickle.dumps(endpoint))
    assert again.options() == endpoint.options() and again.api == endpoint.api and again.quota == endpoint.quota
    assert again.learns_for() == endpoint.learns_for()
    printed = repr(endpoint) + str(endpoint) + pickle.dumps(endpoint).decode("latin-1") + str(endpoint.display_data())
    assert "4711" not in printed and case.model in repr(endpoint)


@each
@pytest.mark.parametrize(
    "options",
    [
        {"model": ""},
        {"model": None},
        {"concurrency": 0},
        {"concurrency": 1.5},
        {"params": [1]},
        {"journal": "somewhere"},
    ],
    ids=str,
)
def test_options_that_can_never_work_are_refused_when_it_is_made(case, emulator, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        case.make(emulator, **options)


@each
def test_every_option_is_seen_on_the_wire_and_those_unset_are_not(case, emulator):
    rows = [pa.Table.from_pylist([case.row(0)])]
    run(rows, case.make(emulator, params={}))
    (request,) = asked(emulator)
    bare = set(request["body"])
    assert (request["method"], request["path"]) == ("POST", case.path)
    assert None not in request["body"].values()
    defaults = {field.name: field.default for field in dataclasses.fields(case.kind)}
    others = {name: (value, written, {}) for name, (value, written) in case.options.items()}
    for name, (value, written, beside) in {**others, **case.together}.items():
        assert (name in bare) == (defaults[name] is not None), name
        if callable(value):
            value = written = value(emulator)
        emulator.clear()
        outcome = run(rows, case.make(emulator, **{name: value, **beside}))
        assert outcome.answered and asked(emulator)[0]["body"][name] == written, name
    for name in [*case.local, *SHARED - {"model"}]:
        assert name not in bare or name in case.kind.row_fields, name


@each
def test_params_are_sent_verbatim_and_win(case, emulator):
    emulator.inject({"status": 401, "body": ""}, path=case.path.removeprefix("/v1"))
    anything = {"at": ["all", "there"] if case.is_form else ["all", None]}
    with pytest.raises(Exception, match="401"):
        run([case.row(0)], case.make(emulator, params={"anything": anything, "model": "mine"}))
    body = asked(emulator)[0]["body"]
    assert body["model"] == "mine"
    assert (body["anything[at]"] == ["all", "there"]) if case.is_form else (body["anything"] == anything)


@each
def test_declared_fields_are_those_that_come_out(case, emulator):
    endpoint = case.make(emulator)
    outcome = run([pa.Table.from_pylist([case.row(n) for n in range(5)])], endpoint)
    schema = outcome.answered[0].value.schema
    assert schema.names == [*case.row(0), *endpoint.outputs]
    assert endpoint.outputs == [field.name for field in endpoint.fields]
    for field in endpoint.fields:
        assert pa.types.is_null(field.type) or schema.field(field.name).type == field.type


@each
def test_one_bad_row_fails_alone_and_no_row_is_lost(case, emulator):
    rows = [{"id": n, **case.row(n)} for n in range(20)]
    rows[7].update(case.bad)
    rows[11].update(case.null_row)
    outcome = run([pa.Table.from_pylist(rows)], case.make(emulator))
    assert sorted(row["id"] for row in outcome.rows()) == sorted(set(range(20)) - {7, 11})
    failed = {row["id"]: row["error"]["kind"] for row in outcome.rows("failed")}
    assert failed == {7: "rejected", 11: "invalid_input"}


@each
@pytest.mark.parametrize("kind", ["table", "dict", "beam.Row", "NamedTuple"])
def test_what_comes_out_is_of_the_kind_that_came_in(case, emulator, kind):
    rows = [{"id": n, **case.row(n)} for n in range(6)]
    rows[3].update(case.null_row)
    make = {
        "table": lambda row: pa.Table.from_pylist([row]),
        "dict": dict,
        "beam.Row": lambda row: beam.Row(**row),
        "NamedTuple": lambda row: tables._make("Named", tuple(row), tuple(row.values())),
    }[kind]
    endpoint = case.make(emulator)
    outcome = run(beam.Create([0]) | beam.FlatMap(lambda _: [make(row) for row in rows]), endpoint)
    for tag, added, ids in (("answered", endpoint.outputs, {0, 1, 2, 4, 5}), ("failed", ["error"], {3})):
        found = set()
        for out in getattr(outcome, tag):
            expected = type(make(rows[0]))
            assert isinstance(out.value, expected) or type(out.value).__name__ == expected.__name__
            row = out.value.to_pylist()[0] if isinstance(out.value, pa.Table) else dict(tables.as_dict(out.value))
            assert list(row) == [*rows[0], *added]
            found.add(row["id"])
        assert found == ids


@each
def test_it_sends_no_more_rows_in_a_request_than_it_may(case, emulator):
    endpoint = case.make(emulator)
    rows = [case.row(n) for n in range(min(3 * endpoint.batch_size, 5000))]
    outcome = run(rows, endpoint)
    assert len(outcome.answered) == len(rows)
    sizes = [case.rows_of(request["body"]) for request in asked(emulator)]
    assert max(sizes) <= endpoint.batch_size and sum(sizes) == len(rows)


@each
def test_process_and_both_outputs_have_type_hints(case, emulator):
    p = beam.Pipeline()
    typed = p | "Tables" >> beam.Create([pa.Table.from_pylist([case.row(0)])]) | "Typed" >> case.make(emulator)
    other = p | "Dicts" >> beam.Create([case.row(0)]) | "Other" >> case.make(emulator)
    assert (typed.answered.element_type, typed.failed.element_type) == (pa.Table, pa.Table)
    assert "Any" in str(other.answered.element_type) and "Any" in str(other.failed.element_type)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Embeddings(model="m", dimensions=column("d")),
        lambda: ChatCompletions(model="m", n=column("k")),
        lambda: ChatCompletions(model="m", output=column("k")),
        lambda: Completions(model="m", n=column("k")),
        lambda: Images(model="dall-e-2", n=column("k"), quota=Quota(images_per_minute=5)),
        lambda: Retry(attempts=2.5),
        lambda: Retry(max_wait="3"),
        lambda: Quota(images_per_minute="5"),
    ],
)
def test_what_is_of_a_kind_that_cannot_be_is_refused_when_it_is_made(make):
    with pytest.raises(ValueError, match=r"cannot be a column|a (whole )?number"):
        make()
