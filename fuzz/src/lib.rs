//! One function for each parser of what strangers send. Whatever the bytes, it returns; what it asserts holds for all
//! of them.
//!
//! The tests below feed them with good input, changed at random; `make fuzz` lets libFuzzer look for what they miss
//! (`libfuzzer/`, which is built by another compiler mode and so is a workspace of its own).

mod dialects;
mod keys;
mod peers;
mod tokens;

#[cfg(test)]
mod mutate;

use std::str;

/// A parser, and input that it takes or nearly takes, from which others are made.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name for `make fuzz`.
    pub name: &'static str,
    /// Reads one input; whether it was taken.
    pub run: fn(&[u8]) -> bool,
    /// Where to begin.
    pub seeds: &'static [&'static [u8]],
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "envelope", run: dialects::envelope, seeds: dialects::ENVELOPES },
    Target { name: "channel", run: dialects::channel, seeds: dialects::CHANNELS },
    Target { name: "http", run: dialects::http, seeds: dialects::HTTP },
    Target { name: "forwarded", run: dialects::forwarded, seeds: dialects::FORWARDED },
    Target { name: "acl", run: tokens::acl, seeds: tokens::ACLS },
    Target { name: "jwt", run: tokens::jwt, seeds: tokens::JWTS },
    Target { name: "assertion", run: tokens::assertion, seeds: tokens::ASSERTIONS },
    Target { name: "args", run: tokens::args, seeds: tokens::ARGS },
    Target { name: "key", run: keys::key, seeds: keys::KEYS },
    Target { name: "certificate", run: keys::certificate, seeds: keys::CERTIFICATES },
    Target { name: "proof", run: keys::proof, seeds: keys::PROOFS },
    Target { name: "messages", run: peers::messages, seeds: peers::MESSAGES },
    Target { name: "netlink", run: peers::netlink, seeds: peers::NETLINK },
    Target { name: "redis", run: peers::redis, seeds: peers::REDIS },
    Target { name: "config", run: peers::config, seeds: peers::CONFIGS },
];

/// Runs the target of this name.
///
/// # Panics
/// There is none.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let _taken = (target.unwrap_or_else(|| panic!("no target {name}")).run)(input);
}

/// The parts of an input that NUL separates, as text; what is no text is empty.
fn texts(input: &[u8]) -> impl Iterator<Item = &str> {
    input.split(|byte| *byte == 0).map(|part| str::from_utf8(part).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// How many inputs of each target: the study asks for a million at each change.
    fn inputs() -> usize {
        if std::env::var_os("DOORWARD_LONG").is_some() { 1_000_000 } else { 20_000 }
    }

    #[test]
    fn no_input_that_is_nearly_good_makes_a_parser_panic() {
        for Target { name, run, seeds } in TARGETS {
            let taken = seeds.iter().filter(|seed| run(seed)).count();
            assert!(taken > 0, "{name}: nothing that is fed to it is good");
            for seed in *seeds {
                for end in 0..seed.len() {
                    run(seed.get(..end).unwrap_or_default());
                }
            }
            // Shown with a failure: which target it was.
            println!("{name}");
            let mut mutations = mutate::Mutations::new(name, seeds);
            for _ in 0..inputs() {
                run(mutations.next());
            }
        }
    }

    #[test]
    fn libfuzzer_has_the_same_targets() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer");
        let files: BTreeSet<String> = fs::read_dir(here.join("fuzz_targets"))
            .expect("targets")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().replace(".rs", ""))
            .collect();
        let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
        assert_eq!(files, names);
        let manifest: toml::Table =
            fs::read_to_string(here.join("Cargo.toml")).expect("there").parse().expect("TOML");
        let programs: BTreeSet<String> = manifest["bin"]
            .as_array()
            .expect("programs")
            .iter()
            .map(|program| program["name"].as_str().expect("a name").to_owned())
            .collect();
        assert_eq!(programs, names);
    }
}
