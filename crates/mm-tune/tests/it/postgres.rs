//! Studies in a real PostgreSQL server, whose address is in `MM_TUNE_POSTGRES`: `scripts/postgres`
//! starts one.

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use mm_core::{Direction, Error, Result};
use mm_tune::{PostgresStorage, Storage, Study};
use postgres::{Client, NoTls};

use crate::{
    interop::{race, round_trips},
    storages::{Folder, claims_are_exclusive, contract, studies_go_on, totals_are_exact},
    workers::survives_kills,
};

/// The address of a database of its own, if there is a server.
#[expect(clippy::print_stderr, reason = "who runs the tests should know")]
fn database() -> Option<String> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let Ok(address) = env::var("MM_TUNE_POSTGRES") else {
        eprintln!("skipped: no PostgreSQL server at MM_TUNE_POSTGRES");
        return None;
    };
    let n = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("mm_{}_{n}", std::process::id());
    let mut client = Client::connect(&address, NoTls).expect("the server answers");
    client.batch_execute(&format!("CREATE DATABASE {name}")).expect("a database");
    let (server, _) = address.rsplit_once('/').expect("an address with a database");
    Some(format!("{server}/{name}"))
}

fn open(address: &str) -> Arc<dyn Storage> {
    Arc::new(PostgresStorage::open(address).expect("the database opens"))
}

#[test]
fn postgres_keeps_the_contract() -> Result<()> {
    let Some(address) = database() else { return Ok(()) };
    contract(&*open(&address))?;
    claims_are_exclusive(|| open(&address))?;
    totals_are_exact(|| open(&address))?;
    studies_go_on(|| open(&address))
}

#[test]
fn postgres_survives_killed_workers() -> Result<()> {
    let Some(address) = database() else { return Ok(()) };
    survives_kills(&address, &Folder::new("workers-postgres"), 4)
}

/// With Optuna 5.0 and its dashboard on the same database.
#[test]
fn a_database_is_shared_with_optuna() -> Result<()> {
    let Some(queue) = database() else { return Ok(()) };
    round_trips(|_| database().expect("there is a server"))?;
    race(&queue)
}

#[test]
fn several_workers_make_the_tables_at_once() {
    let Some(address) = database() else { return };
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| open(&address));
        }
    });
}

#[test]
fn a_lost_connection_is_opened_anew() -> Result<()> {
    let Some(address) = database() else { return Ok(()) };
    let study = Study::open(open(&address), "study", &[Direction::Minimize])?;
    study.optimize(3, |_| Ok(1.0.into()))?;
    let mut client = Client::connect(&address, NoTls).expect("the server answers");
    let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.execute(others, &[]).expect("the right to end connections");
    // The first call may be the one that finds out.
    let found = study.trials();
    assert!(found.is_ok() || matches!(found, Err(Error::Within { .. })), "{found:?}");
    study.optimize(2, |_| Ok(1.0.into()))?;
    assert_eq!(study.trials()?.len(), 5);
    Ok(())
}

#[test]
fn what_is_no_study_database_is_refused_by_name() {
    let error = PostgresStorage::open("postgresql://me:secret@127.0.0.1:1/db").expect_err("nobody");
    let error = error.chain();
    assert!(error.contains("`db` of `me`") && !error.contains("secret"), "{error}");
    assert!(PostgresStorage::open("postgresql://host:port/").is_err());
    let Some(address) = database() else { return };
    drop(open(&address));
    let mut client = Client::connect(&address, NoTls).expect("the server answers");
    client.batch_execute("UPDATE alembic_version SET version_num = 'v9.0.0.a'").expect("writes");
    let error = PostgresStorage::open(&address).expect_err("a newer schema").chain();
    assert!(error.contains("v9.0.0.a") && error.contains("v3.2.0.a"), "{error}");
}
