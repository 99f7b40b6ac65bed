//! Tuning candidates of a plan: with real learners, over several families, giving up early, resumed.

use std::{
    fs,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use mm::core::{
    Cancel, Candidate, CostKind, Dataset, Error, Event, Family, Metric, Orchestrator, Outcome,
    Plan, Rungs, Signal, SpaceSize, Status, Steps, Thrift, TunePlan, Tuned,
};
use serde_json::json;

use crate::flights;

fn plan(candidates: impl IntoIterator<Item = Candidate>) -> Plan {
    Plan::new(candidates).with(|plan| {
        plan.seed = 5;
        plan.metric = Some(Metric::ROC_AUC);
        plan.budget.threads = Some(2);
        plan.refit = false;
    })
}

/// A kind that is fitted in no time.
fn cheap(trials: u64) -> Candidate {
    let tune = TunePlan::trials(trials).with(|t| t.sampler = json!("random"));
    Candidate::of_kind("naive_bayes").tuned(tune)
}

fn run(plan: &Plan, data: &Dataset) -> Outcome {
    let catalog = mm::catalog();
    let outcome = mm::orchestrator(&catalog).run_on(plan, data);
    outcome.unwrap_or_else(|e| panic!("the run ends normally: {}", e.chain()))
}

/// What the first search found, but for the times that it took.
fn found(outcome: &Outcome) -> (String, f64, [u64; 3]) {
    let Tuned { best, score, trials, pruned, failed, .. } = &outcome.tuned[0].1;
    (best.params.to_string(), *score, [*trials, *pruned, *failed])
}

#[test]
fn the_best_params_found_take_the_candidates_place() {
    let data = flights(20);
    let plain = Candidate::of_kind("naive_bayes").named("plain");
    let plan = plan([plain, cheap(12).named("tuned")]);
    let outcome = run(&plan, &data);
    let [(name, tuned)] = &outcome.tuned[..] else { panic!("one candidate is tuned") };
    assert_eq!((name.as_str(), tuned.trials, tuned.failed), ("tuned", 12, 0));
    let score = |name: &str| {
        outcome.leaderboard.entry(name).and_then(|e| e.score.as_ref()).expect("scored").mean
    };
    // The score of the search is the leaderboard's, since folds and seeds are the same.
    assert_eq!(score("tuned"), tuned.score);
    assert_ne!(score("plain"), score("tuned"));
    for threads in [1, 3] {
        let again = run(&plan.clone().with(|p| p.budget.threads = Some(threads)), &data);
        assert_eq!(found(&again), found(&outcome));
    }
}

#[test]
fn what_params_say_is_fixed() {
    let params = json!({"rounds": 7, "tree": {"leaves": 5}, "sampling": {"rows": "all"}});
    let mut candidate = Candidate::of_kind("lightgbm").tuned(TunePlan::trials(4));
    candidate.params = params;
    let outcome = run(&plan([candidate]), &flights(40));
    let best = &outcome.tuned[0].1.best;
    assert_eq!(best.params["rounds"], 7);
    assert_eq!(best.params["tree"]["leaves"], 5);
    assert_eq!(best.params["sampling"]["rows"], "all");
    assert_ne!(best.params["learning_rate"], 0.1, "the rest is searched");
}

#[test]
fn families_share_one_search_and_a_bad_pruner_gives_all_but_few_up() {
    let seen = [AtomicUsize::new(0), AtomicUsize::new(0)];
    let watcher = |event: &Event<'_>| {
        if let Event::Trial { kind, .. } = event {
            seen[usize::from(*kind == "xgboost")].fetch_add(1, Ordering::Relaxed);
        }
        Signal::Continue
    };
    let tune = TunePlan::trials(14).with(|t| {
        t.space = SpaceSize::Small;
        t.also = vec![Family::new("xgboost", json!({"rounds": 8}))];
        t.pruner = json!({"kind": "wilcoxon", "p_threshold": 0.3});
    });
    let mut candidate = Candidate::of_kind("lightgbm").tuned(tune).named("any");
    candidate.params = json!({"rounds": 8});
    let plan = plan([candidate]);
    let (catalog, data) = (mm::catalog(), flights(20));
    let outcome = mm::orchestrator(&catalog).with_watcher(&watcher).run_on(&plan, &data);
    let outcome = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
    let tuned = &outcome.tuned[0].1;
    let [lightgbm, xgboost] = seen.map(AtomicUsize::into_inner);
    assert!(0 < lightgbm && 0 < xgboost && lightgbm + xgboost <= 14, "{lightgbm} and {xgboost}");
    assert!(0 < tuned.pruned, "{tuned:?}");
    assert_eq!(tuned.trials, 14);
    assert_eq!(outcome.leaderboard.best().map(|best| best.name.as_str()), Some("any"));
}

#[test]
fn rounds_of_all_folds_are_watched_together() {
    let most = AtomicUsize::new(0);
    let watcher = |event: &Event<'_>| {
        if let Event::Step { fold: Some(0), .. } = event {
            most.fetch_add(1, Ordering::Relaxed);
        }
        Signal::Continue
    };
    let tune = TunePlan::trials(12).with(|t| {
        t.space = SpaceSize::Small;
        t.steps = Steps::Rounds;
        t.pruner = json!({"kind": "halving", "min_resource": 3, "eta": 3});
    });
    let stopping = json!({"rounds": 100, "metric": "roc_auc"});
    let mut candidate = Candidate::of_kind("lightgbm").tuned(tune);
    candidate.params = json!({"rounds": 30, "early_stopping": stopping});
    let plan = plan([candidate]).with(|p| p.validation = Some(0.2));
    let (catalog, data) = (mm::catalog(), flights(20));
    let outcome = mm::orchestrator(&catalog).with_watcher(&watcher).run_on(&plan, &data);
    let outcome = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
    let tuned = &outcome.tuned[0].1;
    assert!(4 <= tuned.pruned, "two of three are given up at each rung: {tuned:?}");
    // Of twelve trials with thirty rounds each, and the winner's fit.
    let rounds = most.into_inner();
    assert!(rounds < 13 * 30 * 3 / 4, "{rounds} rounds of the first fold");
    let again = run(&plan.clone().with(|p| p.budget.threads = Some(1)), &data);
    assert_eq!(found(&again), found(&outcome), "whatever the number of threads");
}

#[test]
fn a_search_that_fails_costs_that_candidate_only() {
    let fails = Candidate::of_kind("adaptive_random_forest").tuned(TunePlan::trials(2));
    let data = mm::core::conformance::sample(60, 0, mm::core::conformance::Checks::default());
    let plan = Plan::new([fails, Candidate::of_kind("linear")]);
    let outcome = run(&plan, &data);
    let board = &outcome.leaderboard;
    assert_eq!(board.best().map(|entry| entry.name.as_str()), Some("linear"));
    let Some(Status::Failed(why)) = board.entry("adaptive_random_forest").map(|e| &e.status) else {
        panic!("a forest of classes cannot be fitted to numbers: {board}");
    };
    assert!(why.contains("at least 1 with a score") && why.contains("none of 2"), "{why}");
}

#[test]
fn a_search_is_checked_before_any_work() {
    let catalog = mm::catalog();
    let data = flights(40);
    let check = |plan: Plan, what: &str| {
        let error = mm::orchestrator(&catalog).run_on(&plan, &data).expect_err(what).chain();
        assert!(error.contains(what), "{error}");
    };
    let tuned = |kind: &str, edit: &dyn Fn(&mut TunePlan)| {
        plan([Candidate::of_kind(kind).tuned(TunePlan::trials(2).with(|t| edit(t)))])
    };
    check(tuned("linear", &|t| t.trials = 0), "trials");
    check(tuned("linear", &|t| t.seconds = Some(f64::NAN)), "seconds");
    check(tuned("linear", &|t| t.sampler = json!("magic")), "`magic`");
    check(tuned("linear", &|t| t.also = vec![Family::new("nonsense", json!({}))]), "nonsense");
    check(tuned("linear", &|t| t.steps = Steps::Rounds), "validation");
    check(tuned("bag", &|_| {}), "bag");
    let bag = |of: serde_json::Value, edit: &dyn Fn(&mut TunePlan)| {
        let mut plan = tuned("bag", edit);
        plan.candidates[0].params = json!({"of": of});
        plan
    };
    let rungs = |t: &mut TunePlan| t.rungs = Some(Rungs::default());
    check(bag(json!({"kind": "linear"}), &rungs), "one member has, got `bag`");
    let mut two = tuned("ensemble", &rungs);
    two.candidates[0].params = json!({"members": [{"kind": "lightgbm"}, {"kind": "xgboost"}]});
    check(two, "one member has, got `ensemble`");
    let thrift = |t: &mut TunePlan| t.thrift = Some(Thrift::of(CostKind::Trees).as_objective());
    let both = |t: &mut TunePlan| (thrift(t), rungs(t)).0;
    check(tuned("lightgbm", &both), "thrift.objective: expected none beside `rungs`");
    let cma = |t: &mut TunePlan| (thrift(t), t.sampler = json!("cma")).0;
    check(tuned("lightgbm", &cma), "expected one for two objectives");
    // A search within a search is not passed over in silence.
    let mut nested = bag(json!({"kind": "linear", "tune": {"trials": 3}}), &|_| {});
    check(nested.clone(), "of.tune");
    nested.candidates[0].tune = None;
    check(nested, "of.tune");
    let members = json!([{"kind": "linear"}, {"kind": "naive_bayes", "tune": {}}]);
    let mut nested = plan([Candidate::of_kind("ensemble")]);
    nested.candidates[0].params = json!({"members": members});
    check(nested, "members.1.tune");
    check(tuned("linear", &|t| t.rungs = Some(Rungs::default())), "has, got `linear`");
    let bare = Orchestrator::new(&catalog).run_on(&plan([cheap(2)]), &data);
    assert!(bare.expect_err("no tuner").chain().contains("tuner"));
    let misspelt = "[[candidates]]\nkind = \"linear\"\ntune = { trails = 3 }".parse::<Plan>();
    assert!(misspelt.expect_err("misspelt").to_string().contains("trails"));
}

/// A run of one candidate, and the journal of its search.
fn searched(name: &str, candidate: Candidate, data: &Dataset) -> (Outcome, String) {
    let folder = scratch(name);
    let outcome = run(&plan([candidate]).with(|p| p.checkpoint = Some(folder.clone())), data);
    let journal = fs::read_to_string(folder.join("tuning.journal")).expect("the journal");
    fs::remove_dir_all(folder).expect("removes");
    (outcome, journal)
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("mm-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    folder
}

#[test]
fn a_search_that_was_called_off_goes_on_where_it_was() {
    let folder = scratch("tuning-resumes");
    let plan = plan([cheap(10)]).with(|p| p.checkpoint = Some(folder.clone()));
    let (catalog, data, cancel) = (mm::catalog(), flights(40), Cancel::default());
    let tried = AtomicUsize::new(0);
    let count = |event: &Event<'_>| {
        if let Event::Trial { .. } = event {
            tried.fetch_add(1, Ordering::Relaxed);
        }
        Signal::Continue
    };
    let stop = |event: &Event<'_>| {
        if count(event) == Signal::Continue && 4 <= tried.load(Ordering::Relaxed) {
            cancel.cancel();
        }
        Signal::Continue
    };
    let first = mm::orchestrator(&catalog).with_watcher(&stop).with_cancel(&cancel);
    assert!(matches!(first.run_on(&plan, &data), Err(Error::Cancelled)));
    let first = tried.swap(0, Ordering::Relaxed);
    let second = mm::orchestrator(&catalog).with_watcher(&count).run_on(&plan, &data);
    let second = second.unwrap_or_else(|e| panic!("{}", e.chain()));
    assert_eq!(second.tuned[0].1.trials, 10);
    // The fourth trial was scored when the run was called off; it counts, and is not run again.
    assert_eq!((first, tried.load(Ordering::Relaxed)), (4, 6));
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn time_ends_a_search_and_the_leaderboard_says_so() {
    let tune = TunePlan::trials(100_000).with(|t| t.seconds = Some(0.5));
    let candidate = Candidate::of_kind("naive_bayes").tuned(tune);
    let outcome = run(&plan([candidate]), &flights(40));
    let tuned = &outcome.tuned[0].1;
    assert!(tuned.cut_short && tuned.trials < 100_000, "{tuned:?}");
    assert_eq!(
        outcome.leaderboard.entry("naive_bayes").map(|e| &e.status),
        Some(&Status::CutShort)
    );
}

#[test]
fn rungs_are_climbed_from_the_models_that_are_there() {
    let rounds = AtomicUsize::new(0);
    let watcher = |event: &Event<'_>| {
        if let Event::Step { fold: Some(0), .. } = event {
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        Signal::Continue
    };
    let folder = scratch("tuning-rungs");
    let tune = TunePlan::trials(16).with(|t| {
        t.space = SpaceSize::Small;
        t.rungs = Some(Rungs { first: 3, last: 27, eta: 3 });
        t.also = vec![Family::new("xgboost", json!({}))];
    });
    let mut candidate = Candidate::of_kind("lightgbm").tuned(tune);
    candidate.params = json!({"tree": {"min_data_in_leaf": 5}}); // So that trees do not end early.
    let plan = plan([candidate]).with(|p| p.checkpoint = Some(folder.clone()));
    let (catalog, data) = (mm::catalog(), flights(20));
    let outcome = mm::orchestrator(&catalog).with_watcher(&watcher).run_on(&plan, &data);
    let outcome = outcome.unwrap_or_else(|e| panic!("{}", e.chain()));
    let tuned = &outcome.tuned[0].1;
    let best = tuned.best.params["rounds"].as_u64().expect("rounds");
    assert!([3, 9, 27].contains(&best), "the rounds of a rung: {best}");
    assert!(16 <= tuned.trials && 0 < tuned.pruned && tuned.failed == 0, "{tuned:?}");
    // By trials on each rung: 3 rounds on the lowest, 6 more on the next, 18 more on the last; then
    // the winner's.
    let journal = fs::read_to_string(folder.join("tuning.journal")).expect("the journal");
    let reached = |rung: usize| journal.matches(&format!("mm:reached:{rung}")).count();
    assert!(0 < reached(2) && reached(2) < reached(1) && reached(1) < reached(0));
    assert_eq!(reached(0) + reached(1) + reached(2), tuned.trials as usize);
    let expected = 3 * reached(0) + 6 * reached(1) + 18 * reached(2) + best as usize;
    // A fit ends earlier where no split is left.
    let rounds = rounds.into_inner();
    assert!(expected - 20 < rounds && rounds <= expected, "no round is trained twice: {rounds}");
    fs::remove_dir_all(folder).expect("removes");
}

#[test]
fn a_search_finds_nothing_worse_than_the_defaults() {
    let data = flights(20);
    let plain = Candidate::of_kind("lightgbm").named("plain");
    let tune = TunePlan::trials(1).with(|t| t.space = SpaceSize::Large);
    let outcome = run(&plan([plain, Candidate::of_kind("lightgbm").tuned(tune)]), &data);
    let score = |name: &str| {
        outcome.leaderboard.entry(name).and_then(|e| e.score.as_ref()).expect("scored").mean
    };
    assert_eq!(score("plain"), score("lightgbm"), "the first trial has the defaults");
    // Of several families, each has its own; what is fixed stays so.
    let tune = TunePlan::trials(3).with(|t| {
        t.also = vec![
            Family::new("xgboost", json!({"rounds": 9})),
            Family::new("lightgbm", json!({"rounds": 9})),
        ];
    });
    let candidate = Candidate::of_kind("naive_bayes").named("any").tuned(tune);
    let (_, journal) = searched("tuning-defaults", candidate, &data);
    let journal = journal.replace("\\\"", "\"").replace(' ', "");
    for kind in ["0.naive_bayes", "1.xgboost", "2.lightgbm"] {
        assert_eq!(journal.matches(&format!("\"kind\":\"{kind}\"")).count(), 1, "{kind}");
    }
    assert!(journal.contains("\"1.xgboost.learning_rate\":0.3"), "the default");
}

#[test]
fn after_the_defaults_a_search_tries_the_portfolio_whatever_is_promoted_meanwhile() {
    let catalog = mm::catalog();
    let rates: Vec<String> = catalog
        .portfolio("xgboost", SpaceSize::Medium)
        .iter()
        .map(|point| point["learning_rate"].to_string())
        .collect();
    let tune = TunePlan::trials(24).with(|t| {
        t.rungs = Some(Rungs { first: 2, last: 8, eta: 2 });
    });
    let candidate = Candidate::of_kind("xgboost").tuned(tune);
    let (_, journal) = searched("tuning-portfolio", candidate, &flights(20));
    let mut all = journal.replace("\\\"", "\"").replace(' ', "");
    assert!(all.contains("mm:continues"), "some were promoted");
    for rate in std::iter::once("0.3").chain(rates.iter().map(String::as_str)) {
        let told = format!("\"learning_rate\":{rate},");
        let (_, rest) = all.split_once(&told).unwrap_or_else(|| panic!("{told} in {all}"));
        all = rest.to_owned();
    }
}

#[test]
fn catboost_climbs_rungs_with_categories_too() {
    let tune = TunePlan::trials(9).with(|t| {
        t.space = SpaceSize::Small;
        t.rungs = Some(Rungs { first: 4, last: 16, eta: 2 });
    });
    let mut candidate = Candidate::of_kind("catboost").tuned(tune);
    candidate.params = json!({"learning_rate": 0.1, "tree": {"depth": 3}});
    let outcome = run(&plan([candidate]), &flights(40));
    let tuned = &outcome.tuned[0].1;
    assert_eq!(tuned.failed, 0, "{tuned:?}");
    // The fits that climb are those that the leaderboard scores.
    let score = outcome.leaderboard.best().and_then(|best| best.score.as_ref()).expect("scored");
    assert_eq!(score.mean, tuned.score);
}

#[test]
fn what_costs_too_much_is_not_chosen() {
    let data = flights(20);
    let search = |edit: &dyn Fn(&mut TunePlan)| {
        let tune = TunePlan::trials(12).with(|t| {
            t.space = SpaceSize::Small;
            edit(t);
        });
        let mut candidate = Candidate::of_kind("lightgbm").tuned(tune);
        candidate.params = json!({"tree": {"leaves": 7}});
        run(&plan([candidate]), &data)
    };
    let limited = search(&|t| t.limits.trees = Some(80.0));
    let Tuned { cost, best, .. } = &limited.tuned[0].1;
    assert!(cost.trees.is_some_and(|n| n <= 80.0), "{cost:?}");
    assert!(best.params["rounds"].as_u64().is_some_and(|n| n <= 80), "{best:?}");
    assert_eq!(cost.model_bytes, None, "nobody asked");
    let small = search(&|t| t.limits.model_bytes = Some(200_000.0));
    let bytes = small.tuned[0].1.cost.model_bytes;
    assert!(bytes.is_some_and(|n| n <= 200_000.0), "{bytes:?}");
    let none = search(&|t| t.limits.trees = Some(1.0));
    let Some(Status::Failed(why)) = none.leaderboard.entry("lightgbm").map(|e| &e.status) else {
        panic!("no model has one tree: {}", none.leaderboard);
    };
    assert!(why.contains("12 were beyond the limits"), "{why}");
    let Tuned { beyond, .. } = limited.tuned[0].1;
    let text = limited.tuned[0].1.to_string();
    assert!(0 < beyond && text.ends_with(&format!("; {beyond} were beyond the limits")), "{text}");
}

#[test]
fn a_cheaper_one_is_chosen_that_is_nearly_as_good() {
    let data = flights(20);
    let search = |thrift: Option<Thrift>| {
        let tune = TunePlan::trials(12).with(|t| {
            (t.space, t.thrift) = (SpaceSize::Small, thrift);
            t.sampler = json!("random"); // The trials are the same.
        });
        let mut candidate = Candidate::of_kind("lightgbm").tuned(tune);
        candidate.params = json!({"learning_rate": 0.01, "tree": {"leaves": 7}}); // Many are better.
        run(&plan([candidate]), &data).tuned[0].1.clone()
    };
    let trees = |tuned: &Tuned| tuned.cost.trees.expect("it has some");
    let best = search(None);
    let near = search(Some(Thrift::of(CostKind::Trees).within(0.02)));
    assert!(0.98 * best.score <= near.score && near.score <= best.score);
    assert!(trees(&near) < trees(&best), "{best:?}, {near:?}");
    assert!(best.trade.is_none());
    // The search says what it was chosen from.
    let trade = near.trade.as_ref().expect("there was thrift");
    assert_eq!((trade.best.trial, trade.best.scored.score), (best.trial, best.score));
    assert_eq!((trade.chosen().trial, &trade.chosen().config), (near.trial, &near.best));
    assert_eq!(trade.slack, 0.02 * best.score);
    let text = format!("trial {} of 12, ", near.trial);
    assert!(near.to_string().starts_with(&text), "{near}");
    assert!(near.to_string().ends_with(&format!(" trees (trial {})", best.trial)), "{near}");
    let any = search(Some(Thrift::of(CostKind::Trees).within(1.0)));
    assert!(trees(&any) <= trees(&near), "{near:?}, {any:?}");
    let small = search(Some(Thrift::of(CostKind::ModelBytes)));
    assert!(small.cost.model_bytes.is_some(), "it was asked for");
}

#[test]
fn a_cost_can_be_an_objective_of_the_search() {
    let data = flights(20);
    let search = |sampler: &str, thrift: Thrift| {
        let tune = TunePlan::trials(30).with(|t| {
            (t.space, t.thrift) = (SpaceSize::Small, Some(thrift));
            t.sampler = json!(sampler);
        });
        let candidate = Candidate::of_kind("lightgbm").tuned(tune);
        let (outcome, journal) = searched("tuning-objective", candidate, &data);
        (outcome.tuned[0].1.clone(), journal.replace(' ', ""))
    };
    let thrift = Thrift::of(CostKind::Trees);
    for sampler in ["tpe", "auto"] {
        let (single, _) = search(sampler, thrift);
        let (double, journal) = search(sampler, thrift.as_objective());
        assert_eq!((double.trials, double.failed), (30, 0), "{double:?}");
        assert!(journal.contains("\"directions\":[2,1]"), "score up, trees down: {journal}");
        let fronts =
            [single, double].map(|tuned| tuned.trade.expect("there was thrift").cheaper.len());
        assert!(fronts[0] < fronts[1], "there is more to choose from: {fronts:?}, {sampler}");
    }
}

#[test]
fn time_ends_a_trial_that_has_begun_but_not_the_first() {
    // A million rounds take far longer than a tenth of a second.
    let slow = json!({"rounds": 1_000_000, "tree": {"min_data_in_leaf": 1, "leaves": 4}});
    let tune = TunePlan::trials(1000).with(|t| {
        t.seconds = Some(0.1);
        t.also = vec![Family::new("lightgbm", slow)];
    });
    let candidate = Candidate::of_kind("naive_bayes").named("any").tuned(tune);
    let outcome = run(&plan([candidate]), &flights(20));
    let tuned = &outcome.tuned[0].1;
    assert_eq!((tuned.best.kind.as_str(), tuned.failed), ("naive_bayes", 0), "{tuned:?}");
    assert!(tuned.cut_short);
}

#[test]
fn the_space_of_a_composite_is_that_of_its_members() {
    let data = flights(20);
    let tune = TunePlan::trials(6).with(|t| t.space = SpaceSize::Small);
    let mut ensemble = Candidate::of_kind("ensemble").tuned(tune);
    ensemble.params = json!({
        "members": [
            {"kind": "lightgbm", "params": {"rounds": 9}},
            {"kind": "bag", "params": {"of": {"kind": "naive_bayes"}}},
        ],
        "combine": {"kind": "average"},
    });
    let (outcome, journal) = searched("tuning-composite", ensemble, &data);
    let tuned = &outcome.tuned[0].1;
    assert_eq!((tuned.trials, tuned.failed), (6, 0), "{tuned:?}");
    assert!(journal.contains("\"members.0.learning_rate\""), "{journal}");
    assert!(journal.contains("\"members.1.of."), "{journal}");
    assert!(!journal.contains("\"members.0.rounds\""), "what is fixed is not asked for");
    assert_eq!(tuned.best.params["members"][0]["params"]["rounds"], 9);
}

#[test]
fn the_space_of_a_stack_is_also_that_of_its_last_learner() {
    let tune = TunePlan::trials(4).with(|t| t.space = SpaceSize::Small);
    let mut ensemble = Candidate::of_kind("ensemble").tuned(tune);
    let meta = json!({"kind": "lightgbm", "params": {"rounds": 9}});
    ensemble.params = json!({
        "members": [{"kind": "naive_bayes"}, {"kind": "lightgbm", "params": {"rounds": 9}}],
        "combine": {"kind": "stack", "params": {"meta": meta}},
    });
    let (outcome, journal) = searched("tuning-stack", ensemble, &flights(40));
    let tuned = &outcome.tuned[0].1;
    assert_eq!((tuned.trials, tuned.failed), (4, 0), "{tuned:?}");
    assert!(journal.contains("\"combine.meta.learning_rate\""), "{journal}");
    assert!(journal.contains("\"combine.inputs\""), "{journal}");
    let meta = &tuned.best.params["combine"]["params"]["meta"]["params"];
    assert_eq!(meta["rounds"], 9, "what is fixed stays so");
    assert!(meta["learning_rate"].is_f64(), "{meta}");
}

#[test]
fn a_combiner_has_a_space_too_and_keeps_its_limits() {
    let tune = TunePlan::trials(5).with(|t| t.sampler = json!("random"));
    let mut ensemble = Candidate::of_kind("ensemble").tuned(tune);
    ensemble.params = json!({
        "members": [{"kind": "naive_bayes", "name": "a"}, {"kind": "naive_bayes", "name": "b"}],
        "combine": {"kind": "greedy", "params": {"prune": 0.05, "limits": {"max_members": 1}}},
    });
    let (outcome, journal) = searched("tuning-combiner", ensemble, &flights(40));
    let tuned = &outcome.tuned[0].1;
    assert_eq!((tuned.trials, tuned.failed), (5, 0), "{tuned:?}");
    assert!(journal.contains("\"combine.rounds\""), "{journal}");
    assert!(!journal.contains("\"combine.prune\""), "what is fixed is not asked for");
    let params = &tuned.best.params["combine"]["params"];
    assert_eq!((&params["prune"], &params["limits"]), (&json!(0.05), &json!({"max_members": 1})));
}

#[test]
fn the_one_booster_within_a_composite_climbs_rungs() {
    let halves = json!({"kind": "k_fold", "folds": 2});
    let deep = json!({"learning_rate": 0.1, "tree": {"depth": 3}});
    let fine = json!({"tree": {"min_data_in_leaf": 5}});
    let cases = [
        ("bag", json!({"of": {"kind": "lightgbm", "params": fine}, "split": halves}), "/of/params"),
        (
            "calibrated",
            json!({"of": {"kind": "catboost", "params": deep}, "split": halves}),
            "/of/params",
        ),
        (
            "ensemble",
            json!({"members": [{"kind": "naive_bayes"}, {"kind": "xgboost"}], "combine": {"kind": "average"}}),
            "/members/1/params",
        ),
    ];
    for (kind, params, place) in cases {
        let tune = TunePlan::trials(8).with(|t| {
            t.space = SpaceSize::Small;
            t.rungs = Some(Rungs { first: 4, last: 16, eta: 2 });
        });
        let mut candidate = Candidate::of_kind(kind).tuned(tune);
        candidate.params = params;
        let folder = scratch(&format!("tuning-rungs-{kind}"));
        let plan = plan([candidate]).with(|p| p.checkpoint = Some(folder.clone()));
        let outcome = run(&plan, &flights(40));
        let tuned = &outcome.tuned[0].1;
        assert!(8 <= tuned.trials && 0 < tuned.pruned && tuned.failed == 0, "{kind}: {tuned:?}");
        let params = tuned.best.params.pointer(place).expect("the booster's");
        let best = params["rounds"].as_u64().expect("rounds");
        assert!([4, 8, 16].contains(&best), "{kind}: the rounds of a rung: {best}");
        // What was scored on the rung is what the leaderboard scores, to the bit.
        let score = outcome.leaderboard.best().and_then(|it| it.score.as_ref()).expect("scored");
        assert_eq!(score.mean, tuned.score, "{kind}");
        if kind == "calibrated" {
            // Each of a configuration's three fits a fold has one state, with which its rungs go on.
            let journal = fs::read_to_string(folder.join("tuning.journal")).expect("the journal");
            let configurations = journal.matches("mm:reached:0").count();
            assert!(journal.contains("mm:reached:1"));
            let is_kept = |path: &PathBuf| path.to_string_lossy().contains("rungs-");
            let entries = fs::read_dir(&folder).expect("lists");
            let kept = entries.map(|entry| entry.expect("lists").path()).find(is_kept);
            let states = fs::read_dir(kept.expect("a folder")).expect("lists").count();
            assert_eq!(states, 3 * outcome.folds.len() * configurations);
        }
        fs::remove_dir_all(folder).expect("removes");
    }
}

#[test]
fn on_a_rung_each_round_counts() {
    let data = flights(20);
    // The defaults, but for a rate so high that a few rounds are best.
    let tune = TunePlan::trials(1).with(|t| {
        t.rungs = Some(Rungs { first: 20, last: 80, eta: 2 });
    });
    for kind in ["lightgbm", "xgboost"] {
        let mut candidate = Candidate::of_kind(kind).tuned(tune.clone());
        candidate.params = json!({"learning_rate": 0.9});
        let plan = plan([candidate]).with(|p| p.metric = Some(Metric::LogLoss));
        let outcome = run(&plan, &data);
        let tuned = &outcome.tuned[0].1;
        let rounds = tuned.best.params["rounds"].as_u64().expect("rounds");
        assert!(rounds < 15, "{kind}: {tuned:?}");
        // Fitted at once with so many rounds, it has that score.
        let score = outcome.leaderboard.best().and_then(|it| it.score.as_ref()).expect("scored");
        assert!((score.mean - tuned.score).abs() < 1e-6, "{kind}: {} {}", score.mean, tuned.score);
        // What was best so early does not go on to a higher rung.
        assert_eq!((tuned.trials, tuned.pruned), (1, 1), "{kind}: {tuned:?}");
    }
}
