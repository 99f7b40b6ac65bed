"""Trains models with the official packages and sets the time that they, and others that serve their
models, take to predict beside ours.

    cargo bench -p mm-trees --no-default-features --bench forest --no-run
    forest.py FOLDER BENCH [--lleaves] [--only NAME,…]

BENCH is the program that cargo built. Every model has 500 rounds over 28 features of a made up task,
numeric ones but for `…-levels`, where four are categories. Ours and theirs are measured in turn,
three times; the least time of each counts, which is processor time of one thread but for the columns
of two threads. Single rows differ from call to call: a row that is repeated teaches the branch
predictor, and looks several times as fast.
"""

import argparse
import ctypes
import json
import os
import subprocess
import time

import numpy as np

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "2")

ROWS, WIDTH, ROUNDS, SINGLES = 10_000, 28, 500, 400
LEVELS = {3: 5, 10: 20, 17: 100, 24: 1000}


def data():
    rng = np.random.default_rng(7)
    x = rng.normal(size=(20_000, WIDTH)).astype(np.float32)
    y = (x[:, :8] ** 2).sum(1) * 0.3 + x[:, 8] * x[:, 9] + np.sin(2 * x[:, 10])
    y = (y + x[:, 11:20].sum(1) * 0.5 + rng.normal(size=len(x)) > 2.5).astype(int)
    return x, y, np.ascontiguousarray(rng.normal(size=(ROWS, WIDTH)).astype(np.float32))


def with_levels(x, y, rows):
    """The same task with categories in four columns, whose levels shift the answer; as codes."""
    rng = np.random.default_rng(8)
    x, rows, shift = x.copy(), rows.copy(), np.zeros(len(x))
    for column, n in LEVELS.items():
        for part in (x, rows):
            part[:, column] = (n * rng.random(len(part)) ** 2).astype(int)
        shift += rng.normal(size=n)[x[:, column].astype(int)]
    return x, np.where(rng.random(len(x)) < 0.5, y, shift > 0).astype(int), rows


def frame(x):
    """The same as a data frame, from which both packages learn the names of the levels."""
    import pandas as pd

    table = pd.DataFrame(x, columns=[f"f{j}" for j in range(WIDTH)])
    for column, n in LEVELS.items():
        codes = x[:, column].astype(int)
        table[f"f{column}"] = pd.Categorical.from_codes(codes, [f"level {k}" for k in range(n)])
    return table


def least(work, runs, clock=time.thread_time_ns):
    """Microseconds of the fastest of `runs` calls."""
    work()
    times = []
    for _ in range(runs):
        started = clock()
        work()
        times.append(clock() - started)
    return min(times) / 1e3


def measure(batch, single=None, two=None):
    """`batch()` predicts all rows; `single(i)` row i; `two()` all rows with two threads."""
    result = {"batch_us": least(batch, 3) / ROWS}
    if single:
        result["single_us"] = least(lambda: [single(i) for i in range(SINGLES)], 3) / SINGLES
    if two:
        result["two_threads_wall_us"] = least(two, 5, time.perf_counter_ns) / ROWS
    return result


def onnx(path, x):
    import onnxruntime

    def session(threads):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    one, two = session(1), session(2)
    name = one.get_inputs()[0].name
    rows = [{name: x[i : i + 1]} for i in range(SINGLES)]
    return measure(
        lambda: one.run(None, {name: x}), lambda i: one.run(None, rows[i]), lambda: two.run(None, {name: x})
    )


def save_onnx(convert, model, path):
    from onnxmltools.convert.common.data_types import FloatTensorType

    types = [("x", FloatTensorType([None, WIDTH]))]
    with open(path, "wb") as file:
        file.write(convert(model, initial_types=types, target_opset=15).SerializeToString())


def lightgbm(folder, name, leaves, x, y, rows, with_lleaves, levels=False):
    import lightgbm as lgb

    path = f"{folder}/{name}.txt"
    if not os.path.exists(path):
        params = dict(objective="binary", learning_rate=0.05, verbose=-1, num_threads=2,
                      min_data_in_leaf=5, num_leaves=leaves)
        lgb.train(params, lgb.Dataset(frame(x) if levels else x, y), ROUNDS).save_model(path)
    model = lgb.Booster(model_file=path)
    library, doubles = lgb.basic._LIB, rows.astype(np.float64)
    fast, one, length = ctypes.c_void_p(), (ctypes.c_double * 1)(), ctypes.c_int64()
    many = (ctypes.c_double * ROWS)()
    assert library.LGBM_BoosterPredictForMatSingleRowFastInit(
        model._handle, 0, 0, -1, 1, ctypes.c_int32(WIDTH), b"num_threads=1", ctypes.byref(fast)) == 0
    at = [ctypes.c_void_p(doubles.ctypes.data + 8 * WIDTH * i) for i in range(SINGLES)]

    def batch(threads):  # Keeps the booster and the rows alive, which are only pointers to C.
        assert library.LGBM_BoosterPredictForMat(
            model._handle, ctypes.c_void_p(doubles.ctypes.data), 1, ctypes.c_int32(ROWS), ctypes.c_int32(WIDTH), 1, 0, 0, -1,
            b"num_threads=%d" % threads, ctypes.byref(length), many) == 0

    def single(i):
        assert library.LGBM_BoosterPredictForMatSingleRowFast(fast, at[i], ctypes.byref(length), one) == 0

    peers = {"LightGBM, C API": lambda: measure(lambda: batch(1), single, lambda: batch(2))}
    if not levels:
        from onnxmltools import convert_lightgbm

        save_onnx(lambda m, **how: convert_lightgbm(m, zipmap=False, **how), model, path + ".onnx")
        peers["ONNX Runtime"] = lambda: onnx(path + ".onnx", rows)
    if with_lleaves:
        import lleaves

        compiled = lleaves.Model(model_file=path)
        compiled.compile(cache=path + ".lleaves", fblocksize=34)
        peers["lleaves"] = lambda: measure(
            lambda: compiled.predict(doubles, n_jobs=1),
            lambda i: compiled.predict(doubles[i : i + 1], n_jobs=1),
            lambda: compiled.predict(doubles, n_jobs=2))
    return path, peers, model.predict(frame(rows) if levels else doubles)


def xgboost(folder, name, depth, x, y, rows, levels=False):
    import xgboost as xgb

    path = f"{folder}/{name}.json"
    if not os.path.exists(path):
        params = dict(objective="binary:logistic", max_depth=depth, eta=0.05, nthread=2,
                      tree_method="hist", base_score=0.5, min_child_weight=0.5)
        table = xgb.DMatrix(frame(x), y, enable_categorical=True) if levels else xgb.DMatrix(x, y)
        xgb.train(params, table, ROUNDS).save_model(path)
    model = xgb.Booster(model_file=path)
    library = xgb.core._LIB
    config = json.dumps(dict(type=0, training=False, iteration_begin=0, iteration_end=0,
                             missing=float("nan"), strict_shape=False, cache_id=0)).encode()
    shape, width, out = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(), ctypes.POINTER(ctypes.c_float)()

    def array(first, n):
        pointer = rows.ctypes.data + 4 * WIDTH * first
        return json.dumps(dict(data=[pointer, True], shape=[n, WIDTH], typestr="<f4", version=3)).encode()

    def predict(rows):
        assert library.XGBoosterPredictFromDense(model.handle, rows, config, None, ctypes.byref(shape),
                                                 ctypes.byref(width), ctypes.byref(out)) == 0

    singles, all_rows = [array(i, 1) for i in range(SINGLES)], array(0, ROWS)

    def theirs():
        model.set_param({"nthread": 1})
        result = measure(lambda: predict(all_rows), lambda i: predict(singles[i]))
        model.set_param({"nthread": 2})
        return result | {"two_threads_wall_us": least(lambda: predict(all_rows), 5, time.perf_counter_ns) / ROWS}

    peers = {"XGBoost, C API": theirs}
    if not levels:
        from onnxmltools import convert_xgboost

        save_onnx(convert_xgboost, model, path + ".onnx")
        peers["ONNX Runtime"] = lambda: onnx(path + ".onnx", rows)
    return path, peers, model.inplace_predict(frame(rows) if levels else rows).astype(np.float64)


def catboost(folder, name, depth, x, y, rows):
    import catboost as cb

    path = f"{folder}/{name}.cbm"
    model = cb.CatBoostClassifier(iterations=ROUNDS, depth=depth, learning_rate=0.05, thread_count=2,
                                  verbose=False, allow_writing_files=False)
    if not os.path.exists(path):
        model.fit(x, y).save_model(path)
    model.load_model(path)
    singles, kind = [rows[i : i + 1] for i in range(SINGLES)], dict(prediction_type="Probability")
    pool = cb.Pool(rows)
    peers = {"CatBoost, arrays": lambda: measure(
        lambda: model.predict(rows, thread_count=1, **kind),
        lambda i: model.predict(singles[i], thread_count=1, **kind),
        lambda: model.predict(rows, thread_count=2, **kind)),
        "CatBoost, a pool made before": lambda: measure(
            lambda: model.predict(pool, thread_count=1, **kind),
            two=lambda: model.predict(pool, thread_count=2, **kind))}
    return path, peers, model.predict_proba(rows)[:, 1]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("bench")
    parser.add_argument("--lleaves", action="store_true", help="compiles for minutes")
    parser.add_argument("--only", default="")
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    x, y, rows = data()
    coded = with_levels(x, y, rows)
    rows.tofile(f"{options.folder}/rows.f32")
    coded[2].tofile(f"{options.folder}/rows-levels.f32")
    models = {
        "lightgbm-31": lambda n: lightgbm(options.folder, n, 31, x, y, rows, options.lleaves),
        "lightgbm-255": lambda n: lightgbm(options.folder, n, 255, x, y, rows, options.lleaves),
        "xgboost-6": lambda n: xgboost(options.folder, n, 6, x, y, rows),
        "xgboost-8": lambda n: xgboost(options.folder, n, 8, x, y, rows),
        "lightgbm-31-levels": lambda n: lightgbm(options.folder, n, 31, *coded, options.lleaves, levels=True),
        "xgboost-6-levels": lambda n: xgboost(options.folder, n, 6, *coded, levels=True),
        "catboost-6": lambda n: catboost(options.folder, n, 6, x, y, rows),
        "catboost-8": lambda n: catboost(options.folder, n, 8, x, y, rows),
    }
    only = [name for name in options.only.split(",") if name] or list(models)
    keys = ["batch_us", "single_us", "two_threads_wall_us"]
    print("| model | by | batch, µs a row | single, µs | batch, 2 threads, wall µs | theirs / ours |")
    print("| --- | --- | ---: | ---: | ---: | --- |")
    for name in only:
        path, peers, expected = models[name](name)
        rows_file = f"{options.folder}/rows{'-levels' * name.endswith('-levels')}.f32"
        command = [options.bench, path, rows_file, f"{path}.out"]
        ours, theirs = [], {peer: [] for peer in peers}
        for _ in range(options.times):
            ours.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            for peer, run in peers.items():
                theirs[peer].append(run())
        best = lambda results: {key: min(r[key] for r in results) for key in keys if key in results[0]}
        mine = best(ours)
        got = np.fromfile(f"{path}.out").reshape(ROWS, -1)[:, -1]
        same = np.mean(got == expected)
        about = ours[0]
        show = lambda result: " | ".join(f"{result[key]:.3f}" if key in result else "" for key in keys)
        print(f"| {name} | mm | {show(mine)} | {same:.2%} equal to the bit, largest difference "
              f"{np.abs(got - expected).max():.1e}; {about['leaves']} leaves, file {about['file_bytes']}, "
              f"kernel {about['kernel_bytes']} bytes, by 64 {min(o['by_64_us'] for o in ours):.3f} |")
        for peer, results in theirs.items():
            other = best(results)
            ratios = ", ".join(f"{other[key] / mine[key]:.1f}" for key in other)
            print(f"| {name} | {peer} | {show(other)} | {ratios} |", flush=True)


if __name__ == "__main__":
    main()
