"""Search, answers and classifications of the emulator, as they were in 2022, over real sockets."""

import json

import pytest
import requests

from beam_openai.emulator import Emulator
from beam_openai.emulator.similarity import ranked, scores

DOCUMENTS = ["White House", "hospital", "the school of the president"]
EXAMPLES = [["A happy moment", "positive"], ["I am sad.", "NEGATIVE"], ["I am feeling awesome", "Positive"]]
ANSWERED = {
    "examples_context": "In 2017, U.S. life expectancy was 78.6 years.",
    "examples": [["What is human life expectancy in the United States?", "78 years."], ["Who is sad?", "Nobody."]],
}


@pytest.fixture(scope="module")
def shared():
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def server(shared):
    shared.clear()
    return shared


def post(server, path, **body):
    return requests.post(f"{server.base_url}{path}", json=body, timeout=10)


def search(server, engine="davinci", **body):
    return post(server, f"/engines/{engine}/search", **{"query": "the president", **body})


def answer(server, **body):
    return post(server, "/answers", **{"model": "curie", "question": "which puppy is happy?", **ANSWERED, **body})


def classify(server, **body):
    return post(server, "/classifications", **{"model": "curie", "query": "It is a sad day :(", **body})


def upload(server, purpose, *records):
    lines = "\n".join(json.dumps(record) for record in records)
    response = requests.post(
        f"{server.base_url}/files", files={"file": ("records.jsonl", lines)}, data={"purpose": purpose}
    )
    return response.json()["id"]


# Scores


def test_the_nearer_text_has_the_higher_score():
    query = "How do I reset my password?"
    texts = ["You can reset the password in your settings.", "Passwords are long.", "The weather is fine.", query]
    found = scores(query, texts)
    assert found[3] > found[0] > found[1] > found[2] >= 0
    assert found[3] == pytest.approx(350, abs=0.01)
    assert [index for index, _ in ranked(query, texts)] == [3, 0, 1, 2]
    assert scores(query, texts) == found and scores(query, []) == []


# Search


def test_documents_are_scored_in_their_order(server):
    found = search(server, documents=DOCUMENTS).json()
    assert found["object"] == "list" and found["model"] == "davinci"
    assert [result["document"] for result in found["data"]] == [0, 1, 2]
    assert all(list(result) == ["object", "document", "score"] for result in found["data"])
    assert {result["object"] for result in found["data"]} == {"search_result"}
    assert [result["score"] for result in found["data"]] == scores("the president", DOCUMENTS)
    assert server.billed(["the president"], "davinci") == [1]


def test_a_file_is_searched_for_its_nearest_documents(server):
    file = upload(server, "search", *[{"text": text, "metadata": f"m{k}"} for k, text in enumerate(DOCUMENTS)])
    found = search(server, file=file, max_rerank=2).json()["data"]
    assert [result["document"] for result in found] == [index for index, _ in ranked("the president", DOCUMENTS)[:2]]
    assert found[0]["text"] == DOCUMENTS[2] and "metadata" not in found[0]
    with_metadata = search(server, file=file, return_metadata=True).json()["data"]
    assert len(with_metadata) == 3 and with_metadata[0]["metadata"] == "m2"


ONE_OF_TWO = "You should specify either `documents` or a `file`, but not both."


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, ONE_OF_TWO),
        ({"documents": ["a"], "file": "file-x"}, ONE_OF_TWO),
        ({"documents": []}, "[] is too short - 'documents'"),
        ({"documents": ["a"] * 201}, f"{['a'] * 201!r}"[:100] + " is too long - 'documents'"),
        ({"documents": ["a", 1]}, "1 is not of type 'string' - 'documents.1'"),
        ({"documents": ["a"], "query": ""}, "'' is too short - 'query'"),
        ({"documents": ["a"], "query": None}, "None is not of type 'string' - 'query'"),
        ({"documents": ["a"], "max_rerank": 0}, "0 is less than the minimum of 1 - 'max_rerank'"),
        ({"documents": ["a"], "return_metadata": "no"}, "'no' is not of type 'boolean' - 'return_metadata'"),
        ({"documents": ["a"], "model": "ada"}, "Unrecognized request argument supplied: model"),
        (
            {"documents": ["a", "x" * 4 * 2031], "query": "1234"},
            None,
        ),
    ],
)
def test_a_wrong_search_is_refused(server, fields, message):
    response = search(server, **fields)
    if message is None:
        assert response.status_code == 200
        fields = {**fields, "documents": ["a", "x" * 4 * 2034]}
        response = search(server, **fields)
        message = (
            "This model's maximum context length is 2034 tokens, however you requested 2035 tokens (2034 in document 1; 1 "
            "in the query). Please reduce your document or your query."
        )
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)


def test_engines_and_files_must_be_there_and_of_the_right_kind(server):
    assert search(server, "nobody", documents=["a"]).status_code == 404
    assert search(server, "gpt-4o", documents=["a"]).status_code == 404
    missing = search(server, file="file-x")
    assert missing.status_code == 404 and missing.json()["error"]["message"] == "No such File object: file-x"
    other = upload(server, "answers", {"text": "a"})
    assert "purpose 'answers'" in search(server, file=other).json()["error"]["message"]


def test_a_query_is_required(server):
    response = post(server, "/engines/ada/search", documents=["a"])
    assert response.json()["error"]["message"] == "'query' is a required property"


@pytest.mark.parametrize("fields", [{"query": "POISON-400"}, {"documents": ["fine", "POISON-400"]}])
def test_poison_spoils_a_search(server, fields):
    assert search(server, **{"documents": ["a"], **fields}).status_code == 400
    assert server.ledger()["billed_inputs"] == 0


# Answers

PUPPIES = ["Puppy A is happy.", "Puppy B is sad."]


def test_a_question_is_answered_with_the_nearest_document(server):
    found = answer(server, documents=PUPPIES[::-1]).json()
    assert found["object"] == "answer" and found["model"] == "curie" and found["search_model"] == "ada"
    assert found["answers"] == ["Puppy A is happy."] and found["completion"].startswith("cmpl-")
    assert found["selected_documents"] == [{"document": 1, "text": PUPPIES[0]}, {"document": 0, "text": PUPPIES[1]}]
    assert server.billed(["which puppy is happy?"], "curie") == [1]


def test_without_documents_the_nearest_example_answers(server):
    found = answer(server, documents=[], question="Who is so sad?").json()
    assert found["answers"] == ["Nobody."] and found["selected_documents"] == []


def test_answers_are_cut_and_stopped_like_completions(server):
    assert answer(server, documents=PUPPIES, max_tokens=2).json()["answers"] == ["Puppy A "]
    assert answer(server, documents=PUPPIES, stop=[" is"]).json()["answers"] == ["Puppy A"]


def test_several_answers_differ_where_the_temperature_allows(server):
    assert answer(server, documents=PUPPIES, n=3).json()["answers"] == [PUPPIES[0]] * 3
    warm = answer(server, documents=PUPPIES, n=3, temperature=1).json()["answers"]
    assert warm == [PUPPIES[0], PUPPIES[1], PUPPIES[0]]


def test_answers_come_from_a_file(server):
    file = upload(server, "answers", *[{"text": text, "metadata": str(k)} for k, text in enumerate(PUPPIES)])
    found = answer(server, file=file, max_rerank=1, return_metadata=True, expand=["file"]).json()
    assert found["selected_documents"] == [{"document": 0, "text": PUPPIES[0], "metadata": "0"}]
    assert found["file"]["id"] == file and answer(server, file=file).json()["file"] == file


@pytest.mark.parametrize("fields", [{"expand": ["completion"]}, {"logprobs": 2}])
def test_a_completion_is_expanded(server, fields):
    found = answer(server, documents=PUPPIES, **fields).json()["completion"]
    (choice,) = found["choices"]
    assert found["object"] == "text_completion" and choice["text"] == PUPPIES[0]
    assert (choice["logprobs"] is None) == ("logprobs" not in fields)


def test_the_prompt_is_returned_on_request(server):
    prompt = answer(server, documents=PUPPIES, return_prompt=True).json()["prompt"]
    for part in (ANSWERED["examples_context"], "78 years.", *PUPPIES):
        assert part in prompt
    assert prompt.endswith("Q: which puppy is happy?\nA:")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, ONE_OF_TWO),
        ({"examples": []}, "[] is too short - 'examples'"),
        ({"examples": [["a"]]}, "['a'] is too short - 'examples.0'"),
        ({"examples": [["a", ""]]}, "'' is too short - 'examples.0.1'"),
        ({"examples": None}, "None is not of type 'array' - 'examples'"),
        ({"n": 11}, "11 is greater than the maximum of 10 - 'n'"),
        ({"logprobs": 6}, "6 is greater than the maximum of 5 - 'logprobs'"),
        ({"expand": ["all"]}, "'all' is not one of ['completion', 'file'] - 'expand.0'"),
        ({"question": ""}, "'' is too short - 'question'"),
        ({"search_model": "gpt-4o"}, "The model `gpt-4o` does not support this operation."),
    ],
)
def test_a_wrong_question_is_refused(server, fields, message):
    response = answer(server, **fields, **({"documents": []} if fields else {}))
    assert response.json()["error"]["message"] == message


@pytest.mark.parametrize("name", ["question", "examples", "examples_context"])
def test_what_an_answer_needs_is_required(server, name):
    body = {"model": "ada", "question": "q", "documents": [], **ANSWERED}
    del body[name]
    assert post(server, "/answers", **body).json()["error"]["message"] == f"'{name}' is a required property"


# Classifications


def test_a_query_has_the_label_of_the_nearest_example(server):
    found = classify(server, examples=EXAMPLES).json()
    assert found["object"] == "classification" and found["label"] == "Negative"
    assert found["completion"].startswith("cmpl-") and found["search_model"] == "ada"
    assert found["selected_examples"][0] == {"document": 1, "text": "I am sad.", "label": "Negative"}
    assert {example["label"] for example in found["selected_examples"]} == {"Positive", "Negative"}
    assert server.billed(["It is a sad day :("], "curie") == [1]


def test_only_the_labels_that_are_given_are_used(server):
    assert classify(server, examples=EXAMPLES, labels=["positive", "neutral"]).json()["label"] == "Positive"
    assert classify(server, examples=EXAMPLES, labels=["weather", "day"]).json()["label"] == "Day"


def test_examples_come_from_a_file(server):
    records = [{"text": text, "label": label, "metadata": str(k)} for k, (text, label) in enumerate(EXAMPLES)]
    file = upload(server, "classifications", *records)
    found = classify(server, file=file, max_examples=1, return_metadata=True).json()
    assert found["label"] == "Negative" and found["file"] == file
    assert found["selected_examples"] == [{"document": 1, "text": "I am sad.", "label": "Negative", "metadata": "1"}]


def test_a_label_comes_with_its_completion_and_its_prompt(server):
    found = classify(server, examples=EXAMPLES, logprobs=1, return_prompt=True).json()
    (choice,) = found["completion"]["choices"]
    assert choice["text"] == "".join(choice["logprobs"]["tokens"]) == " Negative"
    assert found["prompt"].endswith("I am sad.\nCategory: Negative\n---\nIt is a sad day :(\nCategory:")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({}, "You should specify either `examples` or a `file`, but not both."),
        ({"examples": EXAMPLES[:1]}, f"{EXAMPLES[:1]!r} is too short - 'examples'"),
        ({"examples": EXAMPLES, "labels": ["one"]}, "['one'] is too short - 'labels'"),
        ({"examples": EXAMPLES, "temperature": 3}, "3 is greater than the maximum of 2 - 'temperature'"),
        ({"examples": EXAMPLES, "query": ""}, "'' is too short - 'query'"),
        ({"examples": EXAMPLES, "n": 1}, "Unrecognized request argument supplied: n"),
    ],
)
def test_a_wrong_classification_is_refused(server, fields, message):
    response = classify(server, **fields)
    assert (response.status_code, response.json()["error"]["message"]) == (400, message)
