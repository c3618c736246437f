//! What doorward costs, beside the smallest server that does the same work with the same libraries.
//!
//! Both run in the same minute on the same machine, in turns, and are asked by the same client, so that only
//! ratios are claimed. docs/benchmarks.md says how to read the table.

mod client;
mod cpu;
mod crowd;
mod product;
mod report;
mod rounds;
mod rows;
mod toy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
        /// Turns of each side
        #[arg(long, default_value_t = 5)]
        rounds: u32,
        /// Seconds of each turn
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// Connections that ask at the same time
        #[arg(long, default_value_t = 32)]
        connections: usize,
    },
    /// Show the rows and their targets
    List,
    /// A floor, for the measuring process
    #[command(hide = true)]
    Toy(toy::Options),
}

fn main() -> ExitCode {
    let result = match Options::parse().command {
        Command::List => {
            report::list(rows::ROWS);
            Ok(true)
        }
        Command::Toy(options) => toy::run(options).map(|()| true),
        Command::Run { rows, rounds, seconds, connections } => match product::with_programs() {
            Err(code) => return code,
            Ok(()) => rows::run(&rows, Rounds { rounds, seconds, connections }),
        },
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        // A row that misses its target is told in the table, and by this.
        Ok(false) => ExitCode::from(3),
        Err(error) => {
            eprintln!("doorward-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
