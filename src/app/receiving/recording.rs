//! The recording of a received stream, and what the user is told about it.

use std::sync::Arc;

use anyhow::{Result, bail};

use crate::{
    app::terminal::messages::Messages,
    video::sink::{RecordError, Recorder},
};

/// A recording. Its frames come from another thread.
#[derive(Debug)]
pub(crate) struct Recording {
    recorder: Arc<Recorder>,
    state: State,
}

/// The state of the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// The reader of the pipe has closed it, which is not a failure.
    Ended,
    /// Already reported; what was written is kept.
    Failed,
}

impl Recording {
    pub(crate) fn new(recorder: Arc<Recorder>) -> Self {
        Self { recorder, state: State::Fine }
    }

    /// Whether frames are still recorded.
    pub(crate) fn is_fine(&self) -> bool {
        self.state == State::Fine
    }

    /// Reports the state of the recording. If the recording is the program's only purpose, its end
    /// ends the program: with success if a pipe's reader has closed it, else with an error. Returns
    /// true if the program is to end.
    pub(crate) fn check(&mut self, is_only_purpose: bool, messages: &Messages) -> Result<bool> {
        self.recorder.notes().iter().for_each(|note| messages.info(note));
        let Some(failure) = self.recorder.failure() else { return Ok(false) };
        let is_end = matches!(failure, RecordError::ReaderGone { .. });
        self.state = if is_end { State::Ended } else { State::Failed };
        if !is_only_purpose {
            messages.info(&format!("{failure}; continuing without the recording"));
            return Ok(false);
        }
        if !is_end {
            return Err(failure.into());
        }
        messages.info(&format!("{failure}: stopping"));
        Ok(true)
    }

    /// Ends the recording and reports it.
    pub(crate) fn finish(&self, messages: &Messages) -> Result<()> {
        let finished = self.recorder.finish();
        self.recorder.notes().iter().for_each(|note| messages.info(note));
        match self.state {
            State::Fine => {}
            State::Ended => return Ok(()),
            State::Failed => bail!("the recording is not complete"),
        }
        let summary = match finished {
            Ok(summary) => summary,
            Err(RecordError::ReaderGone { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        messages.info(&format!(
            "recorded {} frames, {:.1} MB{}{}{}",
            summary.frames,
            summary.bytes as f64 / 1e6,
            note(summary.dropped, "dropped, because writing was too slow"),
            note(summary.unread, "skipped, because the pipe had no reader yet"),
            note(summary.damaged, "skipped, because they could not be decoded"),
        ));
        Ok(())
    }
}

fn note(count: u64, what: &str) -> String {
    if count == 0 { String::new() } else { format!(", {count} {what}") }
}
