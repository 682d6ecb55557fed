//! The network thread, and helpers that every verb needs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::trust::Credentials;
use crate::{
    cli::args::{NetworkArgs, SendingArgs},
    clock,
    net::{
        io::{Driver, DriverConfig, Handle, Listen, NetStats, SocketOptions, shared_epoch},
        netem::NetemSpec,
        recovery::parity_control::FecMode,
        session::{DEFAULT_REASSEMBLY_DEADLINE, EndpointConfig, Role},
        wire::control::{CloseReason, StreamParams},
    },
    threads::spawn,
};

/// The network side of a program: a driver on its own thread.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) handle: Handle,
    thread: JoinHandle<()>,
    cpu_us: Arc<AtomicU64>,
}

/// The final state of a network side.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Processor time used by its thread.
    pub(crate) cpu: Duration,
    pub(crate) stats: NetStats,
    /// Complete frames replaced by newer ones before they were taken.
    pub(crate) superseded: u64,
}

/// A verb's configuration of its network side.
#[derive(Debug)]
pub(crate) struct NetworkConfig<'a> {
    pub(crate) role: Role,
    pub(crate) credentials: Credentials,
    pub(crate) stream: Option<StreamParams>,
    pub(crate) epoch: Instant,
    pub(crate) listen: Option<Listen>,
    pub(crate) egress: Option<NetemSpec>,
    pub(crate) ingress: Option<NetemSpec>,
    /// Our own name; `None`: user@host.
    pub(crate) name: Option<&'a str>,
    /// `None`: this side sends no pictures.
    pub(crate) sending: Option<&'a SendingArgs>,
    pub(crate) args: &'a NetworkArgs,
}

impl Network {
    /// Binds the sockets and starts the thread.
    pub(crate) fn start(config: NetworkConfig<'_>) -> Result<Self> {
        let control = !matches!(config.role, Role::Send { control: false, .. });
        let Credentials { identity, secret, admission, one_way } = config.credentials;
        let unused = SendingArgs::default();
        let sending = config.sending.unwrap_or(&unused);
        let endpoint = EndpointConfig {
            name: name::own_name(config.name),
            role: config.role,
            identity,
            secret,
            admission,
            one_way,
            wall_clock: clock::wall(),
            stream: config.stream,
            max_datagram_len: sending.mtu.0,
            fec: fec_mode(sending.fec, control),
            max_bitrate: sending.max_bitrate,
            reassembly_deadline: DEFAULT_REASSEMBLY_DEADLINE,
            epoch: config.epoch,
            shared_epoch: shared_epoch(config.epoch),
            seed: rand::random(),
        };
        let (driver, handle) = Driver::bind(DriverConfig {
            endpoint,
            listen: config.listen,
            socket: SocketOptions { offload: config.args.offload, dscp: config.args.dscp },
            egress: config.egress,
            ingress: config.ingress,
        })?;
        let cpu_us = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&cpu_us);
        let thread = spawn("network", move || {
            driver.run();
            counted.store(clock::thread_cpu().as_micros() as u64, Ordering::Relaxed);
        })
        .context("cannot start the network thread")?;
        Ok(Self { handle, thread, cpu_us })
    }

    /// Closes the session, waits for the thread, and returns the final statistics.
    pub(crate) fn finish(self, reason: CloseReason) -> Finished {
        self.handle.close(reason);
        if self.thread.join().is_err() {
            log::error!("the network thread panicked: please report this");
        }
        Finished {
            cpu: Duration::from_micros(self.cpu_us.load(Ordering::Relaxed)),
            stats: self.handle.stats(),
            superseded: self.handle.superseded(),
        }
    }

    /// Whether the thread has ended by itself.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// The forward error correction to use. Without a control channel there are neither receiver
/// reports nor retransmission requests, so `auto` is a fixed percentage.
fn fec_mode(wanted: FecMode, control: bool) -> FecMode {
    match wanted {
        FecMode::Auto if !control => FecMode::Percent(UNREPORTED_PERCENT),
        wanted => wanted,
    }
}

/// The time to stop at, `after` from now; `None`: never.
pub(crate) fn deadline(after: Option<Duration>) -> Option<Instant> {
    after.and_then(|after| clock::now().checked_add(after))
}

/// Whether `deadline` has passed.
pub(crate) fn is_over(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|at| clock::now() >= at)
}

/// Parity, in percent, without receiver reports: for a frame of 98 chunks, 24 parity chunks, with
/// which 4 frames in 10,000 are incomplete at 10 % loss.
const UNREPORTED_PERCENT: u8 = 25;

pub(crate) mod events;
pub(crate) mod name;
pub(crate) mod resolve;
