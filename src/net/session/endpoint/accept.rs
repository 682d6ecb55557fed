//! The answering side: handshakes, trust decisions, acceptance or rejection; also sessions without
//! a control channel.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use log::debug;

use super::{
    Endpoint, OneWay, Output, Role,
    pending_caller::{
        Asked, MAX_ASKED, MAX_UNREAD, PendingCaller, asked_caller_to_evict, caller_to_evict,
    },
};
use crate::net::{
    crypto::seal::{MediaSecrets, ONE_WAY_CIPHER, Opener},
    frame::SessionId,
    link::PeerAddr,
    route::Inbound,
    session::{
        Delivered, EndReason, Event, Peer, Verdict, call::CallParts, control::Received,
        outbound::Outbound,
    },
    wire::{
        control::{Accept, Cipher, ControlError, Hello, Message, RejectReason},
        datagram::{Body, Direction, Kind, Prelude},
        text::Name,
        video::VideoHeader,
    },
};

impl Endpoint {
    /// Starts a session in the clear without a control channel, if the datagram may begin one and
    /// there is room for it. Returns the index of its call.
    pub(super) fn begin_one_way(
        &mut self,
        now: Instant,
        from: PeerAddr,
        prelude: &Prelude,
        body: &[u8],
    ) -> Option<usize> {
        if !self.may_begin_one_way(prelude) || VideoHeader::parse(body).is_err() {
            return None;
        }
        let from = from.socket_addr();
        if matches!(self.config.one_way, OneWay::Sealed(_)) {
            self.tell_cannot_open(from, false);
            return None;
        }
        self.make_room(now, from, true).ok()?;
        let outbound = Outbound::clear(prelude.session, Direction::FromAnswerer);
        Some(self.accept_one_way(now, from, outbound, None))
    }

    /// The same for sealed video, if it is sealed with our key and newer than everything received
    /// that was sealed with that key. Returns the frame that the datagram completes.
    pub(super) fn begin_sealed_one_way(
        &mut self,
        now: Instant,
        inbound: Inbound,
        prelude: &Prelude,
        datagram: &mut [u8],
    ) -> Option<Delivered> {
        let from = inbound.route.peer.socket_addr();
        let is_new = self.calls.newest_one_way().is_none_or(|newest| newest < prelude.sequence);
        if !self.may_begin_one_way(prelude) || !is_new {
            self.strays.unknown_session += 1;
            return None;
        }
        let OneWay::Sealed(key) = &self.config.one_way else {
            self.strays.unknown_session += 1;
            self.note_sealed_stray(now, from, prelude.session);
            return None;
        };
        // Checking the seal takes some work, so the rate is limited.
        if self.room_for(now, from, true).is_err() || !self.one_way_attempts.take(now, from.ip()) {
            self.strays.unknown_session += 1;
            return None;
        }
        let (sealer, mut opener) = MediaSecrets::shared(key, prelude.session).into_keys(
            Direction::FromAnswerer,
            ONE_WAY_CIPHER,
            0,
            prelude.sequence,
        );
        let Ok(body) = opener.open(prelude, datagram) else {
            self.strays.forged += 1;
            return None;
        };
        VideoHeader::parse(body).ok()?;
        self.one_way_attempts.note_opened(from.ip());
        self.make_room(now, from, true).ok()?;
        let outbound = Outbound::sealed(prelude.session, Direction::FromAnswerer, sealer, 0);
        let index = self.accept_one_way(now, from, outbound, Some(opener));
        self.calls.at(index).handle_body(now, inbound, prelude, &Body::opened(body))
    }

    /// Keeps a sealed datagram of a caller whose admission is being decided. A sender's first frame
    /// follows its hello at once. Returns false if it is not of such a caller.
    pub(super) fn keep_early(&mut self, from: Inbound, prelude: &Prelude, datagram: &[u8]) -> bool {
        let of_session = |caller: &&mut PendingCaller| caller.session() == Some(prelude.session);
        let Some(caller) = self.pending_callers.iter_mut().find(of_session) else { return false };
        caller.keep_early(from, datagram);
        true
    }

    /// Whether a datagram may be the first of a session without a control channel, judging by its
    /// prelude.
    fn may_begin_one_way(&self, prelude: &Prelude) -> bool {
        !self.is_closed
            && prelude.kind == Kind::Video
            && prelude.direction == Direction::FromDialler
            && matches!(self.config.role, Role::Receive)
            && !matches!(self.config.one_way, OneWay::Refused)
            && !self.calls.has_ended(prelude.session)
    }

    /// Begins a call without a control channel. Returns its index.
    fn accept_one_way(
        &mut self,
        now: Instant,
        from: SocketAddr,
        outbound: Outbound,
        opener: Option<Opener>,
    ) -> usize {
        let parts = CallParts {
            id: self.ids.new_call(),
            peer: Peer { name: None, addr: from, key: None },
            media_addr: Some(from),
            control: None,
            is_controlled: false,
            outbound,
            opener,
            clock: self.clock,
            sends: None,
            probed_len: None,
            seed: self.ids.new_seed(),
            receives: Some(self.config.reassembly_deadline),
            same_machine_epoch: None,
            stream: None,
        };
        let index = self.begin(now, parts);
        self.reject_waiting_callers(now);
        index
    }

    /// Handles sealed video that cannot be opened.
    fn note_sealed_stray(&mut self, now: Instant, from: SocketAddr, session: SessionId) {
        if self.sealed_strays.is_stream(now, session) {
            self.tell_cannot_open(from, true);
        }
    }

    fn tell_cannot_open(&mut self, from: SocketAddr, is_sealed: bool) {
        if !std::mem::replace(&mut self.has_told_cannot_open, true) {
            self.events.push_back(Event::CannotOpen { from, is_sealed });
        }
    }

    /// Ends all calls, to make room for a new one. If one may not be replaced, ends none and
    /// returns the name of its peer, or the address of a peer without one.
    fn make_room(&mut self, now: Instant, caller: SocketAddr, one_way: bool) -> Result<(), Name> {
        self.room_for(now, caller, one_way)?;
        for index in (0..self.calls.len()).rev() {
            self.end(now, index, EndReason::TakenOver);
        }
        Ok(())
    }

    /// Whether there is room for a new call: every call may be replaced. Otherwise returns the name
    /// of the peer whose call may not, or its address. `one_way`: the caller has no control
    /// channel.
    fn room_for(&self, now: Instant, caller: SocketAddr, one_way: bool) -> Result<(), Name> {
        for call in self.calls.iter() {
            // A restarted sender without a control channel may replace its old session soon. A call
            // with a control channel is given time to survive a bad network, and only a caller with
            // a control channel may replace it.
            let timeout = if call.control.is_none() { ONE_WAY_TAKEOVER } else { TAKEOVER };
            let silent = call.last_received() + timeout <= now;
            // Anybody can start a session in the clear, from any address, so it gives way at once
            // to any caller with a control channel. A sealed one is authentic, so it gives way at
            // once only to such a caller from its own IP address.
            let gives_way = !one_way
                && !call.is_controlled()
                && (!call.is_sealed() || call.peer.addr.ip() == caller.ip());
            let may_end =
                call.is_ending() || gives_way || (silent && !(one_way && call.control.is_some()));
            if !may_end {
                let unnamed = || Name::new(&call.peer.addr.to_string());
                return Err(call.peer.name.clone().unwrap_or_else(unnamed));
            }
        }
        Ok(())
    }

    /// Rejects the callers with a pending trust decision that may not replace the call that has
    /// just begun.
    fn reject_waiting_callers(&mut self, now: Instant) {
        for index in (0..self.pending_callers.len()).rev() {
            let Some(ended) = self.pending_callers[index].ask_ended() else { continue };
            if let Err(with) = self.room_for(now, self.pending_callers[index].addr, false) {
                self.events.push_back(ended);
                self.reject(index, RejectReason::Busy { with });
            }
        }
    }

    /// Evicts a pending caller, if there are too many for the new one.
    pub(super) fn evict_caller(&mut self, from: SocketAddr) {
        if let Some(index) = caller_to_evict(&self.pending_callers) {
            debug!("{from} has connected: evicting {}", self.pending_callers[index].addr);
            self.close_caller(index);
        }
    }

    /// Handles data received from a pending caller.
    pub(super) fn handle_caller_bytes(&mut self, now: Instant, index: usize) {
        let PendingCaller { control, offer, asked, addr, .. } = &mut self.pending_callers[index];
        let addr = *addr;
        if control.unread() > MAX_UNREAD {
            self.events.extend(self.pending_callers[index].ask_ended());
            return self.close_caller(index);
        }
        if asked.is_some() {
            return self.handle_ringing_bytes(now, index);
        }
        match control.has_message() {
            Ok(false) => return,
            Ok(true) => {}
            Err(error) => return self.disconnect(now, index, error),
        }
        // The handshake limit is charged once, at the first message. The third message needs only
        // permission to guess.
        let may_go_on = if control.verifies_code() {
            self.handshakes.may_guess(now, addr.ip())
        } else {
            self.handshakes.take(now, addr.ip())
        };
        if !may_go_on {
            return self.close_caller(index);
        }
        control.start_handshake(&self.config.identity, self.config.secret.as_ref(), offer);
        match control.poll_received() {
            // The third message depends on the second, so it cannot directly follow the first.
            Ok(None) if control.unread() > 0 => {
                self.disconnect(now, index, ControlError::Malformed);
            }
            Ok(None) => {}
            Ok(Some(Received::Message(Message::Hello(hello)))) => {
                self.handle_hello(now, index, hello);
            }
            Ok(Some(_)) => self.reject(index, RejectReason::Malformed),
            Err(error) => self.disconnect(now, index, error),
        }
    }

    /// Handles data from a caller whose trust decision is pending; any data extends its deadline.
    fn handle_ringing_bytes(&mut self, now: Instant, index: usize) {
        let caller = &mut self.pending_callers[index];
        caller.extend_deadline(now);
        if let Err(error) = caller.control.drop_keep_alives() {
            self.events.extend(caller.ask_ended());
            self.disconnect(now, index, error);
        }
    }

    /// Disconnects a caller that violates the protocol or has a wrong code.
    fn disconnect(&mut self, now: Instant, index: usize, error: ControlError) {
        let from = self.pending_callers[index].addr;
        if error == ControlError::WrongCode {
            self.handshakes.note_wrong_code(now, from.ip());
        }
        self.close_caller(index);
        self.events.push_back(Event::ProtocolViolation { from, error });
    }

    /// Handles an authenticated caller's hello: asks the user about it, unless the configuration
    /// decides.
    fn handle_hello(&mut self, now: Instant, index: usize, hello: Hello) {
        let wants = self.config.role.purpose();
        let Some(session) = SessionId::new(hello.session) else {
            return self.reject(index, RejectReason::Malformed);
        };
        let asked = self.pending_callers.iter().filter(|g| g.asked.is_some()).count();
        let ask = self.ids.new_ask();
        let caller = &mut self.pending_callers[index];
        let peer = peer_of(caller, &hello);
        let purpose = hello.purpose;
        let is_offered = hello.cipher == Cipher::chosen(caller.offer.has_aes)
            || hello.cipher == Cipher::ChaCha20Poly1305;
        caller.note_asked(now, ask, hello, session);
        if !is_offered {
            return self.reject(index, RejectReason::Malformed);
        }
        let Some(key) = peer.key else { return self.reject(index, RejectReason::Malformed) };
        if purpose != wants {
            return self.reject(index, RejectReason::Unwanted { wants });
        }
        match self.config.admission.verdict(&key) {
            Some(Verdict::Admit) => return self.admit(now, index),
            Some(Verdict::Refuse) => return self.reject(index, RejectReason::Refused),
            None => {}
        }
        if let Err(with) = self.room_for(now, self.pending_callers[index].addr, false) {
            return self.reject(index, RejectReason::Busy { with });
        }
        let evicted = if asked < MAX_ASKED {
            None
        } else if let Some(evicted) = asked_caller_to_evict(now, &self.pending_callers, index) {
            self.events.extend(self.pending_callers[evicted].ask_ended());
            Some(evicted)
        } else {
            return self.reject(index, RejectReason::Busy { with: Name::new(OTHER_CALLERS) });
        };
        let has_code = self.config.secret.is_some();
        self.events.push_back(Event::Asked { ask, peer, key, host: None, has_code });
        if let Some(evicted) = evicted {
            self.reject(evicted, RejectReason::Busy { with: Name::new(OTHER_CALLERS) });
        }
    }

    /// Accepts a caller, if there is room.
    pub(super) fn admit(&mut self, now: Instant, index: usize) {
        match self.make_room(now, self.pending_callers[index].addr, false) {
            Ok(()) => self.accept(now, index),
            Err(with) => self.reject(index, RejectReason::Busy { with }),
        }
    }

    pub(super) fn reject(&mut self, index: usize, reason: RejectReason) {
        let caller = &mut self.pending_callers[index];
        caller.control.push(&Message::Reject(reason.clone()));
        self.sealed_strays.ignore(caller.session());
        let asked = caller.asked.take();
        let peer = match &asked {
            Some(asked) => peer_of(caller, &asked.hello),
            None => Peer { name: None, addr: caller.addr, key: caller.control.peer_key() },
        };
        self.close_caller(index);
        self.events.push_back(Event::Refused { peer, reason });
    }

    /// Does what is due for a pending caller.
    pub(super) fn handle_caller_timeout(&mut self, now: Instant, index: usize) {
        let caller = &mut self.pending_callers[index];
        caller.handle_timeout(now);
        if caller.give_up_at > now {
            return;
        }
        self.events.extend(caller.ask_ended());
        self.close_caller(index);
    }

    /// Sends a pending caller's remaining output and closes the connection.
    fn close_caller(&mut self, index: usize) {
        self.sealed_strays.ignore(self.pending_callers[index].session());
        let PendingCaller { mut control, .. } = self.pending_callers.swap_remove(index);
        let conn = control.conn();
        self.outputs.extend(control.take_output().map(|bytes| Output::Write(conn, bytes)));
        self.outputs.push_back(Output::Close(conn));
    }

    fn accept(&mut self, now: Instant, index: usize) {
        let PendingCaller { mut control, offer, addr, asked, early, .. } =
            self.pending_callers.swap_remove(index);
        let Some(Asked { hello, session, .. }) = asked else { return };
        let chats = matches!(self.config.role, Role::ChatListen);
        let hash = control.handshake_hash().unwrap_or_default();
        let secrets = MediaSecrets::agreed(hash, &hello.secret, &offer.secret);
        let (sealer, opener) = secrets.into_keys(Direction::FromAnswerer, hello.cipher, 0, 0);
        control.push(&Message::Accept(Accept {
            name: self.config.name.clone(),
            stream: self.config.stream.filter(|_| chats),
            epoch: self.config.shared_epoch,
        }));
        let parts = CallParts {
            id: self.ids.new_call(),
            peer: Peer { name: Some(hello.name.clone()), addr, key: control.peer_key() },
            media_addr: None,
            control: Some(control),
            is_controlled: true,
            outbound: Outbound::sealed(session, Direction::FromAnswerer, sealer, 0),
            opener: Some(opener),
            clock: self.clock,
            sends: chats.then(|| self.config.sender(hello.max_datagram_len)),
            probed_len: self.config.probed_len(hello.max_datagram_len),
            seed: self.ids.new_seed(),
            receives: Some(self.config.reassembly_deadline),
            same_machine_epoch: self.config.same_machine_epoch(hello.epoch),
            stream: hello.stream,
        };
        let index = self.begin(now, parts);
        // Handle what the caller has sent since its hello.
        self.handle_call_bytes(now, index, &[]);
        for (from, mut datagram) in early.into_datagrams() {
            self.handle_datagram(now, from, &mut datagram);
        }
        self.reject_waiting_callers(now);
    }
}

fn peer_of(caller: &PendingCaller, hello: &Hello) -> Peer {
    Peer { name: Some(hello.name.clone()), addr: caller.addr, key: caller.control.peer_key() }
}

/// The peer named in `Busy` when a caller is rejected or evicted because too many are ringing.
const OTHER_CALLERS: &str = "other callers";

/// How long a peer with a control channel must be silent before another may replace it.
const TAKEOVER: Duration = Duration::from_secs(3);

/// The same for a sender without one, which cannot announce its restart. Half a second is fifteen
/// frames at 30 a second.
const ONE_WAY_TAKEOVER: Duration = Duration::from_millis(500);
