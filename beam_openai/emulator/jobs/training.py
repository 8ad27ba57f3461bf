"""What fine-tuning makes: results that look like some, and a model.

Nothing is learned. A fine-tuned model answers as its base does.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from ..files import File, Files
from ..limits import ORGANIZATION
from ..models import Model, Models
from ..replies import Refusal

_MOST_RESULTS = 1000


def training_file(files: Files, file_id: str, param: str) -> File:
    """The file of that id, which was uploaded for fine-tuning.

    Raises:
        Refusal: 404 or 400 for `param`.
    """
    file = files.get(file_id, param)
    if file.purpose != "fine-tune":
        message = f"Invalid purpose of file {file_id}: expected 'fine-tune', but got '{file.purpose}'."
        raise Refusal(400, message, param=param)
    return file


def batch_size(examples: int) -> int:
    """About 0.2 % of the examples, from 1 to 256."""
    return min(256, max(1, math.ceil(examples * 0.002)))


def result_steps(examples: int, size: int) -> Iterator[int]:
    """The numbers of the steps of `size` examples that are reported: all, or of very many some."""
    steps = max(1, math.ceil(examples / size))
    stride = max(1, math.ceil(steps / _MOST_RESULTS))
    yield from range(1, steps + 1, stride)


def loss(step: int) -> float:
    """One that falls, as one hopes."""
    return round(0.05 + 2.5 / math.sqrt(step + 1) + 0.05 * math.sin(step), 5)


def accuracy(step: int) -> float:
    """One that rises."""
    return round(1 - 0.6 / math.sqrt(step + 1), 5)


def plain_suffix(suffix: str) -> str:
    """A suffix as it stands in the name of a model: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", suffix.lower()).strip("-")


def tuned(models: Models, name: str, base: Model, created: float) -> Model:
    """The model that came of fine-tuning `base`, which is there from now on."""
    model = Model(
        name=name,
        kinds=base.kinds,
        owned_by=ORGANIZATION,
        created=int(created),
        base=base.base or base.name,
    )
    models.add(model)
    return model
