//! `doorward completion SHELL`.

use clap::CommandFactory;
use clap_complete::{Shell, generate};

use crate::{error::Error, output::write_out};

/// The shells that clap knows and we install for.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum For {
    Bash,
    Zsh,
    Fish,
}

/// Writes the script to stdout.
pub(crate) fn completion<Options: CommandFactory>(shell: For) -> Result<(), Error> {
    let shell = match shell {
        For::Bash => Shell::Bash,
        For::Zsh => Shell::Zsh,
        For::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Options::command(), "doorward", &mut script);
    let script = String::from_utf8(script);
    write_out(&script.map_err(|_| Error::Failed("the script is not UTF-8".to_owned()))?)
}
