//! The machines of the simulated network.

use std::{net::SocketAddr, time::Instant};

use udpchat::net::{
    session::{CallCounters, Delivered, Endpoint, EndpointConfig, Event, Role},
    units::Bitrate,
    wire::datagram::MAX_DATAGRAM_LEN,
};

use super::FRAME_INTERVAL;

/// One machine of the simulated network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(pub(crate) usize);

/// A machine and its program; `endpoint` is `None` while the program is not running.
pub(super) struct Node {
    id: NodeId,
    pub(super) addr: SocketAddr,
    pub(super) endpoint: Option<Endpoint>,
    max_datagram_len: usize,
    pub(super) listens: bool,
    events: Vec<(Instant, Event)>,
    frames: Vec<(Instant, Delivered)>,
    video: Option<Video>,
    sent_bytes: u64,
    /// Whether its endpoint has to be drained.
    was_called: bool,
}

/// A video source that makes a frame every [`FRAME_INTERVAL`].
struct Video {
    next_at: Instant,
    next_number: u64,
    camera: Camera,
}

/// Returns the length of the next frame in bytes, or `None` to skip it. The argument is the bitrate
/// of pictures that the path can carry, if known.
pub(crate) type Camera = Box<dyn FnMut(Option<Bitrate>) -> Option<usize>>;

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Self {
            id,
            addr: SocketAddr::from(([10, 0, 0, id.0 as u8 + 1], 7722)),
            endpoint: None,
            max_datagram_len: 0,
            listens: false,
            events: Vec::new(),
            frames: Vec::new(),
            video: None,
            sent_bytes: 0,
            was_called: false,
        }
    }

    /// Starts a program. Panics if one is running.
    pub(super) fn start(&mut self, now: Instant, config: EndpointConfig) {
        assert!(self.endpoint.is_none(), "{:?} is running already", self.id);
        self.listens = matches!(config.role, Role::Receive | Role::ChatListen);
        self.max_datagram_len = config.max_datagram_len.unwrap_or(MAX_DATAGRAM_LEN);
        self.endpoint = Some(Endpoint::new(now, config));
    }

    /// Ends the program.
    pub(super) fn kill(&mut self) {
        self.endpoint = None;
        self.listens = false;
        self.video = None;
    }

    /// From now on, asks `camera` for frames. If it replaces another camera, it continues the
    /// numbers.
    pub(super) fn start_camera(&mut self, now: Instant, camera: Camera) {
        let next_number = self.video.as_ref().map_or(0, |v| v.next_number);
        self.video = Some(Video { next_at: now, next_number, camera });
    }

    pub(super) fn stop_video(&mut self) {
        self.video = None;
    }

    /// The number and length of the frame to be pushed by `now`, unless it is skipped.
    pub(super) fn capture(&mut self, now: Instant) -> Option<(u64, usize)> {
        let video = self.video.as_mut().filter(|v| v.next_at <= now)?;
        let number = video.next_number;
        video.next_at += FRAME_INTERVAL;
        video.next_number += 1;
        let bitrate = self.endpoint.as_ref().and_then(|e| e.picture_bitrates().path);
        Some((number, (video.camera)(bitrate)?))
    }

    /// A datagram arrives.
    pub(super) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &mut [u8]) {
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.handle_datagram(now, source, datagram);
            self.was_called = true;
        }
    }

    /// Whether datagrams have arrived since the last call.
    pub(super) fn take_called(&mut self) -> bool {
        std::mem::take(&mut self.was_called)
    }

    /// Counts a datagram of `len` bytes that the endpoint sends.
    pub(super) fn note_sent(&mut self, len: usize) {
        let (id, max) = (self.id, self.max_datagram_len);
        assert!(len <= max, "{id:?} sent {len} bytes, at most {max} are allowed");
        self.sent_bytes += len as u64;
    }

    /// When the endpoint is due.
    pub(super) fn endpoint_due(&self) -> Option<Instant> {
        self.endpoint.as_ref().and_then(Endpoint::poll_timeout)
    }

    /// When the endpoint or the camera is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let camera = self.video.as_ref().map(|v| v.next_at);
        self.endpoint_due().into_iter().chain(camera).min()
    }

    /// Takes back the endpoint, whose datagrams and operations were drained, with its frames and
    /// events, and asserts its contract.
    pub(super) fn put_back(&mut self, now: Instant, mut endpoint: Endpoint) {
        self.frames.extend(std::iter::from_fn(|| endpoint.poll_frame()).map(|f| (now, f)));
        self.events.extend(std::iter::from_fn(|| endpoint.poll_event()).map(|e| (now, e)));
        assert!(
            endpoint.poll_timeout().is_none_or(|at| at > now),
            "{:?} is due in the past after a full drain",
            self.id
        );
        for (_, counters) in endpoint.calls() {
            assert_conserved(&counters);
        }
        self.endpoint = Some(endpoint);
    }

    /// Calls `handle_timeout` of an endpoint that has nothing due; that must have no effect.
    pub(super) fn spurious_timeout(&mut self, now: Instant) {
        let Some(endpoint) = &mut self.endpoint else { return };
        let before = endpoint.poll_timeout();
        if before.is_none_or(|at| at > now) {
            endpoint.handle_timeout(now);
            assert_eq!(endpoint.poll_timeout(), before, "a spurious timeout changed the next");
            assert_eq!(endpoint.poll_output(), None, "a spurious timeout caused an output");
            assert_eq!(endpoint.poll_event(), None, "a spurious timeout caused an event");
        }
    }

    pub(super) fn take_events(&mut self) -> Vec<(Instant, Event)> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn take_frames(&mut self) -> Vec<(Instant, Delivered)> {
        std::mem::take(&mut self.frames)
    }

    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }
}

/// Asserts that every frame seen has exactly one outcome, or is in flight.
fn assert_conserved(counters: &CallCounters) {
    let r = counters.reassembly;
    let with_outcome = r.completed + r.incomplete + r.late + r.damaged;
    assert!(with_outcome <= r.seen && r.seen - with_outcome <= MAX_FRAMES_IN_FLIGHT, "{r:?}");
}

/// The most frames without an outcome: those in the reassembler's slots, and those that it
/// remembers after giving them up.
const MAX_FRAMES_IN_FLIGHT: u64 = 12;

#[test]
fn a_camera_numbers_skipped_frames_too() {
    let now = udpchat::clock::now();
    let mut node = Node::new(NodeId(0));
    assert_eq!((node.capture(now), node.poll_timeout()), (None, None));
    let mut lens = [Some(10), None, Some(30)].into_iter();
    node.start_camera(now, Box::new(move |_| lens.next().flatten()));
    assert_eq!(node.poll_timeout(), Some(now));
    assert_eq!((node.capture(now), node.capture(now)), (Some((0, 10)), None));
    assert_eq!(node.capture(now + FRAME_INTERVAL), None);
    assert_eq!(node.capture(now + 2 * FRAME_INTERVAL), Some((2, 30)));
    node.start_camera(now, Box::new(|_| Some(7)));
    assert_eq!(node.capture(now), Some((3, 7)), "another camera continues the numbers");
}
