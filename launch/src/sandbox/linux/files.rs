//! Landlock: files by path, TCP, abstract sockets, signals.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::StartError;
use crate::sandbox::{Applied, Confinement, Reach};

/// The rights that are taken are those that this version knows, and no later ones: from version 9 on
/// connecting to a socket by its path is one, and a newer kernel would cut authd from certd.
const KNOWN: ABI = ABI::V6;

pub(in crate::sandbox) fn files(confinement: &Confinement) -> Result<Applied, StartError> {
    let failed = |error| StartError::failed("cannot confine this process by Landlock", error);
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(KNOWN)))
        .and_then(|ruleset| ruleset.scope(scopes()))
        .and_then(Ruleset::create)
        .map_err(failed)?;
    for (path, reach) in &confinement.places {
        // What is missing now has no rule: it stays out of reach, also when it comes later.
        ruleset = ruleset.add_rules(path_beneath_rules([path], rights(*reach))).map_err(failed)?;
    }
    if let Some(address) = confinement.connects {
        let port = NetPort::new(address.port(), AccessNet::ConnectTcp);
        ruleset = ruleset.add_rule(port).map_err(failed)?;
    }
    Ok(match ruleset.restrict_self().map_err(failed)?.ruleset {
        RulesetStatus::FullyEnforced => Applied::Whole,
        RulesetStatus::PartiallyEnforced => Applied::Partly,
        RulesetStatus::NotEnforced => Applied::NotHere,
    })
}

/// Never `Execute`: modules of the user database are mapped, not executed.
fn rights(reach: Reach) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Truncate: an audit record that did not fit the disk is taken back, also in a file that was opened
    // anew after a SIGHUP.
    let append = read | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::Truncate;
    match reach {
        Reach::Read => read,
        Reach::Append => append,
        Reach::Keep => append | AccessFs::RemoveFile,
    }
}

/// Old service managers are told of readiness over an abstract socket; it cannot be opened in advance,
/// because it is told again when the daemon stops.
fn scopes() -> BitFlags<Scope> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(path) if path.as_encoded_bytes().starts_with(b"@") => Scope::Signal.into(),
        _ => Scope::from_all(KNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_may_be_executed_and_logs_may_be_cut_but_not_removed() {
        for reach in [Reach::Read, Reach::Append, Reach::Keep] {
            assert!(!rights(reach).contains(AccessFs::Execute), "{reach:?}");
        }
        assert!(!rights(Reach::Read).intersects(AccessFs::from_write(KNOWN)));
        assert!(rights(Reach::Append).contains(AccessFs::Truncate));
        assert!(!rights(Reach::Append).contains(AccessFs::RemoveFile));
    }
}
