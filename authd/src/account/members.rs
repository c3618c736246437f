//! Which of the configured groups a user is in, and what access class that makes.

use std::io;

use super::{Access, Directory, Groups, Memberships, User};

pub(super) fn access(
    directory: &dyn Directory,
    groups: &Groups,
    user: &User,
) -> io::Result<(Option<Access>, Memberships)> {
    // root is let in also by a database whose groups fail: somebody must mend it. Then nothing is added.
    if user.uid == 0 {
        let tokens = tokens_of_root(directory, groups, user).unwrap_or_default();
        return Ok((Some(Access::Full), Memberships { tokens, ..Memberships::default() }));
    }
    let member_of = directory.groups_of(user)?;
    let members = Members { directory, member_of };
    let tokens = members.all(&groups.tokens)?;
    if let Some(class) = members.first(&groups.full)? {
        // Full access is everything: further entries add nothing.
        return Ok((
            Some(Access::Full),
            Memberships { class: Some(class), tokens, ..Memberships::default() },
        ));
    }
    let (class, further) = (members.first(&groups.limited)?, members.all(&groups.further)?);
    let access = (class.is_some() || !further.is_empty()).then_some(Access::Limited);
    Ok((access, Memberships { class, further, tokens }))
}

fn tokens_of_root(directory: &dyn Directory, groups: &Groups, user: &User) -> io::Result<Vec<String>> {
    if groups.tokens.is_empty() {
        return Ok(Vec::new());
    }
    Members { directory, member_of: directory.groups_of(user)? }.all(&groups.tokens)
}

/// Which of some groups a user is in.
struct Members<'a> {
    directory: &'a dyn Directory,
    member_of: Vec<u32>,
}

impl Members<'_> {
    /// Groups that do not exist are fine: nobody is in them.
    fn has(&self, name: &str) -> io::Result<bool> {
        Ok(self.directory.group_by_name(name)?.is_some_and(|gid| self.member_of.contains(&gid)))
    }

    fn first(&self, names: &[String]) -> io::Result<Option<String>> {
        for name in names {
            if self.has(name)? {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    fn all(&self, names: &[String]) -> io::Result<Vec<String>> {
        let mut found = Vec::new();
        for name in names {
            if self.has(name)? {
                found.push(name.clone());
            }
        }
        Ok(found)
    }
}
