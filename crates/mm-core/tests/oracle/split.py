"""Writes split.json beside this file: folds of scikit-learn's splitters without shuffling.

    pip install scikit-learn==1.9.1
    python split.py

Read by the test `folds_agree_with_those_of_scikit_learn` in src/split/laws.rs.
"""

import json
import pathlib

import numpy as np
from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

rng = np.random.default_rng(1)
cases = []


def add(plan, splitter, n_rows, classes=None, groups=None, sizes_only=False):
    x = np.zeros((n_rows, 1))
    folds = [(a.tolist(), b.tolist()) for a, b in splitter.split(x, classes, groups)]
    case = {"plan": plan, "n_rows": n_rows}
    if classes is not None:
        case["classes"] = classes.tolist()
    if groups is not None:
        case["groups"] = groups.tolist()
    if sizes_only:
        case["sizes"] = sorted(len(test) for _, test in folds)
    else:
        case["folds"] = folds
    cases.append(case)


for n_rows, k in [(10, 2), (10, 3), (11, 4), (7, 7), (23, 5)]:
    add({"kind": "k_fold", "folds": k, "shuffle": False}, KFold(k), n_rows)

for n_rows, k in [(6, 5), (20, 3), (23, 4), (30, 2)]:
    add({"kind": "time_series", "folds": k}, TimeSeriesSplit(k), n_rows)
for n_rows, k, test, window, gap in [(20, 3, 4, None, 2), (25, 4, 3, 5, 0), (25, 3, 5, 4, 3), (12, 2, 1, 1, 9)]:
    plan = {"kind": "time_series", "folds": k, "test": test, "gap": gap}
    if window:
        plan["window"] = window
    splitter = TimeSeriesSplit(k, max_train_size=window, test_size=test, gap=gap)
    add(plan, splitter, n_rows)

# scikit-learn deals the classes in order of first appearance, this library in order of their codes;
# the first three rows make the two the same.
for n_rows, k in [(20, 2), (30, 3), (41, 4), (60, 5)]:
    classes = np.concatenate([[0, 1, 2], rng.choice(3, n_rows - 3, p=[0.5, 0.3, 0.2])])
    assert k <= np.bincount(classes).min()
    plan = {"kind": "stratified_k_fold", "folds": k, "shuffle": False}
    add(plan, StratifiedKFold(k), n_rows, classes=classes)

# Groups of equal size are dealt in another order, which leaves the sizes of the folds the same.
for n_rows, n_groups, k in [(20, 7, 3), (50, 9, 4), (40, 20, 5), (12, 4, 4)]:
    groups = np.concatenate([np.arange(n_groups), rng.integers(0, n_groups, n_rows - n_groups)])
    plan = {"kind": "group_k_fold", "folds": k, "shuffle": False}
    add(plan, GroupKFold(k), n_rows, groups=groups, sizes_only=True)

lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
path = pathlib.Path(__file__).with_suffix(".json")
path.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
print(f"{len(cases)} cases in {path.name}")
