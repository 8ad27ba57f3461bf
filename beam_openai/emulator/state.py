"""What a server remembers between requests."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from .blobs import Store
from .clock import Clock
from .files import Files
from .jobs.agenda import Agenda
from .media.pictures import Pictures
from .models import Models
from .options import Options

if TYPE_CHECKING:
    from .calls import Call
    from .replies import Reply


class State:
    """One server's memory, given to every operation.

    Attributes:
        options: how the server behaves.
        clock: the time of day; a test may turn it.
        agenda: what happens to jobs as it gets later.
        models: those there are; fine-tuned ones come and go.
        pictures: where images are fetched from, for an hour.
        store: bytes of any size.
        files: those of the API.
        execute: the reply of the server's own routes to a call that no client sent, a batch's.
    """

    execute: Callable[[Call], Reply]

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock()
        self.agenda = Agenda(self.clock)
        self.models = Models(options.models_by_name())
        self.pictures = Pictures(self.clock, options.seed)
        self.store = Store()
        self.files = Files(self.clock, self.store, self.new_id)
        self._ids = random.Random(f"objects {options.seed}")

    def new_id(self, prefix: str) -> str:
        """An id that no other object has: `file-` and 24 letters and digits."""
        return prefix + "".join(
            self._ids.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", k=24)
        )
