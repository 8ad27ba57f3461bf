"""Which module may import which, and what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import beam_openai

PACKAGE = Path(beam_openai.__file__).parent

# A module, or a folder with all that is in it -> what of the package it may import.
MAY_IMPORT = {
    "errors": set(),
    "durations": set(),
    "batching": set(),
    "buffers": set(),
    "retry": set(),
    "options": {"values"},
    "answers": {"client", "errors", "schemas"},
    "texts": {"tokens"},
    "documents": {"answers", "options", "texts", "tokens"},
    "media": {"texts", "tokens"},
    "pictures": {"answers", "client", "errors", "media", "options", "tokens"},
    "recordings": {"answers", "client", "contract", "errors", "media", "options", "texts", "tokens"},
    "stored": {"client", "errors"},
    "schemas": set(),
    "structs": set(),
    "values": set(),
    "tokens": set(),
    "tables": set(),
    "ceilings": set(),
    "refusals": set(),
    "places": set(),
    "windows": {"durations"},
    "buckets": {"durations", "windows"},
    "shared": {"errors"},
    "quota": {"buckets", "ceilings", "errors", "refusals", "shared"},
    "lanes": {"quota"},
    "pool": {"lanes", "places", "quota"},
    "client": {"buffers", "errors"},
    "columns": {"values"},
    "sources": {"columns", "structs", "tables", "tokens"},
    "contract": {"answers", "client", "options", "quota", "retry", "tokens"},
    "held": set(),
    "limiters": {"held", "quota"},
    "memory": set(),
    "outage": {"errors"},
    "learned": {"errors", "structs", "tokens"},
    "service": {
        "client",
        "contract",
        "errors",
        "held",
        "learned",
        "limiters",
        "memory",
        "outage",
        "places",
        "pool",
        "quota",
        "shared",
        "tokens",
    },
    "packing": {"batching", "contract", "learned", "sources", "tokens"},
    "bundle": {"contract", "packing", "service", "sources", "tokens", "values"},
    "recovery": {"client", "contract", "durations", "errors", "learned"},
    "batch": {
        "answers",
        "bundle",
        "client",
        "errors",
        "outage",
        "quota",
        "recovery",
        "sources",
        "stored",
        "structs",
    },
    "call": {"answers", "batch", "bundle", "client", "contract", "options", "service", "sources"},
    "endpoints": {
        "answers",
        "buffers",
        "call",
        "client",
        "documents",
        "errors",
        "media",
        "options",
        "pictures",
        "recordings",
        "schemas",
        "texts",
        "tokens",
        "values",
    },
    "prices": set(),
    "training_data": {"parquet", "prices", "sources", "tables", "texts", "tokens"},
    "parquet": {"tables"},
    "folders": {"client", "media", "parquet", "tables", "tokens"},
    "emulator": set(),
    "manage": {"client", "durations", "errors", "retry"},
    "cli": {
        "client",
        "emulator",
        "endpoints",
        "errors",
        "folders",
        "manage",
        "media",
        "options",
        "parquet",
        "quota",
        "retry",
        "service",
    },
}
BEAM = {"call", "tables", "parquet", "cli", "training_data", "stored", "folders"}
HTTP = {"client", "emulator"}
HTTP_LIBRARIES = {"requests", "urllib3", "http", "httpx", "aiohttp", "socket", "openai"}
PURE = [
    *("contract.py", "recovery.py", "packing.py", "options.py", "batching.py", "retry.py", "durations.py"),
    *("buckets.py", "ceilings.py", "refusals.py", "places.py", "lanes.py", "endpoints/*.py"),
]

PUBLIC = [
    "API",
    "Answers",
    "ChatCompletions",
    "Classifications",
    "Completions",
    "Edits",
    "Embeddings",
    "FineTuningData",
    "ImageEdits",
    "ImageVariations",
    "Images",
    "Moderations",
    "Quota",
    "ReadFiles",
    "ReadTables",
    "Responses",
    "Retry",
    "Search",
    "Speech",
    "Transcriptions",
    "Translations",
    "WriteFiles",
    "WriteTables",
    "column",
]


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py" or path.parent != PACKAGE)


def part(path: Path) -> str:
    """The module, or the folder that it is in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports, anywhere in it, for type checkers only too."""
    package = ["beam_openai", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def ours(path: Path) -> set[str]:
    """Parts of the package that a module imports, its own left out."""
    names = [name.split(".") for name in imports(path)]
    found = {name[1] for name in names if name[0] == "beam_openai" and len(name) > 1}
    public = {"API": "client", "Embeddings": "endpoints", "Quota": "quota", "Retry": "retry"}
    return {public.get(name, name) for name in found} - {part(path)}


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_one_way(path):
    allowed = MAY_IMPORT[part(path)]
    assert ours(path) <= allowed, f"{path.name} imports {ours(path) - allowed}"


def test_there_is_no_circle():
    seen: list[str] = []
    waiting = dict(MAY_IMPORT)
    while waiting:
        free = [name for name, needs in waiting.items() if needs <= set(seen)]
        assert free, f"in a circle: {sorted(waiting)}"
        seen += free
        for name in free:
            del waiting[name]


def test_only_some_modules_import_beam_and_one_an_http_library():
    for path in modules():
        libraries = {name.split(".")[0] for name in imports(path)}
        if "apache_beam" in libraries:
            assert part(path) in BEAM, path
        if libraries & HTTP_LIBRARIES:
            assert part(path) in HTTP, path


@pytest.mark.parametrize("name", PURE)
def test_what_is_pure_knows_no_thread_and_no_time(name):
    paths = list(PACKAGE.glob(name))
    assert paths
    for path in paths:
        assert not {found.split(".")[0] for found in imports(path)} & {"threading", "concurrent", "time"}, path


def test_endpoints_never_import_each_other():
    for path in (PACKAGE / "endpoints").glob("*.py"):
        assert not [name for name in imports(path) if name.startswith("beam_openai.endpoints")], path


def test_public_names():
    assert beam_openai.__all__ == PUBLIC
    for name in beam_openai.__all__:
        assert getattr(beam_openai, name).__name__ == name
        assert name in dir(beam_openai)
    with pytest.raises(AttributeError, match="no_such_name"):
        beam_openai.no_such_name  # noqa: B018


@pytest.mark.parametrize("module", ["beam_openai", "beam_openai.cli", "beam_openai.cli.manage", "beam_openai.emulator"])
def test_what_a_command_line_imports_is_light(module):
    code = f"import sys, {module}; print([name for name in ('apache_beam', 'numpy', 'pyarrow') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    assert told.stdout.strip() == "[]"


def test_no_module_is_called_by_a_name_that_says_nothing():
    names = {path.stem for path in modules()} | {path.parent.name for path in modules()}
    assert not names & {"utils", "util", "base", "common", "config", "helpers", "misc"}
