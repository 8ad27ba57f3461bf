"""How each endpoint is tested by `test_contract.py`: one case for each."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import requests
from conftest import MODEL, QUICK

from beam_openai import API
from beam_openai.call import Endpoint
from beam_openai.endpoints.chat_completions import ChatCompletions
from beam_openai.endpoints.classifications import Classifications
from beam_openai.endpoints.embeddings import Embeddings
from beam_openai.endpoints.question_answers import Answers
from beam_openai.endpoints.search import Search


@dataclasses.dataclass
class Case:
    """How one endpoint is tested.

    Attributes:
      kind: the transform.
      model: a model of the emulator's that serves it.
      row: the input columns of the n-th row.
      bad: a row that the server refuses, with all that share a request with it.
      null_row: a row that is never sent.
      rows_of: how many rows a request's body asks for.
      options: each option of its own, a value that the server takes (or a function of the server that gives one, to be
        sent as it is), and what is then in the body.
      together: the same for options that work with others only, and those others.
      local: options that are not sent, and a value for each.
    """

    kind: type[Endpoint]
    model: str
    row: Callable[[int], dict[str, Any]]
    bad: dict[str, Any]
    null_row: dict[str, Any]
    rows_of: Callable[[dict[str, Any]], int]
    options: dict[str, tuple[Any, Any]]
    local: dict[str, Any]
    together: dict[str, tuple[Any, Any, dict[str, Any]]] = dataclasses.field(default_factory=dict)
    required: dict[str, Any] = dataclasses.field(default_factory=dict)

    def make(self, server, **options):
        given = {"model": self.model, "api": API(base_url=server.base_url), "retry": QUICK, **self.required, **options}
        return self.kind(**given)

    @property
    def names(self):
        """The endpoint's own options."""
        return {*self.options, *self.together, *self.local, *self.required}

    @property
    def path(self):
        return "/v1" + self.kind.path.format(model=self.model)


def uploaded(purpose: str, *lines: dict[str, Any]) -> Callable[[Any], str]:
    """Puts a file on a server, and gives its id."""

    def upload(server):
        file = "".join(json.dumps(line) + "\n" for line in lines).encode()
        answer = requests.post(
            f"{server.base_url}/files", data={"purpose": purpose}, files={"file": ("lines.jsonl", file)}, timeout=60
        )
        return answer.json()["id"]

    return upload


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}

CASES = [
    Case(
        kind=Embeddings,
        model=MODEL,
        row=lambda n: {"text": f"text {n}"},
        bad={"text": "POISON-400"},
        null_row={"text": None},
        rows_of=lambda body: len(body["input"]),
        options={"dimensions": (4, 4), "encoding_format": ("float", "float"), "user": ("me", "me")},
        local={"input": "text", "output": "vector", "max_batch_size": 3},
    ),
    Case(
        kind=ChatCompletions,
        model="gpt-4o-mini",
        row=lambda n: {"prompt": f"question {n}"},
        bad={"prompt": "POISON-400"},
        null_row={"prompt": None},
        rows_of=lambda body: 1,
        options={
            "max_tokens": (7, 7),
            "max_completion_tokens": (7, 7),
            "temperature": (0.5, 0.5),
            "top_p": (0.5, 0.5),
            "n": (2, 2),
            "stop": (["x", "y"], ["x", "y"]),
            "presence_penalty": (1, 1),
            "frequency_penalty": (-1, -1),
            "logit_bias": ({"50256": -100}, {"50256": -100}),
            "logprobs": (True, True),
            "seed": (3, 3),
            "tools": ([TOOL], [TOOL]),
            "response_format": ({"type": "text"}, {"type": "text"}),
            "service_tier": ("default", "default"),
            "store": (False, False),
            "metadata": ({"a": "b"}, {"a": "b"}),
            "safety_identifier": ("me", "me"),
            "prompt_cache_key": ("key", "key"),
            "user": ("me", "me"),
        },
        together={
            "top_logprobs": (3, 3, {"logprobs": True}),
            "tool_choice": ("auto", "auto", {"tools": [TOOL]}),
            "parallel_tool_calls": (False, False, {"tools": [TOOL]}),
            "reasoning_effort": ("low", "low", {"model": "gpt-5-mini"}),
            "verbosity": ("low", "low", {"model": "gpt-5-mini"}),
        },
        local={
            "prompt": "{prompt}",
            "system": "{prompt}",
            "messages": None,
            "images": None,
            "audio": None,
            "schema": None,
            "output": "said",
        },
    ),
    Case(
        kind=Search,
        model="ada",
        row=lambda n: {"query": f"query {n}"},
        bad={"query": "POISON-400"},
        null_row={"query": None},
        rows_of=lambda body: 1,
        required={"documents": ["one", "two"]},
        options={"max_rerank": (5, 5), "return_metadata": (True, True), "user": ("me", "me")},
        together={"file": (uploaded("search", {"text": "one"}), None, {"documents": None})},
        local={"query": "query", "output": "found"},
    ),
    Case(
        kind=Answers,
        model="curie",
        row=lambda n: {"question": f"question {n}?"},
        bad={"question": "POISON-400"},
        null_row={"question": None},
        rows_of=lambda body: 1,
        required={"documents": ["one", "two"], "examples": [["a?", "b"]], "examples_context": "b is a"},
        options={
            "search_model": ("ada", "ada"),
            "max_rerank": (5, 5),
            "temperature": (0.5, 0.5),
            "logprobs": (2, 2),
            "max_tokens": (5, 5),
            "stop": ("x", "x"),
            "n": (2, 2),
            "logit_bias": ({"50256": -100}, {"50256": -100}),
            "return_metadata": (True, True),
            "return_prompt": (True, True),
            "user": ("me", "me"),
        },
        together={"file": (uploaded("answers", {"text": "one"}), None, {"documents": None})},
        local={"question": "question", "output": "said"},
    ),
    Case(
        kind=Classifications,
        model="curie",
        row=lambda n: {"query": f"query {n}"},
        bad={"query": "POISON-400"},
        null_row={"query": None},
        rows_of=lambda body: 1,
        required={"examples": [["a", "one"], ["b", "two"]]},
        options={
            "labels": (["one", "two"], ["one", "two"]),
            "search_model": ("ada", "ada"),
            "temperature": (0.5, 0.5),
            "logprobs": (2, 2),
            "max_examples": (5, 5),
            "logit_bias": ({"50256": -100}, {"50256": -100}),
            "return_metadata": (True, True),
            "return_prompt": (True, True),
            "user": ("me", "me"),
        },
        together={"file": (uploaded("classifications", {"text": "a", "label": "one"}), None, {"examples": None})},
        local={"query": "query", "output": "kind"},
    ),
]
