//! The calls of an endpoint: which of them a message belongs to, and whose turn it is to send.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::net::{
    congestion::bitrates::PictureBitrates,
    frame::{FrameId, FramePrefix, OutgoingFrame, PartialFrame, SessionId},
    framing::packetizer::ChunkCache,
    link::PeerAddr,
    route::Route,
    session::{CallCounters, CallId, ConnId, call::Call, control::ControlChannel, outbound::Burst},
    units::Bitrate,
    wire::{
        control::{CloseReason, StreamParams},
        text::Line,
    },
};

/// Every current call, and what is remembered of those that have ended. A datagram belongs to the
/// call with its session, control bytes to the call with their connection.
#[derive(Debug)]
pub(super) struct Calls {
    current: Vec<Call>,
    /// One past the index of the call that sent last.
    next_transmitter: usize,
    /// The hashes and parity that calls share when they send the same frame.
    chunk_cache: ChunkCache,
    ended: EndedCalls,
}

/// What is remembered of ended calls.
#[derive(Debug, Default)]
struct EndedCalls {
    /// The sum of their counters.
    counters: CallCounters,
    /// The last sessions with a control channel, oldest first.
    sessions: VecDeque<SessionId>,
    /// The highest sequence number of all sealed sessions without a control channel.
    newest_one_way: Option<u64>,
}

impl Calls {
    pub(super) fn new() -> Self {
        Self {
            current: Vec::new(),
            next_transmitter: 0,
            chunk_cache: ChunkCache::new(),
            ended: EndedCalls::default(),
        }
    }

    /// Adds a call. Returns its index.
    pub(super) fn push(&mut self, call: Call) -> usize {
        self.current.push(call);
        self.current.len() - 1
    }

    /// Removes a call that ends, and remembers its session. The last call takes over its index.
    pub(super) fn remove(&mut self, index: usize) -> Call {
        let call = self.current.swap_remove(index);
        self.ended.count(&call);
        self.ended.remember(&call);
        call
    }

    /// Removes every call, when the endpoint closes.
    pub(super) fn take_all(&mut self) -> Vec<Call> {
        let calls = std::mem::take(&mut self.current);
        for call in &calls {
            self.ended.count(call);
        }
        calls
    }

    pub(super) fn len(&self) -> usize {
        self.current.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Call> {
        self.current.iter()
    }

    /// The call at an index below [`len`](Self::len).
    pub(super) fn at(&mut self, index: usize) -> &mut Call {
        &mut self.current[index]
    }

    pub(super) fn of_id(&mut self, id: CallId) -> Option<&mut Call> {
        self.current.iter_mut().find(|call| call.id == id)
    }

    pub(super) fn index_of_id(&self, id: CallId) -> Option<usize> {
        self.current.iter().position(|call| call.id == id)
    }

    /// The index of the call whose datagrams bear `session`.
    pub(super) fn of_session(&self, session: SessionId) -> Option<usize> {
        self.current.iter().position(|call| call.session() == session)
    }

    /// The index of the call whose control connection is `conn`.
    pub(super) fn of_conn(&self, conn: ConnId) -> Option<usize> {
        let is_own = |control: &ControlChannel| control.conn() == conn;
        self.current.iter().position(|call| call.control.as_ref().is_some_and(is_own))
    }

    /// Whether `session` had a control channel and ended recently.
    pub(super) fn has_ended(&self, session: SessionId) -> bool {
        self.ended.sessions.contains(&session)
    }

    /// The highest sequence number received in any sealed session without a control channel,
    /// current or ended.
    pub(super) fn newest_one_way(&self) -> Option<u64> {
        let current = self.current.iter().filter_map(one_way_sequence);
        self.ended.newest_one_way.into_iter().chain(current).max()
    }

    /// The control channels of the calls that have one.
    pub(super) fn controls_mut(&mut self) -> impl Iterator<Item = &mut ControlChannel> {
        self.current.iter_mut().filter_map(|call| call.control.as_mut())
    }

    /// Sends `frame` to every receiver. In each call the newest frame wins. A pending call takes one
    /// frame, if no call is accepted.
    pub(super) fn push_frame(&mut self, now: Instant, frame: &OutgoingFrame) {
        let (any_reached, any_accepted) =
            (self.active().any(Call::is_reached), self.any_accepted());
        let shared = self.chunk_cache.share(frame.clone(), self.current.len());
        for call in &mut self.current {
            if !call.is_pending() {
                call.push_frame(now, shared.clone(), any_reached);
            } else if !any_accepted {
                call.push_early(now, shared.clone());
            }
        }
    }

    fn any_accepted(&self) -> bool {
        self.current.iter().any(|call| !call.is_pending())
    }

    /// The calls that frames are encoded for: those that are accepted, or if none is, those that
    /// may send a first frame.
    fn active(&self) -> impl Iterator<Item = &Call> {
        let any_accepted = self.any_accepted();
        let waits = move |call: &Call| call.is_held() || any_accepted && call.is_pending();
        self.current.iter().filter(move |call| !waits(call))
    }

    /// Sends `line` to every peer. Returns how many peers have a control channel for it.
    pub(super) fn push_text(&mut self, line: &Line) -> usize {
        self.current.iter_mut().filter_map(|call| call.push_text(line).then_some(())).count()
    }

    /// Whether any receiver will take another frame; true without receivers.
    pub(super) fn wants_frame(&self) -> bool {
        let mut receivers = self.active().filter_map(Call::wants_frame).peekable();
        receivers.peek().is_none() || receivers.any(|wants| wants)
    }

    /// Whether a frame waits behind another one at every receiver; false without receivers.
    pub(super) fn has_waiting_frame(&self) -> bool {
        let mut receivers = self.active().filter_map(Call::has_waiting_frame).peekable();
        receivers.peek().is_some() && receivers.all(|waits| waits)
    }

    /// Tells the sender of call `id` that we have taken its frame.
    pub(super) fn push_taken(&mut self, id: CallId, frame: FrameId, waited: Duration) {
        if let Some(call) = self.current.iter_mut().find(|call| call.id == id) {
            call.push_taken(frame, waited);
        }
    }

    /// Announces the parameters of our stream to every peer.
    pub(super) fn push_stream(&mut self, stream: StreamParams) {
        self.current.iter_mut().for_each(|call| call.push_stream(stream));
    }

    pub(super) fn say_goodbye(&mut self, reason: CloseReason) {
        self.current.iter_mut().for_each(|call| call.say_goodbye(reason));
    }

    /// Writes at most `max_datagrams` datagrams to the head of `buf`. The calls take turns.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<(Route, Burst)> {
        let count = self.current.len();
        for turn in 0..count {
            let index = (self.next_transmitter + turn) % count;
            let cache = &mut self.chunk_cache;
            let sent = self.current[index].poll_transmit(now, cache, buf, max_datagrams);
            if sent.is_some() {
                self.next_transmitter = index + 1;
                return sent;
            }
        }
        None
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.current.iter().filter_map(Call::poll_timeout).min()
    }

    /// The bitrates available for pictures to every receiver that is reached, or to every receiver
    /// if none is.
    pub(super) fn picture_bitrates(&self) -> PictureBitrates {
        let any_reached = self.active().any(Call::is_reached);
        let calls = self.active().filter(|call| !any_reached || call.is_reached());
        calls.map(Call::picture_bitrates).fold(PictureBitrates::default(), PictureBitrates::min)
    }

    /// Whether any of our video goes to another machine.
    pub(super) fn sends_off_host(&self) -> bool {
        self.active().any(Call::sends_off_host)
    }

    /// Whether any frame, or part of one, is still to be sent.
    pub(super) fn is_sending(&self) -> bool {
        self.current.iter().any(Call::is_sending)
    }

    /// The contiguous prefix of the newest frame that is still arriving, of the first call that has
    /// one.
    pub(super) fn newest_prefix(&self) -> Option<(CallId, FramePrefix<'_>)> {
        self.current.iter().find_map(|call| Some((call.id, call.newest_prefix()?)))
    }

    /// The newest frame that is partial by `now`, of the first call that has one.
    pub(super) fn poll_partial(&mut self, now: Instant) -> Option<(CallId, PartialFrame)> {
        self.current.iter_mut().find_map(|call| Some((call.id, call.poll_partial(now)?)))
    }

    /// When a partial frame will be available.
    pub(super) fn partial_due(&self) -> Option<Instant> {
        self.current.iter().filter_map(Call::partial_due).min()
    }

    /// Handles the local refusal of a datagram. Returns false if no call sends shorter ones now.
    pub(super) fn handle_refused(
        &mut self,
        now: Instant,
        to: PeerAddr,
        len: usize,
        fits: Option<usize>,
    ) -> bool {
        // Every call to that address learns the length.
        let is_changed =
            self.current.iter_mut().map(|call| call.handle_refused(now, to, len, fits));
        is_changed.fold(false, |any, is_changed| any | is_changed)
    }

    /// Handles an ICMP message which says that a router on the way to `to` forwards only datagrams
    /// of up to `len` bytes.
    pub(super) fn handle_too_big(&mut self, now: Instant, to: PeerAddr, len: usize) {
        self.current.iter_mut().for_each(|call| call.handle_too_big(now, to, len));
    }

    /// A peer to which the speed of our interface is to be looked up now, if there is one.
    pub(super) fn take_lookup(&mut self) -> Option<PeerAddr> {
        self.current.iter_mut().find_map(Call::take_lookup)
    }

    /// Sets the speed of our interface to `to`, if it is known.
    pub(super) fn handle_link_speed(&mut self, now: Instant, to: PeerAddr, speed: Option<Bitrate>) {
        self.current.iter_mut().for_each(|call| call.handle_link_speed(now, to, speed));
    }

    /// Sets how many datagrams our kernel has dropped so far.
    pub(super) fn set_kernel_drops(&mut self, drops: u64) {
        self.current.iter_mut().for_each(|call| call.kernel_drops = drops);
    }

    /// The counters of all calls, including those that have ended.
    pub(super) fn totals(&self) -> CallCounters {
        self.current.iter().map(Call::counters).fold(self.ended.counters, CallCounters::plus)
    }
}

impl EndedCalls {
    fn count(&mut self, call: &Call) {
        self.counters = self.counters.plus(call.counters());
    }

    fn remember(&mut self, call: &Call) {
        self.newest_one_way = self.newest_one_way.max(one_way_sequence(call));
        if call.is_controlled() {
            self.sessions.push_back(call.session());
            if self.sessions.len() > ENDED_REMEMBERED {
                self.sessions.pop_front();
            }
        }
    }
}

/// The highest sequence number received in `call`, if it is sealed and has no control channel.
fn one_way_sequence(call: &Call) -> Option<u64> {
    (call.is_sealed() && !call.is_controlled()).then(|| call.newest_sequence())
}

/// How many ended sessions are remembered, so that their last datagrams in flight are not taken for
/// those of a new sender.
const ENDED_REMEMBERED: usize = 8;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::net::{
        crypto::{
            keys::{Identity, SharedSecret},
            seal::{MediaSecrets, ONE_WAY_CIPHER},
        },
        session::{EndpointConfig, Peer, Role, call::CallParts, outbound::Outbound},
        time::MediaClock,
        wire::datagram::{Direction, Kind, Prelude},
    };

    fn session(number: u32) -> SessionId {
        SessionId::new(number).unwrap()
    }

    fn addr(number: u32) -> SocketAddr {
        ([127, 0, 0, 1], number as u16).into()
    }

    /// The parts of a call without a control channel, with this id, session and port.
    fn parts(now: Instant, number: u32) -> CallParts {
        let addr = addr(number);
        CallParts {
            id: CallId(number.into()),
            peer: Peer { name: None, addr, key: None },
            media_addr: Some(addr),
            control: None,
            is_controlled: false,
            outbound: Outbound::clear(session(number), Direction::FromDialler),
            opener: None,
            clock: MediaClock::starting(now),
            sends: None,
            probed_len: None,
            seed: 1,
            receives: None,
            same_machine_epoch: None,
            stream: None,
        }
    }

    fn sender(now: Instant, number: u32) -> Call {
        let config = EndpointConfig::new("ann", Role::Receive, Identity::from_bytes([1; 32]), now);
        let sends = Some(config.sender_without_feedback());
        Call::new(now, CallParts { sends, ..parts(now, number) })
    }

    fn controlled(now: Instant, number: u32, conn: u64) -> Call {
        let control = Some(ControlChannel::accept(now, ConnId(conn)));
        Call::new(now, CallParts { control, is_controlled: true, ..parts(now, number) })
    }

    /// A call without a control channel that has received sealed datagram `sequence`.
    fn sealed(now: Instant, number: u32, sequence: u64) -> Call {
        let (key, session) = (SharedSecret::from_bytes([7; 32]), session(number));
        let keys = |direction, sent, received| {
            let secrets = MediaSecrets::shared(&key, session);
            secrets.into_keys(direction, ONE_WAY_CIPHER, sent, received)
        };
        let (sealer, _) = keys(Direction::FromDialler, sequence, 0);
        let mut peer = Outbound::sealed(session, Direction::FromDialler, sealer, sequence);
        let mut datagram = [0; 200];
        let Burst { len, .. } = peer.emit(Kind::Video, 40, &mut datagram, |_| ());
        let (sealer, opener) = keys(Direction::FromAnswerer, 0, sequence);
        let outbound = Outbound::sealed(session, Direction::FromAnswerer, sealer, 0);
        let opener = Some(opener);
        let mut call = Call::new(now, CallParts { outbound, opener, ..parts(now, number) });
        let prelude = Prelude::read(&datagram[..len]).unwrap();
        call.handle_sealed(now, addr(number).into(), &prelude, &mut datagram[..len]);
        assert_eq!((call.newest_sequence(), call.counters().forged), (sequence, 0));
        call
    }

    #[test]
    fn messages_are_routed_by_session_and_connection() {
        let now = crate::clock::now();
        let mut calls = Calls::new();
        assert_eq!(calls.push(controlled(now, 1, 10)), 0);
        assert_eq!(calls.push(sender(now, 2)), 1);
        assert_eq!(calls.push(controlled(now, 3, 30)), 2);
        assert_eq!(calls.of_session(session(3)), Some(2));
        assert_eq!((calls.of_conn(ConnId(30)), calls.of_conn(ConnId(20))), (Some(2), None));
        calls.remove(0);
        assert_eq!((calls.of_session(session(1)), calls.of_conn(ConnId(10))), (None, None));
        assert_eq!((calls.of_session(session(3)), calls.of_conn(ConnId(30))), (Some(0), Some(0)));
        assert_eq!(calls.of_id(CallId(2)).map(|call| call.session()), Some(session(2)));
        assert!(calls.of_id(CallId(1)).is_none());
    }

    #[test]
    fn the_calls_take_turns_in_sending() {
        let now = crate::clock::now();
        let mut calls = Calls::new();
        for number in 1..=3 {
            calls.push(sender(now, number));
        }
        calls.push_frame(now, &OutgoingFrame { data: vec![7; 5000].into(), captured: now });
        let mut buf = vec![0; 1200];
        let mut next = |calls: &mut Calls| {
            let (to, _) = calls.poll_transmit(now, &mut buf, 1).expect("a part of the frame");
            to.peer.socket_addr().port()
        };
        let order: Vec<_> = (0..4).map(|_| next(&mut calls)).collect();
        assert_eq!(order, [1, 2, 3, 1]);
        calls.remove(1);
        let order: Vec<_> = (0..3).map(|_| next(&mut calls)).collect();
        assert_eq!(order, [3, 1, 3], "also after one has ended");
    }

    #[test]
    fn the_last_sessions_with_a_control_channel_are_remembered() {
        let now = crate::clock::now();
        let mut calls = Calls::new();
        for number in 1..=ENDED_REMEMBERED as u32 + 1 {
            calls.push(controlled(now, number, number.into()));
            assert!(!calls.has_ended(session(number)));
            calls.remove(0);
            assert!(calls.has_ended(session(number)));
        }
        assert!(!calls.has_ended(session(1)), "the oldest is forgotten");
        calls.push(sender(now, 100));
        calls.remove(0);
        assert!(!calls.has_ended(session(100)), "one without a control channel may return");
    }

    #[test]
    fn the_newest_sealed_one_way_sequence_outlives_its_call() {
        let now = crate::clock::now();
        let mut calls = Calls::new();
        assert_eq!(calls.newest_one_way(), None);
        calls.push(sealed(now, 1, 500));
        calls.push(sender(now, 2));
        calls.push(controlled(now, 3, 3));
        assert_eq!(calls.newest_one_way(), Some(500));
        calls.remove(0);
        assert_eq!(calls.newest_one_way(), Some(500));
        calls.push(sealed(now, 4, 400));
        assert_eq!(calls.newest_one_way(), Some(500));
        calls.push(sealed(now, 5, 600));
        assert_eq!(calls.newest_one_way(), Some(600));
    }

    #[test]
    fn the_totals_include_ended_calls() {
        let now = crate::clock::now();
        let mut calls = Calls::new();
        calls.push(sender(now, 1));
        calls.push(sender(now, 2));
        calls.push_frame(now, &OutgoingFrame { data: vec![7; 100].into(), captured: now });
        let mut buf = vec![0; 1200];
        while calls.poll_transmit(now, &mut buf, 1).is_some() {}
        let sent = calls.totals().datagrams_sent;
        assert!(sent >= 2, "{sent}");
        calls.remove(0);
        assert_eq!(calls.totals().datagrams_sent, sent);
        assert_eq!(calls.take_all().len(), 1);
        assert_eq!((calls.totals().datagrams_sent, calls.len()), (sent, 0));
    }
}
