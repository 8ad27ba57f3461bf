"""Embeds the documentation of what is installed on this machine, and answers questions by nearest neighbours over it.

python -m pipelines.demo                                          with a local emulator
python -m pipelines.demo --base-url https://api.openai.com/v1     with the key in OPENAI_API_KEY
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import itertools
import os
import subprocess
import sys
import sysconfig
import textwrap
import warnings
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_openai import API
from beam_openai.cli.failing import fail
from beam_openai.client import Client, Request
from beam_openai.emulator import Emulator
from beam_openai.errors import APIError

_QUESTIONS = ("read a compressed file line by line", "wait until a thread has ended", "parse a date and time")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base-url", default="", help="a server to use (default: an emulator, started for this run)")
    parser.add_argument("--model", default="text-embedding-3-small")
    parser.add_argument("--rows", type=int, default=20_000, help="texts of the corpus at most")
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where the corpus and its vectors go")
    arguments = parser.parse_args()
    corpus, embedded = arguments.folder / "corpus.parquet", arguments.folder / "embedded"
    rows = write_corpus(corpus, arguments.rows)
    print(f"{rows:,} docstrings of Python and the installed packages in {corpus}\n")
    with contextlib.ExitStack() as stack:
        server = None
        base_url = arguments.base_url
        if not base_url:
            server = stack.enter_context(Emulator())
            base_url = server.base_url
            print(f"An emulator of the OpenAI API listens on {base_url}; its vectors are hashed words, not meanings.\n")
        status = embed(corpus, embedded, arguments.model, base_url)
        if status:
            return status
        print()
        search(embedded, arguments.model, base_url)
        if server:
            print(f"The emulator's ledger: {server.summary()}")
    return 0


def write_corpus(path: Path, most: int) -> int:
    """Writes columns id, source, name, text; returns the number of rows."""
    folders = [Path(sysconfig.get_paths()[which]) for which in ("stdlib", "purelib")]
    found = itertools.islice(_distinct(itertools.chain(*map(docstrings, folders))), most)
    source, name, text = zip(*found, strict=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": range(len(text)), "source": source, "name": name, "text": text}), path)
    return len(text)


def _distinct(rows: Iterator[tuple[str, str, str]]) -> Iterator[tuple[str, str, str]]:
    seen: set[str] = set()
    for row in rows:
        if row[2] not in seen:
            seen.add(row[2])
            yield row


def docstrings(folder: Path) -> Iterator[tuple[str, str, str]]:
    """File, name and text of each docstring of some length under a folder."""
    for path in sorted(folder.rglob("*.py")):
        if {"test", "tests", "idlelib"} & set(path.parts) or "site-packages" in path.relative_to(folder).parts:
            continue
        with contextlib.suppress(OSError, SyntaxError, ValueError, RecursionError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(path.read_bytes())
            for node in ast.walk(tree):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    text = inspect.cleandoc(ast.get_docstring(node) or "")
                    if len(text) >= 40:
                        yield str(path.relative_to(folder)), getattr(node, "name", path.stem), text


def embed(corpus: Path, embedded: Path, model: str, base_url: str) -> int:
    """Runs the command line, and shows it."""
    options = {"--input": corpus, "--output": embedded, "--model": model, "--base-url": base_url}
    command = ["beam-openai", "embeddings", *itertools.chain(*options.items()), "--overwrite"]
    print("$ " + " ".join(map(str, command)), flush=True)
    program = [sys.executable, "-m", "beam_openai.cli", *map(str, command[1:])]
    return subprocess.run(program, env={**os.environ, "PYTHONUNBUFFERED": "1"}).returncode


def search(embedded: Path, model: str, base_url: str, most: int = 3) -> None:
    """Prints the nearest texts to each question."""
    table = pq.read_table(embedded)
    vectors = np.stack(table["embedding"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1))
    for question, vector in zip(_QUESTIONS, embed_now(_QUESTIONS, model, base_url), strict=True):
        scores = vectors @ vector
        print(f'"{question}"')
        for at in np.argsort(scores)[::-1][:most]:
            row = table.slice(at, 1).to_pylist()[0]
            text = textwrap.shorten(row["text"], 70, placeholder=" ...")
            print(f"  {scores[at]:.2f}  {row['source']} {row['name']}: {text}")
        print()


def embed_now(texts: tuple[str, ...], model: str, base_url: str) -> np.ndarray:
    """A few vectors without a pipeline, shape [texts, length]."""
    client = Client(API(base_url=base_url), connections=1)
    body = msgspec.json.encode({"model": model, "input": texts, "encoding_format": "float"})
    try:
        answer = msgspec.json.decode(client.send(Request("/embeddings", body)).body)
    finally:
        client.close()
    return np.array([item["embedding"] for item in answer["data"]], dtype=np.float32)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (APIError, OSError, ValueError) as error:
        sys.exit(fail("python -m pipelines.demo", error, debug=False, status=1))
