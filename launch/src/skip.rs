//! Tests that cannot run here say so past the harness's capture, or fail where none may be skipped.

use std::io::Write;

pub(crate) fn because(why: &str) {
    assert!(
        std::env::var_os("DOORWARD_NO_SKIP").is_none(),
        "skipped although DOORWARD_NO_SKIP is set: {why}"
    );
    let _ = std::io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes());
}

pub(crate) fn needs_root() {
    because("this test takes root");
}
