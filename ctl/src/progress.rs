//! How far a call has come, on stderr: a bar on a terminal, else a line for each message.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::output::{Output, json_text, printable, shortened};

/// A server may tell more often than anybody can read.
const PAUSE: Duration = Duration::from_millis(50);
/// A line on stderr is cut here.
const LINE_MAX: usize = 1_000;
/// Of the bar itself, without its ends.
const BAR: usize = 30;
/// If the terminal does not know how wide it is.
const WIDTH: usize = 80;

/// What was shown so far.
pub(crate) struct Progress {
    json: bool,
    /// There is a terminal that can draw.
    draws: bool,
    /// The line of the bar, and when it was drawn.
    drawn: Option<Instant>,
}

/// What a message says of how much is done.
#[derive(Debug, PartialEq)]
struct Share {
    percent: f64,
    text: String,
}

impl Share {
    /// `percent`, or `done` of `total`; and a `message`, if there is one.
    fn of(args: &Value) -> Option<Self> {
        let number = |name: &str| args.get(name).and_then(Value::as_f64);
        let of_total = || {
            let (done, total) = (number("done")?, number("total")?);
            (total > 0.0).then(|| done / total * 100.0)
        };
        let percent = number("percent").or_else(of_total)?;
        let text = args.get("message").and_then(Value::as_str).unwrap_or_default();
        let text = printable(&text.chars().take(LINE_MAX).collect::<String>());
        (0.0..=100.0).contains(&percent).then_some(Self { percent, text })
    }

    /// A line of at most this many characters.
    fn bar(&self, width: usize) -> String {
        // Both are between 0 and BAR.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let full = (self.percent / 100.0 * BAR as f64) as usize;
        let line = format!(
            "[{}{}] {:3.0}% {}",
            "#".repeat(full),
            "-".repeat(BAR - full.min(BAR)),
            self.percent.floor(),
            self.text
        );
        shortened(line.trim_end(), width)
    }
}

impl Progress {
    pub(crate) fn new(output: Output) -> Self {
        let able = std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { json: output.json, draws: able && std::io::stderr().is_terminal(), drawn: None }
    }

    /// Shows one message. Nobody to tell it to is no reason to stop.
    pub(crate) fn show(&mut self, args: &Value) {
        let mut stderr = std::io::stderr().lock();
        if self.json {
            let _ = writeln!(stderr, "{}", json_text(&json!({ "progress": args })));
            return;
        }
        match Share::of(args).filter(|_| self.draws) {
            Some(share) => {
                let early = self.drawn.is_some_and(|then| then.elapsed() < PAUSE) && share.percent < 100.0;
                if !early {
                    let size = rustix::termios::tcgetwinsize(&stderr);
                    let width = size.map_or(WIDTH, |size| usize::from(size.ws_col));
                    // A line that is full would wrap.
                    let width = if width == 0 { WIDTH } else { width } - 1;
                    let _ = write!(stderr, "\r{}\u{1b}[K", share.bar(width));
                    self.drawn = Some(Instant::now());
                }
            }
            None => {
                drop(stderr);
                self.clear();
                let line = shortened(&printable(&args.to_string()), LINE_MAX);
                let _ = writeln!(std::io::stderr(), "progress: {line}");
            }
        }
    }

    /// Leaves the line of the bar to what comes next.
    pub(crate) fn clear(&mut self) {
        if self.drawn.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_or_a_part_of_a_total() {
        let percent = |args: Value| Share::of(&args).map(|share| share.percent);
        assert_eq!(percent(json!({"percent": 45})), Some(45.0));
        assert_eq!(percent(json!({"percent": 0.5, "done": 3, "total": 4})), Some(0.5));
        assert_eq!(percent(json!({"done": 3, "total": 4})), Some(75.0));
        for args in [
            json!({}),
            json!(45),
            json!({"percent": "45"}),
            json!({"percent": -1}),
            json!({"percent": 100.1}),
            json!({"percent": 1e300}),
            json!({"done": 1}),
            json!({"done": 0, "total": 0}),
            json!({"done": 5, "total": 4}),
            json!({"done": 1, "total": -4}),
            json!({"done": 1e308, "total": 1e-308}),
        ] {
            assert_eq!(percent(args.clone()), None, "{args}");
        }
    }

    #[test]
    fn a_bar_fits_its_line() {
        let share = |percent, text: &str| Share { percent, text: text.to_owned() };
        let half = format!("[{}{}]  50% reading", "#".repeat(15), "-".repeat(15));
        assert_eq!(share(50.0, "reading").bar(79), half);
        assert!(share(0.0, "").bar(79).ends_with("-]   0%"));
        assert!(share(100.0, "").bar(79).ends_with("#] 100%"));
        assert!(share(99.99, "").bar(79).ends_with("  99%"));
        assert_eq!(share(50.0, &"x".repeat(200)).bar(79).chars().count(), 79);
        assert_eq!(share(50.0, "x").bar(1).chars().count(), 1);
        assert_eq!(share(50.0, "x").bar(0), "");
    }
}
