//! What doorward costs, beside the smallest server that does the same work with the same libraries.
//!
//! Both run in the same minute on the same machine, in turns, and are asked by the same client, so that only
//! ratios are claimed. docs/benchmarks.md says how to read the table.

mod client;
mod cpu;
mod crowd;
mod figures;
mod keys;
mod product;
mod report;
mod rounds;
mod rows;
mod toy;

use std::{io, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::rounds::Rounds;

/// Measure doorward beside its floors
#[derive(Debug, Parser)]
#[command(name = "doorward-bench")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure rows; `all`, or their names (`list` shows them)
    Run {
        /// Which
        #[arg(required = true)]
        rows: Vec<String>,
        #[command(flatten)]
        much: Much,
        /// Write the ratios down in benches/figures.toml
        #[arg(long)]
        record: bool,
    },
    /// Measure rows (all without names) and compare with benches/figures.toml: 3 where one is worse by 15 %
    Gate {
        /// Which
        rows: Vec<String>,
        #[command(flatten)]
        much: Much,
    },
    /// Show the rows and their targets
    List,
    /// A floor, for the measuring process
    #[command(hide = true)]
    Toy(toy::Options),
}

/// How much is measured
#[derive(Debug, Clone, Copy, Args)]
struct Much {
    /// Turns of each side
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds of each turn
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Connections that ask at the same time
    #[arg(long, default_value_t = 32)]
    connections: usize,
}

impl From<Much> for Rounds {
    fn from(Much { rounds, seconds, connections }: Much) -> Self {
        Self { rounds, seconds, connections }
    }
}

/// Compares with what is committed; what is worse is told.
fn gate(rows: Vec<String>, much: Much) -> io::Result<bool> {
    // Before anything is measured for nothing.
    let committed = figures::committed()?;
    let rows = if rows.is_empty() { vec!["all".to_owned()] } else { rows };
    let (_, now) = rows::run(&rows, much.into())?;
    let worse = figures::worse(&committed, &now);
    worse.iter().for_each(|sentence| println!("gate: {sentence}"));
    if worse.is_empty() {
        println!("gate: nothing is worse than it was recorded");
    }
    Ok(worse.is_empty())
}

fn measure(rows: &[String], much: Much, record: bool) -> io::Result<bool> {
    let (reached, now) = rows::run(rows, much.into())?;
    if record {
        figures::record(&now)?;
    }
    Ok(reached)
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::List => {
            report::list(rows::ROWS);
            Ok(true)
        }
        Command::Toy(options) => toy::run(options).map(|()| true),
        Command::Run { rows, much, record } => match product::with_programs() {
            Err(code) => return code,
            Ok(()) => measure(&rows, much, record),
        },
        Command::Gate { rows, much } => match product::with_programs() {
            Err(code) => return code,
            Ok(()) => gate(rows, much),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // A row that misses its target, or is worse than it was, is told in the table and by this.
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("doorward-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
