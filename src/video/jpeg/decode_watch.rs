//! Reports that a stream cannot be decoded, since the user would otherwise see no reason.

use std::time::{Duration, Instant};

use super::JpegError;

/// Tracks which frames could be decoded.
#[derive(Debug, Default)]
pub struct DecodeWatch {
    /// When decoding began to fail; `None`: the last frame was decoded.
    failing_since: Option<Instant>,
    is_reported: bool,
}

impl DecodeWatch {
    /// Records a decoded frame.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// Records a frame that failed with `error`. Returns a message once, when no frame could be
    /// decoded for a second.
    pub fn failed(&mut self, error: &JpegError, now: Instant) -> Option<String> {
        let since = *self.failing_since.get_or_insert(now);
        if self.is_reported || now.saturating_duration_since(since) < REPORT_DELAY {
            return None;
        }
        self.is_reported = true;
        Some(format!(
            "no picture of this stream can be decoded: {error}; the sender can encode them again: \
             ffmpeg -i INPUT -f yuv4mpegpipe - | udpchat send --source - …"
        ))
    }
}

/// How long decoding must fail before that is reported: single frames may be damaged.
const REPORT_DELAY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::{super::HeaderError, *};
    use crate::clock;

    #[test]
    fn decode_failures_are_reported_once_after_a_second() {
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
