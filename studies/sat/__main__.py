"""`python -m studies.sat`: simulate every point and write the report; `--report` writes it of the points there are."""

from __future__ import annotations

import argparse


def main() -> None:
    """Read the arguments and do it."""
    from studies.sat.run import ENGINES, RESULTS, run_all

    parser = argparse.ArgumentParser(prog="python -m studies.sat", description=__doc__)
    parser.add_argument("--engine", choices=ENGINES, action="append", help="simulate with this engine only (both)")
    parser.add_argument("--report", action="store_true", help="only write the report, from results.csv")
    args = parser.parse_args()

    import pandas as pd

    from studies.sat.report import write_report

    if not args.report:
        run_all(args.engine or ENGINES)
    write_report(pd.read_csv(RESULTS))


if __name__ == "__main__":
    main()
