//! One call with one peer, from its first message or datagram to its end.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    CallId, Delivered, EndReason, Event, Peer,
    control::{ControlChannel, Received},
    counters::{CallCounters, RepairStats},
    outbound::{Burst, Outbound},
    path::Path,
    path_warnings::{LastHeard, PathWarnings},
    peer_stream::PeerStream,
    peer_texts::PeerTexts,
    prober::Prober,
    receiver::Receiver,
    reports::Reports,
    send_rate::ReportContext,
    sender::{Sender, SenderConfig},
};
use crate::net::{
    congestion::bitrates::PictureBitrates,
    crypto::seal::Opener,
    frame::{FrameId, FramePrefix, PartialFrame, ReceivedFrame, SessionId},
    framing::packetizer::{ChunkCache, SharedFrame},
    link::PeerAddr,
    path::replay_window::{Arrival, ReplayWindow},
    route::{Inbound, Route},
    time::MediaClock,
    token_bucket::TokenBucket,
    units::Bitrate,
    wire::{
        control::{CloseReason, Message, StreamParams},
        datagram::{Body, Direction, Form, Kind, Prelude},
        nack::Nack,
        path_probe::{PathProbe, PathProbeAck},
        probe::{PROBE_LEN, Probe, ProbeReply},
        report::{REPORT_LEN, Report},
        text::{Line, Name},
    },
};

/// The state of one call: its path, its sender and receiver, and its control channel, if any.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) peer: Peer,
    /// `None` once the call is accepted.
    pending: Option<Pending>,
    /// The path that the peer's datagrams come from and ours go to. The answering side learns it
    /// from the first datagram. It trusts the path if the IP address is that of the control
    /// channel, and otherwise validates it first.
    path: Option<Path>,
    /// The upper limit of path MTU probing, if the path MTU is probed.
    probed_len: Option<usize>,
    rng: StdRng,
    pub(super) control: Option<ControlChannel>,
    outbound: Outbound,
    /// `None`: the peer's datagrams are not sealed, or none are expected.
    opener: Option<Opener>,
    clock: MediaClock,
    sender: Option<Sender>,
    /// When the next frame may be sent to a peer that is not reached.
    next_trial: Option<Instant>,
    receiver: Option<Receiver>,
    prober: Option<Prober>,
    reply: Option<PendingReply>,
    arrivals: ReplayWindow,
    reports: Reports,
    /// Datagrams dropped by our kernel so far, as far as known.
    pub(super) kernel_drops: u64,
    counters: CallCounters,
    began: Instant,
    last_datagram: Option<Instant>,
    warnings: PathWarnings,
    ending: Option<(Instant, EndReason)>,
    texts: PeerTexts,
    stream: PeerStream,
}

/// The parts of a new call.
#[derive(Debug)]
pub(super) struct CallParts {
    pub(super) id: CallId,
    pub(super) peer: Peer,
    pub(super) media_addr: Option<SocketAddr>,
    /// The control channel, unless the session has none or the call is pending.
    pub(super) control: Option<ControlChannel>,
    /// Whether the session has a control channel.
    pub(super) is_controlled: bool,
    pub(super) outbound: Outbound,
    /// Opens the peer's datagrams; `None` if they are not sealed or none are expected.
    pub(super) opener: Option<Opener>,
    pub(super) clock: MediaClock,
    /// The sender's configuration, if we send video.
    pub(super) sends: Option<SenderConfig>,
    /// The upper limit of path MTU probing, if the path MTU is probed.
    pub(super) probed_len: Option<usize>,
    /// The seed for unpredictable values such as path challenges.
    pub(super) seed: u64,
    /// The reassembly deadline, if we receive video.
    pub(super) receives: Option<Duration>,
    /// The peer's media epoch on our clock, if it runs on this machine.
    pub(super) same_machine_epoch: Option<Instant>,
    /// The parameters of the peer's stream, if it has announced them.
    pub(super) stream: Option<StreamParams>,
}

/// What the target's acceptance adds to a pending call.
#[derive(Debug)]
pub(super) struct Acceptance {
    pub(super) control: ControlChannel,
    pub(super) name: Name,
    /// The peer's media epoch on our clock, if it runs on this machine.
    pub(super) same_machine_epoch: Option<Instant>,
    /// The parameters of the peer's stream, if it has announced them.
    pub(super) stream: Option<StreamParams>,
}

/// What a call does until its target accepts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pending {
    /// It takes one frame, so that the first picture need not wait for the acceptance.
    Ready,
    /// It sends that frame.
    Sends,
    /// It does not send, nor take frames.
    Held,
}

#[derive(Clone, Copy, Debug)]
struct PendingReply {
    origin: u64,
    received: Instant,
}

impl Call {
    pub(super) fn new(now: Instant, parts: CallParts) -> Self {
        let CallParts { id, peer, media_addr, control, is_controlled, outbound, clock, .. } = parts;
        let limit = message_limit(now);
        let mut call = Self {
            id,
            peer,
            pending: (is_controlled && control.is_none()).then_some(Pending::Ready),
            path: None,
            probed_len: parts.probed_len,
            rng: StdRng::seed_from_u64(parts.seed),
            outbound,
            opener: parts.opener,
            clock,
            sender: parts.sends.map(|config| Sender::new(now, clock, config)),
            next_trial: None,
            receiver: parts.receives.map(|deadline| Receiver::new(deadline, is_controlled)),
            // Without a control channel the peer does not reply to probes and has not agreed to
            // them.
            prober: is_controlled.then(|| Prober::new(now, parts.same_machine_epoch)),
            control,
            reply: None,
            arrivals: ReplayWindow::new(),
            reports: Reports::default(),
            kernel_drops: 0,
            counters: CallCounters::default(),
            began: now,
            last_datagram: None,
            warnings: PathWarnings::default(),
            ending: None,
            texts: PeerTexts::new(now, MESSAGES_PER_SECOND, MESSAGES_BURST),
            stream: PeerStream::new(parts.stream, limit),
        };
        if let Some(addr) = media_addr {
            call.begin_path(now, addr.into(), true);
        }
        call
    }

    /// Stops a pending call from sending.
    pub(super) fn hold(&mut self) {
        self.pending = self.pending.map(|_| Pending::Held);
    }

    /// Whether its target has not accepted the call.
    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether the call is pending and does not send.
    pub(super) fn is_held(&self) -> bool {
        self.pending == Some(Pending::Held)
    }

    /// Handles the target's acceptance of a pending call.
    pub(super) fn accept(&mut self, now: Instant, acceptance: Acceptance) {
        let Acceptance { control, name, same_machine_epoch, stream } = acceptance;
        if self.pending.take() == Some(Pending::Held) {
            self.restart(now);
        }
        self.control = Some(control);
        self.peer.name = Some(name);
        self.stream = PeerStream::new(stream, message_limit(now));
        if let (Some(prober), Some(epoch)) = (&mut self.prober, same_machine_epoch) {
            prober.set_same_machine_epoch(epoch);
        }
    }

    /// Starts a held call: its path and its timers begin now. Its datagrams and frames are numbered
    /// on.
    fn restart(&mut self, now: Instant) {
        self.began = now;
        if let Some(sender) = &mut self.sender {
            sender.restart(now);
        }
        self.prober = self.prober.as_ref().map(|_| Prober::new(now, None));
        self.begin_path(now, self.peer.addr.into(), true);
    }

    /// The event for the beginning of the call.
    pub(super) fn connected(&self) -> Event {
        Event::Connected {
            call: self.id,
            session: self.session(),
            peer: self.peer.clone(),
            stream: self.stream.params(),
            is_sealed: self.outbound.form() == Form::Sealed,
        }
    }

    pub(super) fn session(&self) -> SessionId {
        self.outbound.session()
    }

    /// The highest sequence number received; zero before the first datagram.
    pub(super) fn newest_sequence(&self) -> u64 {
        self.arrivals.highest()
    }

    /// Whether the peer's datagrams are sealed. False for a sender without a control channel, which
    /// expects none.
    pub(super) fn is_sealed(&self) -> bool {
        self.opener.is_some()
    }

    /// When anything was last received from the peer, over UDP or the control channel; when the
    /// call began if nothing has been.
    pub(super) fn last_received(&self) -> Instant {
        let control = self.control.as_ref().map(ControlChannel::last_received);
        self.last_datagram.max(control).unwrap_or(self.began)
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Why the call is ending, if it is.
    pub(super) fn end_reason(&self) -> Option<EndReason> {
        self.ending.map(|(_, reason)| reason)
    }

    /// Whether the call has, or had, a control channel.
    pub(super) fn is_controlled(&self) -> bool {
        self.prober.is_some()
    }

    pub(super) fn counters(&self) -> CallCounters {
        let sender = self.sender.as_ref().map(Sender::counters).unwrap_or_default();
        let (datagrams_sent, bytes_sent) = self.outbound.sent();
        let receiver = self.receiver.as_ref();
        CallCounters {
            frames_sent: sender.frames,
            picture_bytes_sent: sender.picture_bytes,
            frames_superseded: self.counters.frames_superseded + sender.superseded,
            frames_unsendable: sender.unsendable,
            datagrams_sent,
            bytes_sent,
            datagrams_received: self.arrivals.received(),
            datagrams_lost: self.arrivals.lost(),
            malformed: self.counters.malformed + receiver.map_or(0, Receiver::malformed),
            reassembly: receiver.map(Receiver::counters).unwrap_or_default(),
            rtt: self.rtt(),
            repair: self.repair_stats(),
            ..self.counters
        }
    }

    fn repair_stats(&self) -> RepairStats {
        let (sender, receiver) = (self.sender.as_ref(), self.receiver.as_ref());
        RepairStats {
            by_parity: receiver.map_or(0, Receiver::repaired_by_parity),
            by_nack: receiver.map_or(0, Receiver::repaired_by_nack),
            nacks: receiver.map_or(0, |r| r.requests().nacks),
            loss_ratio: receiver.map_or(0.0, Receiver::loss_ratio),
            parity_chunks: sender.map_or(0, |s| s.counters().parity_chunks),
            answered: sender.map_or(0, |s| s.answers().frames),
            picture_bitrate: sender.and_then(|sender| sender.picture_bitrates().path),
            queueing_delay: self.reports.newest().and_then(|r| r.queueing_delay),
            max_datagram_len: sender.map(Sender::max_datagram_len),
        }
    }

    fn rtt(&self) -> Option<Duration> {
        self.prober.as_ref().and_then(Prober::rtt)
    }

    /// Sends `frame`. While this peer is not reached and others are, sends only enough frames to
    /// notice its return: the other peers then set the bitrate, which may be too high for this
    /// path.
    pub(super) fn push_frame(&mut self, now: Instant, frame: SharedFrame, others_reached: bool) {
        let Some(sender) = self.sender.as_mut().filter(|_| self.ending.is_none()) else { return };
        if others_reached && !sender.is_reached() {
            if self.next_trial.is_some_and(|at| now < at) {
                self.counters.frames_superseded += 1;
                return;
            }
            self.next_trial = Some(now + TRIAL_INTERVAL);
        }
        sender.push_frame(now, frame);
    }

    /// Sends `frame` if it is the first one of this pending call.
    pub(super) fn push_early(&mut self, now: Instant, frame: SharedFrame) {
        let is_first = self.pending == Some(Pending::Ready);
        if let Some(sender) = self.sender.as_mut().filter(|_| is_first) {
            self.pending = Some(Pending::Sends);
            sender.push_frame(now, frame);
        }
    }

    /// Whether we send video and know of no failure: the peer's reports are not overdue, and do not
    /// show that next to nothing arrives. Without feedback, true if we send video.
    pub(super) fn is_reached(&self) -> bool {
        self.active_sender().is_some_and(Sender::is_reached)
    }

    /// The sender, unless the call is held.
    fn active_sender(&self) -> Option<&Sender> {
        self.sender.as_ref().filter(|_| !self.is_held())
    }

    /// Whether the receiver will take another frame; `None` if we send none to it.
    pub(super) fn wants_frame(&self) -> Option<bool> {
        Some(self.active_sender()?.wants_frame())
    }

    /// Whether a frame waits behind another one; `None` if we send none to this peer.
    pub(super) fn has_waiting_frame(&self) -> Option<bool> {
        Some(self.active_sender()?.has_waiting_frame())
    }

    /// The bitrates available for pictures to this peer.
    pub(super) fn picture_bitrates(&self) -> PictureBitrates {
        self.sender.as_ref().map(Sender::picture_bitrates).unwrap_or_default()
    }

    /// Whether our video goes to another machine (not over loopback).
    pub(super) fn sends_off_host(&self) -> bool {
        self.active_sender().is_some_and(Sender::is_paced)
    }

    /// Whether a frame, or part of one, is still to be sent and the peer's address is known.
    pub(super) fn is_sending(&self) -> bool {
        self.media_addr().is_some() && self.active_sender().is_some_and(Sender::is_busy)
    }

    /// The contiguous prefix of the newest frame that is still arriving.
    pub(super) fn newest_prefix(&self) -> Option<FramePrefix<'_>> {
        self.receiver.as_ref()?.newest_prefix()
    }

    /// The newest frame that is partial by `now`.
    pub(super) fn poll_partial(&mut self, now: Instant) -> Option<PartialFrame> {
        self.receiver.as_mut()?.poll_partial(now)
    }

    /// When a partial frame will be available.
    pub(super) fn partial_due(&self) -> Option<Instant> {
        self.receiver.as_ref()?.partial_due()
    }

    /// Queues `line` on the control channel. Returns false if there is none.
    pub(super) fn push_text(&mut self, line: &Line) -> bool {
        self.push_message(&Message::Text(line.clone()))
    }

    /// Tells the sender that we have taken its frame.
    pub(super) fn push_taken(&mut self, frame: FrameId, waited: Duration) {
        let waited_us = waited.as_micros().try_into().unwrap_or(u32::MAX);
        self.push_message(&Message::Taken { frame: frame.0, waited_us });
    }

    pub(super) fn push_stream(&mut self, stream: StreamParams) {
        self.push_message(&Message::Stream(stream));
    }

    pub(super) fn say_goodbye(&mut self, reason: CloseReason) {
        self.push_message(&Message::Close(reason));
    }

    /// Handles a clear datagram of this session with a valid checksum. Returns the frame it
    /// completes.
    pub(super) fn handle_clear(
        &mut self,
        now: Instant,
        from: Inbound,
        prelude: &Prelude,
        body: &Body,
    ) -> Option<Delivered> {
        if self.opener.is_some() {
            self.counters.forged += 1;
            return None;
        }
        self.is_new(prelude).then(|| self.handle_body(now, from, prelude, body))?
    }

    /// Handles a sealed datagram of this session, which is opened here. Returns the frame it
    /// completes.
    pub(super) fn handle_sealed(
        &mut self,
        now: Instant,
        from: Inbound,
        prelude: &Prelude,
        datagram: &mut [u8],
    ) -> Option<Delivered> {
        if !self.is_new(prelude) {
            return None;
        }
        let opened = self.opener.as_mut().map(|opener| opener.open(prelude, datagram));
        let Some(Ok(body)) = opened else {
            self.counters.forged += 1;
            return None;
        };
        self.handle_body(now, from, prelude, &Body::opened(body))
    }

    /// Whether a datagram claims to come from the peer, has not been received before, and is not
    /// too old for that to be known.
    fn is_new(&mut self, prelude: &Prelude) -> bool {
        if prelude.direction == self.outbound.direction() {
            self.counters.reflected += 1;
            return false;
        }
        match self.arrivals.judge(prelude.sequence) {
            Arrival::Fresh => return true,
            Arrival::Duplicate => self.counters.duplicates += 1,
            Arrival::TooOld => self.counters.too_old += 1,
        }
        false
    }

    /// Handles a verified datagram that has not been received before.
    pub(super) fn handle_body(
        &mut self,
        now: Instant,
        from: Inbound,
        prelude: &Prelude,
        body: &Body,
    ) -> Option<Delivered> {
        self.arrivals.record(prelude.sequence);
        let len = body.bytes.len() + self.outbound.form().overhead();
        self.counters.bytes_received += len as u64;
        self.last_datagram = Some(now);
        // The dialling side leaves the choice of its own address to the kernel.
        let is_dialler = self.outbound.direction() == Direction::FromDialler;
        let Inbound { route, arrived } = from;
        let route = if is_dialler { Route::from(route.peer) } else { route };
        if self.path.is_none() {
            self.begin_path(now, route, route.peer.is_host(self.peer.addr.ip()));
        }
        if let Some(path) = &mut self.path {
            path.handle_datagram(now, route, prelude.sequence, len);
        }
        if let Some(receiver) = &mut self.receiver {
            receiver.handle_arrival(now, prelude.sequence, len);
        }
        match prelude.kind {
            Kind::Video => return self.handle_video(now, arrived.unwrap_or(now), body, len),
            Kind::Probe => self.handle_probe(now, body.bytes),
            Kind::ProbeReply => self.handle_reply(now, body.bytes),
            Kind::Report => self.handle_report(now, body.bytes),
            Kind::Nack => self.handle_nack(now, body.bytes),
            Kind::PathProbe => self.handle_path_probe(body.bytes, len),
            Kind::PathProbeAck => self.handle_path_ack(now, body.bytes),
        }
        None
    }

    /// Handles bytes from the control channel and emits events. Returns the reason if the call
    /// ends.
    pub(super) fn handle_data(
        &mut self,
        now: Instant,
        bytes: &[u8],
        events: &mut impl Extend<Event>,
    ) -> Option<EndReason> {
        self.control.as_mut()?.handle_data(now, bytes);
        loop {
            let message = match self.control.as_mut()?.poll_received() {
                Ok(Some(Received::Message(message))) => message,
                Ok(Some(Received::Key(..)) | None) => return None,
                Err(error) => return Some(EndReason::Protocol(error)),
            };
            match message {
                Message::Close(reason) => return Some(EndReason::Closed(reason)),
                Message::Text(line) => {
                    self.counters.rate_limited += u64::from(!self.texts.push(now, line));
                    self.report_messages(now, events);
                }
                Message::Stream(stream) => {
                    self.counters.rate_limited += u64::from(self.stream.handle_change(stream));
                    self.report_messages(now, events);
                }
                Message::Taken { frame, waited_us } => {
                    let rtt = self.rtt();
                    if let Some(sender) = &mut self.sender {
                        let waited = Duration::from_micros(waited_us.into());
                        sender.handle_taken(now, FrameId(frame), waited, rtt);
                    }
                }
                // A hello, accept, reject or ringing message during a call is ignored.
                Message::KeepAlive
                | Message::Hello(_)
                | Message::Accept(_)
                | Message::Reject(_)
                | Message::Ringing => {}
            }
        }
    }

    /// Reports the peer's text lines and new stream parameters, as far as the rate limits allow.
    fn report_messages(&mut self, now: Instant, events: &mut impl Extend<Event>) {
        while let Some(line) = self.texts.poll_line(now) {
            events.extend(self.text(line));
        }
        let stream = self.stream.poll_change(now);
        events.extend(stream.map(|stream| Event::StreamChanged { call: self.id, stream }));
    }

    /// Takes the text lines that wait for the rate limit, at the end of the call.
    pub(super) fn take_texts(&mut self) -> impl Iterator<Item = Event> {
        self.texts.take_all().into_iter().filter_map(|line| self.text(line))
    }

    fn text(&self, line: Line) -> Option<Event> {
        let from = self.peer.name.clone()?;
        Some(Event::Text { from, line })
    }

    /// Drops the control channel, and ends the call after [`LINGER`]: datagrams may still be in
    /// flight.
    pub(super) fn begin_ending(&mut self, now: Instant, reason: EndReason) {
        self.control = None;
        self.ending.get_or_insert((now + LINGER, reason));
    }

    /// Does what is due by `now`. Adds frames recovered by parity to `frames`; returns the reason
    /// if the call ends.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        events: &mut impl Extend<Event>,
        frames: &mut impl Extend<Delivered>,
    ) -> Option<EndReason> {
        if self.is_held() {
            return None;
        }
        let rtt = self.rtt();
        if let Some(receiver) = &mut self.receiver {
            let frame = receiver.handle_timeout(now, rtt);
            frames.extend(frame.map(|frame| self.delivered(now, frame)));
        }
        if let Some(sender) = &mut self.sender {
            sender.handle_timeout(now);
            if let Some(prober) = &mut self.prober {
                prober.set_mean_interval(now, sender.probe_interval());
            }
        }
        if let Some(path) = &mut self.path {
            path.handle_timeout(now);
        }
        if let Some(control) = &mut self.control {
            control.handle_timeout(now);
        }
        if let Some((at, reason)) = self.ending {
            return (at <= now).then_some(reason);
        }
        self.report_messages(now, events);
        events.extend(self.check_udp());
        events.extend(self.check_mtu());
        events.extend(self.check_speed(now));
        (self.silent_at()? <= now).then_some(EndReason::Silent)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.is_held() {
            return None;
        }
        if let Some((at, _)) = self.ending {
            return Some(at);
        }
        let receiver = self.receiver.as_ref();
        let receiver = receiver.and_then(|r| r.poll_timeout(self.media_addr().is_some()));
        let control = self.control.as_ref().map(ControlChannel::poll_timeout);
        // Probes are not due while the peer's address is unknown.
        let prober = self.prober.as_ref().filter(|_| self.media_addr().is_some());
        let prober = prober.map(Prober::poll_timeout);
        let sender = self.sender.as_ref().and_then(Sender::poll_timeout);
        let path = self.path.as_ref().and_then(Path::poll_timeout);
        let lookup = self.path.as_ref().filter(|_| self.is_paced()).map(Path::next_lookup);
        let (texts, stream) = (self.texts.poll_timeout(), self.stream.poll_timeout());
        [receiver, control, prober, path, lookup, sender, texts, stream, self.silent_at()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Writes the next datagrams to `buf`. Returns them with their route. `cache` holds the chunk
    /// hashes and the parity that several receivers share.
    pub(super) fn poll_transmit(
        &mut self,
        now: Instant,
        cache: &mut ChunkCache,
        buf: &mut [u8],
        max_datagrams: usize,
    ) -> Option<(Route, Burst)> {
        let sends = self.ending.is_none() && !self.is_held();
        let path = self.path.as_mut().filter(|_| sends)?;
        if let Some(sent) = path.poll_transmit(now, &mut self.outbound, buf, &mut self.rng) {
            if let Some(sender) = &mut self.sender {
                sender.record_other(now, sent.1.len);
            }
            return Some(sent);
        }
        let to = path.route()?;
        if let (Some(sender), Some(len)) = (&mut self.sender, path.max_datagram_len()) {
            sender.set_max_datagram_len(now, len);
        }
        let beside = self
            .poll_reply(now, buf)
            .or_else(|| self.poll_probe(now, buf))
            .or_else(|| self.poll_nack(buf))
            .or_else(|| self.poll_report(now, buf));
        let burst = match (beside, &mut self.sender) {
            (None, None) => return None,
            (Some(burst), None) => burst,
            (Some(burst), Some(sender)) => {
                sender.record_other(now, burst.len);
                burst
            }
            (None, Some(sender)) => {
                let burst =
                    sender.poll_transmit(now, cache, &mut self.outbound, buf, max_datagrams)?;
                let path = self.path.as_mut()?;
                path.record_sent(&burst, self.outbound.next_sequence().wrapping_sub(1));
                burst
            }
        };
        Some((to, burst))
    }

    /// Changes the address of a peer that never replies.
    pub(super) fn redirect(&mut self, now: Instant, addr: SocketAddr) {
        self.peer.addr = addr;
        self.begin_path(now, addr.into(), true);
    }

    fn begin_path(&mut self, now: Instant, route: Route, is_known: bool) {
        let probed = self.probed_len.filter(|_| self.sender.is_some());
        self.path = Some(Path::new(now, route, is_known, self.is_controlled(), probed));
        self.pace(now, route.peer);
    }

    /// The destination of our datagrams, once known.
    fn media_addr(&self) -> Option<PeerAddr> {
        Some(self.path.as_ref()?.route()?.peer)
    }

    /// Loopback has no next hop whose queue a burst could overrun, so it is not paced.
    fn pace(&mut self, now: Instant, addr: PeerAddr) {
        if let Some(sender) = &mut self.sender {
            sender.set_paced(now, !addr.link().is_local);
        }
    }

    /// Takes the pending lookup, if there is one: the peer to which the speed of our interface is to
    /// be looked up.
    pub(super) fn take_lookup(&mut self) -> Option<PeerAddr> {
        let is_paced = self.sends_off_host();
        self.path.as_mut().filter(|_| is_paced)?.take_lookup()
    }

    fn is_paced(&self) -> bool {
        self.sender.as_ref().is_some_and(Sender::is_paced)
    }

    /// Sets the speed of our interface to `to`, if it is known.
    pub(super) fn handle_link_speed(&mut self, now: Instant, to: PeerAddr, speed: Option<Bitrate>) {
        if self.media_addr() == Some(to)
            && let Some(sender) = &mut self.sender
        {
            sender.set_link_speed(now, speed);
        }
    }

    fn push_message(&mut self, message: &Message) -> bool {
        match &mut self.control {
            Some(control) => control.push(message),
            None => return false,
        }
        true
    }

    fn handle_video(
        &mut self,
        now: Instant,
        arrived: Instant,
        body: &Body,
        len: usize,
    ) -> Option<Delivered> {
        let Some(receiver) = &mut self.receiver else {
            self.counters.malformed += 1;
            return None;
        };
        let frame = receiver.handle_video(now, arrived, body, len)?;
        Some(self.delivered(now, frame))
    }

    fn delivered(&self, now: Instant, frame: ReceivedFrame) -> Delivered {
        let media_epoch = self.prober.as_ref().and_then(|p| p.media_epoch(now));
        Delivered { call: self.id, frame, media_epoch, stream: self.stream.params() }
    }

    /// Handles the local refusal to send a datagram of `len` bytes to `to`; the interface takes up
    /// to `fits` bytes, if known. Returns whether shorter datagrams can be sent instead.
    pub(super) fn handle_refused(
        &mut self,
        now: Instant,
        to: PeerAddr,
        len: usize,
        fits: Option<usize>,
    ) -> bool {
        let is_there = self.media_addr() == Some(to);
        let path = self.path.as_mut().filter(|_| is_there);
        path.is_some_and(|path| path.handle_refused(now, len, fits))
    }

    /// Handles an ICMP message, which may be forged, saying that a router on the way to `to`
    /// forwards only datagrams of up to `len` bytes.
    pub(super) fn handle_too_big(&mut self, now: Instant, to: PeerAddr, len: usize) {
        let is_there = self.media_addr() == Some(to);
        if let Some(path) = self.path.as_mut().filter(|_| is_there) {
            path.handle_too_big(now, len);
        }
    }

    fn handle_report(&mut self, now: Instant, body: &[u8]) {
        let (Some(sender), Some(prober), Ok(mut report)) =
            (&mut self.sender, &mut self.prober, Report::parse(body))
        else {
            self.counters.malformed += 1;
            return;
        };
        let Some(mut delta) = self.reports.take(report) else { return };
        let path = self.path.as_mut();
        let losses_due_to_mtu =
            path.is_some_and(|path| path.handle_report(now, &mut report, &mut delta));
        let (probed, rtt) = (prober.take_queue(now), prober.rtt());
        let seen = ReportContext { delta, probed, rtt, losses_due_to_mtu };
        sender.handle_report(now, &report, &seen);
        prober.set_mean_interval(now, sender.probe_interval());
    }

    fn handle_path_probe(&mut self, body: &[u8], len: usize) {
        match (&mut self.path, PathProbe::parse(body)) {
            (Some(path), Ok(probe)) if self.prober.is_some() => path.handle_probe(probe, len),
            _ => self.counters.malformed += 1,
        }
    }

    fn handle_path_ack(&mut self, now: Instant, body: &[u8]) {
        match (&mut self.path, PathProbeAck::parse(body)) {
            (Some(path), Ok(ack)) => path.handle_ack(now, ack),
            _ => self.counters.malformed += 1,
        }
    }

    fn handle_nack(&mut self, now: Instant, body: &[u8]) {
        match (&mut self.sender, Nack::parse(body)) {
            (Some(sender), Ok(nack)) if self.prober.is_some() => sender.handle_nack(now, &nack),
            _ => self.counters.malformed += 1,
        }
    }

    fn poll_nack(&mut self, buf: &mut [u8]) -> Option<Burst> {
        let nack = self.receiver.as_mut()?.poll_nack()?;
        Some(self.outbound.emit(Kind::Nack, nack.body_len(), buf, |body| nack.emit(body)))
    }

    fn poll_report(&mut self, now: Instant, buf: &mut [u8]) -> Option<Burst> {
        let drops = self.kernel_drops;
        let report = self.receiver.as_mut()?.poll_report(now, &self.arrivals, drops)?;
        Some(self.outbound.emit(Kind::Report, REPORT_LEN, buf, |body| report.emit(body)))
    }

    fn handle_probe(&mut self, now: Instant, body: &[u8]) {
        match Probe::parse(body) {
            // Only peers with a control channel get a reply.
            Ok(probe) if self.prober.is_some() => {
                self.reply = Some(PendingReply { origin: probe.origin, received: now });
            }
            _ => self.counters.malformed += 1,
        }
    }

    fn handle_reply(&mut self, now: Instant, body: &[u8]) {
        match (&mut self.prober, ProbeReply::parse(body)) {
            (Some(prober), Ok(reply)) => {
                let moved =
                    self.path.as_mut().and_then(|path| path.handle_probe_reply(now, reply.origin));
                if let Some(path) = &mut self.path {
                    path.handle_answer(now);
                }
                if let Some(route) = moved {
                    return self.pace(now, route.peer);
                }
                prober.handle_reply(now, &reply);
                if let Some(sender) = &mut self.sender {
                    if sender.is_unreported() {
                        // The path is back, and a frame shows whether it carries video.
                        self.next_trial = None;
                    }
                    sender.handle_probe_reply(now);
                }
            }
            _ => self.counters.malformed += 1,
        }
    }

    fn poll_reply(&mut self, now: Instant, buf: &mut [u8]) -> Option<Burst> {
        let PendingReply { origin, received } = self.reply.take()?;
        let (received, sent) = (self.clock.media_time(received), self.clock.media_time(now));
        let reply = ProbeReply { origin, received, sent };
        Some(self.outbound.emit(Kind::ProbeReply, PROBE_LEN, buf, |body| reply.emit(body)))
    }

    fn poll_probe(&mut self, now: Instant, buf: &mut [u8]) -> Option<Burst> {
        let probe = self.prober.as_mut()?.poll_probe(now)?;
        Some(self.outbound.emit(Kind::Probe, PROBE_LEN, buf, |body| probe.emit(body)))
    }

    /// Detects a path that passes only datagrams that are too short.
    fn check_mtu(&mut self) -> Option<Event> {
        let is_too_narrow = self.path.as_ref()?.is_too_narrow();
        let is_news = self.warnings.check_narrow(is_too_narrow);
        is_news.then(|| Event::PathTooNarrow { peer: self.peer.clone() })
    }

    /// Detects that UDP has become blocked, or passes again.
    fn check_udp(&mut self) -> Option<Event> {
        let control = self.control.as_ref()?;
        let is_blocked = self.warnings.check_udp(LastHeard {
            udp: self.last_datagram.unwrap_or(self.began),
            control: control.last_received(),
            control_since: control.receiving_since(),
        })?;
        let peer = self.peer.clone();
        Some(if is_blocked { Event::UdpBlocked { peer } } else { Event::UdpUnblocked { peer } })
    }

    /// Detects pictures that are too large for the path.
    fn check_speed(&mut self, now: Instant) -> Option<Event> {
        let takes = self.sender.as_mut()?.take_too_slow()?;
        let is_news = self.warnings.handle_too_slow(now);
        is_news.then(|| Event::PicturesTooSlow { peer: self.peer.clone(), takes })
    }

    /// When the peer will have been silent for too long. `None` for a sender without a control
    /// channel, which receives nothing.
    fn silent_at(&self) -> Option<Instant> {
        let limit = if self.control.is_some() { CONTROLLED_SILENCE } else { ONE_WAY_SILENCE };
        let listens = !self.is_pending() && (self.control.is_some() || self.receiver.is_some());
        listens.then(|| self.last_received() + limit)
    }
}

fn message_limit(now: Instant) -> TokenBucket {
    TokenBucket::new(now, MESSAGES_PER_SECOND, MESSAGES_BURST)
}

/// The interval between frames to a peer that is not reached, while others are.
const TRIAL_INTERVAL: Duration = Duration::from_millis(250);

/// How long a peer with a control channel may be silent before the session ends. It is long so that
/// a session survives a cable that is unplugged and plugged in again; a peer that has crashed is
/// noticed sooner, when its connection closes.
const CONTROLLED_SILENCE: Duration = Duration::from_secs(15);

/// The same for a sender without a control channel, which cannot announce its end.
const ONE_WAY_SILENCE: Duration = Duration::from_secs(2);

/// The rate limits on a peer's text lines and, separately, on its stream changes; each is a line on
/// the user's screen.
const MESSAGES_PER_SECOND: f64 = 10.0;
const MESSAGES_BURST: f64 = 20.0;

/// How long datagrams overtaken by the end of the control channel are still accepted.
const LINGER: Duration = Duration::from_millis(100);
