//! Whole frames of a stream of JPEGs, from a pipe or a file.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Complaints, SourceError, unread::Unread, y4m::HEADER_START};
use crate::video::jpeg::{JpegStream, MAX_JPEG_LEN, StreamItem, mend};

/// Whole, mended frames of a stream of JPEGs. What is damaged is dropped, counted, and said.
pub(super) struct JpegReader {
    name: String,
    stream: JpegStream<Unread>,
    damaged: Arc<AtomicU64>,
    /// Why the last frame was dropped.
    complaint: Option<String>,
    complaints: Complaints,
}

/// What comes next.
pub(super) enum Next {
    /// A frame that any decoder accepts.
    Jpeg(Vec<u8>),
    /// YUV4MPEG2, from its header on.
    Y4m,
    End,
}

impl JpegReader {
    /// `name` is for people; `damaged` counts the frames that are dropped.
    pub(super) fn new(name: &str, reader: Unread, damaged: Arc<AtomicU64>) -> Self {
        let (name, stream) = (name.to_owned(), JpegStream::ending_at(HEADER_START, reader));
        Self { name, stream, damaged, complaint: None, complaints: Complaints::default() }
    }

    /// The next frame that can be used, or what comes instead.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        loop {
            let Some(item) = self.stream.next_item()? else {
                return Ok(if self.stream.is_at_mark() { Next::Y4m } else { Next::End });
            };
            let complaint = match item {
                StreamItem::Frame(mut frame) | StreamItem::Unended(mut frame) => {
                    match mend(&mut frame) {
                        Ok(()) => return Ok(Next::Jpeg(frame)),
                        Err(error) => error.to_string(),
                    }
                }
                StreamItem::TooLong => format!("a JPEG is over the limit of {MAX_JPEG_LEN} bytes"),
                StreamItem::Torn(len) => format!("a JPEG breaks off after {len} bytes"),
                StreamItem::Damaged(error) => error.to_string(),
                StreamItem::Truncated(len) => format!("it ended {len} bytes into a JPEG"),
            };
            self.drop_frame(complaint);
        }
    }

    /// Goes on with another reader.
    pub(super) fn restart(&mut self, reader: Unread) {
        self.stream = JpegStream::ending_at(HEADER_START, reader);
    }

    /// The reader, for what follows the frames.
    pub(super) fn into_inner(self) -> Unread {
        let (front, mut reader) = self.stream.into_parts();
        reader.unread(&front);
        reader
    }

    /// Counts a frame that is of no use, and says why.
    pub(super) fn drop_frame(&mut self, complaint: String) {
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
