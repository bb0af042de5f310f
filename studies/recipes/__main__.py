"""`python -m studies.recipes`: run what has not been run yet, then write the report; `--report` writes it alone."""

from __future__ import annotations

import argparse
import sys


def main() -> str | None:
    """Read the arguments and do it; returns what went wrong."""
    parser = argparse.ArgumentParser(prog="python -m studies.recipes", description=__doc__)
    parser.add_argument("--report", action="store_true", help="only write the report, of what there is")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="runs at a time, one thread each (2)")
    parser.add_argument("--hours", type=float, default=2.0, metavar="H", help="no run begins after this time (2)")
    args = parser.parse_args()
    left = 0
    if not args.report:
        from studies.recipes.run import run_all

        try:
            left = run_all(args.workers, args.hours)
        except KeyboardInterrupt:
            return "stopped; the same command goes on from here"
    from studies.recipes.report import write_report

    write_report()
    over = f"{args.hours:g} hours are over and {left} runs are left; the same command goes on from here"
    return over if left else None


if __name__ == "__main__":
    sys.exit(main())
