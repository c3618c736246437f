//! A TOML file to a configuration, or a sentence that says where it is wrong.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use crate::error::chain;
use crate::file::{FileError, read_config};
use crate::{Misconfigured, StartError};

/// Why a configuration cannot be used, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}{}: {sentence}", path.display(), line.map(|line| format!(":{line}")).unwrap_or_default())]
    Content { path: PathBuf, line: Option<usize>, sentence: String },
}

/// A configuration and where it came from.
pub(crate) struct Loaded<C> {
    pub(crate) config: C,
    pub(crate) source: Source,
}

/// The text of a configuration, which is kept to name lines.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// False when there is no file and every key has its default.
    pub(crate) from_file: bool,
    path: PathBuf,
    text: String,
}

/// Reads `named`, which must exist, or else `default`, which need not.
pub(crate) fn load<C: DeserializeOwned>(
    named: Option<&Path>,
    default: &Path,
) -> Result<Loaded<C>, ConfigError> {
    let path = named.unwrap_or(default);
    let (text, from_file) = match read_config(path) {
        Ok(text) => (text, true),
        Err(error) if named.is_none() && error.is_missing() => (String::new(), false),
        Err(error) => return Err(error.into()),
    };
    let config = parse(&text, path)?;
    Ok(Loaded { config, source: Source { from_file, path: path.to_owned(), text } })
}

/// Reads a table of root's beside the configuration, and checks it; None: there is no such file.
///
/// # Errors
/// With the sentence for whoever has to mend it, with file and line.
pub fn table<F: DeserializeOwned, T>(
    path: &Path,
    check: impl FnOnce(F) -> Result<T, Misconfigured>,
) -> Result<Option<T>, StartError> {
    let failed = |error: ConfigError| StartError::failed("cannot use a table", error);
    match load::<F>(Some(path), path) {
        Ok(loaded) => check(loaded.config).map(Some).map_err(|wrong| failed(loaded.source.locate(&wrong))),
        Err(ConfigError::File(error)) if error.is_missing() => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

fn parse<C: DeserializeOwned>(text: &str, path: &Path) -> Result<C, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Content {
        path: path.to_owned(),
        line: error.span().map(|span| line_of(text, span)),
        sentence: error.message().replace('\n', ", "),
    })
}

impl Source {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// An error in a sentence, with file and line where one key is wrong.
    pub(crate) fn told(&self, error: &StartError) -> String {
        match error {
            StartError::Misconfigured(wrong) => chain(&self.locate(wrong)),
            error => chain(error),
        }
    }

    /// Says on which line the key stands that a check refused.
    pub(crate) fn locate(&self, wrong: &Misconfigured) -> ConfigError {
        let span = wrong.key().and_then(|key| span_of(&self.text, key));
        ConfigError::Content {
            path: self.path.clone(),
            line: span.map(|span| line_of(&self.text, span)),
            sentence: wrong.to_string(),
        }
    }
}

fn line_of(text: &str, span: Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
}

/// Where a dotted key stands, or the table nearest to it.
fn span_of(text: &str, key: &str) -> Option<Range<usize>> {
    let table = DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| *name.get_ref() == part) else { break };
        found = Some(name.span());
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found
}
