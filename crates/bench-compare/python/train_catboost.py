r"""Training with official CatBoost, to be set beside `catboost_training` of mm-trees.

    train_catboost.py data FOLDER NYCFLIGHTS.csv
    train_catboost.py fit FOLDER DATA THREADS ROUNDS [PARAMS]

Needs numpy, pandas, and catboost. `data` writes numeric.csv (made up, 28 columns) and
flights.csv (7 numbers, 5 categories of up to 3,800 levels), and multiclass.csv (the numbers, in five
classes), 100,000 rows each, with test rows beside them; `fit` prints what `catboost_training` prints for mm; PARAMS is JSON of further parameters of
CatBoost. compare.py runs both in turn:

    compare.py 5 'catboost_training FOLDER numeric 1 "{\"rounds\": 500}"' \
                 'python train_catboost.py fit FOLDER numeric 1 500'
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from peer import memory


def data(folder, source):
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    rng = np.random.RandomState(0)
    x = rng.randn(125_000, 28).astype(np.float32)
    f = x[:, 0] + x[:, 1] * x[:, 2] + np.sin(2 * x[:, 3]) + 0.5 * x[:, 4] * x[:, 5] + 0.3 * x[:, 6:12].sum(1)
    numeric = pd.DataFrame(x, columns=[f"f{j}" for j in range(28)])
    numeric["y"] = (f + 0.7 * rng.logistic(size=len(f)) > 0).astype(int)

    multiclass = numeric.copy()
    y = np.digitize(f + 0.7 * rng.logistic(size=len(f)), [-2.0, -0.7, 0.7, 2.0])
    multiclass["y"] = [f"k{k}" for k in y]

    rows = pd.read_csv(source).sample(160_000, random_state=0)
    flights = rows[["month", "day", "dow", "sched_dep_time", "sched_arr_time", "distance", "hour"]].copy()
    for name in ["carrier", "flight", "tailnum", "origin", "dest"]:
        flights["c_" + name] = "v" + rows[name].astype(str)
    flights["y"] = (rows["arr_delay"] > 0).astype(int)
    for name, table in dict(numeric=numeric, flights=flights, multiclass=multiclass).items():
        table[:100_000].to_csv(folder / f"{name}.csv", index=False)
        table[100_000:].to_csv(folder / f"{name}-test.csv", index=False)


def read(folder, name):
    table = pd.read_csv(Path(folder) / f"{name}.csv")
    y = table.pop("y")
    categories = [column for column in table if column.startswith("c_")]
    numbers = {column: np.float32 for column in table if column not in categories}
    return table.astype(numbers), y, categories


def fit(folder, name, threads, rounds, more="{}"):
    from catboost import CatBoost, Pool

    x, y, categories = read(folder, name)
    n_classes = y.nunique()
    params = dict(loss_function="Logloss" if n_classes == 2 else "MultiClass", iterations=rounds, thread_count=threads, random_seed=0,
                  verbose=0, allow_writing_files=False, **json.loads(more))
    pool = Pool(x, y, cat_features=categories)  # What corresponds to a dataset of mm.
    Path("/proc/self/clear_refs").write_text("5")  # The peak so far is forgotten.
    before, start, cpu = memory("VmRSS:"), time.perf_counter(), time.process_time()
    model = CatBoost(params).fit(pool)
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = memory("VmHWM:")
    x, y, _ = read(folder, name + "-test")
    raw = model.predict(x, prediction_type="RawFormulaVal")
    if n_classes == 2:
        ranks = pd.Series(raw).rank()[y == 1]
        metric = dict(auc=(ranks.mean() - (len(ranks) + 1) / 2) / (len(y) - len(ranks)))
    else:
        metric = dict(accuracy=(np.array(model.classes_)[raw.argmax(1)] == y).mean())
    return dict(fit=took, cpu=cpu, before_kib=before, peak_kib=peak, trees=model.tree_count_, **metric)


if __name__ == "__main__":
    work, *words = sys.argv[1:]
    words = [int(w) if w.isdigit() else w for w in words]
    print(json.dumps(dict(data=lambda *w: data(*w) or {}, fit=fit)[work](*words)))
