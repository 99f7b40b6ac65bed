"""Runs mm and its peer in turn (A B A B ...) and prints medians and the median ratio of the pairs.

    compare.py RUNS 'MM COMMAND' 'PEER COMMAND'

Both commands print one line of JSON with numbers; the keys that both have are compared. Quote the
ratios: on a shared machine single times mean little. Predictions, where both name a file of f64,
are compared as well.
"""

import json
import shlex
import statistics
import subprocess
import sys

import numpy as np


def run(command):
    done = subprocess.run(shlex.split(command), capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    runs, ours, theirs = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    run(ours), run(theirs)  # Warm caches; not counted.
    pairs = [(run(ours), run(theirs)) for _ in range(runs)]
    first = pairs[0]
    for result in pairs:
        for side in result:
            if "before_kib" in side:
                side["growth_kib"] = side["peak_kib"] - side["before_kib"]
    print(f"| {runs} pairs | mm | peer | ratio (min–max) |\n| --- | ---: | ---: | ---: |")
    for key in first[0]:
        if not all(isinstance(side.get(key), (int, float)) for side in first):
            continue
        a, b = ([pair[i][key] for pair in pairs] for i in (0, 1))
        ratios = [x / y for x, y in zip(a, b) if y]
        print(f"| {key} | {statistics.median(a):.3f} | {statistics.median(b):.3f} | "
              f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f}) |")
    if all("predictions" in side for side in first):
        a, b = (np.fromfile(side["predictions"]) for side in first)
        same = (a.view(np.uint64) == b.view(np.uint64)).mean()
        f32 = np.abs(a.astype(np.float32).view(np.int32) - b.astype(np.float32).view(np.int32)).max()
        print(f"\npredictions: {same:.1%} equal to the bit, largest difference {np.abs(a - b).max():.3g}, "
              f"{f32} ulp of f32")
    for side, name in zip(first, ("mm", "peer")):
        if "scores" in side:
            print(f"{name}: {side['scores']}")


if __name__ == "__main__":
    main()
