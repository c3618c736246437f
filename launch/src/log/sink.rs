//! From `tracing` events to lines.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::line::Line;
use super::{Level, Settings, time};
use crate::file::{FileError, open_log};
use crate::{Identity, StartError};

/// More of a value than any line shows is not even formatted.
const VALUE_LIMIT: usize = 1024;

pub(super) enum Out {
    Stderr,
    File(LogFile),
    #[cfg(test)]
    Memory(std::sync::Arc<std::sync::Mutex<Vec<u8>>>),
}

/// A file that is opened anew when the old one was moved away.
pub(super) struct LogFile {
    path: PathBuf,
    file: RwLock<File>,
    service: Identity,
}

pub(super) struct Sink {
    pub(super) name: &'static str,
    pub(super) level: AtomicU8,
    pub(super) out: Out,
}

/// The sink of this process, once there is one.
static SINK: OnceLock<Arc<Sink>> = OnceLock::new();

/// The layer around the sink of this process.
struct Installed(Arc<Sink>);

/// Sends every event of this process to where the settings say. Opens the file, so it must run
/// before privileges are dropped; the file is `service`'s, which opens it again later.
pub(crate) fn init(
    name: &'static str,
    settings: &Settings,
    level: Option<Level>,
    service: &Identity,
) -> Result<(), StartError> {
    let out = match &settings.file {
        Some(path) => {
            let file = RwLock::new(open_log(path, service)?);
            Out::File(LogFile { path: path.clone(), file, service: *service })
        }
        None => Out::Stderr,
    };
    let sink = Arc::new(Sink { name, level: AtomicU8::new(level.unwrap_or(settings.level) as u8), out });
    tracing::subscriber::set_global_default(
        tracing_subscriber::registry().with(Installed(Arc::clone(&sink))),
    )
    .map_err(|error| StartError::failed("cannot set up the log", error))?;
    let _ = SINK.set(sink);
    std::panic::set_hook(Box::new(|panic| {
        // The text of a panic may be made from a peer's input or a secret; a literal is not.
        let text = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("");
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line()));
        tracing::error!(critical = true, place, text, "a defect in this program");
    }));
    Ok(())
}

/// Opens the log file by its name again: the old one may have been moved away. On an error the old one
/// is still written.
pub(crate) fn reopen() -> Result<(), FileError> {
    if let Some(Sink { out: Out::File(log), .. }) = SINK.get().map(AsRef::as_ref) {
        let next = open_log(&log.path, &log.service)?;
        *log.file.write().unwrap_or_else(PoisonError::into_inner) = next;
    }
    Ok(())
}

/// From now on this level is logged.
pub(crate) fn set_level(level: Level) {
    if let Some(sink) = SINK.get()
        && sink.level.swap(level as u8, Ordering::Relaxed) != level as u8
    {
        tracing::callsite::rebuild_interest_cache();
    }
}

impl Sink {
    fn level(&self) -> Level {
        match self.level.load(Ordering::Relaxed) {
            0 => Level::Critical,
            1 => Level::Error,
            2 => Level::Warning,
            3 => Level::Info,
            _ => Level::Debug,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let least = match self.level() {
            Level::Critical | Level::Error => tracing::Level::ERROR,
            Level::Warning => tracing::Level::WARN,
            Level::Info => tracing::Level::INFO,
            Level::Debug => tracing::Level::DEBUG,
        };
        // Libraries log what passes through them at their lower levels: headers, frames, tokens.
        let own = metadata.target().starts_with("doorward");
        metadata.is_event()
            && *metadata.level() <= least
            && (own || *metadata.level() <= tracing::Level::WARN)
    }

    fn write(&self, line: &str) {
        // One call, so that lines of several processes do not mix. A log that cannot be written
        // leaves nobody to tell.
        let _ = match &self.out {
            Out::Stderr => std::io::stderr().lock().write_all(line.as_bytes()),
            Out::File(log) => {
                let file = log.file.read().unwrap_or_else(PoisonError::into_inner);
                (&*file).write_all(line.as_bytes())
            }
            #[cfg(test)]
            Out::Memory(lines) => lines.lock().expect("no test panics with it").write_all(line.as_bytes()),
        };
    }
}

impl<S: Subscriber> Layer<S> for Sink {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.level() {
            Level::Critical | Level::Error => LevelFilter::ERROR,
            Level::Warning => LevelFilter::WARN,
            Level::Info => LevelFilter::INFO,
            Level::Debug => LevelFilter::DEBUG,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR if fields.critical => Level::Critical,
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            _ => Level::Debug,
        };
        if level > self.level() {
            return;
        }
        let mut line = Line::new();
        line.own(|text| {
            time::write(text, SystemTime::now())?;
            write!(text, " {level} {}: ", self.name)
        });
        line.message(&fields.message);
        for (key, value) in &fields.rest {
            line.field(key, value);
        }
        self.write(&line.finish());
    }
}

impl<S: Subscriber> Layer<S> for Installed {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&*self.0, metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(&*self.0, metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&*self.0)
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        Layer::<S>::on_event(&*self.0, event, context);
    }
}

#[derive(Default)]
struct Fields {
    critical: bool,
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: impl fmt::Display) {
        let mut text = Bounded(String::new());
        // Bounded ends the formatting early by an error, when it has enough.
        let _ = write!(text, "{value}");
        match field.name() {
            "message" => self.message = text.0,
            name => self.rest.push((name, text.0)),
        }
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "critical" {
            self.critical = value;
        } else {
            self.add(field, value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.add(field, crate::error::chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}

/// A text that takes what has room.
struct Bounded(String);

impl fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            if self.0.len() + c.len_utf8() > VALUE_LIMIT {
                return Err(fmt::Error);
            }
            self.0.push(c);
        }
        Ok(())
    }
}
