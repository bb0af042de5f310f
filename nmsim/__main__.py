"""`python -m nmsim`: the command line."""

import sys

if __name__ == "__main__":
    try:
        from nmsim.cli.main import main

        sys.exit(main())
    except KeyboardInterrupt:  # before main could take care of it
        sys.exit(130)
