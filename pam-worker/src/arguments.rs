//! The command line that the guard gives.

use std::ffi::OsString;

use rustix::process::Pid;

/// What the guard tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// The PAM service: letters, digits, `-` and `_`, since it becomes a file name.
    pub(crate) service: String,
    /// Who must be the parent.
    pub(crate) guard: Pid,
}

/// `None` for `--version`.
pub(crate) fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Option<Arguments>, &'static str> {
    let mut service = None;
    let mut guard = None;
    while let Some(name) = arguments.next() {
        let slot = match name.to_str() {
            Some("--version") => return Ok(None),
            Some("--service") => &mut service,
            Some("--guard-pid") => &mut guard,
            _ => return Err("unknown option"),
        };
        let value = arguments.next().ok_or("an option without its value")?;
        let value = value.into_string().map_err(|_| "a value that is no text")?;
        if slot.replace(value).is_some() {
            return Err("an option is given twice");
        }
    }
    let service =
        service.filter(|name| is_service_name(name)).ok_or("--service needs letters, digits, - and _")?;
    let guard = guard.as_deref().and_then(pid).ok_or("--guard-pid needs a number")?;
    Ok(Some(Arguments { service, guard }))
}

fn is_service_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().filter(|&pid: &i32| pid > 0).and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Arguments>, &'static str> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_guards_command_line_is_understood() {
        let guard = Pid::from_raw(77).expect("not 0");
        let expected = Arguments { service: "doorward".to_owned(), guard };
        assert_eq!(parsed("--service doorward --guard-pid 77"), Ok(Some(expected)));
        assert_eq!(parsed("--version"), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for line in [
            "",
            "--service doorward",
            "--guard-pid 77",
            "--service doorward --guard-pid 0",
            "--service doorward --guard-pid -1",
            "--service doorward --guard-pid x",
            "--service doorward --guard-pid",
            "--service ../other --guard-pid 77",
            "--service -x --guard-pid 77",
            "--service a --service b --guard-pid 77",
            "--user root",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
