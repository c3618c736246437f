//! Tests that need something which is not there say so; where CI asks for everything they fail.

/// Whether this test may go on as root; says loudly when it may not.
///
/// # Panics
/// Where `DOORWARD_NO_SKIP` is set and the tests do not run as root.
pub fn root(what: &str) -> bool {
    let root = is_root();
    if !root {
        skipped(&format!("{what} needs root: real accounts, other uids"));
    }
    root
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says that a test does not run, and why.
///
/// # Panics
/// Where `DOORWARD_NO_SKIP` is set.
pub fn skipped(why: &str) {
    assert!(
        std::env::var_os("DOORWARD_NO_SKIP").is_none(),
        "skipped although DOORWARD_NO_SKIP is set: {why}"
    );
    // Not println: cargo hides that of tests that pass.
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("SKIPPED: {why}\n").as_bytes());
}

/// Whether the long forms (full counts) are asked for.
pub fn long() -> bool {
    std::env::var_os("DOORWARD_LONG").is_some()
}
