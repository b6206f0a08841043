//! A random schedule of faults over a model of what must hold: real processes, real Redis, publishers that number what they
//! publish, clients that write down what they get. A seed is a schedule; `scripts/chaos` runs as many as there is time for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod apply;
mod check;
mod clients;
mod ledger;
mod nodes;
mod plan;
mod publishers;
mod run;
mod seeds;
mod servers;

use crate::{
    plan::{Plan, World},
    run::run,
};

/// How many faults a run has that was asked for without a number of them.
const FAULTS: usize = 6;

/// The fixed set of a world: all of it, also behind a failure.
async fn fixed(world: World) {
    let mut reports = Vec::new();
    for seed in seeds::FIXED.iter().filter(|seed| seed.0 == world) {
        reports.extend(report(seed.plan()).await);
    }
    assert!(
        reports.is_empty(),
        "the promises are broken\n{}",
        reports.join("\n")
    );
}

/// Runs a plan; what is wrong.
async fn report(plan: Plan) -> Option<String> {
    let outcome = run(plan).await?;
    println!("{outcome}");
    (!outcome.is_well()).then(|| outcome.report())
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_in_memory() {
    fixed(World::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_with_an_append_only_file() {
    fixed(World::Aof).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_with_rdb_snapshots() {
    fixed(World::Rdb).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_without_persistence() {
    fixed(World::Volatile).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_with_sentinels() {
    fixed(World::Sentinel).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn random_faults_break_no_promise_in_a_cluster() {
    fixed(World::Cluster).await;
}

/// `TIDINGS_CHAOS_SEED=77 TIDINGS_CHAOS_WORLD=sentinel`, where wanted with a number of faults, `TIDINGS_CHAOS_FAULTS=6`, and one kind
/// of them, `TIDINGS_CHAOS_ONLY=HandOver`. Nothing without a seed.
#[tokio::test(flavor = "multi_thread")]
async fn a_seed_from_the_environment_is_replayed() {
    let Some(seed) = environment("TIDINGS_CHAOS_SEED") else {
        return;
    };
    let seed = seed.parse().expect("TIDINGS_CHAOS_SEED is a number");
    let name = environment("TIDINGS_CHAOS_WORLD").expect("TIDINGS_CHAOS_WORLD names a world");
    let world = World::named(&name).expect("TIDINGS_CHAOS_WORLD is the name of a world");
    let faults =
        environment("TIDINGS_CHAOS_FAULTS").map_or(FAULTS, |faults| faults.parse().expect("a number"));
    let kind = environment("TIDINGS_CHAOS_ONLY").unwrap_or_default();
    let report = report(Plan::only(seed, world, faults, &kind)).await;
    assert!(
        report.is_none(),
        "the promises are broken\n{}",
        report.unwrap_or_default()
    );
}

/// A variable of the environment that the tests are run in.
#[expect(
    clippy::disallowed_methods,
    reason = "it is for the tests, not for what is tested"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
