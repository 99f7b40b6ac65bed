"""Runs `bench-compare gains` over a folder of data sets and prints the table of docs/benchmarks.md.

    gains.py FOLDER 'bench-compare' [SET …]

FOLDER/<set> holds data.csv.gz and, for random splits, test_rows.csv. Gains are relative to the best
single model fitted to all training rows, chosen with hindsight; on sets in time, to the one that
was best out of fold.
"""

import gzip
import json
import pathlib
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile

SETS = {
    "adult": ("income", []),
    "bank-marketing": ("deposit", []),
    "magic-telescope": ("Class", []),
    "polish-bankruptcy": ("bankrupt", []),
    "letter": ("letter", []),
    "california-housing": ("median_house_value", []),
    "credit-g": ("class", []),
    "bike-sharing": ("cnt", ["instant", "dteday"]),
    "elec2": ("class", []),
    "nycflights": ("late15", ["arr_delay"]),
}
KINDS = ["mean", "greedy", "weights", "nnls", "stack"]


def measure(folder, command, name):
    target, ignored = SETS[name]
    rows = folder / name / "test_rows.csv"
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / f"{name}.csv"
        with gzip.open(folder / name / "data.csv.gz") as packed, open(file, "wb") as out:
            shutil.copyfileobj(packed, out)
        test = str(rows) if rows.exists() else "last"
        line = [*shlex.split(command), "gains", str(file), target, test, *ignored]
        done = subprocess.run(line, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    result["in_time"] = test == "last"
    return result


def main():
    folder, command = pathlib.Path(sys.argv[1]), sys.argv[2]
    gains = {}
    print("| set | anchor | loss | mean | " + " | ".join(f"{k}, full / bags" for k in KINDS[1:]) + " |")
    print("| --- | --- | ---: | ---: |" + " ---: |" * (len(KINDS) - 1))
    for name in sys.argv[3:] or SETS:
        result = measure(folder, command, name)
        key = "out_of_fold" if result["in_time"] else "test"
        anchor = min(result["singles"], key=lambda single: single[key])
        relative = lambda loss: 100 * (loss / anchor["test"] - 1)
        cells = [f"{relative(result['ensembles']['mean']['full']):+.2f} %"]
        for kind in KINDS[1:]:
            entry = result["ensembles"][kind]
            cells.append(f"{relative(entry['full']):+.2f} / {relative(entry['bags']):+.2f} %")
            for form in ("full", "bags"):
                gains.setdefault((result["in_time"], kind, form), []).append(relative(entry[form]))
        label = f"{name}, in time" if result["in_time"] else name
        print(f"| {label} | {anchor['name']} | {anchor['test']:.5g} | {' | '.join(cells)} |", flush=True)
        print(f"  {name}: overhead {result['overhead']:.3f}", file=sys.stderr, flush=True)
    for (in_time, kind, form), losses in gains.items():
        better = sum(loss < 0 for loss in losses)
        print(f"{'in time' if in_time else 'random'}, {kind}, {form}: median {statistics.median(losses):+.2f} %, "
              f"worst {max(losses):+.2f} %, better on {better} of {len(losses)}")


if __name__ == "__main__":
    main()
