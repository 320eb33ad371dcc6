"""`python -m polyglot_platform`."""

import sys

from polyglot_platform.cli import main

sys.exit(main(sys.argv[1:]))
