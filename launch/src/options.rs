//! The options that every daemon takes.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Arg, ArgAction, CommandFactory, FromArgMatches, Parser};

use crate::log::Level;

const QUESTION: &str = "question";

/// What the command line says.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub(crate) struct Options {
    /// Read the configuration from FILE
    #[arg(short, long, value_name = "FILE")]
    pub(crate) config_file: Option<PathBuf>,

    /// Run as USER (a name or a number) in place of the configured one
    #[arg(short, long, value_name = "USER")]
    pub(crate) user: Option<String>,

    /// Log at level debug
    #[arg(short, long, conflicts_with = "log_level")]
    pub(crate) debug: bool,

    /// Stay in the foreground
    #[arg(short, long)]
    pub(crate) foreground: bool,

    /// Log at LEVEL in place of the configured one
    #[arg(short, long, value_name = "LEVEL", value_enum)]
    pub(crate) log_level: Option<Level>,

    /// Check the configuration, say what is wrong with it, and exit
    #[arg(long)]
    pub(crate) check_config: bool,

    /// Print the configuration as it would be in effect, defaults included, as JSON, and exit
    #[arg(long, conflicts_with = "check_config")]
    pub(crate) show_config: bool,

    /// The program's own question, if it has one.
    #[arg(skip)]
    pub(crate) question: bool,

    /// Stop when stdin comes to its end: for whoever starts it and must not leave it behind
    #[arg(long, hide = true, requires = "foreground")]
    pub(crate) stop_at_eof: bool,

    /// The process in the background, started by the one in the foreground
    #[arg(long, hide = true)]
    pub(crate) detached: bool,
}

impl Options {
    /// Parses; the error prints itself, help and version included.
    pub(crate) fn parse_for(
        name: &'static str,
        default_config: &'static str,
        question: Option<(&'static str, &'static str)>,
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<Options, clap::Error> {
        let mut command = Options::command().name(name).mut_arg("config_file", |arg| {
            arg.help(format!("Configuration FILE [default: {default_config}]"))
        });
        if let Some((option, help)) = question {
            let arg = Arg::new(QUESTION).long(option).help(help).action(ArgAction::SetTrue);
            command = command.arg(arg.conflicts_with_all(["check_config", "show_config"]));
        }
        let matches = command.try_get_matches_from(arguments)?;
        let question = question.is_some() && matches.get_flag(QUESTION);
        Ok(Options { question, ..Options::from_arg_matches(&matches)? })
    }

    /// The level asked for, if any was.
    pub(crate) fn level(&self) -> Option<Level> {
        if self.debug { Some(Level::Debug) } else { self.log_level }
    }

    /// The same options for the process in the background, which starts in `/`.
    pub(crate) fn for_background(&self) -> Result<Vec<OsString>, std::io::Error> {
        let mut arguments: Vec<OsString> = vec!["--detached".into()];
        if let Some(file) = &self.config_file {
            arguments.extend(["--config-file".into(), std::path::absolute(file)?.into()]);
        }
        if let Some(user) = &self.user {
            // One word, so that a value that begins with `-` stays a value.
            arguments.push(format!("--user={user}").into());
        }
        if let Some(level) = self.level() {
            arguments.push(format!("--log-level={level}").into());
        }
        Ok(arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, clap::Error> {
        let all = ["doorward-test"].iter().chain(arguments).map(OsString::from);
        let question = Some(("ask-this", "A question of its own"));
        Options::parse_for("doorward-test", "/etc/doorward/test.toml", question, all)
    }

    #[test]
    fn short_and_long_forms_mean_the_same() {
        for arguments in [
            vec!["-c", "x.toml", "-u", "7", "-f", "-l", "warning"],
            vec!["--config-file=x.toml", "--user=7", "--foreground", "--log-level=warning"],
        ] {
            let options = parse(&arguments).expect("good options");
            assert_eq!(options.config_file, Some("x.toml".into()));
            assert_eq!(options.user.as_deref(), Some("7"));
            assert!(options.foreground);
            assert_eq!(options.level(), Some(Level::Warning));
        }
    }

    #[test]
    fn debug_is_the_level_debug() {
        assert_eq!(parse(&["-d"]).expect("good options").level(), Some(Level::Debug));
        assert_eq!(parse(&[]).expect("good options").level(), None);
    }

    #[test]
    fn a_program_has_its_own_question_and_others_do_not() {
        assert!(parse(&["--ask-this"]).expect("good options").question);
        assert!(!parse(&[]).expect("good options").question);
        assert!(parse(&["--ask-this", "--show-config"]).is_err());
        let all = ["doorward-test", "--ask-this"].map(OsString::from);
        assert!(Options::parse_for("doorward-test", "/etc/doorward/test.toml", None, all).is_err());
    }

    #[test]
    fn usage_errors_exit_with_2_and_help_with_0() {
        for wrong in
            [vec!["-l", "loud"], vec!["--no-such"], vec!["stray"], vec!["-d", "-l", "info"], vec!["-c"]]
        {
            assert_eq!(parse(&wrong).expect_err("must be refused").exit_code(), 2, "{wrong:?}");
        }
        for fine in ["--help", "--version"] {
            assert_eq!(parse(&[fine]).expect_err("answered").exit_code(), 0, "{fine}");
        }
    }

    #[test]
    fn the_background_process_parses_what_it_is_given() {
        let options = parse(&["-c", "x.toml", "-u", "-strange", "-d"]).unwrap_or_else(|_| {
            // clap takes `-u -strange` for two options; the joined form is the one for such names.
            parse(&["-c", "x.toml", "--user=-strange", "-d"]).expect("good options")
        });
        let again = options.for_background().expect("a current directory");
        let again: Vec<&str> = again.iter().map(|word| word.to_str().expect("ASCII")).collect();
        let again = parse(&again).expect("parses");
        assert!(again.detached && !again.foreground);
        assert!(again.config_file.expect("given").is_absolute());
        assert_eq!(again.user.as_deref(), Some("-strange"));
        assert_eq!(again.log_level, Some(Level::Debug));
    }
}
