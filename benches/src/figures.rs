//! The committed figures, and what became worse since.
//!
//! One ratio for each comparison with a floor: CPU for each operation, product/floor. It is the one figure that
//! holds on another machine; throughput and latencies are for people.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::PathBuf};

/// CPU ratios by the name of what was compared.
pub(crate) type Figures = BTreeMap<String, f64>;

/// How much worse is named. On two cores two runs of one build can differ by more (docs/benchmarks.md).
const WORSE: f64 = 1.15;

fn path() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/figures.toml"))
}

/// Those that are committed.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(crate) fn committed() -> io::Result<Figures> {
    let text = fs::read_to_string(path()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("no figures are recorded: `run all --record` does it"),
        _ => error,
    })?;
    toml::from_str(&text).map_err(io::Error::other)
}

/// Writes new ones down; those of other rows stay.
///
/// # Errors
/// When the file cannot be read or written.
pub(crate) fn record(new: &Figures) -> io::Result<()> {
    let mut all = if path().exists() { committed()? } else { Figures::new() };
    all.extend(new.iter().map(|(name, ratio)| (name.clone(), *ratio)));
    let mut text = String::from(
        "# CPU for each operation, product/floor, as `doorward-bench run ... --record` measured it. docs/benchmarks.md\n",
    );
    for (name, ratio) in all {
        let _ = writeln!(text, "\"{name}\" = {ratio:.3}");
    }
    fs::write(path(), text)
}

/// What is worse than it was, as sentences; and what nobody has recorded.
pub(crate) fn worse(committed: &Figures, now: &Figures) -> Vec<String> {
    let judged = |(name, ratio): (&String, &f64)| match committed.get(name) {
        None => Some(format!("{name}: {ratio:.2}, and no figure is recorded")),
        Some(before) if *ratio > before * WORSE => {
            Some(format!("{name}: {ratio:.2}, it was {before:.2}: WORSE"))
        }
        Some(_) => None,
    };
    now.iter().filter_map(judged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(list: &[(&str, f64)]) -> Figures {
        list.iter().map(|(name, ratio)| ((*name).to_owned(), *ratio)).collect()
    }

    #[test]
    fn a_row_is_named_from_fifteen_percent_on_or_when_nobody_knows_it() {
        let before = figures(&[("query", 1.00), ("head", 1.20), ("gone", 1.0)]);
        assert_eq!(worse(&before, &figures(&[("query", 1.149), ("head", 0.5)])), Vec::<String>::new());
        let named = worse(&before, &figures(&[("query", 1.16), ("head", 1.37), ("new", 0.1)]));
        assert_eq!(named, ["new: 0.10, and no figure is recorded", "query: 1.16, it was 1.00: WORSE"]);
    }

    #[test]
    fn a_file_is_read_as_it_is_written() {
        let read: Figures = toml::from_str("\"rsa 1,000 keys\" = 1.020\n").expect("TOML");
        assert_eq!(read, figures(&[("rsa 1,000 keys", 1.02)]));
    }
}
