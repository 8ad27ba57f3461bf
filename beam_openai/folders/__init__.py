"""Folders of files to tables, and bytes in tables to files: images, recordings, whatever they hold."""

from beam_openai.folders.read import ReadFiles, count_files
from beam_openai.folders.write import WriteFiles, check_name

__all__ = ["ReadFiles", "WriteFiles", "check_name", "count_files"]
