"""What is claimed, measured, with the peers in the same run: `python -m benchmarks`.

A file for each benchmark. Every run of a contestant is a process of its own (`process.py`), so that its CPU time and its
memory are its own; the server is another process, whose CPU time is not counted. Contestants take turns, and what is shown
is the median of their turns.
"""
