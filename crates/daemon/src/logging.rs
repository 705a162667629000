//! Log lines in the formats that users of the originals know: klog text (kubelet PROC-50), JSON
//! (PROC-51) and logrus text (cri-dockerd BLD-09).
//!
//! One layer filters, formats and writes. A line is one `write(2)`; a standard error that is closed
//! or broken loses lines (counted in [`lost_lines`]) and never ends the daemon.
//!
//! Verbosity as upstream's `--v` (PROC-52): 0 to 3 show `info`, 4 adds `debug`, 5 and more add
//! `trace`. A field `v` on an event asks for a verbosity of its own: `info!(v = 3, …)` is shown
//! from `--v=3` on. Libraries beneath us (HTTP, gRPC) say what they say at `warn`, more from
//! `--v=8` on.

mod json;
mod klog;
mod logrus;
mod record;
#[cfg(test)]
mod tests;
mod vmodule;

use std::{
    fmt,
    io::{self, Write as _},
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter, span};
use tracing_core::Interest;
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
    registry::LookupSpan,
};

pub(crate) use crate::quote::quote;
use record::{Fields, Record};
pub use vmodule::{Vmodule, VmoduleError};

/// How a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `I0102 15:04:05.000000    1234 file.rs:10] "message" key="value"`.
    #[default]
    Klog,
    /// One JSON object per line.
    Json,
    /// `time="..." level=info msg="..." key=value`.
    Logrus,
}

/// What to log and how.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// The format of a line.
    pub format: Format,
    /// Upstream's `--v`.
    pub verbosity: u32,
    /// Verbosity by source file.
    pub vmodule: Vmodule,
}

/// Logging was set up before.
#[derive(Debug, thiserror::Error)]
#[error("logging is already set up in this process")]
pub struct InitError;

/// Where lines go.
pub trait Sink: Send + Sync + 'static {
    /// Writes one whole line, its end included.
    ///
    /// # Errors
    /// When the line is lost.
    fn write_line(&self, line: &[u8]) -> io::Result<()>;
}

/// Standard error.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Sink for Stderr {
    fn write_line(&self, line: &[u8]) -> io::Result<()> {
        // Unbuffered: one write(2) unless the kernel takes only a part.
        io::stderr().lock().write_all(line)
    }
}

static LOST: AtomicU64 = AtomicU64::new(0);

/// Lines that could not be written since the start of the process.
pub fn lost_lines() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// Sets up logging to standard error for the whole process.
///
/// # Errors
/// When it was set up before.
pub fn init(config: Config) -> Result<Handle, InitError> {
    let (layer, handle) = layer(config, Stderr);
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
        .map_err(|_| InitError)?;
    Ok(handle)
}

/// The layer behind [`init`], for a subscriber of one's own.
pub fn layer<W: Sink>(config: Config, sink: W) -> (LogLayer<W>, Handle) {
    let state = Arc::new(State {
        verbosity: AtomicU32::new(config.verbosity),
        vmodule: RwLock::new(config.vmodule),
    });
    let layer = LogLayer {
        format: config.format,
        state: Arc::clone(&state),
        sink,
    };
    (layer, Handle { state })
}

/// Changes the verbosity of running logs.
#[derive(Debug, Clone)]
pub struct Handle {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    verbosity: AtomicU32,
    vmodule: RwLock<Vmodule>,
}

impl Handle {
    /// The verbosity now.
    pub fn verbosity(&self) -> u32 {
        self.state.verbosity.load(Ordering::Relaxed)
    }

    /// Changes it at once, as `PUT /debug/flags/v` does.
    pub fn set_verbosity(&self, verbosity: u32) {
        self.state.verbosity.store(verbosity, Ordering::Relaxed);
        tracing_core::callsite::rebuild_interest_cache();
    }

    /// Replaces the verbosities by source file.
    pub fn set_vmodule(&self, vmodule: Vmodule) {
        *self
            .state
            .vmodule
            .write()
            .unwrap_or_else(PoisonError::into_inner) = vmodule;
        tracing_core::callsite::rebuild_interest_cache();
    }
}

/// Targets of libraries that say much and mean it for their own developers.
const FOREIGN: [&str; 12] = [
    "bollard",
    "h2",
    "hickory_net",
    "hickory_proto",
    "hickory_resolver",
    "hyper",
    "hyper_util",
    "mio",
    "rustls",
    "tokio",
    "tonic",
    "tower",
];

impl State {
    /// The verbosity that holds for a place in the source.
    fn verbosity_at(&self, metadata: &Metadata<'_>) -> u32 {
        let general = self.verbosity.load(Ordering::Relaxed);
        let vmodule = self.vmodule.read().unwrap_or_else(PoisonError::into_inner);
        vmodule
            .verbosity(metadata.file().unwrap_or_default())
            .unwrap_or(general)
    }

    fn level_at(&self, metadata: &Metadata<'_>) -> LevelFilter {
        let verbosity = self.verbosity_at(metadata);
        let root = metadata.target().split("::").next().unwrap_or_default();
        if FOREIGN.contains(&root) {
            match verbosity {
                0..=7 => LevelFilter::WARN,
                8 => LevelFilter::INFO,
                9 => LevelFilter::DEBUG,
                _ => LevelFilter::TRACE,
            }
        } else {
            level(verbosity)
        }
    }

    fn highest_level(&self) -> LevelFilter {
        let vmodule = self.vmodule.read().unwrap_or_else(PoisonError::into_inner);
        level(
            vmodule
                .highest()
                .unwrap_or(0)
                .max(self.verbosity.load(Ordering::Relaxed)),
        )
    }
}

fn level(verbosity: u32) -> LevelFilter {
    match verbosity {
        0..=3 => LevelFilter::INFO,
        4 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// Filters, formats and writes; see the module.
pub struct LogLayer<W> {
    format: Format,
    state: Arc<State>,
    sink: W,
}

impl<W> fmt::Debug for LogLayer<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogLayer")
            .field("format", &self.format)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl<W: Sink, S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer<W> {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        // Answers are remembered per place until `Handle` changes something.
        if *metadata.level() <= self.state.level_at(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        *metadata.level() <= self.state.level_at(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.state.highest_level())
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = ctx.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        if let Some(span) = ctx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: Context<'_, S>) {
        let metadata = event.metadata();
        let mut own = Fields::default();
        event.record(&mut own);
        let asked = own.verbosity();
        if asked.is_some_and(|asked| asked > self.state.verbosity_at(metadata)) {
            return;
        }
        // What the line itself says wins over what a span around it says, and an inner span over
        // an outer one.
        let mut fields = Fields::default();
        for span in ctx
            .event_scope(event)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .iter()
            .rev()
        {
            if let Some(inherited) = span.extensions().get::<Fields>() {
                fields.merge(inherited.clone());
            }
        }
        let message = own.take_message();
        fields.merge(own);

        let record = Record {
            level: *metadata.level(),
            verbosity: asked.unwrap_or_else(|| implied_verbosity(*metadata.level())),
            now: jiff::Zoned::now(),
            file: file_name(metadata.file().unwrap_or("unknown")),
            line: metadata.line().unwrap_or(0),
            message: &message,
            fields: fields.as_slice(),
        };
        let mut line = Vec::with_capacity(256);
        match self.format {
            Format::Klog => klog::render(&record, &mut line),
            Format::Json => json::render(&record, &mut line),
            Format::Logrus => logrus::render(&record, &mut line),
        }
        if self.sink.write_line(&line).is_err() {
            LOST.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The lowest `--v` that shows a level.
fn implied_verbosity(level: Level) -> u32 {
    match level {
        Level::TRACE => 5,
        Level::DEBUG => 4,
        _ => 0,
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
