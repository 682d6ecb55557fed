//! Decodes our own frames, to be shown as the other side sees them.

use std::{sync::Arc, time::Duration};

use log::{debug, warn};

use super::encoded_frame::EncodedFrame;
use crate::{
    clock,
    latest::{Latest, Taken},
    video::{
        image::Image,
        image_pool::ImagePool,
        jpeg::{DecodeWatch, Decoder, OutputFormat},
    },
};

/// An output of a publisher whose frames are decoded on a thread of their own. The thread ends when
/// this is dropped.
#[derive(Debug)]
pub(crate) struct SelfView {
    frames: Latest<EncodedFrame>,
    pictures: Latest<Arc<Image>>,
}

impl SelfView {
    pub(crate) fn start() -> std::io::Result<Self> {
        let view = Self { frames: Latest::new(), pictures: Latest::new() };
        let (frames, pictures) = (view.frames.clone(), view.pictures.clone());
        Decoder::on_a_thread(move |decoder| decode_all(decoder, &frames, &pictures))?;
        Ok(view)
    }

    /// Where the publisher puts its frames.
    pub(crate) fn output(&self) -> Latest<EncodedFrame> {
        self.frames.clone()
    }

    /// The newest picture, in BGR, if it has not been taken yet.
    pub(crate) fn try_take(&self) -> Option<Arc<Image>> {
        self.pictures.try_take()
    }
}

impl Drop for SelfView {
    fn drop(&mut self) {
        self.frames.close();
    }
}

fn decode_all(mut decoder: Decoder, frames: &Latest<EncodedFrame>, pictures: &Latest<Arc<Image>>) {
    let (mut pool, mut watch) = (ImagePool::default(), DecodeWatch::default());
    loop {
        let frame = match frames.take(IDLE_WAIT) {
            Taken::Value(frame) => frame,
            Taken::Nudged | Taken::TimedOut => continue,
            Taken::Closed => break,
        };
        let mut image = pool.reclaim();
        match decoder.decode(frame.data.view().bytes(), OutputFormat::Bgr, &mut image) {
            Ok(()) => {
                watch.succeeded();
                pictures.put(pool.share(image));
            }
            Err(error) => {
                debug!("our own frame is damaged: {error}");
                if let Some(why) = watch.failed(&error, clock::now()) {
                    warn!("{why}");
                }
            }
        }
    }
}

/// Effectively forever: only a frame or the end of the call ends the wait.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::frame::FrameBytes,
        video::{
            image::PixelFormat,
            jpeg::{Encoder, Strips},
        },
    };

    #[test]
    fn our_own_frames_are_decoded() {
        let mut jpeg = Vec::new();
        let mut image = Image::blank(64, 48, PixelFormat::Gray);
        image.data.fill(90);
        Encoder::new(90, Strips::Count(1)).encode(&image, &mut jpeg).expect("encodes");
        let view = SelfView::start().expect("a thread");
        for data in [vec![0; 9], jpeg] {
            let now = clock::now();
            let data = FrameBytes::from(data);
            view.output().put(EncodedFrame { data, captured: now, began: now, ended: now });
        }
        let Taken::Value(picture) = view.pictures.take(Duration::from_secs(20)) else {
            panic!("no picture")
        };
        assert_eq!((picture.size(), picture.data[0]), (image.size(), 90));
    }
}
