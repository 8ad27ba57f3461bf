"""Files to tables and tables to files: Parquet, JSON Lines and CSV in, Parquet out."""

from beam_openai.parquet.read import ReadTables, count_rows
from beam_openai.parquet.sink import clear_temporary
from beam_openai.parquet.write import WriteTables

__all__ = ["ReadTables", "WriteTables", "clear_temporary", "count_rows"]
