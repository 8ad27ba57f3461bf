"""Files to tables and tables to files: Parquet, JSON Lines and CSV in, Parquet out."""

from beam_openai.parquet.read import ReadTables, count_rows
from beam_openai.parquet.sink import clear_own_temporary, clear_temporary, unfinished
from beam_openai.parquet.write import WriteTables

__all__ = ["ReadTables", "WriteTables", "clear_own_temporary", "clear_temporary", "count_rows", "unfinished"]
