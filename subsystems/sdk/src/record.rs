//! What is recorded of calls: each that writes, each that is refused, and, unless switched off, each that reads.

use doorward_assertion::Caller;
use doorward_launch::Audit;
use doorward_launch::audit::{Event, Record};

/// Takes the records.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    audit: Audit,
    reads: bool,
}

impl Recorder {
    pub(crate) fn new(audit: Audit, reads: bool) -> Recorder {
        Recorder { audit, reads }
    }

    /// A call that is not begun.
    pub(crate) fn refused(&self, caller: Option<&Caller>, action: &str, request: &str, reason: &'static str) {
        let record = of(Event::CallRefused, caller, action, request);
        self.audit.record_bounded(Record { reason: Some(reason), ..record });
    }

    /// A call that begins: what is returned records how it ends, also if it is only dropped.
    pub(crate) fn begun(&self, caller: &Caller, action: &str, request: &str, writes: bool) -> Begun {
        let record = Record { reason: Some("taken-back"), ..of(Event::Call, Some(caller), action, request) };
        Begun { recorder: self.clone(), record, writes }
    }
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Begun {
    recorder: Recorder,
    record: Record,
    writes: bool,
}

impl Begun {
    pub(crate) fn ends(&mut self, reason: &'static str) {
        self.record.reason = Some(reason);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let record = self.record.clone();
        if self.writes {
            // As many as the table of used assertions lets through.
            self.recorder.audit.record(record);
        } else if self.recorder.reads {
            self.recorder.audit.record_bounded(record);
        }
    }
}

fn of(event: Event, caller: Option<&Caller>, action: &str, request: &str) -> Record {
    Record {
        user: caller.map(|caller| caller.user.clone()),
        uid: caller.and_then(|caller| caller.uid),
        session: caller.map(|caller| caller.session.clone()),
        method: caller.map(|caller| caller.method.clone()),
        action: Some(action.to_owned()),
        request: Some(request.to_owned()),
        ..Record::of(event)
    }
}
