//! Whose the sockets must be that authd connects to, looked up while it is root.

use std::{collections::BTreeMap, time::Duration};

use doorward_launch::{Identity, Misconfigured, StartError, account as system_account};

use crate::{
    config::{self, Config},
    plugin,
};

/// Who must listen on certd's socket.
pub(super) fn certd_uid(
    config: &Config,
    service: &Identity,
    gateway: Identity,
) -> Result<Option<u32>, Misconfigured> {
    const KEY: &str = "certd.user";
    if config.certd.socket.as_os_str().is_empty() {
        return Ok(None);
    }
    let certd = system_account::resolve(&config.certd.user).map_err(|failure| {
        Misconfigured::at(KEY, format!("{failure}, or set certd.socket = \"\" if there is no certd"))
    })?;
    if certd.uid == 0 {
        return Err(Misconfigured::at(KEY, "must not be root"));
    }
    // Whoever answers as certd says who logs in.
    if rustix::process::geteuid().is_root() && [service.uid, gateway.uid].contains(&certd.uid) {
        return Err(Misconfigured::at(KEY, "must be another user than authd's and the gateway's"));
    }
    Ok(Some(certd.uid))
}

/// Who must listen on the sockets of plug-in authenticators.
pub(super) fn authenticator_uids(
    config: &Config,
    service: &Identity,
    gateway: Identity,
) -> Result<BTreeMap<String, u32>, Misconfigured> {
    const KEY: &str = "authenticator.user";
    let uid = |entry: &config::Authenticator| {
        let kind = &entry.kind;
        let user = system_account::resolve(&entry.user)
            .map_err(|failure| Misconfigured::at(KEY, format!("of {kind}: {failure}")))?;
        if user.uid == 0 {
            return Err(Misconfigured::at(KEY, format!("of {kind}: must not be root")));
        }
        // A gateway that is taken over would say who somebody is.
        if rustix::process::geteuid().is_root() && [service.uid, gateway.uid].contains(&user.uid) {
            let sentence = format!("of {kind}: must be another user than authd's and the gateway's");
            return Err(Misconfigured::at(KEY, sentence));
        }
        Ok((kind.clone(), user.uid))
    };
    config.authenticator.iter().map(uid).collect()
}

/// What is asked of plug-in authenticators, and whose their sockets must be.
pub(super) fn plugins(
    config: &Config,
    uids: &BTreeMap<String, u32>,
) -> Result<Vec<plugin::Settings>, StartError> {
    let settings = |entry: &config::Authenticator| {
        let uid = uids.get(&entry.kind);
        let uid = uid.ok_or_else(|| Misconfigured::at("authenticator.user", "is not known"))?;
        Ok(plugin::Settings {
            kind: entry.kind.clone(),
            socket: entry.socket.clone(),
            uid: *uid,
            acl_max: entry.acl_max.clone().into(),
            within: Duration::from_secs(entry.seconds.into()),
            concurrent: entry.concurrent,
        })
    };
    config.authenticator.iter().map(settings).collect()
}
