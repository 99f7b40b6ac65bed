"""Greedy selection of mm beside AutoGluon's and beside numpy's, in turn on the same predictions.

    greedy.py RUNS 'BENCH COMMAND'

BENCH COMMAND is the compiled `ensembles` bench of mm-ensemble. Needs numpy, and autogluon.core for
the second column. 20 members × 100,000 rows × ROC-AUC × 50 rounds; the ratios are of processor time
of one thread each, ours with starting the program and reading the file.
"""

import json
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROWS, MEMBERS, ROUNDS = 100_000, 20, 50


def auc(y, p):
    """By ranks, ties counting half."""
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    positive = y == 1
    n = positive.sum()
    return (ranks[inverse][positive].sum() - n * (n + 1) / 2) / (n * (len(y) - n))


def by_numpy(y, parts):
    total, counts = np.zeros(ROWS), np.zeros(MEMBERS)
    best, kept, decimals = np.inf, None, None
    for r in range(ROUNDS):
        errors = np.array([1 - auc(y, total + p) for p in parts])
        if decimals is not None:
            errors = errors.round(decimals)
        tied = np.flatnonzero(np.isclose(errors, errors.min(), atol=0, rtol=1e-12))
        used = [j for j in tied if counts[j]]
        j = (used or tied)[0]
        if r == 0 and errors[j] > 1e-4:
            decimals = 6
        error = round(errors[j], 6)
        counts[j] += 1
        total += parts[j]
        if error < best:
            best, kept = error, counts / counts.sum()
    return kept


def by_autogluon(y, parts):
    from autogluon.core.metrics import roc_auc
    from autogluon.core.models.greedy_ensemble.ensemble_selection import EnsembleSelection

    selection = EnsembleSelection(ROUNDS, "binary", roc_auc)
    selection.fit([p.copy() for p in parts], y)
    return selection.weights_


def timed(work, *args):
    started = time.process_time()
    return work(*args), time.process_time() - started


def of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    runs, command = int(sys.argv[1]), sys.argv[2]
    rng = np.random.default_rng(0)
    y = (rng.random(ROWS) < 0.3).astype(float)
    shared = rng.normal(size=ROWS)
    scores = [2 * y + 0.5 * shared + rng.normal(scale=1 + 0.05 * j, size=ROWS) for j in range(MEMBERS)]
    parts = [1 / (1 + np.exp(-s)) for s in scores]
    with tempfile.NamedTemporaryFile(suffix=".f64") as file:
        np.concatenate([y, *parts]).tofile(file)
        file.flush()
        rows = {"numpy": [], "autogluon": [], "mm": []}
        for _ in range(runs):
            line = [*shlex.split(command), "greedy", file.name]
            line += [str(n) for n in (ROWS, MEMBERS, ROUNDS, 1)]
            before = of_children()
            done = subprocess.run(line, capture_output=True, text=True, check=True)
            rows["mm"].append(of_children() - before)
            ours = json.loads(done.stdout)
            for name, work in [("numpy", by_numpy), ("autogluon", by_autogluon)]:
                try:
                    theirs, seconds = timed(work, y, parts)
                except ImportError:
                    continue
                rows[name].append(seconds)
                difference = np.abs(np.array(ours["weights"]) - theirs).max()
                print(f"{name}: weights differ by {difference:.3g}")
    for name in ("numpy", "autogluon"):
        if seconds := rows[name]:
            ratios = [a / b for a, b in zip(rows["mm"], seconds)]
            print(f"mm / {name}: {statistics.median(ratios):.4f} ({min(ratios):.4f}-{max(ratios):.4f}); "
                  f"{min(rows['mm']):.2f} s, {min(seconds):.2f} s")


if __name__ == "__main__":
    main()
