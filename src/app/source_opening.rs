//! Opening a source during the handshake.

use std::time::Duration;

use anyhow::{Context, Result};
use log::info;

use super::terminal::messages::Messages;
use crate::{
    cli::{Rate, args::EncodingArgs},
    latest::{Latest, Taken},
    net::wire::control::StreamParams,
    stream::{adaptation::Quality, encode::stream_params, stop_flag::StopFlag},
    threads::spawn,
    video::source::{Source, SourceError, SourceOptions, SourceSpec, is_local_opencv_source},
};

/// A source that may still be opening.
pub(crate) enum SourceOpening {
    Open(Box<Source>),
    /// Opening on a thread: a camera, or a file for which OpenCV is loaded.
    Opening(Latest<Result<Source, SourceError>>),
}

impl SourceOpening {
    /// Opens the source, and waits for it. Loading OpenCV for a camera or a file takes a tenth of a
    /// second; for these, waits only until the most common failures are known, so that they are
    /// reported before the user is asked anything. Call this before catching Ctrl-C, which must end
    /// the program at once even while a pipe or a URL is silent.
    pub(crate) fn start(
        spec: &SourceSpec,
        args: &EncodingArgs,
        messages: &Messages,
    ) -> Result<Self> {
        let (spec, options) = (spec.clone(), options(args));
        let limit = if is_local_opencv_source(&spec) { QUICK } else { Duration::MAX };
        let opened = Latest::new();
        let result = opened.clone();
        spawn("open", move || drop(result.put(Source::open(&spec, &options))))
            .context("cannot open the source")?;
        match opened.take(limit) {
            Taken::Value(result) => Ok(Self::Open(Box::new(introduced(result?, messages)))),
            _ => Ok(Self::Opening(opened)),
        }
    }

    /// The parameters of its stream, if it is open.
    pub(crate) fn stream_params(&self, quality: Quality) -> Option<StreamParams> {
        match self {
            Self::Open(source) => Some(stream_params(source.info(), quality)),
            Self::Opening(_) => None,
        }
    }

    /// Waits until the source is open. `None` if asked to stop first.
    pub(crate) fn wait(self, stop: &StopFlag, messages: &Messages) -> Result<Option<Source>> {
        let opened = match self {
            Self::Open(source) => return Ok(Some(*source)),
            Self::Opening(opened) => opened,
        };
        while !stop.is_requested() {
            if let Taken::Value(result) = opened.take(STOP_CHECK_INTERVAL) {
                return Ok(Some(introduced(result?, messages)));
            }
        }
        Ok(None)
    }
}

/// Opens a source.
pub(crate) fn open_source(
    spec: &SourceSpec,
    args: &EncodingArgs,
    messages: &Messages,
) -> Result<Source> {
    Ok(introduced(Source::open(spec, &options(args))?, messages))
}

/// Logs the source's description, and prints its notes.
fn introduced(source: Source, messages: &Messages) -> Source {
    info!("{}", source.info().description);
    for note in &source.info().notes {
        messages.info(note);
    }
    source
}

fn options(args: &EncodingArgs) -> SourceOptions {
    SourceOptions {
        size: args.size,
        fps: match args.fps {
            Some(Rate::PerSecond(fps)) => Some(fps),
            Some(Rate::Max) | None => None,
        },
        unpaced: args.fps == Some(Rate::Max),
        once: args.once,
        quality: match args.quality {
            Quality::Fixed(quality) => Some(quality),
            Quality::Auto => None,
        },
        gray: args.gray,
    }
}

/// Long enough to find that a file or camera is missing.
const QUICK: Duration = Duration::from_millis(10);

const STOP_CHECK_INTERVAL: Duration = Duration::from_millis(50);
