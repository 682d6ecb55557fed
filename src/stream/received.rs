//! The updates that consumers of a received stream get.

use std::{sync::Arc, time::Instant};

use crate::{
    net::session::Delivered,
    video::{image::Image, jpeg::Concealed},
};

/// An update for a consumer.
#[derive(Clone, Debug)]
pub(crate) enum Update {
    /// A complete frame.
    Frame(Received),
    /// The last picture with the received strips of an incomplete frame.
    Concealed(Arc<Image>, Concealed),
}

/// A complete frame. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) delivered: Arc<Delivered>,
    /// The picture in BGR; `None` if the subscriber does not decode.
    pub(crate) image: Option<Arc<Image>>,
    /// When it left the playout buffer, if frames are held back.
    pub(crate) played: Option<Instant>,
    /// When it was decoded; if it is not decoded, when it was handed out.
    pub(crate) decoded: Instant,
}
