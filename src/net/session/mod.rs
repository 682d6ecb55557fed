//! Session state machines, without sockets or clocks.
//!
//! An [`Endpoint`] is one program's complete state machine: it dials, accepts or rejects calls, and
//! routes datagrams. A `Call` is the state of one call with one peer; it has a `Sender`, a
//! `Receiver`, a `Prober` and a `ControlChannel`, each only if the call needs it.
//!
//! An [`Endpoint`] has four kinds of methods, and its parts have those that they need:
//!
//! - commands: `push_frame(now, …)`, `push_text(…)`, `close(…)`;
//! - inputs: `handle_datagram(now, …)`, `handle_data(now, …)`, `handle_timeout(now)`;
//! - outputs, drained after every input: `poll_transmit`, `poll_output`, `poll_event`,
//!   `poll_frame`; the caller owns the memory;
//! - `poll_timeout() -> Option<Instant>`: when to call `handle_timeout` next. After a full drain it
//!   is `None` or later than the last `now`.

mod addresses;
mod call;
mod control;
mod counters;
mod dial;
mod endpoint;
mod event;
mod frame_credit;
mod ids;
mod in_flight_frame;
mod one_way;
mod outbound;
mod path;
mod path_warnings;
mod peer_stream;
mod peer_texts;
mod prober;
mod receiver;
mod reports;
mod retransmitter;
mod send_gate;
mod send_rate;
mod sender;
mod stream_estimates;

pub use addresses::{LookupId, Uncallable, uncallable};
pub use counters::{CallCounters, RepairStats};
pub use endpoint::{
    Admission, Endpoint, EndpointConfig, OneWay, Output, Role, StrayCounters, Transmit,
};
pub use event::{
    AskId, Delivered, EndReason, Event, GiveUpReason, LocalFault, Peer, Verdict, WaitReason,
};
pub use ids::{CallId, ConnId, Target};
pub use prober::boot_local_epoch;
pub use receiver::DEFAULT_REASSEMBLY_DEADLINE;
