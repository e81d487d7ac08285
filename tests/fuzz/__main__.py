"""``python -m tests.fuzz``: figures by group; exit status 1 where there is a finding."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.fuzz.harness import GROUPS, Pool, inputs

_ROW = "{:<12} {:>7} {:>7} {:>8} {:>9} {:>10} {:>9} {:>8}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join(GROUPS)}; all where none is given")
    parser.add_argument("-n", type=int, default=100, help="inputs of each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--output", type=Path, default=Path("outputs/fuzz"), help="where the findings' inputs go")
    parser.add_argument("--again", type=Path, nargs="+", default=[], help="run these inputs of the one group instead")
    given = parser.parse_args()
    unknown = set(given.groups) - set(GROUPS)
    if unknown or (given.again and len(given.groups) != 1):
        parser.error(f"no such group: {', '.join(sorted(unknown))}" if unknown else "--again needs its group")
    findings = []
    print(_ROW.format("group", "inputs", "right", "refused", "findings", "slowest s", "peak MiB", "s in all"))
    with Pool(given.jobs) as pool:
        for name in given.groups or GROUPS:
            contents = (path.read_bytes() for path in given.again) if given.again else inputs(name, given.n, given.seed)
            f = pool.run(name, contents)
            counts = (f.inputs, f.right, f.refused, len(f.findings))
            print(_ROW.format(name, *counts, f"{f.slowest:.2f}", f.peak, f"{f.seconds:.0f}"), flush=True)
            findings += f.findings
    for finding in findings:
        path = finding.save(given.output)
        first, *rest = finding.what.strip().splitlines()
        print(f"\n{finding.group}: {first}: {rest[-1] if rest else ''}")
        print(f"  again: python -m tests.fuzz {finding.group} --again {path}", flush=True)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
