"""The official side of `bench_catboost.rs`; also makes its data.

    python bench_catboost.py data numeric.csv flights.csv NYCFLIGHTS.csv
    python bench_catboost.py fit FILE THREADS ROUNDS
"""

import resource
import sys
import time

import numpy as np
import pandas as pd


def make(numeric, flights, source):
    rng = np.random.RandomState(0)
    x = rng.randn(100_000, 28).astype(np.float32)
    f = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(2 * x[:, 3]) + 0.5 * x[:, 4] * x[:, 5] + 0.3 * x[:, 6:12].sum(1)
    y = (f + rng.logistic(size=len(f)) * 0.7 > 0).astype(int)
    table = pd.DataFrame(x, columns=[f"f{j}" for j in range(28)])
    table.assign(y=y).to_csv(numeric, index=False)
    d = pd.read_csv(source).sample(100_000, random_state=0).sort_index()
    keep = d[["month", "day", "dow", "sched_dep_time", "sched_arr_time", "distance", "hour"]].copy()
    for name in ["carrier", "flight", "tailnum", "origin", "dest"]:
        keep["c_" + name] = "v" + d[name].astype(str)
    keep["y"] = (d["arr_delay"] > 0).astype(int)
    keep.to_csv(flights, index=False)


def fit(path, threads, rounds):
    from catboost import CatBoost, Pool

    table = pd.read_csv(path)
    y = table.pop("y")
    cats = [name for name in table if name.startswith("c_")]
    for name in table:
        if name not in cats:
            table[name] = table[name].astype(np.float32)
    pool = Pool(table, y, cat_features=cats)
    args = dict(loss_function="Logloss", iterations=rounds, thread_count=threads, verbose=0, allow_writing_files=False)
    start, cpu = time.perf_counter(), time.process_time()
    model = CatBoost(args).fit(pool)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    raw = model.predict(table[:4], prediction_type="RawFormulaVal")
    print(f"wall {wall:.2f} cpu {cpu:.2f} peak {peak:.0f} trees {model.tree_count_} raw {raw.tolist()}")


if __name__ == "__main__":
    if sys.argv[1] == "data":
        make(*sys.argv[2:])
    else:
        fit(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
