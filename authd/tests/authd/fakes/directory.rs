//! A user database in memory.
//!
//! Included by the unit tests and by the integration tests; the including module has `Directory` and `User`.

// Each including crate uses a part of it.
#![allow(dead_code)]

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Directory, Group, User};

#[derive(Debug, Default)]
struct Content {
    users: Vec<(User, Vec<u32>)>,
    aliases: Vec<(String, String)>,
    groups: Vec<(String, u32)>,
    broken: bool,
    hangs: bool,
    good_for: Duration,
    loses_groups: usize,
    lists_members: bool,
}

/// Users and groups that the test names; clones are the same database. The shells are /bin/sh alone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Content>>, Arc<Condvar>);

impl Fake {
    /// An empty one.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a user with its further groups.
    #[must_use]
    pub(crate) fn user(self, name: &str, uid: u32, gid: u32, shell: &str, groups: &[u32]) -> Self {
        let user = User { name: name.into(), uid, gid, shell: shell.into() };
        self.content().users.push((user, groups.into()));
        self
    }

    /// Adds a group.
    #[must_use]
    pub(crate) fn group(self, name: &str, gid: u32) -> Self {
        self.content().groups.push((name.into(), gid));
        self
    }

    /// Lets a second name find a user.
    #[must_use]
    pub(crate) fn alias(self, alias: &str, name: &str) -> Self {
        self.content().aliases.push((alias.into(), name.into()));
        self
    }

    /// Lets answers be kept for so long; at first they are not kept at all.
    pub(crate) fn is_good_for(&self, time: Duration) {
        self.content().good_for = time;
    }

    /// Answers no question about a user, or all that were asked.
    pub(crate) fn set_hanging(&self, hanging: bool) {
        self.content().hangs = hanging;
        self.1.notify_all();
    }

    /// Fails every question, or no longer.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.content().broken = broken;
    }

    /// Puts a user into these groups and no others.
    pub(crate) fn set_groups(&self, name: &str, groups: &[u32]) {
        for (user, member_of) in &mut self.content().users {
            if user.name == name {
                *member_of = groups.into();
            }
        }
    }

    /// Answers the next so many questions about groups without the further ones, as directories do that cannot reach
    /// their server.
    pub(crate) fn lose_groups(&self, answers: usize) {
        self.content().loses_groups = answers;
    }

    /// Lets entries of groups list their members, as those of files do.
    pub(crate) fn list_members(&self) {
        self.content().lists_members = true;
    }

    /// Removes a user.
    pub(crate) fn remove_user(&self, name: &str) {
        self.content().users.retain(|(user, _)| user.name != name);
    }

    fn find(&self, fits: impl Fn(&User) -> bool) -> io::Result<Option<(User, Vec<u32>)>> {
        let content = self.1.wait_while(self.content(), |content| content.hangs);
        let content = content.unwrap_or_else(PoisonError::into_inner);
        if content.broken {
            return Err(io::Error::other("broken by the test"));
        }
        Ok(content.users.iter().find(|(user, _)| fits(user)).cloned())
    }
}

impl Directory for Fake {
    fn good_for(&self) -> Duration {
        self.content().good_for
    }

    fn user_by_name(&self, name: &str) -> io::Result<Option<User>> {
        let alias = self.content().aliases.iter().find(|(alias, _)| alias == name).cloned();
        let name = alias.as_ref().map_or(name, |(_, name)| name);
        Ok(self.find(|user| user.name == name)?.map(|(user, _)| user))
    }

    fn user_by_uid(&self, uid: u32) -> io::Result<Option<User>> {
        Ok(self.find(|user| user.uid == uid)?.map(|(user, _)| user))
    }

    fn group_by_name(&self, name: &str) -> io::Result<Option<Group>> {
        let content = self.content();
        let Some(gid) = content.groups.iter().find(|(group, _)| group == name).map(|(_, gid)| *gid) else {
            return Ok(None);
        };
        let listed = content.users.iter().filter(|(_, of)| content.lists_members && of.contains(&gid));
        Ok(Some(Group { gid, members: listed.map(|(user, _)| user.name.clone()).collect() }))
    }

    fn groups_of(&self, user: &User) -> io::Result<Vec<u32>> {
        let found = self.find(|candidate| candidate.name == user.name)?;
        let mut content = self.content();
        if let Some(left) = content.loses_groups.checked_sub(1) {
            content.loses_groups = left;
            return Ok(vec![user.gid]);
        }
        Ok(found.map_or_else(Vec::new, |(user, groups)| [vec![user.gid], groups].concat()))
    }

    fn shells(&self) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["/bin/sh".into()])
    }
}
