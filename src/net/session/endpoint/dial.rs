//! The dialling side: connecting, introduction, acceptance or rejection; also sending without a
//! control channel.

use std::{net::SocketAddr, time::Instant};

use super::{Endpoint, OneWay, Output, Role};
use crate::net::{
    crypto::{
        keys::{PublicKey, SharedSecret},
        seal::{MediaSecrets, ONE_WAY_CIPHER, first_sequence, processor_has_aes},
    },
    link::{PeerAddr, UDP_BASE_LEN},
    session::{
        CallId, ConnId, Event, GiveUpReason, Peer, Target, Verdict, WaitReason,
        call::{Acceptance, Call, CallParts},
        control::Received,
        dial::{Answered, Due, Introduction, SentHello},
        one_way::OneWayAction,
        outbound::Outbound,
    },
    wire::{
        control::{Accept, Cipher, Hello, MediaOffer, Message, RejectReason, SecretPart},
        datagram::{Direction, MAX_DATAGRAM_LEN},
    },
};

impl Endpoint {
    /// Starts a lookup for a target without a control channel, if due, and begins to send once an
    /// address is known.
    pub(super) fn look_up_one_way(&mut self, now: Instant, index: usize) {
        let target = self.one_way_targets.at(index);
        if target.wants_lookup(now) {
            let id = self.ids.new_lookup();
            let (host, port) = target.note_lookup(now, id);
            self.outputs.push_back(Output::LookUp(id, host, port));
        }
        let action = target.aim();
        self.act(now, index, action);
    }

    /// Does what a target without a control channel needs.
    pub(super) fn act(&mut self, now: Instant, index: usize, action: Option<OneWayAction>) {
        match action {
            None => {}
            Some(OneWayAction::Begin(addr)) => {
                let call = self.start_one_way(now, addr);
                self.one_way_targets.at(index).note_call(call, addr);
            }
            Some(OneWayAction::Redirect(call, addr)) => {
                if let Some(call) = self.calls.of_id(call) {
                    call.redirect(now, addr);
                }
            }
            Some(OneWayAction::Report(event)) => self.events.push_back(event),
        }
    }

    /// Starts sending without a control channel.
    fn start_one_way(&mut self, now: Instant, addr: SocketAddr) -> CallId {
        let session = self.ids.new_session();
        let direction = Direction::FromDialler;
        let outbound = match &self.config.one_way {
            OneWay::Refused | OneWay::Clear => Outbound::clear(session, direction),
            OneWay::Sealed(key) => {
                let first = first_sequence(self.config.wall_clock);
                let secrets = MediaSecrets::shared(key, session);
                let (sealer, _) = secrets.into_keys(direction, ONE_WAY_CIPHER, first, 0);
                Outbound::sealed(session, direction, sealer, first)
            }
        };
        let id = self.ids.new_call();
        let parts = CallParts {
            id,
            peer: Peer { name: None, addr, key: None },
            media_addr: Some(addr),
            control: None,
            is_controlled: false,
            outbound,
            opener: None,
            clock: self.clock,
            sends: Some(self.config.sender_without_feedback()),
            probed_len: self.config.probed_len(UDP_BASE_LEN as u16),
            seed: self.ids.new_seed(),
            receives: None,
            same_machine_epoch: None,
            stream: None,
        };
        self.begin(now, parts);
        id
    }

    /// Handles bytes from a target that is not yet in a call with us.
    pub(super) fn handle_target_bytes(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let Some(control) = self.dialling[index].control_mut() else { return };
        control.handle_data(now, bytes);
        self.dialling[index].extend_deadline(now);
        while let Some(control) = self.dialling[index].control_mut() {
            let heard = match control.poll_received() {
                Ok(None) => return,
                Ok(Some(heard)) => heard,
                Err(error) => return self.give_up(index, GiveUpReason::Control(error)),
            };
            match heard {
                Received::Key(key, offer) => {
                    if !self.handle_target_key(now, index, key, offer) {
                        return;
                    }
                }
                Received::Message(Message::Ringing) => {
                    self.report_early_loss(index);
                    self.hold_pending_call(index);
                    let event = self.dialling[index].ring(now);
                    self.events.extend(event);
                }
                Received::Message(Message::KeepAlive) => {}
                Received::Message(Message::Accept(accept)) => {
                    return self.handle_accept(now, index, &accept);
                }
                Received::Message(Message::Reject(reason)) => {
                    return self.handle_reject(now, index, reason);
                }
                Received::Message(_) => return self.give_up(index, GiveUpReason::Malformed),
            }
        }
    }

    /// Handles a target's proof of its key: asks the user about it, unless the configuration
    /// decides. Returns false if the target has been given up.
    fn handle_target_key(
        &mut self,
        now: Instant,
        index: usize,
        key: PublicKey,
        offer: MediaOffer,
    ) -> bool {
        match self.config.admission.verdict(&key) {
            Some(Verdict::Admit) => {
                self.send_hello(now, index, &offer);
                return true;
            }
            Some(Verdict::Refuse) => {
                self.give_up(index, GiveUpReason::Untrusted);
                return false;
            }
            None => {}
        }
        let ask = self.ids.new_ask();
        let dialling = &mut self.dialling[index];
        let Some(addr) = dialling.addr() else { return true };
        dialling.note_asked(now, ask, offer);
        let peer = Peer { name: None, addr, key: Some(key) };
        let host = Some(dialling.host().to_owned());
        self.events.push_back(Event::Asked { ask, peer, key, host, has_code: false });
        true
    }

    /// Sends our hello to a trusted target, which has made this `offer`. The call is pending until
    /// the target accepts it.
    pub(super) fn send_hello(&mut self, now: Instant, index: usize, offer: &MediaOffer) {
        let session = self.ids.new_session();
        let secret = SecretPart::from_bytes(*SharedSecret::generate().as_bytes());
        let cipher = Cipher::chosen(offer.has_aes && processor_has_aes());
        let hello = Hello {
            session: session.get(),
            name: self.config.name.clone(),
            purpose: self.config.role.purpose(),
            stream: self.config.stream,
            epoch: self.config.shared_epoch,
            max_datagram_len: MAX_DATAGRAM_LEN as u16,
            secret: secret.clone(),
            cipher,
        };
        let Some(introduction) = self.dialling[index].send_hello(now, hello) else { return };
        let Introduction { addr, key, handshake_hash } = introduction;
        let secrets = MediaSecrets::agreed(&handshake_hash, &secret, &offer.secret);
        let (sealer, opener) = secrets.into_keys(Direction::FromDialler, cipher, 0, 0);
        let call = self.ids.new_call();
        let chats = matches!(self.config.role, Role::ChatDial(_));
        let parts = CallParts {
            id: call,
            peer: Peer { name: None, addr, key: Some(key) },
            media_addr: Some(addr),
            control: None,
            is_controlled: true,
            outbound: Outbound::sealed(session, Direction::FromDialler, sealer, 0),
            opener: Some(opener),
            clock: self.clock,
            sends: Some(self.config.sender(offer.max_datagram_len)),
            probed_len: self.config.probed_len(offer.max_datagram_len),
            seed: self.ids.new_seed(),
            receives: chats.then_some(self.config.reassembly_deadline),
            same_machine_epoch: None,
            stream: None,
        };
        self.calls.push(Call::new(now, parts));
        // Nobody should be seen before a chat is accepted, or by a target that has not proved that it
        // knows our code. Over loopback there is nothing to gain, and the first datagrams could be
        // read before our hello.
        let sends_early = !chats
            && !PeerAddr::from(addr).link().is_local
            && self.config.secret.is_none()
            && self.dialling[index].may_send_early();
        self.dialling[index].note_hello(SentHello { call, stream: self.config.stream });
        if sends_early {
            let host = self.dialling[index].host().to_owned();
            self.events.push_back(Event::SendingEarly { host });
        } else {
            self.hold_pending_call(index);
        }
    }

    /// Stops the pending call from sending until the target accepts it.
    fn hold_pending_call(&mut self, index: usize) {
        let pending = self.dialling[index].pending_call();
        if let Some(call) = pending.and_then(|id| self.calls.of_id(id)) {
            call.hold();
        }
    }

    /// Reports that the frame which was sent early to a target may be lost, if there is one.
    fn report_early_loss(&mut self, index: usize) {
        let pending = self.dialling[index].pending_call();
        let sends = |call: &Call| !call.is_held();
        if pending.and_then(|id| self.calls.of_id(id)).is_some_and(|call| sends(call)) {
            self.events.push_back(Event::EarlyFrameLost);
        }
    }

    /// Handles the failure of connection `conn` to a target: the pending call ends, and the next
    /// address is tried.
    pub(super) fn fail_target(
        &mut self,
        now: Instant,
        index: usize,
        conn: ConnId,
        reason: WaitReason,
    ) {
        if self.dialling[index].control_mut().is_some_and(|control| control.conn() == conn) {
            self.discard_pending_call(index);
        }
        self.events.extend(self.dialling[index].fail(now, conn, reason));
    }

    fn discard_pending_call(&mut self, index: usize) {
        self.report_early_loss(index);
        let pending = self.dialling[index].pending_call();
        if let Some(call) = pending.and_then(|id| self.calls.index_of_id(id)) {
            self.calls.remove(call);
        }
    }

    fn handle_reject(&mut self, now: Instant, index: usize, reason: RejectReason) {
        match reason {
            RejectReason::Busy { with } => {
                for conn in self.dialling[index].conns().collect::<Vec<_>>() {
                    self.outputs.push_back(Output::Close(conn));
                    self.fail_target(now, index, conn, WaitReason::Busy { with: with.clone() });
                }
            }
            RejectReason::Unwanted { wants } => {
                self.give_up(index, GiveUpReason::Unwanted { wants });
            }
            RejectReason::Malformed => self.give_up(index, GiveUpReason::Malformed),
            RejectReason::Refused => self.give_up(index, GiveUpReason::Refused),
        }
    }

    fn handle_accept(&mut self, now: Instant, index: usize, accept: &Accept) {
        let Some(Answered { control, hello }) = self.dialling[index].answered() else {
            return self.give_up(index, GiveUpReason::Malformed);
        };
        let Some(call) = self.calls.index_of_id(hello.call) else { return };
        let acceptance = Acceptance {
            control,
            name: accept.name.clone(),
            same_machine_epoch: self.config.same_machine_epoch(accept.epoch),
            stream: accept.stream,
        };
        self.calls.at(call).accept(now, acceptance);
        self.report_connected(call);
        // Our stream may have been set or changed since our hello, which may be long ago if the
        // target has rung.
        if let Some(stream) = self.config.stream.filter(|stream| hello.stream != Some(*stream)) {
            self.calls.at(call).push_stream(stream);
        }
        self.handle_call_bytes(now, call, &[]);
    }

    pub(super) fn give_up(&mut self, index: usize, reason: GiveUpReason) {
        self.discard_pending_call(index);
        let dialling = self.dialling.swap_remove(index);
        self.outputs.extend(dialling.conns().map(Output::Close));
        self.events.push_back(Event::GivenUp { host: dialling.host().to_owned(), reason });
    }

    pub(super) fn handle_target_timeout(&mut self, now: Instant, index: usize) {
        self.dialling[index].keep_ringing(now);
        if self.dialling[index].wants_lookup(now) {
            let id = self.ids.new_lookup();
            let dialling = &mut self.dialling[index];
            dialling.addresses.note_asked(now, id);
            let Target { host, port, .. } = dialling.target();
            self.outputs.push_back(Output::LookUp(id, host.clone(), *port));
        }
        self.events.extend(self.dialling[index].check_lookup(now));
        loop {
            match self.dialling[index].due(now) {
                Due::Nothing => return,
                Due::Dial => {
                    let conn = self.ids.new_conn();
                    let addr = self.dialling[index].connect(now, conn);
                    self.outputs.extend(addr.map(|addr| Output::Dial(conn, addr)));
                }
                Due::GiveUp(conn) => {
                    let ask = self.dialling[index].asked();
                    self.events.extend(ask.map(|ask| Event::AskEnded { ask }));
                    self.outputs.push_back(Output::Close(conn));
                    self.fail_target(now, index, conn, WaitReason::NoAnswer);
                }
            }
        }
    }
}
