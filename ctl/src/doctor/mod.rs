//! `doorward doctor`: is everything on this host as the services need it, and if not, what mends it.
//!
//! `facts` is what was seen, `gather` sees it, `checks` judges it. The services judge their own files:
//! `--show-config` is run, so that there is one reader of each file.

mod checks;
mod facts;
mod gather;

use std::{path::PathBuf, process::ExitCode};

use serde_json::json;

use crate::{
    error::Error,
    output::{Output, printable, write_out},
    program::CONFIG_DIR,
};
use checks::{Finding, Grade, examine};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The directory of gateway.toml, authd.toml and certd.toml
    #[arg(long, value_name = "DIR", default_value = CONFIG_DIR)]
    config_dir: PathBuf,
    /// The PAM service file, if it is not the one of this system
    #[arg(long, value_name = "FILE")]
    pam_service: Option<PathBuf>,
}

/// Looks and tells. 0: nothing to mend; 1: warnings; 2: errors.
pub(crate) async fn run(options: Options, output: Output) -> Result<ExitCode, Error> {
    let facts = gather::gather(&options).await?;
    let findings = examine(&facts);
    if output.json {
        let list: Vec<_> = findings
            .iter()
            .map(|Finding { grade, place, what, mend }| {
                json!({ "grade": grade.word(), "where": place, "what": what, "mend": mend })
            })
            .collect();
        write_out(&format!("{}\n", json!({ "root": facts.root, "findings": list })))?;
    } else {
        write_out(&told(&findings, facts.root))?;
    }
    let worst = findings.iter().map(|finding| finding.grade).min();
    Ok(ExitCode::from(match worst {
        Some(Grade::Error) => 2,
        Some(Grade::Warning) => 1,
        Some(Grade::Unseen) | None => 0,
    }))
}

fn told(findings: &[Finding], root: bool) -> String {
    let mut text = String::new();
    for Finding { grade, place, what, mend } in findings {
        let (place, what, mend) = (printable(place), printable(what), printable(mend));
        text.push_str(&format!("{:<8} {place}: {what}\n{:<8} {mend}\n", grade.word(), ""));
    }
    let count = |wanted| findings.iter().filter(|finding| finding.grade == wanted).count();
    let (errors, warnings) = (count(Grade::Error), count(Grade::Warning));
    if errors + warnings > 0 {
        text.push_str(&format!("{errors} to mend, {warnings} to look at\n"));
    } else {
        text.push_str("nothing to mend\n");
    }
    if !root {
        text.push_str("this was not run as root, so not everything could be looked at\n");
    }
    text
}
