"""`python -m studies.headline`: cost what the recipe study trained, and write the table, the figures and the README."""

from __future__ import annotations

import argparse
import sys


def main() -> None:
    """Read the arguments and do it."""
    parser = argparse.ArgumentParser(prog="python -m studies.headline", description=__doc__)
    parser.add_argument("--report", action="store_true", help="only draw and write what headline.csv has")
    args = parser.parse_args()
    from studies.headline.report import write_report
    from studies.headline.table import make, read

    write_report(read() if args.report else make())


if __name__ == "__main__":
    sys.exit(main())
