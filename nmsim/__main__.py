"""`python -m nmsim`: the command line."""

import sys

from nmsim.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
