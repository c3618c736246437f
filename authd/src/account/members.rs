//! Which of the configured groups a user is in, and what access class that makes.

use std::{cell::Cell, io};

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
    let members = Members::of(directory, user)?;
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
    if access.is_none() && members.contradicted.get() {
        // It would end the sessions of somebody whose groups a full table of descriptors or a broken disk has hidden.
        let what = "the user database lists the user in a group that is not among the user's groups";
        return Err(io::Error::other(what));
    }
    Ok((access, Memberships { class, further, tokens }))
}

fn tokens_of_root(directory: &dyn Directory, groups: &Groups, user: &User) -> io::Result<Vec<String>> {
    if groups.tokens.is_empty() {
        return Ok(Vec::new());
    }
    Members::of(directory, user)?.all(&groups.tokens)
}

/// Which of some groups a user is in.
struct Members<'a> {
    directory: &'a dyn Directory,
    user: &'a User,
    member_of: Vec<u32>,
    /// A group lists the user that is not one of theirs: one of the two answers is wrong.
    contradicted: Cell<bool>,
}

impl<'a> Members<'a> {
    fn of(directory: &'a dyn Directory, user: &'a User) -> io::Result<Self> {
        let member_of = directory.groups_of(user)?;
        Ok(Self { directory, user, member_of, contradicted: Cell::new(false) })
    }

    /// Groups that do not exist are fine: nobody is in them.
    fn has(&self, name: &str) -> io::Result<bool> {
        let Some(group) = self.directory.group_by_name(name)? else { return Ok(false) };
        let has = self.member_of.contains(&group.gid);
        if !has && group.members.contains(&self.user.name) {
            self.contradicted.set(true);
        }
        Ok(has)
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

#[cfg(test)]
mod tests {
    use super::{super::fake::Fake, *};

    fn look(directory: &Fake, name: &str) -> io::Result<Option<Access>> {
        let user = directory.user_by_name(name).expect("answered").expect("known");
        let groups =
            Groups { limited: vec!["operator".into()], further: vec!["staff".into()], ..Groups::default() };
        access(directory, &groups, &user).map(|(access, _)| access)
    }

    #[test]
    fn a_user_whom_a_group_lists_has_lost_no_access_by_a_list_of_groups_without_it() {
        let directory = Fake::new()
            .group("operator", 37)
            .group("staff", 42)
            .user("ann", 1001, 1001, "/bin/sh", &[37])
            .user("bob", 1002, 42, "/bin/sh", &[37]);
        directory.list_members();
        directory.lose_groups(2);
        for _ in 0..2 {
            assert!(look(&directory, "ann").is_err(), "both answers cannot be right");
        }
        assert_eq!(look(&directory, "ann").expect("answered"), Some(Access::Limited));
        // Less than he has, and not nothing.
        directory.lose_groups(1);
        assert_eq!(look(&directory, "bob").expect("answered"), Some(Access::Limited));
        directory.set_groups("ann", &[]);
        assert_eq!(look(&directory, "ann").expect("answered"), None);
    }
}
