"""Where a command's rows come from: tables, or files of the kind that its endpoint takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beam_openai import media
from beam_openai.folders import ReadFiles, count_files
from beam_openai.folders.read import extension_of
from beam_openai.parquet import ReadTables, count_rows, files


def _files_of(endpoint: Any) -> tuple[str | None, frozenset[str]]:
    """The column that files' bytes go in, and what their names end with; nothing, where the endpoint takes no files."""
    if endpoint.takes_files:
        main = getattr(endpoint, endpoint.main_input)
        return main if main in endpoint.columns_read else None, endpoint.takes_files
    given = [name for name in media.FILES if getattr(endpoint, name, None)]
    # A file is one or the other, and a row has to have both.
    return (getattr(endpoint, given[0]), media.FILES[given[0]]) if len(given) == 1 else (None, frozenset())


class Input:
    """What `--input` means to an endpoint.

    Args:
      patterns: paths and globs.
      format: of tables whose names do not tell.
      csv_text: whether all columns of CSV are text.
      endpoint: what reads the rows.

    Attributes:
      are_files: whether they are read as files, one row each, and not as tables.

    Raises:
      ValueError: no file matches a pattern; or some are tables, and others such files.
    """

    def __init__(self, patterns: Sequence[str], format: str | None, csv_text: bool, endpoint: Any) -> None:
        self._patterns = patterns
        self._format = format
        self._csv_text = csv_text
        self._column, self._extensions = _files_of(endpoint)
        self.are_files = bool(self._extensions) and format is None and self._are_files()

    @property
    def rows(self) -> ReadTables | ReadFiles:
        """What reads it: of files `path`, `name`, and their bytes where the endpoint reads those."""
        if self.are_files:
            return ReadFiles(self._patterns, column=self._column, extensions=self._extensions)
        return ReadTables(self._patterns, format=self._format, csv_text=self._csv_text)

    def count(self) -> int | None:
        """How many rows there will be, where that is known without reading them."""
        if self.are_files:
            return count_files(self._patterns, self._extensions)
        return count_rows(self._patterns, self._format)

    def has_numbers_of_csv(self) -> bool:
        """Whether a column may hold numbers because it is one of CSV that looked like it."""
        if self.are_files or self._csv_text:
            return False
        return any(file.format == "csv" for file in files.find(self._patterns, self._format))

    def _are_files(self) -> bool:
        seen: dict[bool, str] = {}
        for pattern in self._patterns:
            kinds = {self._is_file(path): path for path, _ in files.matches(pattern, "any")}
            if not kinds.keys() - {None}:
                endings = ", ".join(sorted(self._extensions))
                raise ValueError(
                    f"no files match {pattern!r}: no tables, and none whose names end in {endings}; "
                    "tables whose names do not tell need --format"
                )
            seen.update((kind, path) for kind, path in kinds.items() if kind is not None)
        if len(seen) > 1:
            raise ValueError(
                f"the input has both files ({seen[True]}) and tables ({seen[False]}): name those that are meant, as "
                "'photos/*.png', or set --format"
            )
        return True in seen

    def _is_file(self, path: str) -> bool | None:
        """False of a table, None of what is neither."""
        if extension_of(path) in self._extensions:
            return True
        try:
            files.format_of(path, None)
        except ValueError:
            return None
        return False
