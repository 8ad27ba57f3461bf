"""Flags out of dataclasses: how a value is read from the command line."""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from beam_openai.cli import flags, run
from beam_openai.options import Column


@dataclasses.dataclass(kw_only=True)
class Options:
    """Some.

    Attributes:
      stop: what ends a text
    """

    stop: str | list[str] | Column | None = None
    choice: str | dict[str, Any] | None = None
    most: int | Column | None = None
    bias: dict[str, float] | None = None
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: Any = None
    mask: str | None = "mask"
    level: Literal["low", "high"] | None = None
    store: bool | None = False


def read(*arguments):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    fields = flags.add_flags(parser, Options)
    return flags.chosen(parser.parse_args(arguments), fields)


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("stop", "a", "a"),
        ("stop", "", ""),
        ("stop", '"', '"'),
        ("stop", '["a", "[b"]', ["a", "[b"]),
        ("stop", "column(a b)", Column("a b")),
        ("choice", "auto", "auto"),
        ("choice", '{"type": "function"}', {"type": "function"}),
        ("most", "5", 5),
        ("most", "column(most)", Column("most")),
        ("bias", '{"50256": -100}', {"50256": -100}),
        ("params", '{"a": [1]}', {"a": [1]}),
        ("schema", "[1]", [1]),
        ("mask", "other", "other"),
        ("mask", "none", None),
        ("level", "none", None),
        ("level", "low", "low"),
    ],
)
def test_a_value_is_read_as_its_field_s_type_allows(flag, text, value):
    assert read(f"--{flag}", text) == {flag: value}


def test_what_is_not_given_is_not_there_and_flags_have_a_no():
    assert read() == {} and read("--store") == {"store": True} and read("--no-store") == {"store": False}


def test_json_may_stand_in_a_file(tmp_path):
    (tmp_path / "tools.json").write_text(json.dumps(["é"]), encoding="utf-8")
    assert read("--stop", f"@{tmp_path / 'tools.json'}") == {"stop": ["é"]}


@pytest.mark.parametrize(
    ("flag", "text", "says"),
    [
        ("stop", "[a", "not JSON"),
        ("stop", "[1]", "Expected str, got int"),
        ("stop", '{"a": 1}', "Expected array, got object"),
        ("stop", "@/nowhere", "the file '/nowhere' cannot be read"),
        ("choice", "[1]", "Expected object, got array"),
        ("most", "none", "not a whole number: 'none'"),
        ("most", "[5]", "not a whole number"),
        ("bias", "5", "Expected object, got int"),
        ("bias", '{"a": "b"}', "Expected float, got str"),
        ("params", "null", "Expected object, got null"),
        ("schema", "x", "not JSON"),
        ("level", "loud", "not one of low, high, none"),
    ],
)
def test_a_value_of_another_type_is_wrong_usage(capsys, flag, text, says):
    with pytest.raises(SystemExit) as ended:
        read(f"--{flag}", text)
    assert ended.value.code == 2
    assert f"argument --{flag}: " in (told := capsys.readouterr().err) and says in told


@pytest.mark.parametrize("runner", ["DataflowRunner", "dataflowrunner", "apache_beam.runners.DataflowRunner"])
def test_the_project_is_google_s_on_its_runner(runner):
    chosen = argparse.Namespace(project="p-1")
    assert run._of_google(chosen, ["--runner", runner]) == ["--project", "p-1"] and not hasattr(chosen, "project")
    assert run._of_google(chosen, ["--runner", runner]) == []


@pytest.mark.parametrize("others", [[], ["--runner", "FlinkRunner"], ["--runner=PrismRunner"]])
def test_elsewhere_the_project_is_the_api_s(others):
    chosen = argparse.Namespace(project="proj_1")
    assert run._of_google(chosen, others) == [] and chosen.project == "proj_1"
