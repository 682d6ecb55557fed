//! Whole frames of a stream of JPEGs, from a pipe or a file.

use std::{
    io::{self, BufRead},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Complaints, SourceError};
use crate::video::jpeg::{JpegStream, StreamItem, mend};

/// Whole, mended frames of a stream of JPEGs. What is damaged is dropped, counted, and said.
pub(super) struct JpegReader<R> {
    name: String,
    stream: JpegStream<R>,
    damaged: Arc<AtomicU64>,
    /// Why the last frame was dropped.
    complaint: Option<String>,
    complaints: Complaints,
}

impl<R: BufRead> JpegReader<R> {
    /// `name` is for people; `damaged` counts the frames that are dropped.
    pub(super) fn new(name: &str, reader: R, damaged: Arc<AtomicU64>) -> Self {
        let (name, stream) = (name.to_owned(), JpegStream::new(reader));
        Self { name, stream, damaged, complaint: None, complaints: Complaints::default() }
    }

    /// The next frame, or `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        while let Some(item) = self.stream.next_item()? {
            let complaint = match item {
                StreamItem::Frame(mut frame) | StreamItem::Unended(mut frame) => {
                    match mend(&mut frame) {
                        Ok(()) => return Ok(Some(frame)),
                        Err(error) => error.to_string(),
                    }
                }
                StreamItem::TooLong(len) => format!("a JPEG of {len} bytes is over the limit"),
                StreamItem::Torn(len) => format!("a JPEG breaks off after {len} bytes"),
                StreamItem::Truncated(len) => format!("it ended {len} bytes into a JPEG"),
            };
            self.drop_frame(complaint);
        }
        Ok(None)
    }

    /// Counts a frame that is of no use, and says why.
    fn drop_frame(&mut self, complaint: String) {
        let Self { name, complaints, .. } = self;
        complaints.say(|| format!("{name}: {complaint}; that frame is dropped"));
        self.damaged.fetch_add(1, Ordering::Relaxed);
        self.complaint = Some(complaint);
    }

    /// Why none of them can be used.
    pub(super) fn unusable(&self) -> SourceError {
        let complaint = self.complaint.clone().unwrap_or_else(|| "there is none".into());
        SourceError::PipeJpeg { name: self.name.clone(), complaint }
    }
}
