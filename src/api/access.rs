//! The identity of this side, and which peers it accepts.

use std::fmt;

use super::StartError;
pub use crate::net::crypto::keys::{Identity, PublicKey};
use crate::{
    clock,
    net::{
        crypto::{code::Code, keys::SharedSecret},
        io::{Driver, DriverConfig, Listen, SocketOptions, shared_epoch},
        recovery::parity_control::FecMode,
        session::{Admission, DEFAULT_REASSEMBLY_DEADLINE, EndpointConfig, OneWay, Role},
        units::Bitrate,
        wire::{control::StreamParams, text::Name},
    },
    stream::network_thread::NetworkThread,
};

/// The identity of this side, and which peers it accepts. Everything that is sent is encrypted in
/// any case.
///
/// By default a new identity is made at every start, and any peer is accepted: an eavesdropper
/// cannot read the video, but an attacker who controls the path can impersonate the other side. A
/// [`code`](Self::code), which both sides need, prevents that. A [`peer_key`](Self::peer_key)
/// prevents it for the side that sets it. With both, a peer needs both.
///
/// No method returns an error for a refused peer. A refused sender gets
/// [`GivenUp`](super::EventKind::GivenUp) and does not try again; the receiver gets
/// [`Other`](super::EventKind::Other).
///
/// ```no_run
/// use udpchat::{Access, Identity, Receiver, Sender};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let stored: [u8; 32] = [7; 32];
/// let access = Access::new().code("correct horse battery");
/// let receiver = Receiver::builder().access(access.clone()).start()?;
///
/// // A sender with a stored identity, which the receiver could recognize by its public key.
/// let access = access.identity(Identity::from_bytes(stored)).name("workbench");
/// let sender = Sender::builder().to("desk.local").access(access).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Access {
    identity: Option<Identity>,
    name: Option<String>,
    code: Option<String>,
    keys: Vec<PublicKey>,
}

impl Access {
    /// A new identity, and any peer accepted.
    pub fn new() -> Self {
        Self::default()
    }

    /// Proves our identity with this key pair, which the other side can recognize by its public
    /// key. Default: a new one at every start. To keep one, store [`Identity::as_bytes`].
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// The name that the other side sees. Default: `udpchat`.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Accepts only peers that know this code, a passphrase of at least 10 characters, like
    /// `udpchat --code`. It is never sent. Starting takes a tenth of a second longer (seconds in an
    /// unoptimized build).
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Accepts only peers that prove possession of this key. Repeat to accept several keys.
    #[must_use]
    pub fn peer_key(mut self, key: PublicKey) -> Self {
        self.keys.push(key);
        self
    }

    fn secret(&self) -> Result<Option<SharedSecret>, StartError> {
        Ok(self.code.as_deref().map(Code::typed).transpose()?.map(|code| code.secret()))
    }

    fn admission(&self) -> Admission {
        if self.keys.is_empty() {
            return Admission::Anyone;
        }
        Admission::Keys(self.keys.clone())
    }
}

/// Does not reveal the code.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("identity", &self.identity)
            .field("name", &self.name)
            .field("code", &self.code.as_ref().map(|_| "…"))
            .field("keys", &self.keys)
            .finish()
    }
}

/// The network side of a sender or receiver.
pub(super) struct NetworkParts {
    pub(super) role: Role,
    pub(super) listen: Option<Listen>,
    pub(super) stream: Option<StreamParams>,
    pub(super) max_bitrate: Option<Bitrate>,
}

impl NetworkParts {
    /// Binds the sockets and starts the network thread.
    pub(super) fn start(self, access: &Access) -> Result<NetworkThread, StartError> {
        let epoch = clock::now();
        let endpoint = EndpointConfig {
            name: Name::new(access.name.as_deref().unwrap_or("udpchat")),
            role: self.role,
            identity: access.identity.clone().unwrap_or_else(Identity::generate),
            secret: access.secret()?,
            admission: access.admission(),
            one_way: OneWay::Refused,
            wall_clock: clock::wall(),
            stream: self.stream,
            max_datagram_len: None,
            fec: FecMode::Auto,
            max_bitrate: self.max_bitrate,
            reassembly_deadline: DEFAULT_REASSEMBLY_DEADLINE,
            epoch,
            shared_epoch: shared_epoch(epoch),
            seed: rand::random(),
        };
        let (driver, handle) = Driver::bind(DriverConfig {
            endpoint,
            listen: self.listen,
            socket: SocketOptions::default(),
            egress: None,
            ingress: None,
        })?;
        NetworkThread::start(driver, handle).map_err(StartError::Thread)
    }
}
