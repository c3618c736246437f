//! The table.

use crate::{
    rounds::{Rounds, Turn, median},
    rows::Row,
};

/// What a row brought.
pub(crate) enum Figure {
    /// Product and floor, turn by turn.
    Pair {
        /// What it is of, where a row has several.
        of: &'static str,
        /// The turns.
        turns: Vec<(Turn, Turn)>,
        /// The most CPU for each operation, as a ratio.
        most: f64,
        /// The most of the 99th percentile, as a ratio.
        most_p99: Option<f64>,
    },
    /// What is to be known beside the figures.
    Note(String),
    /// A figure with a bound of its own.
    Absolute {
        /// What it is.
        unit: &'static str,
        /// How much.
        value: f64,
        /// The most that it may be.
        most: f64,
        /// What it is of.
        note: String,
    },
}

impl Figure {
    pub(crate) fn pair(turns: Vec<(Turn, Turn)>, most: f64, most_p99: Option<f64>) -> Self {
        Self::Pair { of: "", turns, most, most_p99 }
    }

    /// What it is of, where a row has several pairs.
    pub(crate) fn of(mut self, what: &'static str) -> Self {
        if let Self::Pair { of, .. } = &mut self {
            *of = what;
        }
        self
    }

    pub(crate) fn absolute(unit: &'static str, value: f64, most: f64, note: String) -> Self {
        Self::Absolute { unit, value, most, note }
    }
}

pub(crate) fn list(rows: &[Row]) {
    for row in rows {
        println!("{:10} {}: {}", row.name, row.what, row.target);
    }
}

pub(crate) fn header(rounds: Rounds) {
    println!(
        "{} turns of {} s of each side, {} connections; ratios are product/floor of the same turn, medians",
        rounds.rounds, rounds.seconds, rounds.connections
    );
}

/// What is recorded of a figure: its name and the ratio of CPU for each operation. None of those without a floor.
pub(crate) fn recorded(row: &Row, figure: &Figure) -> Option<(String, f64)> {
    let Figure::Pair { of, turns, .. } = figure else { return None };
    let ratios = turns.iter().map(|(ours, theirs)| ours.cpu_each() / theirs.cpu_each()).collect();
    Some((format!("{} {of}", row.name).trim_end_matches([' ', ',']).to_owned(), median(ratios)))
}

/// Prints a figure; whether it is within its target.
pub(crate) fn show(row: &Row, figure: &Figure) -> bool {
    match figure {
        Figure::Absolute { unit, value, most, note } => {
            let within = value <= most;
            println!("{:10} {value:9.2} {unit} (at most {most}) {note}: {}", row.name, verdict(within));
            within
        }
        Figure::Note(note) => {
            println!("{:10} {note}", row.name);
            true
        }
        Figure::Pair { of: kind, turns, most, most_p99 } => {
            let of = |pick: &dyn Fn(&Turn) -> f64| {
                let [ours, theirs]: [Vec<f64>; 2] = [
                    turns.iter().map(|(ours, _)| pick(ours)).collect(),
                    turns.iter().map(|(_, theirs)| pick(theirs)).collect(),
                ];
                let ratios: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| a / b).collect();
                let spread =
                    ratios.iter().copied().fold((f64::MAX, 0.0), |(low, high): (f64, f64), ratio| {
                        (low.min(ratio), high.max(ratio))
                    });
                (median(ours), median(theirs), median(ratios), spread)
            };
            let line = |what: &str,
                        (ours, theirs, ratio, (low, high)): (f64, f64, f64, (f64, f64)),
                        most: Option<f64>| {
                let within = most.is_none_or(|most| ratio <= most);
                let judged =
                    most.map_or(String::new(), |most| format!(" (at most {most}): {}", verdict(within)));
                println!(
                    "{:10} {kind}{what:14} product {ours:11.2}  floor {theirs:11.2}  ratio {ratio:5.2} [{low:.2} to {high:.2}]{judged}",
                    row.name
                );
                within
            };
            let cpu = line("CPU us each", of(&Turn::cpu_each), Some(*most));
            line("each second", of(&Turn::each_second), None);
            line("p50 us", of(&|turn| turn.percentile(50)), None);
            let p99 = line("p99 us", of(&|turn| turn.percentile(99)), *most_p99);
            cpu && p99
        }
    }
}

fn verdict(within: bool) -> &'static str {
    if within { "reached" } else { "MISSED" }
}
