//! Which uids the services run under.

use std::{collections::BTreeSet, fs, ops::RangeInclusive, os::unix::fs::MetadataExt};

use nix::unistd::{Gid, Group, Uid, User};

use crate::error::Error;

/// The range that systemd keeps for users that exist only while a service runs: no person and no
/// package has one of these.
const UNUSED: RangeInclusive<u32> = 61_184..=65_519;

/// Under whom one service runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Its entry in the password database; a number that nobody uses has none.
    pub(super) name: Option<String>,
}

/// Who runs what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Accounts {
    pub(super) guard: Account,
    pub(super) certd: Account,
    pub(super) authd: Account,
    pub(super) sysinfo: Account,
    pub(super) gateway: Account,
}

impl Accounts {
    /// Whether a break-in of one service stays with that service.
    pub(super) fn separated(&self) -> bool {
        let services = [&self.guard, &self.certd, &self.authd, &self.sysinfo, &self.gateway];
        let uids = services.map(|account| account.uid);
        BTreeSet::from(uids).len() == uids.len()
    }

    /// One for all.
    pub(super) fn all(one: &Account) -> Self {
        let [guard, certd, authd, sysinfo, gateway] = [(); 5].map(|()| one.clone());
        Self { guard, certd, authd, sysinfo, gateway }
    }

    /// For root: the packaged accounts, and unused numbers in place of those that are missing. For
    /// anybody else: oneself. `kept` are the uids that own what an earlier run left.
    pub(super) fn choose(kept: [Option<u32>; 4]) -> Result<Self, Error> {
        let me = Account { uid: Uid::effective().as_raw(), gid: Gid::effective().as_raw(), name: None };
        if me.uid != 0 {
            return Ok(Self::all(&me));
        }
        let busy = running_uids();
        let taken = |uid| {
            busy.contains(&uid)
                || !matches!(User::from_uid(Uid::from_raw(uid)), Ok(None))
                || !matches!(Group::from_gid(Gid::from_raw(uid)), Ok(None))
        };
        let mut chosen = BTreeSet::new();
        let mut choose = |name: &str, kept| {
            let account = match named(name)? {
                Some(account) => account,
                None => unused(kept, &mut |uid| chosen.contains(&uid) || taken(uid))?,
            };
            chosen.insert(account.uid);
            Ok::<_, Error>(account)
        };
        let [certd, authd, sysinfo, gateway] = kept;
        let certd = choose("doorward-certd", certd)?;
        let authd = choose("doorward-authd", authd)?;
        let sysinfo = choose("doorward-sysinfo", sysinfo)?;
        let gateway = choose("doorward-gateway", gateway)?;
        let accounts = Self { guard: me, certd, authd, sysinfo, gateway };
        if !accounts.separated() {
            return Err(Error::Failed(
                "the accounts doorward-certd, doorward-authd, doorward-sysinfo and doorward-gateway must have \
                 uids of their own, not root's"
                    .to_owned(),
            ));
        }
        Ok(accounts)
    }
}

fn named(name: &str) -> Result<Option<Account>, Error> {
    let user = User::from_name(name)
        .map_err(|error| Error::Failed(format!("cannot look up the account {name}: {error}")))?;
    Ok(user.map(|user| Account { uid: user.uid.as_raw(), gid: user.gid.as_raw(), name: Some(user.name) }))
}

/// A uid that is nobody's: the one of the earlier run if that is still free, else the first free one
/// from a place that differs between two runs side by side.
fn unused(kept: Option<u32>, taken: &mut dyn FnMut(u32) -> bool) -> Result<Account, Error> {
    let size = UNUSED.end() - UNUSED.start() + 1;
    let start = std::process::id().wrapping_mul(2) % size;
    let numbers = (0..size).map(|step| UNUSED.start() + (start + step) % size);
    kept.into_iter()
        .filter(|uid| UNUSED.contains(uid))
        .chain(numbers)
        .find(|uid| !taken(*uid))
        .map(|uid| Account { uid, gid: uid, name: None })
        .ok_or_else(|| Error::Failed(format!("no unused uid from {} to {}", UNUSED.start(), UNUSED.end())))
}

/// The uids that processes have now, as far as /proc tells.
fn running_uids() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| entry.metadata().ok())
        .map(|metadata| metadata.uid())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unused_uid_is_in_the_range_and_not_taken() {
        let first = unused(None, &mut |_| false).expect("all are free");
        assert!(UNUSED.contains(&first.uid));
        assert_eq!((first.gid, first.name), (first.uid, None));
        let second = unused(None, &mut |uid| uid == first.uid).expect("one is taken");
        assert!(UNUSED.contains(&second.uid) && second.uid != first.uid);
        let last = unused(None, &mut |uid| uid != 65_519).expect("one is free");
        assert_eq!(last.uid, 65_519);
        assert!(unused(None, &mut |_| true).is_err());
    }

    #[test]
    fn the_uid_of_an_earlier_run_is_taken_again_if_it_is_free() {
        assert_eq!(unused(Some(61_200), &mut |_| false).expect("free").uid, 61_200);
        assert_ne!(unused(Some(61_200), &mut |uid| uid == 61_200).expect("others are free").uid, 61_200);
    }

    #[test]
    fn what_is_no_uid_of_ours_is_never_taken_again() {
        for uid in [0, 1, 1000, 65_520, 65_534, u32::MAX] {
            assert_ne!(unused(Some(uid), &mut |_| false).expect("free").uid, uid);
        }
    }

    #[test]
    fn services_with_one_uid_are_not_separated() {
        let account = |uid| Account { uid, gid: uid, name: None };
        let accounts = |[guard, certd, authd, sysinfo, gateway]: [u32; 5]| Accounts {
            guard: account(guard),
            certd: account(certd),
            authd: account(authd),
            sysinfo: account(sysinfo),
            gateway: account(gateway),
        };
        assert!(accounts([0, 1, 2, 3, 4]).separated());
        for together in [
            [0, 0, 2, 3, 4],
            [0, 1, 0, 3, 4],
            [0, 1, 2, 0, 4],
            [0, 1, 2, 3, 0],
            [0, 1, 1, 2, 3],
            [0, 2, 1, 2, 3],
            [0, 1, 2, 3, 3],
            [5, 5, 5, 5, 5],
        ] {
            assert!(!accounts(together).separated());
        }
    }

    #[test]
    fn nothing_chosen_for_root_is_root() {
        let accounts = Accounts::choose([Some(0); 4]).expect("accounts");
        if Uid::effective().is_root() {
            assert!(
                accounts.separated()
                    && accounts.certd.uid != 0
                    && accounts.authd.uid != 0
                    && accounts.sysinfo.uid != 0
                    && accounts.gateway.uid != 0
            );
        } else {
            assert!(!accounts.separated());
        }
    }
}
