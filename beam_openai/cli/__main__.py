import sys

from beam_openai.cli import main

sys.exit(main())
