"""CPU time of starting up: importing, asking for help, and a whole run from the command line."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

COMMANDS = {
    "import nmsim": ["-c", "import nmsim"],
    "nmsim --help": ["-m", "nmsim", "--help"],
    "nmsim run sat_vcu1525 resnet18 (inference)": ["-m", "nmsim", "run", "sat_vcu1525", "resnet18"],
    "nmsim run sat_vcu1525 resnet18 (BDWP 2:8 step)": [
        *("-m", "nmsim", "run", "sat_vcu1525", "resnet18", "--batch", "128", "--recipe", "bdwp", "--pattern", "2:8"),
    ],
}


def cpu_seconds(arguments: list[str]) -> float:
    """User and system time of one run in a fresh interpreter."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    for name, arguments in COMMANDS.items():
        cpu_seconds(arguments)
        print(f"{name:50} {statistics.median(cpu_seconds(arguments) for _ in range(7)):7.3f} s CPU (median of 7)")


if __name__ == "__main__":
    main()
