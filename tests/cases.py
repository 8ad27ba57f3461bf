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
from beam_openai.emulator.media import sounds
from beam_openai.emulator.media.pngs import picture
from beam_openai.endpoints.chat_completions import ChatCompletions
from beam_openai.endpoints.classifications import Classifications
from beam_openai.endpoints.completions import Completions
from beam_openai.endpoints.edits import Edits
from beam_openai.endpoints.embeddings import Embeddings
from beam_openai.endpoints.image_edits import ImageEdits
from beam_openai.endpoints.image_variations import ImageVariations
from beam_openai.endpoints.images import Images
from beam_openai.endpoints.moderations import Moderations
from beam_openai.endpoints.question_answers import Answers
from beam_openai.endpoints.responses import Responses
from beam_openai.endpoints.search import Search
from beam_openai.endpoints.speech import Speech
from beam_openai.endpoints.transcriptions import Transcriptions
from beam_openai.endpoints.translations import Translations


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
      is_form: whether a request's body is a form, whose values are texts.
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
    is_form: bool = False

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


def stored_response(server) -> str:
    """Has a server answer, and keep, a response; its id."""
    body = {"model": "gpt-4o-mini", "input": "the first question"}
    return requests.post(f"{server.base_url}/responses", json=body, timeout=60).json()["id"]


def png(seed: str) -> bytes:
    return picture(seed.encode(), 64, 64, transparent=True)


def wav(text: str) -> bytes:
    return sounds.wav(sounds.speak(text, "alloy", 1.0), text)


TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
FLAT_TOOL = {"type": "function", "strict": False, **TOOL["function"]}

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
        local={"question": "question", "output": "said", "expanded": ["completion"]},
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
        local={"query": "query", "output": "kind", "expanded": ["completion"]},
    ),
    Case(
        kind=Completions,
        model="gpt-3.5-turbo-instruct",
        row=lambda n: {"prompt": f"text {n}"},
        bad={"prompt": "POISON-400"},
        null_row={"prompt": None},
        rows_of=lambda body: len(body["prompt"]) if isinstance(body["prompt"], list) else 1,
        options={
            "max_tokens": (7, 7),
            "temperature": (0.5, 0.5),
            "top_p": (0.5, 0.5),
            "n": (2, 2),
            "best_of": (3, 3),
            "echo": (True, True),
            "logprobs": (2, 2),
            "suffix": ("the end", "the end"),
            "stop": (["x", "y"], ["x", "y"]),
            "presence_penalty": (1, 1),
            "frequency_penalty": (-1, -1),
            "logit_bias": ({"50256": -100}, {"50256": -100}),
            "seed": (3, 3),
            "user": ("me", "me"),
        },
        local={"prompt": "{prompt}", "output": "said", "max_batch_size": 3},
    ),
    Case(
        kind=Edits,
        model="text-davinci-edit-001",
        row=lambda n: {"text": f"text {n}"},
        bad={"text": "POISON-400"},
        null_row={"text": None},
        rows_of=lambda body: 1,
        required={"instruction": "Make it longer."},
        options={"n": (2, 2), "temperature": (0.5, 0.5), "top_p": (0.5, 0.5)},
        local={"input": "text", "output": "changed"},
    ),
    Case(
        kind=Moderations,
        model="omni-moderation-latest",
        row=lambda n: {"text": f"text {n}"},
        bad={"text": "POISON-400"},
        null_row={"text": None},
        rows_of=lambda body: len(body["input"]),
        options={},
        local={"input": "text", "images": None, "output": "harmful", "max_batch_size": 3},
    ),
    Case(
        kind=Speech,
        model="gpt-4o-mini-tts",
        row=lambda n: {"text": f"text {n}"},
        bad={"text": "POISON-400"},
        null_row={"text": None},
        rows_of=lambda body: 1,
        required={"voice": "alloy"},
        options={"response_format": ("wav", "wav"), "speed": (1.5, 1.5)},
        local={"input": "text", "instructions": "Slowly.", "output": "sound"},
    ),
    Case(
        kind=Responses,
        model="gpt-4o-mini",
        row=lambda n: {"prompt": f"question {n}"},
        bad={"prompt": "POISON-400"},
        null_row={"prompt": None},
        rows_of=lambda body: 1,
        options={
            "max_output_tokens": (16, 16),
            "temperature": (0.5, 0.5),
            "top_p": (0.5, 0.5),
            "tools": ([FLAT_TOOL], [FLAT_TOOL]),
            "max_tool_calls": (3, 3),
            "top_logprobs": (3, 3),
            "truncation": ("auto", "auto"),
            "previous_response_id": (stored_response, None),
            "store": (True, True),
            "metadata": ({"a": "b"}, {"a": "b"}),
            "service_tier": ("default", "default"),
            "safety_identifier": ("me", "me"),
            "prompt_cache_key": ("key", "key"),
            "user": ("me", "me"),
        },
        together={
            "tool_choice": ("auto", "auto", {"tools": [FLAT_TOOL]}),
            "parallel_tool_calls": (False, False, {"tools": [FLAT_TOOL]}),
            "reasoning": ({"effort": "low"}, {"effort": "low"}, {"model": "gpt-5-mini"}),
            "include": (["message.output_text.logprobs"], ["message.output_text.logprobs"], {"items": True}),
        },
        local={
            "prompt": "{prompt}",
            "instructions": "Be brief.",
            "images": None,
            "schema": None,
            "output": "said",
            "items": True,
            "reasoning_effort": "low",
            "verbosity": "low",
        },
    ),
    Case(
        kind=Images,
        model="gpt-image-1",
        row=lambda n: {"prompt": f"picture {n}"},
        bad={"prompt": "POISON-400"},
        null_row={"prompt": None},
        rows_of=lambda body: 1,
        options={
            "n": (2, 2),
            "size": ("1024x1536", "1024x1536"),
            "quality": ("low", "low"),
            "background": ("opaque", "opaque"),
            "output_format": ("png", "png"),
            "output_compression": (100, 100),
            "moderation": ("low", "low"),
            "user": ("me", "me"),
        },
        together={
            "style": ("natural", "natural", {"model": "dall-e-3"}),
            "response_format": ("url", "url", {"model": "dall-e-2"}),
        },
        local={"prompt": "{prompt}", "output": "drawn"},
    ),
    Case(
        kind=ImageEdits,
        model="gpt-image-1",
        row=lambda n: {"image": png(f"{n}"), "prompt": f"hat {n}"},
        bad={"prompt": "POISON-400"},
        null_row={"image": None},
        rows_of=lambda body: 1,
        options={
            "n": (2, "2"),
            "size": ("1024x1536", "1024x1536"),
            "quality": ("low", "low"),
            "background": ("opaque", "opaque"),
            "output_format": ("png", "png"),
            "output_compression": (100, "100"),
            "input_fidelity": ("high", "high"),
            "user": ("me", "me"),
        },
        together={"response_format": ("url", "url", {"model": "dall-e-2"})},
        local={"image": "image", "mask": None, "prompt": "{prompt}", "output": "changed"},
        is_form=True,
    ),
    Case(
        kind=ImageVariations,
        model="painter",
        row=lambda n: {"image": png(f"{n}")},
        bad={"image": b"no picture"},
        null_row={"image": None},
        rows_of=lambda body: 1,
        options={
            "n": (2, "2"),
            "size": ("256x256", "256x256"),
            "response_format": ("b64_json", "b64_json"),
            "user": ("me", "me"),
        },
        local={"image": "image", "output": "another"},
        is_form=True,
    ),
    Case(
        kind=Transcriptions,
        model="whisper-1",
        row=lambda n: {"audio": wav(f"words {n}")},
        bad={"audio": wav("POISON-400")},
        null_row={"audio": None},
        rows_of=lambda body: 1,
        options={
            "response_format": ("text", "text"),
            "language": ("en", "en"),
            "prompt": ("Names: {{}}", "Names: {}"),
            "temperature": (0.5, "0.5"),
        },
        together={
            "timestamp_granularities": (["word"], ["word"], {"response_format": "verbose_json"}),
            "include": (["logprobs"], ["logprobs"], {"model": "gpt-4o-transcribe"}),
            "chunking_strategy": ("auto", "auto", {"model": "gpt-4o-transcribe-diarize"}),
        },
        local={"audio": "audio", "name": None, "paths": None, "output": "said"},
        is_form=True,
    ),
    Case(
        kind=Translations,
        model="whisper-1",
        row=lambda n: {"audio": wav(f"words {n}")},
        bad={"audio": wav("POISON-400")},
        null_row={"audio": None},
        rows_of=lambda body: 1,
        options={"response_format": ("text", "text"), "prompt": ("Names", "Names"), "temperature": (0.5, "0.5")},
        local={"audio": "audio", "name": None, "paths": None, "output": "said"},
        is_form=True,
    ),
]
