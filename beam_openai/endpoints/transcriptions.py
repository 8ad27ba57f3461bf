"""POST /audio/transcriptions: what is said in each row's recording, one row a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from beam_openai.answers import Answer
from beam_openai.call import Endpoint, option
from beam_openai.client import Form, Request, Response, form_fields
from beam_openai.options import Column, check, check_choice
from beam_openai.recordings.heard import Format
from beam_openai.recordings.prompts import Prompt
from beam_openai.recordings.sent import EXTENSIONS, Recordings
from beam_openai.tokens import Counts
