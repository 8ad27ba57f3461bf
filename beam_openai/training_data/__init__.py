"""Rows to files that OpenAI's fine-tuning takes: checked examples, one JSON object a line.

`rules` say what an example must be like, `limits` how long it may be and how often it is trained on, `report` what is to be
said of them all; `writing` puts them into files, and `transform` is the way of a row through all of it.
"""

from beam_openai.training_data.transform import FineTuningData

__all__ = ["FineTuningData"]
