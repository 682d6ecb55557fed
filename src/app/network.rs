//! Starting the network thread, and the time at which a verb stops.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::trust::Credentials;
use crate::{
    cli::args::{NetworkArgs, SendingArgs},
    clock,
    net::{
        io::{BindError, Driver, DriverConfig, Listen, SocketOptions, bracketed, shared_epoch},
        netem::NetemSpec,
        recovery::parity_control::FecMode,
        session::{DEFAULT_REASSEMBLY_DEADLINE, EndpointConfig, Role},
        wire::control::StreamParams,
    },
    stream::network_thread::NetworkThread,
};

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

impl NetworkConfig<'_> {
    /// Binds the sockets and starts the thread.
    pub(crate) fn start(self) -> Result<NetworkThread> {
        let config = self;
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
        let bound = Driver::bind(DriverConfig {
            endpoint,
            listen: config.listen,
            socket: SocketOptions { offload: config.args.offload, dscp: config.args.dscp },
            egress: config.egress,
            ingress: config.ingress,
        });
        let (driver, handle) = bound.map_err(with_option)?;
        NetworkThread::start(driver, handle).context("cannot start the network thread")
    }
}

/// Appends to `error` the option that helps.
fn with_option(error: BindError) -> anyhow::Error {
    match error {
        BindError::InUse { addr } => anyhow!("{error} with --bind {}:PORT", bracketed(addr)),
        BindError::NotOurs { .. } => anyhow!("{error}, or leave --bind out"),
        BindError::Other { .. } | BindError::Setup(_) => error.into(),
    }
}

/// The forward error correction to use. Without a control channel there are neither receiver
/// reports nor retransmission requests, so `auto` is a fixed percentage.
fn fec_mode(wanted: FecMode, control: bool) -> FecMode {
    match wanted {
        FecMode::Auto if !control => FecMode::Percent(ONE_WAY_PERCENT),
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
const ONE_WAY_PERCENT: u8 = 25;

pub(crate) mod name;
pub(crate) mod resolve;
