//! The side that calls: dialling, greeting, being taken or refused; or sending unasked.

use std::time::Instant;

use rand::RngExt;

use super::{Endpoint, Output, Role, Target};
use crate::net::{
    session::{
        Event, GiveUpReason, Peer, WaitReason, call::CallParts, dialling::Due, outbound::Outbound,
    },
    wire::{
        control::{Accept, Message, RejectReason},
        datagram::Direction,
    },
};

impl Endpoint {
    /// Without a control channel: sends at once to the target's first address.
    pub(super) fn send_unasked(&mut self, now: Instant, target: &Target) {
        let Some(&addr) = target.addrs.first() else { return };
        let session = self.new_session();
        let parts = CallParts {
            id: self.new_call(),
            peer: Peer { name: None, addr },
            media_addr: Some(addr),
            control: None,
            outbound: Outbound::new(session, Direction::FromDialer),
            clock: self.clock,
            sends: Some(self.sending_unheard()),
            probed_len: None,
            seed: self.rng.random(),
            receives: None,
            same_machine_epoch: None,
        };
        self.begin(now, parts, None);
    }

    /// The answer to our hello.
    pub(super) fn hear_answer(&mut self, now: Instant, index: usize, bytes: &[u8]) {
        let Some(control) = self.dialling[index].control_mut() else { return };
        control.handle_data(now, bytes);
        match control.next_message() {
            Ok(None) => {}
            Ok(Some(Message::Accept(accept))) => self.be_accepted(now, index, &accept),
            Ok(Some(Message::Reject(RejectReason::Busy { with }))) => {
                let dialling = &mut self.dialling[index];
                self.outputs.extend(dialling.conn().map(Output::Close));
                self.events.extend(dialling.fail(now, WaitReason::Busy { with }));
            }
            Ok(Some(Message::Reject(RejectReason::Unwanted { wants }))) => {
                self.give_up(index, GiveUpReason::Unwanted { wants });
            }
            Ok(Some(_)) => self.give_up(index, GiveUpReason::Malformed),
            Err(error) => self.give_up(index, GiveUpReason::Control(error)),
        }
    }

    fn be_accepted(&mut self, now: Instant, index: usize, accept: &Accept) {
        let id = self.new_call();
        let addr = self.dialling[index].addr();
        let Some((control, session)) = self.dialling[index].answered(id) else { return };
        let chats = matches!(self.config.role, Role::ChatDial(_));
        let parts = CallParts {
            id,
            peer: Peer { name: Some(accept.name.clone()), addr },
            media_addr: Some(addr),
            control: Some(control),
            outbound: Outbound::new(session, Direction::FromDialer),
            clock: self.clock,
            sends: Some(self.sending(accept.max_datagram_len)),
            probed_len: self.probed_len(accept.max_datagram_len),
            seed: self.rng.random(),
            receives: chats.then_some(self.config.reassembly_deadline),
            same_machine_epoch: self.same_machine_epoch(accept.epoch),
        };
        self.begin(now, parts, accept.stream);
        self.hear_peer(now, self.calls.len() - 1, &[]);
    }

    fn give_up(&mut self, index: usize, reason: GiveUpReason) {
        let dialling = self.dialling.swap_remove(index);
        self.outputs.extend(dialling.conn().map(Output::Close));
        self.events.push_back(Event::GivenUp { host: dialling.host().to_owned(), reason });
    }

    pub(super) fn redial(&mut self, now: Instant, index: usize) {
        match self.dialling[index].due(now) {
            Due::Nothing => {}
            Due::Dial => {
                let conn = self.new_conn();
                let dialling = &mut self.dialling[index];
                dialling.connect(now, conn);
                self.outputs.push_back(Output::Dial(conn, dialling.addr()));
            }
            Due::GiveUp(conn) => {
                self.outputs.push_back(Output::Close(conn));
                self.events.extend(self.dialling[index].fail(now, WaitReason::NoAnswer));
            }
        }
    }
}
