//! Says when nothing of a stream can be decoded: without pictures there is nothing else to see why.

use std::time::{Duration, Instant};

use super::JpegError;

/// Notes which frames could be decoded.
#[derive(Debug, Default)]
pub struct DecodeWatch {
    /// Since when none could be; `None`: the last one could.
    failing_since: Option<Instant>,
    is_said: bool,
}

impl DecodeWatch {
    /// A frame was decoded.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A frame could not be decoded because of `error`. What is to be said of it: once, when that has gone on for a second.
    pub fn failed(&mut self, error: &JpegError, now: Instant) -> Option<String> {
        let since = *self.failing_since.get_or_insert(now);
        if self.is_said || now.saturating_duration_since(since) < PATIENCE {
            return None;
        }
        self.is_said = true;
        Some(format!(
            "no picture of this stream can be decoded: {error}; the sender can encode them again: \
             ffmpeg -i INPUT -f yuv4mpegpipe - | udpchat send --source - …"
        ))
    }
}

/// Single frames may be damaged.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{super::HeaderError, *};
    use crate::clock;

    #[test]
    fn it_is_said_once_after_a_second_without_a_picture() {
        let (mut watch, now) = (DecodeWatch::default(), clock::now());
        let failed = |watch: &mut DecodeWatch, after_ms| {
            let error = HeaderError::Progressive.into();
            watch.failed(&error, now + Duration::from_millis(after_ms))
        };
        assert_eq!(failed(&mut watch, 0), None);
        assert_eq!(failed(&mut watch, 900), None);
        watch.succeeded();
        assert_eq!(failed(&mut watch, 1100), None);
        assert_eq!(failed(&mut watch, 2000), None);
        let said = failed(&mut watch, 2100).expect("a second has passed");
        assert!(said.contains("progressive") && said.contains("ffmpeg"), "{said}");
        assert_eq!(failed(&mut watch, 9000), None);
        watch.succeeded();
        assert_eq!(failed(&mut watch, 9500), None);
        assert!(failed(&mut watch, 10_500).is_some(), "it may happen again");
    }
}
