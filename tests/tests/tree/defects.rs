//! SECURITY.md answers for every defect of the original server and for every target of the study, and the tests
//! that it names are there.

use std::fs;

use crate::source::{root, rust_files};

/// How many defects and targets there are.
const EACH: usize = 34;

/// The rows of the table whose first cells begin with this letter and a number; none is left out.
fn rows(letter: char) -> Vec<String> {
    let text = fs::read_to_string(root().join("SECURITY.md")).expect("SECURITY.md");
    let begin = format!("| {letter}");
    let numbered = |line: &&str| {
        line.strip_prefix(&begin).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let rows: Vec<String> = text.lines().filter(numbered).map(str::to_owned).collect();
    let numbers: Vec<&str> = rows.iter().filter_map(|row| row.split(' ').nth(1)).collect();
    let expected: Vec<String> = (1..=EACH).map(|number| format!("{letter}{number}")).collect();
    assert_eq!(numbers, expected);
    rows
}

/// What stands in backticks in the last column is a test or a transcript.
fn each_test_is_there(rows: &[String]) {
    let root = root();
    let sources: String = rust_files(&root).iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let transcripts: Vec<String> = fs::read_dir(root.join("tests/transcripts"))
        .expect("transcripts")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut missing = Vec::new();
    for row in rows {
        let last = row.trim_end_matches(" |").rsplit('|').next().expect("columns");
        for name in last.split('`').skip(1).step_by(2) {
            let there = if name.ends_with(".txt") {
                transcripts.iter().any(|transcript| transcript == name)
            } else {
                is_a_test(&sources, name)
            };
            if !there {
                missing.push(format!("{name} of {row}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

/// Whether there is a function of this name that is run as a test, and not one that tests call.
fn is_a_test(sources: &str, name: &str) -> bool {
    sources.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        let line = sources[..at].rfind('\n').unwrap_or(0);
        let mut attributes =
            sources[..line].lines().rev().take_while(|line| line.trim_start().starts_with(['#', '/']));
        attributes
            .any(|line| ["#[test]", "#[tokio::test"].iter().any(|test| line.trim_start().starts_with(test)))
    })
}

#[test]
fn a_test_is_told_from_what_tests_call() {
    let sources = "/// x\nfn helper() {}\n\n    #[test]\n    #[ignore]\n    /// y\n    pub fn one() {}\n#[tokio::test(x)]\nasync fn two() {}\n\n#[test]\nfn four() {}";
    let found = ["helper", "one", "two", "three", "four"].map(|name| is_a_test(sources, name));
    assert_eq!(found, [false, true, true, false, true]);
}

#[test]
fn each_defect_of_the_original_is_answered_for() {
    each_test_is_there(&rows('S'));
}

#[test]
fn each_target_names_the_tests_that_show_it() {
    let rows = rows('T');
    for row in &rows {
        assert!(
            row.contains('`') || row.contains("Not"),
            "neither a test nor a word that there is none: {row}"
        );
    }
    each_test_is_there(&rows);
}
