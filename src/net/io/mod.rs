//! Sockets and the clock: the only place in `net` that uses either.
//!
//! [`Driver`] is one thread with one `mio` loop. It owns every socket and the
//! [`Endpoint`](crate::net::session::Endpoint); other threads use a [`Handle`].

mod acceptor;
mod addr_text;
mod arrival_clock;
mod arriving;
mod bind;
mod connections;
mod demand;
mod driver;
mod emulated_network;
mod error_queue;
mod faults;
mod handle;
mod interface;
mod ip;
mod kernel_drops;
mod kernel_send;
mod lookup;
mod machine;
mod options;
mod outgoing_batch;
mod publish_schedule;
mod resolver;
mod socket_errors;
mod timer;
mod udp;
mod zone;

pub use addr_text::{BindAddrError, HostPort, HostPortError, PortError, bind_addr, host_port};
pub use arriving::{ArrivingCopy, ArrivingFrame};
pub(crate) use bind::bracketed;
pub use bind::{BindError, Listen};
pub use demand::Demand;
pub use driver::{Driver, DriverConfig};
pub use handle::{FrameInlet, Handle, NetStats, TakenNotices};
pub use kernel_drops::KernelDrops;
pub use machine::shared_epoch;
pub use options::{Dscp, MAX_DSCP, Offload, SocketOptions};
pub use udp::{
    BufferSizes, RECEIVE_BUFFER_WANTED, SEND_BUFFER_WANTED, SendCounters, SendError, UdpSocket,
    least_mtu,
};
pub use zone::{AddrError, ScopedIp, interface_of, scoped_ip, shown, shown_ip};

/// The default port, for UDP and TCP.
pub const DEFAULT_PORT: u16 = 7722;
