"""The peers of `benches/models.rs`: River and Vowpal Wabbit on the same rows.

    pip install river==0.26.1 vowpalwabbit==9.11.9
    peer.py export FOLDER [ELEC2.csv.gz SEA.csv.gz]   write the rows that both sides read
    peer.py speed FOLDER                              one line of JSON: µs of CPU a row

Elec2 and SEA come from github.com/scikit-multiflow/streaming-datasets; the other rows are those that
the River package ships, and `dense20` is made here.
"""

import csv
import gzip
import json
import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from river import datasets, drift, forest, linear_model, naive_bayes, neighbors, optim, preprocessing, tree

KEYS = {
    "linear, 20 features": ("dense20", 20_000, lambda: scaled(linear_model.LogisticRegression())),
    "linear, 6 features": ("elec2", 20_000, lambda: scaled(linear_model.LogisticRegression())),
    "linear by FTRL, 20 features":
        ("dense20", 20_000, lambda: scaled(linear_model.LogisticRegression(optim.FTRLProximal()))),
    "naive Bayes, 20 features": ("dense20", 5_000, naive_bayes.GaussianNB),
    "Hoeffding tree, 6 features": ("elec2", 20_000, tree.HoeffdingTreeClassifier),
    "Hoeffding tree, 20 features": ("dense20", 10_000, tree.HoeffdingTreeClassifier),
    "adaptive tree, 6 features": ("elec2", 10_000, lambda: tree.HoeffdingAdaptiveTreeClassifier(seed=1)),
    "forest of 10, 6 features": ("elec2", 3_000, lambda: forest.ARFClassifier(n_models=10, seed=1)),
    "forest of 10, 20 features": ("dense20", 1_500, lambda: forest.ARFClassifier(n_models=10, seed=1)),
    "Mondrian of 10, 20 features":
        ("dense20", 1_000, lambda: preprocessing.MinMaxScaler() | forest.AMFClassifier(10, seed=1)),
    "neighbours, 18 features": ("segments", 2_310, lambda: scaled(neighbors.KNNClassifier())),
}
DETECTORS = {
    "ADWIN": drift.ADWIN,
    "Page-Hinkley": drift.PageHinkley,
    "DDM": drift.binary.DDM,
    "EDDM": drift.binary.EDDM,
    "HDDM-A": drift.binary.HDDMA,
    "HDDM-W": drift.binary.HDDMW,
    "KSWIN": drift.KSWIN,
}


def scaled(model):
    return preprocessing.StandardScaler() | model


def write(folder, name, rows):
    classes = sorted({y for _, y in rows}, key=str)
    with open(f"{folder}/{name}.csv", "w") as file:
        file.write(",".join(map(str, rows[0][0])) + ",y\n")
        for x, y in rows:
            file.write(",".join(repr(float(v)) for v in x.values()) + f",{classes.index(y)}\n")


def from_gzip(path):
    with gzip.open(path, "rt") as file:
        return [({k: v for k, v in row.items() if k != "class"}, int(float(row["class"])))
                for row in csv.DictReader(file)]


def export(folder, elec2=None, sea=None):
    os.makedirs(folder, exist_ok=True)
    rng = np.random.default_rng(7)
    x = rng.standard_normal((100_000, 20)) * rng.uniform(0.2, 5, 20) + rng.uniform(-3, 3, 20)
    z = (x - x.mean(0)) / x.std(0)
    y = rng.random(len(x)) < 1 / (1 + np.exp(-(z @ rng.standard_normal(20))))
    names = [f"f{j}" for j in range(20)]
    write(folder, "dense20", [(dict(zip(names, row)), int(t)) for row, t in zip(x.tolist(), y)])
    write(folder, "phishing", list(datasets.Phishing()))
    write(folder, "bananas", list(datasets.Bananas()))
    write(folder, "segments", list(datasets.ImageSegments()))
    for name, path in (("elec2", elec2), ("sea", sea)):
        if path:
            write(folder, name, from_gzip(path))


def read(folder, name, most):
    with open(f"{folder}/{name}.csv") as file:
        names = file.readline().strip().split(",")[:-1]
        rows = []
        for line in file:
            cells = [float(cell) for cell in line.split(",")]
            rows.append((dict(zip(names, cells)), int(cells[-1])))
            if len(rows) == most:
                break
    return rows


def best(n, work, repeats=2):
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times) * 1e6 / n


def speed(folder):
    line = {}
    for key, (name, most, make) in KEYS.items():
        rows = read(folder, name, most)

        def work():
            model = make()
            for x, y in rows:
                model.predict_proba_one(x)
                model.learn_one(x, y)

        line[key] = best(len(rows), work)
    rows = read(folder, "dense20", 20_000)
    model = scaled(linear_model.LogisticRegression())
    for x, y in rows:
        model.learn_one(x, y)
    line["linear, 20 features, predict alone"] = best(
        len(rows), lambda: [model.predict_proba_one(x) for x, _ in rows])
    bits = (np.random.default_rng(1).random(100_000) < 0.2).astype(int).tolist()
    for key, make in DETECTORS.items():
        stream = bits[: 2_000 if key == "KSWIN" else len(bits)]

        def work():
            detector = make()
            for bit in stream:
                detector.update(bit)

        line[key] = best(len(stream), work)
    line |= vowpal_wabbit(folder)
    print(json.dumps(line))


def vowpal_wabbit(folder):
    """Learning from a cache of the scaled rows: no text is parsed, no scaler runs."""
    import vowpalwabbit

    rows = read(folder, "dense20", 100_000)
    x = np.array([list(row.values()) for row, _ in rows])
    z = (x - x.mean(0)) / x.std(0)
    text = f"{folder}/dense20.vw"
    with open(text, "w") as file:
        for values, (_, y) in zip(z, rows):
            cells = " ".join(f"f{j}:{v:.5f}" for j, v in enumerate(values))
            file.write(f"{'1' if y else '-1'} | {cells}\n")
    arguments = (f"--loss_function logistic -b 18 --quiet --holdout_off "
                 f"-d {text} --cache_file {text}.cache")
    vowpalwabbit.Workspace(arguments + " -k").finish()
    return {"hashed, 20 features": best(
        len(rows), lambda: vowpalwabbit.Workspace(arguments).finish(), repeats=3)}


if __name__ == "__main__":
    {"export": export, "speed": speed}[sys.argv[1]](*sys.argv[2:])
