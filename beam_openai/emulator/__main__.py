"""`python -m beam_openai.emulator`: a server in the foreground."""

import argparse
import sys

from beam_openai.emulator import add_arguments, run

if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m beam_openai.emulator",
        description="A strict local server that speaks the OpenAI API.",
    )
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
