//! The top-level state machine: dials, answers, and routes each datagram to its call.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    AskId, CallCounters, CallId, ConnId, Delivered, EndReason, Event, GiveUpReason, LocalFault,
    LookupId, Verdict, WaitReason,
    call::{Call, CallParts},
    control::ControlChannel,
    dial::DialState,
    one_way::OneWayTargets,
    outbound::Burst,
    uncallable,
};
use crate::net::{
    congestion::bitrates::PictureBitrates,
    frame::{FrameId, FramePrefix, OutgoingFrame, PartialFrame},
    link::PeerAddr,
    route::{Inbound, LocalIp, Route},
    time::MediaClock,
    units::Bitrate,
    wire::{
        checksum::CrcCombiner,
        control::{CloseReason, Message, RejectReason, StreamParams},
        datagram::{Form, Prelude},
        text::Line,
    },
};
use calls::Calls;
use id_source::IdSource;
use one_way_attempts::OneWayAttempts;
use pending_caller::{HandshakeLimiter, PendingCaller};
use sealed_strays::SealedStrays;

pub use config::{Admission, EndpointConfig, OneWay, Role};
pub use strays::StrayCounters;

/// A lookup, or an operation on control connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look up the addresses of a host, for this port, and report the result:
    /// [`Endpoint::handle_found`].
    LookUp(LookupId, String, u16),
    /// Look up the speed of the interface to this peer, and report the result:
    /// [`Endpoint::handle_link_speed`].
    LinkSpeed(PeerAddr),
    /// Connect, and report the result: [`Endpoint::handle_connected`],
    /// [`Endpoint::handle_disconnected`] or [`Endpoint::handle_not_dialled`].
    Dial(ConnId, SocketAddr),
    /// Write these bytes, in order.
    Write(ConnId, Vec<u8>),
    /// Write what is pending, then close. Report nothing more about it.
    Close(ConnId),
}

/// Datagrams to be sent: `len` bytes at the head of the caller's buffer, one datagram every
/// `segment_len` bytes, all to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// The destination.
    pub to: PeerAddr,
    /// The source address; `None`: the kernel's choice.
    pub local: Option<LocalIp>,
    /// Total bytes.
    pub len: usize,
    /// Bytes of each datagram but the last.
    pub segment_len: usize,
}

/// The top-level state machine of one program.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    clock: MediaClock,
    ids: IdSource,
    dialling: Vec<DialState>,
    one_way_targets: OneWayTargets,
    pending_callers: Vec<PendingCaller>,
    calls: Calls,
    one_way_attempts: OneWayAttempts,
    sealed_strays: SealedStrays,
    has_told_cannot_open: bool,
    handshakes: HandshakeLimiter,
    outputs: VecDeque<Output>,
    events: VecDeque<Event>,
    frames: VecDeque<Delivered>,
    strays: StrayCounters,
    crc_combiner: CrcCombiner,
    is_closed: bool,
}

impl Endpoint {
    /// An endpoint that begins its role at once.
    pub fn new(now: Instant, config: EndpointConfig) -> Self {
        let (targets, control) = match &config.role {
            Role::Send { targets, control } => (targets.clone(), *control),
            Role::ChatDial(target) => (vec![target.clone()], true),
            Role::Receive | Role::ChatListen => (Vec::new(), true),
        };
        let (dialled, one_way) =
            if control { (targets, Vec::new()) } else { (Vec::new(), targets) };
        let mut endpoint = Self {
            clock: MediaClock::starting(config.epoch),
            ids: IdSource::new(config.seed),
            config,
            dialling: dialled.into_iter().map(|target| DialState::new(now, target)).collect(),
            one_way_targets: OneWayTargets::new(now, one_way),
            pending_callers: Vec::new(),
            calls: Calls::new(),
            one_way_attempts: OneWayAttempts::new(now),
            sealed_strays: SealedStrays::default(),
            has_told_cannot_open: false,
            handshakes: HandshakeLimiter::new(now),
            outputs: VecDeque::new(),
            events: VecDeque::new(),
            frames: VecDeque::new(),
            strays: StrayCounters::default(),
            crc_combiner: CrcCombiner::default(),
            is_closed: false,
        };
        endpoint.handle_timeout(now);
        endpoint
    }

    /// Sends `frame` to every receiver. In each call the newest frame wins. A target that has not
    /// accepted the call yet may get one frame.
    pub fn push_frame(&mut self, now: Instant, frame: &OutgoingFrame) {
        self.calls.push_frame(now, frame);
    }

    /// Sends `line` to every peer. Returns how many peers have a control channel for it.
    pub fn push_text(&mut self, line: &Line) -> usize {
        let said = self.calls.push_text(line);
        self.flush_control();
        said
    }

    /// Tells the sender of `call` that we have taken its frame, which had `waited` until then.
    pub fn push_taken(&mut self, call: CallId, frame: FrameId, waited: Duration) {
        self.calls.push_taken(call, frame, waited);
        self.flush_control();
    }

    /// Whether any receiver will take another frame. Also true without receivers, and for those
    /// that keep up.
    pub fn wants_frame(&self) -> bool {
        self.calls.wants_frame()
    }

    /// Whether a frame waits behind another one at every receiver that is sent any. The next one
    /// would replace it.
    pub fn has_waiting_frame(&self) -> bool {
        self.calls.has_waiting_frame()
    }

    /// Sets the parameters of our stream, and announces them to every peer if they have changed.
    pub fn set_stream(&mut self, stream: StreamParams) {
        if self.config.stream.replace(stream) == Some(stream) {
            return;
        }
        self.calls.push_stream(stream);
        self.flush_control();
    }

    /// Says goodbye to every peer, ends all calls, disconnects pending callers and stops dialling.
    /// No call begins afterwards.
    pub fn close(&mut self, reason: CloseReason) {
        self.is_closed = true;
        for mut dialling in std::mem::take(&mut self.dialling) {
            let control = dialling.control_mut();
            let last = control.and_then(|control| {
                control.push(&Message::Close(reason));
                Some(Output::Write(control.conn(), control.take_output()?))
            });
            self.outputs.extend(last);
            self.outputs.extend(dialling.conns().map(Output::Close));
        }
        self.one_way_targets.clear();
        self.calls.say_goodbye(reason);
        self.flush_control();
        for mut call in self.calls.take_all() {
            self.hang_up(&mut call);
            if !call.is_pending() {
                self.report_end(call, EndReason::Local);
            }
        }
        for caller in std::mem::take(&mut self.pending_callers) {
            self.outputs.push_back(Output::Close(caller.control.conn()));
        }
    }

    /// Handles an incoming connection. `None`: close it, because the endpoint is closed, or its
    /// network must wait after a wrong code.
    pub fn handle_incoming(&mut self, now: Instant, from: SocketAddr) -> Option<ConnId> {
        if self.is_closed || !self.handshakes.may_connect(now, from.ip()) {
            return None;
        }
        self.evict_caller(from);
        let conn = self.ids.new_conn();
        let control = ControlChannel::accept(now, conn);
        self.pending_callers.push(PendingCaller::new(now, from, control));
        self.flush_control();
        Some(conn)
    }

    /// Answers [`Event::Asked`]. Has no effect if the peer has gone.
    pub fn answer(&mut self, now: Instant, ask: AskId, verdict: Verdict) {
        if let Some(index) = self.pending_callers.iter().position(|g| g.is_asked(ask)) {
            match verdict {
                Verdict::Admit => self.admit(now, index),
                Verdict::Refuse => self.reject(index, RejectReason::Refused),
            }
        } else if let Some(index) = self.dialling.iter().position(|d| d.asked() == Some(ask)) {
            match verdict {
                Verdict::Admit => {
                    if let Some(offer) = self.dialling[index].take_offer() {
                        self.send_hello(now, index, &offer);
                    }
                }
                Verdict::Refuse => self.give_up(index, GiveUpReason::Untrusted),
            }
        }
        self.flush_control();
    }

    /// Handles the establishment of a connection that we dialled.
    pub fn handle_connected(&mut self, now: Instant, conn: ConnId) {
        if let Some(dialling) = self.dialling.iter_mut().find(|d| d.owns(conn)) {
            let control =
                ControlChannel::dial(now, conn, &self.config.identity, self.config.secret.as_ref());
            let others = dialling.handle_connected(now, conn, control);
            self.outputs.extend(others.into_iter().map(Output::Close));
        }
        self.flush_control();
    }

    /// Whether a caller at this connection is not in a call yet.
    pub fn is_pending_caller(&self, conn: ConnId) -> bool {
        self.pending_callers.iter().any(|caller| caller.control.conn() == conn)
    }

    /// Handles bytes from a control connection.
    pub fn handle_data(&mut self, now: Instant, conn: ConnId, bytes: &[u8]) {
        if let Some(index) = self.calls.of_conn(conn) {
            self.handle_call_bytes(now, index, bytes);
        } else if let Some(index) =
            self.pending_callers.iter().position(|g| g.control.conn() == conn)
        {
            self.pending_callers[index].control.handle_data(now, bytes);
            self.handle_caller_bytes(now, index);
        } else if let Some(index) = self.dialling.iter().position(|d| d.owns(conn)) {
            self.handle_target_bytes(now, index, bytes);
        }
        self.flush_control();
    }

    /// Handles the closing of a control connection, or the failure to establish one. `refused`:
    /// nothing listens at the address.
    pub fn handle_disconnected(&mut self, now: Instant, conn: ConnId, refused: bool) {
        if let Some(index) = self.calls.of_conn(conn) {
            self.calls.at(index).begin_ending(now, EndReason::ConnectionLost);
        }
        if let Some(index) = self.pending_callers.iter().position(|g| g.control.conn() == conn) {
            let caller = self.pending_callers.swap_remove(index);
            self.events.extend(caller.ask_ended());
        }
        if let Some(index) = self.dialling.iter().position(|d| d.owns(conn)) {
            let dialling = &self.dialling[index];
            self.events.extend(dialling.asked().map(|ask| Event::AskEnded { ask }));
            let reason = if refused { WaitReason::NobodyListens } else { dialling.lost_reason() };
            self.fail_target(now, index, conn, reason);
        }
    }

    /// Handles the failure to establish a connection because of `fault`, which the system reports
    /// with the message `said`.
    pub fn handle_not_dialled(
        &mut self,
        now: Instant,
        conn: ConnId,
        fault: LocalFault,
        error: String,
    ) {
        if let Some(dialling) = self.dialling.iter_mut().find(|d| d.owns(conn)) {
            self.events.extend(dialling.fail(now, conn, WaitReason::Local { fault, error }));
        }
    }

    /// The answer to [`Output::LookUp`]: addresses, or why there are none. Addresses at which no
    /// single machine can be called are ignored.
    pub fn handle_found(
        &mut self,
        now: Instant,
        lookup: LookupId,
        found: Result<Vec<SocketAddr>, WaitReason>,
    ) {
        let (found, failure) = match found {
            Ok(found) if found.is_empty() => {
                (found, Some(WaitReason::Unresolved { error: "the name has no address".into() }))
            }
            Ok(mut found) => {
                let first = found[0].ip().to_canonical();
                found.retain(|addr| uncallable(addr.ip()).is_none());
                let failure = found.is_empty().then_some(WaitReason::Uncallable { ip: first });
                (found, failure)
            }
            Err(failure) => (Vec::new(), Some(failure)),
        };
        if let Some(dialling) = self.dialling.iter_mut().find(|d| d.addresses.is_asked(lookup)) {
            self.events.extend(dialling.handle_found(now, &found, failure));
        } else if let Some(index) = self.one_way_targets.awaiting(lookup) {
            let action = self.one_way_targets.at(index).handle_found(now, &found, failure);
            self.act(now, index, action);
        }
    }

    /// Handles a local failure to send datagrams to `to`. Returns false, and does nothing, if no
    /// target without a control channel is at `to`.
    pub fn handle_unsendable(&mut self, now: Instant, to: PeerAddr, reason: &WaitReason) -> bool {
        let Some(actions) = self.one_way_targets.handle_unsendable(now, to, reason) else {
            return false;
        };
        for (index, action) in actions {
            self.act(now, index, Some(action));
        }
        true
    }

    /// Handles an ICMP message saying that a datagram to `to` was not delivered. It may be forged,
    /// so it is only reported to the user, and only if a target without a control channel is at
    /// `to`.
    pub fn handle_unreachable(&mut self, now: Instant, to: PeerAddr, reason: WaitReason) {
        self.events.extend(self.one_way_targets.handle_unreachable(now, to, reason));
    }

    /// Records that datagrams to `to` were passed to the network.
    pub fn handle_sent(&mut self, now: Instant, to: PeerAddr) {
        self.events.extend(self.one_way_targets.handle_sent(now, to));
    }

    /// Handles a received datagram, which is decrypted in place.
    pub fn handle_datagram(&mut self, now: Instant, from: impl Into<Inbound>, datagram: &mut [u8]) {
        let from = from.into();
        let delivered = match Form::of(datagram) {
            Ok(Form::Clear) => self.handle_clear(now, from, datagram),
            Ok(Form::Sealed) => self.handle_sealed(now, from, datagram),
            Err(error) => return self.strays.count(error),
        };
        if let Some(delivered) = delivered {
            self.frames.push_back(delivered);
        }
    }

    fn handle_clear(&mut self, now: Instant, from: Inbound, datagram: &[u8]) -> Option<Delivered> {
        let (prelude, body) = match Prelude::parse(datagram, &mut self.crc_combiner) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.strays.count(error);
                return None;
            }
        };
        let known = self.calls.of_session(prelude.session);
        let Some(index) =
            known.or_else(|| self.begin_one_way(now, from.route.peer, &prelude, body.bytes))
        else {
            self.strays.unknown_session += 1;
            return None;
        };
        self.calls.at(index).handle_clear(now, from, &prelude, &body)
    }

    fn handle_sealed(
        &mut self,
        now: Instant,
        from: Inbound,
        datagram: &mut [u8],
    ) -> Option<Delivered> {
        let prelude = match Prelude::read(datagram) {
            Ok(prelude) => prelude,
            Err(error) => {
                self.strays.count(error);
                return None;
            }
        };
        match self.calls.of_session(prelude.session) {
            // The target has not accepted the call, and its user must not be seen or see us.
            Some(index) if self.calls.at(index).is_held() => {
                self.strays.unknown_session += 1;
                None
            }
            Some(index) => self.calls.at(index).handle_sealed(now, from, &prelude, datagram),
            None if self.keep_early(from, &prelude, datagram) => None,
            None => self.begin_sealed_one_way(now, from, &prelude, datagram),
        }
    }

    /// Does what is due by `now`. Has no effect if nothing is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for index in (0..self.calls.len()).rev() {
            let call = self.calls.at(index);
            if let Some(reason) = call.handle_timeout(now, &mut self.events, &mut self.frames) {
                self.end(now, index, reason);
            }
        }
        for index in (0..self.pending_callers.len()).rev() {
            self.handle_caller_timeout(now, index);
        }
        for index in 0..self.dialling.len() {
            self.handle_target_timeout(now, index);
        }
        for index in 0..self.one_way_targets.len() {
            self.look_up_one_way(now, index);
        }
        self.flush_control();
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit)
    /// has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let caller = self.pending_callers.iter().map(PendingCaller::poll_timeout);
        let dialling = self.dialling.iter().filter_map(DialState::poll_timeout);
        let beside = [self.calls.poll_timeout(), self.one_way_targets.poll_timeout()];
        beside.into_iter().flatten().chain(caller).chain(dialling).min()
    }

    /// Writes at most `max_datagrams` datagrams to the head of `buf`. The calls take turns.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<Transmit> {
        let (route, burst) = self.calls.poll_transmit(now, buf, max_datagrams)?;
        let Route { peer, local } = route;
        let Burst { len, segment_len } = burst;
        Some(Transmit { to: peer, local, len, segment_len })
    }

    /// The next lookup, or operation on a control connection.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        output.or_else(|| self.calls.take_lookup().map(Output::LinkSpeed))
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next received frame.
    pub fn poll_frame(&mut self) -> Option<Delivered> {
        self.frames.pop_front()
    }

    /// The bitrates available for pictures to every receiver that is reached. One whose reports are
    /// overdue, or show for two seconds that next to nothing arrives, counts only if no receiver is
    /// reached: it must not slow the others.
    pub fn picture_bitrates(&self) -> PictureBitrates {
        self.calls.picture_bitrates()
    }

    /// Whether any of our video goes to another machine (not over loopback).
    pub fn sends_off_host(&self) -> bool {
        self.calls.sends_off_host()
    }

    /// Whether any frame, or part of one, is still to be sent; [`close`](Self::close) should wait
    /// for it, though not for long: a frame may be held back until the path's capacity is known.
    pub fn is_sending(&self) -> bool {
        self.calls.is_sending()
    }

    /// The contiguous prefix of the newest frame that is still arriving, of the first call that has
    /// one.
    pub fn newest_prefix(&self) -> Option<(CallId, FramePrefix<'_>)> {
        self.calls.newest_prefix()
    }

    /// The newest frame that is partial by `now`, of the first call that has one. Call it before
    /// [`handle_timeout`](Self::handle_timeout). Its use is optional.
    pub fn poll_partial(&mut self, now: Instant) -> Option<(CallId, PartialFrame)> {
        self.calls.poll_partial(now)
    }

    /// When [`poll_partial`](Self::poll_partial) will return a frame.
    pub fn partial_due(&self) -> Option<Instant> {
        self.calls.partial_due()
    }

    /// Handles the local refusal to send a datagram of `len` bytes to `to`; the interface takes up
    /// to `fits` bytes, if known. Returns false if nothing shorter can be sent: the length is
    /// configured or already the shortest, the interface takes less than the shortest, or no call
    /// sends to `to`.
    pub fn handle_refused(
        &mut self,
        now: Instant,
        to: PeerAddr,
        len: usize,
        fits: Option<usize>,
    ) -> bool {
        self.calls.handle_refused(now, to, len, fits)
    }

    /// The answer to [`Output::LinkSpeed`]: the speed of our interface to `to`, if it is known. It
    /// bounds the pace of the calls that send there.
    pub fn handle_link_speed(&mut self, now: Instant, to: PeerAddr, speed: Option<Bitrate>) {
        self.calls.handle_link_speed(now, to, speed);
    }

    /// Handles an ICMP message, which may be forged, saying that a router on the way to `to`
    /// forwards only datagrams of up to `len` bytes.
    pub fn handle_too_big(&mut self, now: Instant, to: PeerAddr, len: usize) {
        self.calls.handle_too_big(now, to, len);
    }

    /// Sets how many datagrams our kernel has dropped so far, to be reported to the peers.
    pub fn set_kernel_drops(&mut self, drops: u64) {
        self.calls.set_kernel_drops(drops);
    }

    /// Every call that has been accepted, and its counters.
    pub fn calls(&self) -> impl Iterator<Item = (CallId, CallCounters)> {
        self.calls.iter().filter(|c| !c.is_pending()).map(|c| (c.id, c.counters()))
    }

    /// The counters of all calls, including those that have ended.
    pub fn totals(&self) -> CallCounters {
        self.calls.totals()
    }

    /// Counters of the datagrams that belonged to no call.
    pub fn strays(&self) -> StrayCounters {
        self.strays
    }

    /// Whether there is no call and no caller, and nothing is being dialled or resolved.
    #[cfg(any(test, feature = "internals"))]
    pub fn is_idle(&self) -> bool {
        let waits = !self.dialling.is_empty() || self.one_way_targets.is_any_unresolved();
        self.calls.len() == 0 && !waits && self.pending_callers.is_empty()
    }

    /// Begins a call that needs no acceptance. Returns its index.
    fn begin(&mut self, now: Instant, parts: CallParts) -> usize {
        let index = self.calls.push(Call::new(now, parts));
        self.report_connected(index);
        index
    }

    fn report_connected(&mut self, index: usize) {
        self.events.push_back(self.calls.at(index).connected());
    }

    fn end(&mut self, now: Instant, index: usize, reason: EndReason) {
        let mut call = self.calls.remove(index);
        if reason == EndReason::Silent {
            call.say_goodbye(CloseReason::Silent);
        }
        self.hang_up(&mut call);
        if let Some(dialling) = self.dialling.iter_mut().find(|d| d.is_in_call(call.id)) {
            dialling.handle_call_ended(now);
        }
        let reason = call.end_reason().unwrap_or(reason);
        self.report_end(call, reason);
    }

    /// Reports the end of a call, after the text lines that were still waiting.
    fn report_end(&mut self, mut call: Call, reason: EndReason) {
        self.events.extend(call.take_texts());
        self.events.push_back(Event::Ended { call: call.id, peer: call.peer, reason });
    }

    fn hang_up(&mut self, call: &mut Call) {
        if let Some(mut control) = call.control.take() {
            let conn = control.conn();
            self.outputs.extend(control.take_output().map(|bytes| Output::Write(conn, bytes)));
            self.outputs.push_back(Output::Close(conn));
        }
    }

    /// Handles bytes from a call's control channel. If there are none, continues with those already
    /// received.
    fn handle_call_bytes(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let call = self.calls.at(index);
        if let Some(reason) = call.handle_data(now, bytes, &mut self.events) {
            let conn = call.control.as_ref().map(ControlChannel::conn);
            self.outputs.extend(conn.map(Output::Close));
            call.begin_ending(now, reason);
        }
    }

    /// Moves the output of the control channels to `outputs`.
    fn flush_control(&mut self) {
        let caller = self.pending_callers.iter_mut().map(|g| &mut g.control);
        let dialling = self.dialling.iter_mut().filter_map(DialState::control_mut);
        for control in self.calls.controls_mut().chain(caller).chain(dialling) {
            let conn = control.conn();
            self.outputs.extend(control.take_output().map(|bytes| Output::Write(conn, bytes)));
        }
    }
}

impl Transmit {
    /// The destination and the source address.
    pub fn route(&self) -> Route {
        Route { peer: self.to, local: self.local }
    }
}

mod accept;
mod calls;
mod config;
mod dial;
mod id_source;
mod one_way_attempts;
mod pending_caller;
mod sealed_strays;
mod strays;
#[cfg(test)]
mod tests;
