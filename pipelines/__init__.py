"""Recipes: whole programs, each a handful of transforms."""

import logging

# When it is imported, Beam warns of libraries of Google's that are not there, and not needed.
logging.disable(logging.WARNING)
import apache_beam  # noqa: E402, F401

logging.disable(logging.NOTSET)
