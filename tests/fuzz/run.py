"""Fuzz the readers: `python tests/fuzz/run.py --cases N`; `--help` lists the options.

Prints a table of outcomes and every fault with its target and number; `--target T --first K --cases 1 --keep F` makes
that case again and keeps its files. The exit code is 1 if there is any fault.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

from supervisor import GOOD, Supervisor


def main() -> int:
    """Run the cases, in turn over the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="over all targets")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so many")
    parser.add_argument("--target", nargs="*", default=[], help="the beginnings of names; default all")
    parser.add_argument("--first", type=int, default=0, help="number of the first case of each target")
    parser.add_argument("--keep", type=Path, help="copy the files of every case to this folder")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    seen: Counter[tuple[str, str, str]] = Counter()
    until, slowest = time.monotonic() + options.seconds, 0.0
    with Supervisor() as supervisor:
        names = [name for name in supervisor.targets if name.startswith(tuple(options.target) or "")]
        for turn in range(options.cases):
            if time.monotonic() > until:
                break
            name, number = names[turn % len(names)], options.first + turn // len(names)
            result = supervisor.case(name, number, options.keep and options.keep / f"{name}-{number}")
            counts[name, result.kind] += 1
            slowest = max(slowest, result.seconds)
            if result.kind not in GOOD or options.keep:
                key = (name, result.kind, result.detail.rpartition("(")[2])
                seen[key] += 1
                if seen[key] <= 3:
                    print(f"{result.kind}: --target {name} --first {number}: {result.detail}", flush=True)
    kinds = sorted({kind for _, kind in counts}, key=lambda kind: (kind not in GOOD, kind))
    print(f"\n{'':16}" + "".join(f"{kind:>10}" for kind in kinds))
    for name in names:
        print(f"{name:16}" + "".join(f"{counts[name, kind]:10}" for kind in kinds))
    total, faults = counts.total(), sum(n for (_, kind), n in counts.items() if kind not in GOOD)
    print(f"{total} cases, {faults} faults, the slowest took {slowest:.1f} s")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
