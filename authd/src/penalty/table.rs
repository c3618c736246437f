//! Who failed how often, and for how long a source is not heard. No I/O, no clock.
//!
//! Times are milliseconds of the clock of sessions; failures are dated to the tenth of a second.

use std::collections::{HashMap, HashSet};

use crate::conversation::SourceKey;

/// Sources that are remembered.
pub(super) const SOURCES_MAX: usize = 65_536;
/// The most failures that the rules may allow in a row.
pub const FAILURES_MAX: usize = 10;
/// Where there are too many sources, this part of them is forgotten at once.
const FORGOTTEN_PART: usize = 64;
/// Changes that are listed one by one; beyond it everything is written anew. Fills 32,768 buckets.
const CHANGES_MAX: usize = 28_672;
const TICK_MS: u64 = 100;

/// When there is a penalty, and how long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So many failures bring one; 0: there are no penalties.
    pub failures: usize,
    /// If they come within this.
    pub within_ms: u64,
    /// The first one.
    pub first_ms: u64,
    /// Each further one is twice as long, up to this. A source that does not fail for so long after its
    /// penalty begins anew.
    pub longest_ms: u64,
}

/// What is known of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Record {
    /// The end of its last penalty; 0: it had none.
    pub(super) until: u64,
    /// Failures since then, in ticks, the oldest first.
    times: [u32; FAILURES_MAX],
    count: u8,
    /// Penalties in a row.
    pub(super) level: u8,
    /// The last failure, in ticks.
    last: u32,
}

/// How a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What is left of its penalty; 0: none.
    pub penalty_ms: u64,
    /// After this it is forgotten unless it fails again; 0: nothing is known of it.
    pub known_ms: u64,
}

/// Why a try may not be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its source is under a penalty.
    Penalised {
        /// For so long.
        left_ms: u64,
    },
    /// If all tries under way failed there would be a penalty: their outcomes come first.
    Busy,
}

/// The sources that failed of late, and the tries that are under way.
#[derive(Debug)]
pub(super) struct Table {
    rules: Rules,
    most: usize,
    records: HashMap<SourceKey, Record>,
    /// As many as there are tries at most, which the callers bound.
    under_way: HashMap<SourceKey, u16>,
    changed: HashSet<SourceKey>,
    all_changed: bool,
}

impl Table {
    /// An empty one. The memory for `most` sources is taken now, so that it is never moved.
    pub(super) fn new(rules: Rules, most: usize) -> Self {
        Self {
            rules: Rules { failures: rules.failures.min(FAILURES_MAX), ..rules },
            most,
            records: HashMap::with_capacity(most),
            under_way: HashMap::new(),
            changed: HashSet::new(),
            all_changed: false,
        }
    }

    /// How a source stands.
    pub(super) fn standing(&self, source: &SourceKey, now: u64) -> Standing {
        let record = self.records.get(source).filter(|_| self.rules.failures > 0);
        record.map_or(Standing { penalty_ms: 0, known_ms: 0 }, |record| record.standing(&self.rules, now))
    }

    /// Begins a try, if one may be made; [`Table::end`] ends it. Together with those that failed there are
    /// never more under way than may fail, so racing makes no further guess.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn begin(&mut self, source: &SourceKey, now: u64) -> Result<(), Refused> {
        if self.rules.failures == 0 {
            return Ok(());
        }
        let record = self.records.get(source);
        let failed = record.map_or(0, |record| record.recent(&self.rules, now).len());
        if let Some(left_ms) = record.map(|record| record.until.saturating_sub(now)).filter(|left| *left > 0)
        {
            return Err(Refused::Penalised { left_ms });
        }
        let under_way = self.under_way.get(source).copied().unwrap_or(0);
        if failed + usize::from(under_way) >= self.rules.failures {
            return Err(Refused::Busy);
        }
        self.under_way.insert(source.clone(), under_way + 1);
        Ok(())
    }

    /// Ends a try. What the source stands like after it, if it failed.
    pub(super) fn end(&mut self, source: &SourceKey, failed: bool, now: u64) -> Option<Standing> {
        if self.rules.failures == 0 {
            return None;
        }
        if let Some(count) = self.under_way.get_mut(source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.under_way.remove(source);
            }
        }
        if !failed {
            return None;
        }
        if self.records.len() >= self.most && !self.records.contains_key(source) {
            self.make_room(now);
        }
        let rules = self.rules;
        let record = self.records.entry(source.clone()).or_default();
        record.fail(&rules, now);
        let standing = record.standing(&rules, now);
        self.note(source.clone());
        Some(standing)
    }

    /// Takes up what was written. What cannot be is cut to what the rules allow.
    pub(super) fn restore(&mut self, source: SourceKey, mut record: Record, now: u64) {
        record.until = record.until.min(now.saturating_add(self.rules.longest_ms));
        record.last = record.last.min(tick(now));
        if self.records.len() < self.most && !record.forgotten(&self.rules, now) {
            self.records.insert(source, record);
        }
    }

    /// Forgets who has not failed for long enough.
    pub(super) fn sweep(&mut self, now: u64) {
        let Self { rules, records, changed, all_changed, .. } = self;
        records.retain(|source, record| {
            let stays = !record.forgotten(rules, now);
            if !stays {
                change(changed, all_changed, source.clone());
            }
            stays
        });
    }

    /// The sources that something is known of.
    pub(super) fn standings(&self, now: u64) -> Vec<(SourceKey, Standing)> {
        let all = self.records.iter();
        all.map(|(source, record)| (source.clone(), record.standing(&self.rules, now)))
            .filter(|(_, standing)| standing.known_ms > 0)
            .collect()
    }

    /// What is to be written: each changed source with its record, or none where it was forgotten. The
    /// flag says that everything else that was written before is void.
    pub(super) fn take_changes(&mut self) -> (Vec<(SourceKey, Option<Record>)>, bool) {
        let changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.all_changed) {
            let all = self.records.iter();
            return (all.map(|(source, record)| (source.clone(), Some(*record))).collect(), true);
        }
        let changes = changed.into_iter().map(|source| {
            let record = self.records.get(&source).copied();
            (source, record)
        });
        (changes.collect(), false)
    }

    /// Everything is to be written: what was taken could not be.
    pub(super) fn write_all(&mut self) {
        self.all_changed = true;
        self.changed = HashSet::new();
    }

    /// Whether there is anything to write.
    pub(super) fn has_changes(&self) -> bool {
        self.all_changed || !self.changed.is_empty()
    }

    /// Whether nothing is known of anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    fn note(&mut self, source: SourceKey) {
        change(&mut self.changed, &mut self.all_changed, source);
    }

    /// Forgets those who have earned the least: who is under no penalty now, had fewer in a row, failed
    /// longer ago. So whoever wants to be rid of a penalty needs a table full of sources with worse ones,
    /// and nobody is ever refused because the table is full.
    fn make_room(&mut self, now: u64) {
        self.sweep(now);
        let surplus = (self.records.len() + (self.most / FORGOTTEN_PART).max(1)).saturating_sub(self.most);
        let mut ranks: Vec<_> = self.records.values().map(|record| record.rank(now)).collect();
        let Some(last) = surplus.checked_sub(1).filter(|last| *last < ranks.len()) else { return };
        let (before, threshold, _) = ranks.select_nth_unstable(last);
        let threshold = *threshold;
        // Of those at the threshold as many as are needed.
        let mut at_threshold = surplus - before.iter().filter(|rank| **rank < threshold).count();
        let Self { records, changed, all_changed, .. } = self;
        records.retain(|source, record| {
            let rank = record.rank(now);
            let goes = rank < threshold || (rank == threshold && at_threshold > 0);
            if rank == threshold && at_threshold > 0 {
                at_threshold -= 1;
            }
            if goes {
                change(changed, all_changed, source.clone());
            }
            !goes
        });
    }
}

fn change(changed: &mut HashSet<SourceKey>, all_changed: &mut bool, source: SourceKey) {
    if *all_changed {
        return;
    }
    changed.insert(source);
    if changed.len() > CHANGES_MAX {
        *changed = HashSet::new();
        *all_changed = true;
    }
}

fn tick(ms: u64) -> u32 {
    u32::try_from(ms / TICK_MS).unwrap_or(u32::MAX)
}

impl Record {
    /// As it was written; none if that cannot have been.
    pub(super) fn from_parts(until: u64, level: u8, last: u32, failed: &[u32]) -> Option<Self> {
        let mut times = [0; FAILURES_MAX];
        times.get_mut(..failed.len())?.copy_from_slice(failed);
        Some(Self { until, times, count: u8::try_from(failed.len()).ok()?, level, last })
    }

    /// The last failure, and those since the last penalty.
    pub(super) fn failures(&self) -> (u32, &[u32]) {
        (self.last, self.times.get(..usize::from(self.count)).unwrap_or_default())
    }

    /// The failures that count.
    fn recent(&self, rules: &Rules, now: u64) -> &[u32] {
        let (_, times) = self.failures();
        let old =
            times.iter().take_while(|time| u64::from(**time) * TICK_MS + rules.within_ms <= now).count();
        times.get(old..).unwrap_or_default()
    }

    fn fail(&mut self, rules: &Rules, now: u64) {
        if self.quiet_since(rules, now) {
            self.level = 0;
        }
        let mut times = [0; FAILURES_MAX];
        let mut count = 0;
        // With one more there are at most `FAILURES_MAX`: at that number the round is over.
        for (place, time) in times.iter_mut().zip(self.recent(rules, now).iter().copied().chain([tick(now)]))
        {
            *place = time;
            count += 1;
        }
        (self.times, self.count, self.last) = (times, count, tick(now));
        if usize::from(count) >= rules.failures {
            self.level = self.level.saturating_add(1);
            let doubled = rules
                .first_ms
                .saturating_mul(1_u64.checked_shl(u32::from(self.level) - 1).unwrap_or(u64::MAX));
            self.until = now.saturating_add(doubled.min(rules.longest_ms));
            (self.times, self.count) = ([0; FAILURES_MAX], 0);
        }
    }

    /// Whether the penalties it had are forgiven.
    fn quiet_since(&self, rules: &Rules, now: u64) -> bool {
        self.level > 0 && now >= self.forgiven(rules)
    }

    fn forgiven(&self, rules: &Rules) -> u64 {
        self.until.max(u64::from(self.last) * TICK_MS).saturating_add(rules.longest_ms)
    }

    fn standing(&self, rules: &Rules, now: u64) -> Standing {
        let failures =
            self.recent(rules, now).last().map_or(0, |last| u64::from(*last) * TICK_MS + rules.within_ms);
        let penalties = if self.level > 0 { self.forgiven(rules) } else { 0 };
        Standing {
            penalty_ms: self.until.saturating_sub(now),
            known_ms: failures.max(penalties).saturating_sub(now),
        }
    }

    fn forgotten(&self, rules: &Rules, now: u64) -> bool {
        self.standing(rules, now).known_ms == 0
    }

    /// The lowest is forgotten first.
    fn rank(&self, now: u64) -> (bool, u8, u32) {
        (self.until > now, self.level, self.last)
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
