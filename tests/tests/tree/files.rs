//! What every source file owes its reader, and where unsafe code may be.

use std::fs;
use std::path::Path;

use crate::source::{code, root, rust_files, words};

/// The one place for unsafe code: our own PAM declarations.
const UNSAFE_ALLOWED: &str = "third_party/pam-sys/";
/// Longer files hold more than one subject; tests are lists, and may be longer.
const LINES_MAX: usize = 450;
const TEST_LINES_MAX: usize = 600;

fn each_file(check: impl Fn(&str, &str) -> Option<String>) {
    let root = root();
    let files = rust_files(&root);
    assert!(files.len() > 20, "only {} files found: looked in the wrong place?", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let name = file.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
        let text = fs::read_to_string(&file).unwrap_or_else(|e| panic!("{name}: {e}"));
        wrong.extend(check(&name, &text).map(|what| format!("{name}: {what}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn generated(name: &str) -> bool {
    name.starts_with("proto/src/generated/")
}

#[test]
fn unsafe_code_is_in_pam_sys_only() {
    each_file(|name, text| {
        if name.starts_with(UNSAFE_ALLOWED) {
            return None;
        }
        let code = code(text);
        let found = words(&code).into_iter().find(|(_, word)| *word == "unsafe");
        found.map(|(line, _)| format!("line {line}: unsafe"))
    });
}

#[test]
fn each_unsafe_block_says_why_it_is_sound() {
    each_file(|name, text| {
        if !name.starts_with(UNSAFE_ALLOWED) {
            return None;
        }
        let code = code(text);
        let lines: Vec<&str> = text.lines().collect();
        let words = words(&code);
        let blocks = words.windows(2).filter(|pair| pair[0].1 == "unsafe" && pair[1].1 == "{");
        let bare = blocks.map(|pair| pair[0].0).find(|line| {
            // The reason stands in the comment lines right above the statement, or on the line itself.
            let above = lines[..line - 1].iter().rev().take(8);
            !above.chain([&lines[line - 1]]).any(|l| l.contains("SAFETY:") || l.contains("Sound"))
        });
        bare.map(|line| format!("line {line}: an unsafe block without a `SAFETY:` comment"))
    });
}

#[test]
fn each_file_opens_by_saying_what_it_is_for() {
    each_file(|name, text| {
        let first = text.lines().next().unwrap_or_default();
        let says = first.strip_prefix("//! ").is_some_and(|text| text.len() > 3);
        (!generated(name) && !says).then(|| format!("opens with {first:?}, not with a `//!` line"))
    });
}

#[test]
fn no_file_is_long() {
    each_file(|name, text| {
        let lines = text.lines().count();
        let test = name.contains("/tests/") || name.ends_with("/tests.rs");
        let most = if test { TEST_LINES_MAX } else { LINES_MAX };
        (!generated(name) && lines > most).then(|| format!("{lines} lines, at most {most}"))
    });
}

#[test]
fn each_crate_takes_the_lints_of_the_workspace() {
    let root = root();
    let workspace = manifest(&root.join("Cargo.toml"));
    let lints = &workspace["workspace"]["lints"]["rust"];
    assert_eq!(lints["unsafe_code"].as_str(), Some("forbid"));
    assert_eq!(lints["missing_docs"].as_str(), Some("warn"));
    let members = workspace["workspace"]["members"].as_array().expect("members");
    for member in members.iter().filter_map(toml::Value::as_str) {
        let manifest = manifest(&root.join(member).join("Cargo.toml"));
        if member != UNSAFE_ALLOWED.trim_end_matches('/') {
            assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{member}/Cargo.toml");
        }
    }
}

fn manifest(path: &Path) -> toml::Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
