//! SECURITY.md answers for every defect of the original server, and the tests that it names are there.

use std::fs;

use crate::source::{root, rust_files};

/// How many there are.
const DEFECTS: usize = 34;

#[test]
fn each_defect_of_the_original_is_answered_for() {
    let root = root();
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md");
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| S")).collect();
    let numbers: Vec<&str> = rows.iter().filter_map(|row| row.split(' ').nth(1)).collect();
    let expected: Vec<String> = (1..=DEFECTS).map(|number| format!("S{number}")).collect();
    assert_eq!(numbers, expected);

    let sources: String = rust_files(&root).iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let transcripts: Vec<String> = fs::read_dir(root.join("tests/transcripts"))
        .expect("transcripts")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut missing = Vec::new();
    for row in rows {
        // What stands in backticks in the last column is a test or a transcript.
        let last = row.trim_end_matches(" |").rsplit('|').next().expect("columns");
        for name in last.split('`').skip(1).step_by(2) {
            let there = if name.ends_with(".txt") {
                transcripts.iter().any(|transcript| transcript == name)
            } else {
                sources.contains(&format!("fn {name}("))
            };
            if !there {
                missing.push(format!("{name} of {row}"));
            }
        }
    }
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}
