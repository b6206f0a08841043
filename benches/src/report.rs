//! The table: what the floor costs, what the gateway costs, and what it may cost.

use std::num::NonZeroUsize;

use crate::{measure::BURST, run::Figures};

/// Prints it. Budgets are those of the design; nothing is asserted, because a busy machine proves nothing.
pub(crate) fn print(clients: usize, cores: NonZeroUsize, floor: &Figures, node: &Figures) {
    let to = |all: &[f64], budget: f64, unit: &str| verdict(median(all), budget, unit);
    let share = ratio(&node.burst, &floor.single);
    println!("\n{clients} clients, gateway with cores = {cores}; medians\n");
    println!("| figure | floor | gateway | ratio | budget |");
    println!("|---|---|---|---|---|");
    row(
        "connect and subscribe all, s",
        &floor.connect,
        &node.connect,
        &to(&node.connect, 5.0, "s"),
    );
    row(
        "memory per idle client, KB",
        NOTHING,
        &node.memory,
        &to(&node.memory, 4.0, "KB"),
    );
    row(
        "the same after deliveries, KB",
        NOTHING,
        &node.memory_after,
        &to(&node.memory_after, 4.0, "KB"),
    );
    row(
        "CPU per delivery, single publications, us",
        &floor.single,
        &node.single,
        &verdict(ratio(&node.single, &floor.single), 1.3, "x floor"),
    );
    row(
        &format!("CPU per delivery, bursts of {BURST}, us"),
        &floor.burst,
        &node.burst,
        &format!("{share:.2} of single floor: {}", verdict(share, 0.25, "")),
    );
    row(
        "one publication reaches all, ms",
        &floor.reached,
        &node.reached,
        &to(&node.reached, 150.0, "ms"),
    );
    row("publish to read, paced, p50, ms", &floor.p50, &node.p50, "");
    row(
        "publish to read, paced, p99, ms",
        &floor.p99,
        &node.p99,
        &to(&node.p99, 10.0, "ms"),
    );
}

/// For figures that a floor does not have.
const NOTHING: &[f64] = &[];

fn row(figure: &str, floor: &[f64], node: &[f64], budget: &str) {
    let shown = |value: f64| {
        if value.is_nan() {
            "–".to_owned()
        } else {
            format!("{value:.2}")
        }
    };
    let (ratio, floor, node) = (ratio(node, floor), median(floor), median(node));
    println!(
        "| {figure} | {} | {} | {} | {budget} |",
        shown(floor),
        shown(node),
        shown(ratio)
    );
}

fn verdict(value: f64, budget: f64, unit: &str) -> String {
    let verdict = if value <= budget { "kept" } else { "MISSED" };
    format!("{verdict} (at most {budget} {unit})").replace(" )", ")")
}

/// The median of the rounds' own ratios: what slows a machine down for a while slows both down.
fn ratio(of: &[f64], to: &[f64]) -> f64 {
    let ratios: Vec<_> = of.iter().zip(to).map(|(of, to)| of / to).collect();
    median(&ratios)
}

fn median(all: &[f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_compares_each_round_with_itself() {
        assert_eq!(ratio(&[2.0, 30.0, 2.2], &[1.0, 10.0, 1.0]), 2.2);
    }

    #[test]
    fn a_verdict_names_the_budget() {
        assert_eq!(verdict(1.2, 1.3, "x floor"), "kept (at most 1.3 x floor)");
        assert_eq!(verdict(0.3, 0.25, ""), "MISSED (at most 0.25)");
    }
}
