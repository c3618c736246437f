//! Manual pages that list what the code lists too.

use std::collections::BTreeSet;
use std::fs;

use crate::source::root;

/// Keys whose change takes a restart, as the table in a service's config.rs says: `TABLE.*` where all of a table do.
fn in_code(table: &str) -> BTreeSet<String> {
    let keys: Vec<(&str, bool)> = table
        .split("(\"")
        .filter_map(|row| row.split_once("\", Takes::"))
        .filter(|(key, _)| !key.contains('"'))
        .map(|(key, takes)| (key, takes.starts_with("Restart")))
        .collect();
    let whole = |table: &str| {
        let mut of_table = keys.iter().filter(|(key, _)| key.split('.').next() == Some(table));
        of_table.all(|(_, restart)| *restart)
    };
    let restart = keys.iter().filter(|(_, restart)| *restart);
    restart
        .map(|(key, _)| match key.split_once('.') {
            Some((table, _)) if whole(table) => table.to_owned(),
            _ => (*key).to_owned(),
        })
        .collect()
}

/// The same as the manual page lists it; a table that has one key may be listed by that.
fn in_manual(page: &str) -> BTreeSet<String> {
    let list = page.split("those whose change takes a restart:\n").nth(1).expect("a list of such keys");
    let end = list.find(" .\n").expect("the list ends with a full stop");
    let words = list[..end].split_whitespace().filter(|word| ![".Ic", ",", "and"].contains(word));
    words.map(|word| word.trim_end_matches(".*").to_owned()).collect()
}

#[test]
fn keys_that_take_a_restart_are_those_that_the_manual_lists() {
    for service in ["gateway", "authd", "certd"] {
        let read =
            |file: String| fs::read_to_string(root().join(&file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let code = in_code(&read(format!("{service}/src/config.rs")));
        let manual = in_manual(&read(format!("docs/man/doorward-{service}.8")));
        let named =
            |key: &String| manual.contains(key) || manual.iter().any(|m| m.split('.').next() == Some(key));
        let missing: Vec<_> = code.iter().filter(|key| !named(key)).collect();
        let known =
            |key: &String| code.contains(key) || key.split('.').next().is_some_and(|t| code.contains(t));
        let invented: Vec<_> = manual.iter().filter(|key| !known(key)).collect();
        assert!(
            missing.is_empty() && invented.is_empty(),
            "doorward-{service}(8) lacks {missing:?}, and lists {invented:?} without need"
        );
    }
}

#[test]
fn a_table_counts_as_a_whole_where_all_of_it_takes_a_restart() {
    let code = r#"("user", Takes::Restart), ("a.b", Takes::Restart), ("a.c", Takes::Restart), ("d.e", Takes::Restart),
        ("d.f", Takes::Reload)"#;
    assert_eq!(in_code(code), ["a", "d.e", "user"].map(str::to_owned).into());
    let page = "x, and those whose change takes a restart:\n.Ic user , a.*\nand\n.Ic d.e .\nMore.\n";
    assert_eq!(in_manual(page), ["a", "d.e", "user"].map(str::to_owned).into());
}
