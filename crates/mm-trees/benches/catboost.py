"""Prediction on one thread: CatBoost's own evaluator beside this crate's, on the same models and rows.

    cargo bench -p mm-trees --no-default-features --bench catboost --no-run
    python -P catboost.py FOLDER PATH_OF_THE_BENCH

(`-P`, for this file has the name of the package.) Trains the models into FOLDER, unless they are
there, and lets both sides predict in turn. What counts is processor time, the least of several passes
on each side; the package's includes no conversion, since it gets a `Pool`.
"""

import json
import pathlib
import subprocess
import sys
import time

import catboost
import numpy as np
import pandas as pd
from catboost import CatBoost, CatBoostClassifier, Pool

N, TRAIN, PAIRS = 10_000, 30_000, 5
FAST = dict(iterations=500, verbose=0, allow_writing_files=False, random_seed=1, thread_count=2)


def numeric(n_classes):
    rng = np.random.RandomState(7)
    x = rng.randn(TRAIN + N, 28).astype("f4")
    signal = x[:, 0] + np.sin(2 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.3 * rng.randn(len(x))
    y = np.digitize(signal, np.quantile(signal, np.arange(1, n_classes) / n_classes))
    return pd.DataFrame(x, columns=[f"x{j}" for j in range(28)]), y


def levels():
    """Seven numbers and five categories of 16, 3400, 3800, 3, and 100 levels, as in flights."""
    rng = np.random.RandomState(8)
    n = TRAIN + N
    table = pd.DataFrame(rng.randn(n, 7).astype("f4"), columns=[f"x{j}" for j in range(7)])
    signal = table.x0 + np.sin(table.x1)
    for j, k in enumerate([16, 3400, 3800, 3, 100]):
        codes = np.minimum((k * rng.rand(n) ** 2).astype(int), k - 1)
        table[f"c{j}"] = [f"level {c}" for c in codes]
        signal += rng.randn(k)[codes] * 0.7
    return table, (signal + rng.randn(n) > 0).astype(int)


def prepare(folder, table, y, params):
    cats = [c for c in table if table[c].dtype.kind not in "f"]
    if not (folder / "model.cbm").exists():
        folder.mkdir(parents=True, exist_ok=True)
        model = CatBoostClassifier(**{**FAST, **params}).fit(table[:TRAIN], y[:TRAIN], cat_features=cats)
        model.save_model(folder / "model.cbm")
    rows = table[TRAIN:].reset_index(drop=True)
    columns, values = [], np.zeros(rows.shape, "f4")
    for j, name in enumerate(rows):
        if name in cats:
            names = sorted(set(table[name]))
            codes = {level: code for code, level in enumerate(names)}
            values[:, j] = [codes[level] for level in rows[name]]
            columns.append([name, names])
        else:
            values[:, j] = rows[name]
            columns.append([name, None])
    (folder / "columns.json").write_text(json.dumps(columns))
    values.tofile(folder / "rows.f32")
    model = CatBoost()
    model.load_model(str(folder / "model.cbm"))
    return model, Pool(rows, cat_features=cats)


def official(model, pool):
    least = np.inf
    for _ in range(5):
        start, passes = time.process_time(), 0
        while time.process_time() - start < 0.2:
            out = model.predict(pool, prediction_type="RawFormulaVal", thread_count=1)
            passes += 1
        least = min(least, (time.process_time() - start) / passes)
    return least * 1e9 / N, np.asarray(out).sum()


def main():
    folder, bench = pathlib.Path(sys.argv[1]), sys.argv[2]
    cases = {
        "numeric_2": (numeric(2), {}),
        "numeric_5": (numeric(5), {"iterations": 200}),
        "levels": (levels(), {}),
        "levels_simple": (levels(), {"max_ctr_complexity": 1}),
        "depthwise": (numeric(2), {"grow_policy": "Depthwise"}),
    }
    print("catboost", catboost.__version__)
    for name, ((table, y), params) in cases.items():
        model, pool = prepare(folder / name, table, y, params)
        ours, single, theirs = [], [], []
        for _ in range(PAIRS):
            for batch, times in [(N, ours), (1, single)]:
                subprocess.run([bench, str(folder / name), str(batch)], check=True)
                nanoseconds, total = map(float, (folder / name / "result").read_text().split())
                times.append(nanoseconds)
                if batch > 1:
                    total_ours = total
            took, expected = official(model, pool)
            theirs.append(took)
            assert abs(total_ours - expected) <= 1e-9 * abs(expected) + 1e-6, (total_ours, expected)
        ratios = sorted(b / a for a, b in zip(ours, theirs))
        print(
            f"{name}: mm {min(ours):.0f} ns a row in batches of {N}, {min(single):.0f} ns by single rows; "
            f"CatBoost {min(theirs):.0f} ns: {ratios[len(ratios) // 2]:.2f} x ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
