//! Structured logs on standard error: text for a person at a terminal, JSON lines for a collector.
//!
//! Every line written while a call is served names the call, and so its request id.

use std::io::IsTerminal as _;

use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::{scrub::Scrubbed, served::WithCall};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One readable line per event.
    Text,
    /// One JSON object per line.
    Json,
}

/// Why logging could not begin.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter does not parse.
    #[error(
        "the log filter {0:?} is not understood: {1}; write a level such as info, or \
         tollgate=debug,info"
    )]
    Filter(String, tracing_subscriber::filter::ParseError),
    /// Something else in this process logs already.
    #[error("logging was set up twice in one process")]
    Twice,
}

/// Begins to log to standard error. `filter` is a level or a list of `target=level`.
pub fn begin(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|error| LogError::Filter(filter.to_owned(), error))?;
    let json = match format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let writer = Scrubbed(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let outcome = if json {
        let lines = fmt::format().json().flatten_event(true).with_current_span(false);
        let lines = WithCall::Json(lines.with_span_list(false));
        let fields = fmt::format::JsonFields::new();
        registry
            .with(fmt::layer().fmt_fields(fields).event_format(lines).with_writer(writer))
            .try_init()
    } else {
        let colours = std::io::stderr().is_terminal();
        let lines = WithCall::Text(fmt::format().with_ansi(colours));
        registry.with(fmt::layer().event_format(lines).with_writer(writer)).try_init()
    };
    outcome.map_err(|_| LogError::Twice)?;
    log_panics();
    Ok(())
}

/// A panic becomes a line of the log, with its place, instead of text beside it.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = crate::tasks::panic_message(panic.payload());
        tracing::error!(place, panic = message, "a panic");
    }));
}
