//! Looks at the user database that are kept for a moment, for those who ask about the same user again and again.
//!
//! Not for logins. What is kept is an account as it was found, never that there is none; who asks while a look is
//! under way waits for that one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::{Account, Username};

/// Users who are remembered at a time; others are looked up each time.
const USERS: usize = 1024;

/// A look at one user.
#[derive(Debug)]
pub(super) struct Look {
    began: Instant,
    pub(super) found: OnceCell<Arc<Account>>,
}

/// The latest look at each user.
#[derive(Debug)]
pub(super) struct Recent {
    /// From its beginning.
    kept_for: Duration,
    looks: Mutex<HashMap<Username, Arc<Look>>>,
}

impl Recent {
    pub(super) fn new(kept_for: Duration) -> Self {
        Self { kept_for, looks: Mutex::default() }
    }

    /// The look that counts at `now`: one that began a moment ago, or else a new one.
    pub(super) fn look(&self, name: &Username, now: Instant) -> Arc<Look> {
        let mut looks = self.looks();
        let counts = |look: &Arc<Look>| now.saturating_duration_since(look.began) < self.kept_for;
        if let Some(look) = looks.get(name).filter(|look| counts(look)) {
            return Arc::clone(look);
        }
        if looks.len() >= USERS {
            looks.retain(|_, look| counts(look));
        }
        let look = Arc::new(Look { began: now, found: OnceCell::new() });
        if looks.len() < USERS {
            looks.insert(name.clone(), Arc::clone(&look));
        }
        look
    }

    /// What was seen counts no more.
    pub(super) fn forget(&self) {
        self.looks().clear();
    }

    /// No code that holds the lock can leave it half changed, so a panic elsewhere does not matter.
    fn looks(&self) -> MutexGuard<'_, HashMap<Username, Arc<Look>>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Username {
        Username::parse(text.to_owned()).expect("a name")
    }

    #[test]
    fn a_look_counts_for_its_time_from_its_beginning() {
        let recent = Recent::new(Duration::from_secs(1));
        let now = Instant::now();
        let first = recent.look(&name("ann"), now);
        let later = |ms| recent.look(&name("ann"), now + Duration::from_millis(ms));
        assert!(Arc::ptr_eq(&first, &later(999)));
        assert!(!Arc::ptr_eq(&first, &recent.look(&name("bob"), now)));
        assert!(!Arc::ptr_eq(&first, &later(1000)));
    }

    #[test]
    fn what_is_forgotten_counts_no_more() {
        let recent = Recent::new(Duration::from_secs(1));
        let now = Instant::now();
        let first = recent.look(&name("ann"), now);
        recent.forget();
        assert!(!Arc::ptr_eq(&first, &recent.look(&name("ann"), now)));
    }

    #[test]
    fn no_more_than_so_many_are_kept_and_the_old_make_room() {
        let recent = Recent::new(Duration::from_secs(1));
        let now = Instant::now();
        for user in 0..USERS {
            recent.look(&name(&format!("user{user}")), now);
        }
        let over = recent.look(&name("ann"), now);
        assert!(!Arc::ptr_eq(&over, &recent.look(&name("ann"), now)), "it is not kept");
        assert_eq!(recent.looks().len(), USERS);
        let later = now + Duration::from_secs(1);
        let kept = recent.look(&name("ann"), later);
        assert!(Arc::ptr_eq(&kept, &recent.look(&name("ann"), later)));
        assert_eq!(recent.looks().len(), 1);
    }
}
