"""The Python side of the tests that share a study with Optuna 5.0: `peer.py COMMAND PATH [N]`."""

import io
import json
import sys
import warnings

import optuna

warnings.filterwarnings("ignore")
optuna.logging.set_verbosity(optuna.logging.ERROR)


def storage(path):
    if "://" in path:
        return optuna.storages.RDBStorage(path.replace("://", "+psycopg2://", 1))
    if path.endswith(".db"):
        return optuna.storages.RDBStorage(
            f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}}
        )
    backend = optuna.storages.journal.JournalFileBackend(path)
    return optuna.storages.JournalStorage(backend)


def objective(trial):
    x = trial.suggest_float("x", -1.0, 1.0)
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    n = trial.suggest_int("n", 1, 9, step=2)
    kind = trial.suggest_categorical("kind", ["a", "b"])
    trial.set_user_attr("note", {"é": [1, None, float("inf")]})
    trial.report(x, 1)
    trial.report(float("nan"), 2)
    trial.report(float("-inf"), 3)
    if trial.number % 5 == 4:
        raise optuna.TrialPruned
    if trial.number % 5 == 3:
        return float("nan")
    if trial.number % 5 == 2:
        return float("inf")
    return x * x + rate + n + (kind == "b")


def dump(study):
    """What Optuna makes of the study, one trial a line."""
    for t in study.get_trials():
        print(json.dumps({
            "number": t.number, "state": t.state.name, "values": t.values, "params": t.params,
            "intermediate": {str(k): v for k, v in t.intermediate_values.items()},
            "user": t.user_attrs,
        }))


def main():
    command, path = sys.argv[1:3]
    if command == "write":
        sampler = optuna.samplers.TPESampler(seed=1)
        study = optuna.create_study(study_name="study", storage=storage(path), sampler=sampler)
        study.optimize(objective, n_trials=int(sys.argv[3]))
        dump(study)
    elif command == "go-on":
        sampler = optuna.samplers.TPESampler(seed=2)
        study = optuna.load_study(study_name="study", storage=storage(path), sampler=sampler)
        study.optimize(objective, n_trials=int(sys.argv[3]))
        dump(study)
    elif command == "work":
        # Takes from the queue until it is empty, and says what it took.
        study = optuna.load_study(
            study_name="study", storage=storage(path), sampler=optuna.samplers.RandomSampler()
        )
        while any(t.state.name == "WAITING" for t in study.get_trials(deepcopy=False)):
            trial = study.ask()
            frozen = study._storage.get_trial(trial._trial_id)
            if "fixed_params" not in frozen.system_attrs:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
                continue
            study.tell(trial, trial.suggest_float("x", 0.0, 1000.0))
            print(trial.number, flush=True)
    elif command == "dashboard":
        import optuna_dashboard

        app = optuna_dashboard.wsgi(storage(path))
        for url in ("/api/studies", "/api/studies/" + sys.argv[3]):
            status = []
            environ = {
                "REQUEST_METHOD": "GET", "PATH_INFO": url, "SERVER_NAME": "localhost",
                "SERVER_PORT": "80", "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
                "wsgi.errors": sys.stderr, "QUERY_STRING": "after=0",
            }
            body = b"".join(app(environ, lambda s, headers, exc=None: status.append(s)))
            print(url, status[0])
            json.loads(body)


main()
