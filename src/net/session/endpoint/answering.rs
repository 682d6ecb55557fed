//! The side that is called: hearing a caller, judging, accepting; or being sent to unasked.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::RngExt;

use super::{Endpoint, Greeting, Output, Role};
use crate::net::{
    frame::SessionId,
    session::{EndReason, Event, Peer, call::CallParts, outbound::Outbound},
    wire::{
        control::{Accept, Hello, Message, RejectReason},
        datagram::{Direction, Kind, MAX_DATAGRAM_LEN, Prelude},
        text::Name,
        video::VideoHeader,
    },
};

impl Endpoint {
    /// Video from somebody who has not called: taken, if nobody else is shown.
    pub(super) fn begin_unasked(
        &mut self,
        now: Instant,
        from: SocketAddr,
        prelude: &Prelude,
        body: &[u8],
    ) -> Option<usize> {
        let is_video = prelude.kind == Kind::Video
            && prelude.direction == Direction::FromDialer
            && VideoHeader::parse(body).is_ok();
        let wanted = matches!(self.config.role, Role::Receive);
        if !is_video || !wanted || self.ended_sessions.contains(&prelude.session) {
            return None;
        }
        self.make_room(now, from, true).ok()?;
        let parts = CallParts {
            id: self.new_call(),
            peer: Peer { name: None, addr: from },
            media_addr: Some(from),
            control: None,
            outbound: Outbound::new(prelude.session, Direction::FromAnswerer),
            clock: self.clock,
            sends: None,
            probed_len: None,
            seed: self.rng.random(),
            receives: Some(self.config.reassembly_deadline),
            same_machine_epoch: None,
        };
        self.begin(now, parts, None);
        Some(self.calls.len() - 1)
    }

    /// Ends a call that has fallen silent or is ending, so that a new one can be taken; or names
    /// the peer of the one that goes on.
    fn make_room(&mut self, now: Instant, caller: SocketAddr, unasked: bool) -> Result<(), Name> {
        for index in (0..self.calls.len()).rev() {
            let call = &self.calls[index];
            // A sender without a control channel may show its next self at once; one with
            // a connection that stands gets the time that a bad network needs.
            let patience = if call.control.is_none() { BARE_TAKEOVER } else { TAKEOVER };
            let silent = call.last_heard() + patience <= now;
            // The datagrams of a sender that has not noticed our restart yet came first.
            let introduces_itself =
                !unasked && !call.is_controlled() && call.peer.addr.ip() == caller.ip();
            let may_end = call.is_ending()
                || introduces_itself
                || (silent && !(unasked && call.control.is_some()));
            if !may_end {
                let unnamed = || Name::new(&call.peer.addr.to_string());
                return Err(call.peer.name.clone().unwrap_or_else(unnamed));
            }
            let reason = EndReason::TakenOver;
            self.end(now, index, reason);
        }
        Ok(())
    }

    /// A caller's first message.
    pub(super) fn hear_caller(&mut self, now: Instant, index: usize) {
        let message = match self.greeting[index].control.next_message() {
            Ok(None) => return,
            Ok(Some(message)) => message,
            Err(error) => {
                let greeting = self.greeting.swap_remove(index);
                self.outputs.push_back(Output::Close(greeting.control.conn()));
                self.events.push_back(Event::Misspoke { from: greeting.addr, error });
                return;
            }
        };
        let mut greeting = self.greeting.swap_remove(index);
        match self.judge(now, greeting.addr, message) {
            Ok((hello, session)) => self.accept(now, greeting, &hello, session),
            Err((name, reason)) => {
                greeting.control.push(&Message::Reject(reason.clone()));
                let conn = greeting.control.conn();
                self.outputs.extend(greeting.control.take_output().map(|b| Output::Write(conn, b)));
                self.outputs.push_back(Output::Close(conn));
                let peer = Peer { name, addr: greeting.addr };
                self.events.push_back(Event::Refused { peer, reason });
            }
        }
    }

    fn judge(
        &mut self,
        now: Instant,
        from: SocketAddr,
        message: Message,
    ) -> Result<(Hello, SessionId), (Option<Name>, RejectReason)> {
        let Message::Hello(hello) = message else { return Err((None, RejectReason::Malformed)) };
        let name = Some(hello.name.clone());
        let Some(session) = SessionId::new(hello.session) else {
            return Err((name, RejectReason::Malformed));
        };
        let wants = self.config.role.purpose();
        if hello.purpose != wants {
            return Err((name, RejectReason::Unwanted { wants }));
        }
        match self.make_room(now, from, false) {
            Ok(()) => Ok((hello, session)),
            Err(with) => Err((name, RejectReason::Busy { with })),
        }
    }

    fn accept(&mut self, now: Instant, greeting: Greeting, hello: &Hello, session: SessionId) {
        let Greeting { mut control, addr, .. } = greeting;
        let chats = matches!(self.config.role, Role::ChatListen);
        control.push(&Message::Accept(Accept {
            name: self.config.name.clone(),
            stream: self.config.stream.filter(|_| chats),
            epoch: self.config.shared_epoch,
            max_datagram_len: MAX_DATAGRAM_LEN as u16,
        }));
        let parts = CallParts {
            id: self.new_call(),
            peer: Peer { name: Some(hello.name.clone()), addr },
            media_addr: None,
            control: Some(control),
            outbound: Outbound::new(session, Direction::FromAnswerer),
            clock: self.clock,
            sends: chats.then(|| self.sending(hello.max_datagram_len)),
            probed_len: self.probed_len(hello.max_datagram_len),
            seed: self.rng.random(),
            receives: Some(self.config.reassembly_deadline),
            same_machine_epoch: self.same_machine_epoch(hello.epoch),
        };
        self.begin(now, parts, hello.stream);
        // What the caller said behind its hello, in one breath, has come already.
        self.hear_peer(now, self.calls.len() - 1, &[]);
    }
}

/// How long a sender with a control channel must be silent before another may take its place.
const TAKEOVER: Duration = Duration::from_secs(3);

/// The same for one without, which cannot say that it has been restarted. Half a second is
/// fifteen frames at 30 a second.
const BARE_TAKEOVER: Duration = Duration::from_millis(500);
