//! The UDP socket: a `mio` socket with segmentation and receive offloads. It takes and returns IPv4
//! addresses unmapped, and counts send errors, none of which is fatal.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use log::debug;
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use thiserror::Error;

use super::{
    arrival_clock::ArrivalClock,
    error_queue::{self, IcmpReport},
    faults::no_zone,
    ip::{canonical, header_len},
    kernel_drops::{DropWatch, KernelDrops},
    kernel_send::KernelSend,
    options::{Offload, SocketOptions},
    zone::lacks_zone,
};
use crate::net::{
    link::MIN_DATAGRAM_LEN,
    route::{Inbound, LocalIp, Route},
};

/// A non-blocking UDP socket that sends and receives in batches where the system can.
#[derive(Debug)]
pub struct UdpSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    kernel_send: KernelSend,
    offload: Offload,
    is_v6: bool,
    /// Whether it is bound to all addresses, so that the destination of a received datagram may
    /// vary.
    is_wildcard: bool,
    buffers: [Box<[u8]>; RECEIVE_BATCH],
    counters: SendCounters,
    drops: DropWatch,
}

/// The sizes of the socket's kernel buffers, in bytes, without the kernel's overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// The receive buffer.
    pub receive: usize,
    /// The send buffer.
    pub send: usize,
}

/// Counters of datagrams passed to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// Calls to send a datagram or a batch, including failed ones.
    pub calls: u64,
    /// Datagrams accepted by the kernel, including those lost because its queue was full.
    pub datagrams: u64,
    /// Datagrams too big for the interface or for the path MTU known to the kernel.
    pub too_big: u64,
    /// Datagrams refused for any other reason: no route, no interface given for a link-local
    /// address, a firewall. A batch for such an address counts once.
    pub refused: u64,
}

/// Why some datagrams were not sent.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct SendError {
    /// Bytes at the head of the contents that need no further sending: sent, or counted and
    /// dropped. The rest must be sent when the socket is writable; there is a rest only if the
    /// error is `WouldBlock`.
    pub taken: usize,
    /// The last error.
    pub error: io::Error,
}

impl SendError {
    /// Whether there is a rest to send when the socket is writable.
    pub fn is_blocked(&self) -> bool {
        self.error.kind() == io::ErrorKind::WouldBlock
    }
}

impl From<SendError> for io::Error {
    fn from(error: SendError) -> Self {
        error.error
    }
}

impl UdpSocket {
    /// Binds to `addr` with the default options. An IPv6 wildcard also receives IPv4.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::bind_with(addr, SocketOptions::default())
    }

    /// Binds to `addr`. An IPv6 wildcard also receives IPv4.
    pub fn bind_with(addr: SocketAddr, options: SocketOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        let drops = DropWatch::new();
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        // The kernel may grant less; `buffer_sizes` returns the actual sizes.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_WANTED);
        let _ = socket.set_send_buffer_size(SEND_BUFFER_WANTED);
        set_traffic_class(&socket, addr, options.dscp.traffic_class());
        if let Err(error) = error_queue::watch(&socket, addr.is_ipv6()) {
            debug!("cannot enable the error queue: {error}");
        }
        let state = UdpSocketState::new((&socket).into())?;
        if options.offload != Offload::Auto {
            receive_uncoalesced(&socket)?;
        }
        Ok(Self {
            socket: mio::net::UdpSocket::from_std(socket.into()),
            state,
            kernel_send: KernelSend::default(),
            offload: options.offload,
            is_v6: addr.is_ipv6(),
            is_wildcard: addr.ip().is_unspecified(),
            buffers: std::array::from_fn(|_| vec![0; RECEIVE_LEN].into()),
            counters: SendCounters::default(),
            drops,
        })
    }

    /// Binds to any address and port, with IPv6 and IPv4 where both are available.
    pub fn bind_any(options: SocketOptions) -> io::Result<Self> {
        Self::bind_with((Ipv6Addr::UNSPECIFIED, 0).into(), options)
            .or_else(|_| Self::bind_with((Ipv4Addr::UNSPECIFIED, 0).into(), options))
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The maximum number of datagrams that the kernel takes in one call. [`send`](Self::send)
    /// passes on more of them one by one.
    pub fn max_batch(&self) -> usize {
        match self.offload {
            Offload::Auto => self.state.max_gso_segments(),
            Offload::Batched | Offload::Single => 1,
        }
    }

    /// The maximum number of datagrams that the kernel may coalesce into one.
    pub fn max_coalesced(&self) -> usize {
        match self.offload {
            Offload::Auto => self.state.gro_segments(),
            Offload::Batched | Offload::Single => 1,
        }
    }

    /// The buffer sizes granted by the kernel.
    pub fn buffer_sizes(&self) -> io::Result<BufferSizes> {
        let socket = SockRef::from(&self.socket);
        // Linux reports twice the size, for its own overhead (socket(7)).
        let factor = if cfg!(target_os = "linux") { 2 } else { 1 };
        let (receive, send) = (socket.recv_buffer_size()?, socket.send_buffer_size()?);
        Ok(BufferSizes { receive: receive / factor, send: send / factor })
    }

    /// Counters of datagrams sent.
    pub fn counters(&self) -> SendCounters {
        self.counters
    }

    /// Datagrams dropped by the kernel; `None` where it does not report them.
    pub fn kernel_drops(&self) -> Option<KernelDrops> {
        self.drops.read(&self.socket)
    }

    /// The socket, to be registered with a poll.
    pub fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Sends `contents` as datagrams of `segment_len` bytes; the last may be shorter.
    ///
    /// After `WouldBlock`, the rest must be sent when the socket is writable. After any other error
    /// the affected datagrams have been counted and dropped; the error is returned for reporting. A
    /// link-local address without an interface is an error, as it is for TCP.
    pub fn send(
        &mut self,
        to: impl Into<Route>,
        contents: &[u8],
        segment_len: usize,
    ) -> Result<(), SendError> {
        let to = to.into();
        if lacks_zone(&to.peer.socket_addr()) {
            return Err(SendError { taken: contents.len(), error: self.count(no_zone()) });
        }
        if contents.len() > segment_len && self.max_batch() == 1 {
            return self.send_singly(to, contents, segment_len);
        }
        match self.try_send(to, contents, segment_len) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(SendError { taken: 0, error })
            }
            // A device may refuse a batch but accept its datagrams without segmentation.
            Err(_) if contents.len() > segment_len || self.kernel_send.segments() => {
                self.send_singly(to, contents, segment_len)
            }
            Err(error) => Err(SendError { taken: contents.len(), error: self.count(error) }),
        }
    }

    /// Receives datagrams until there are none or enough for one turn, and passes each to `handle`,
    /// with its origin. Returns true if more may be waiting.
    pub fn receive(&mut self, mut handle: impl FnMut(Inbound, &mut [u8])) -> io::Result<bool> {
        let mut may_be_icmp_error = true;
        let batch = if self.offload == Offload::Single { 1 } else { RECEIVE_BATCH };
        for _ in 0..READS_AT_ONCE {
            let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
            let mut slices = self.buffers.each_mut().map(|b| IoSliceMut::new(b));
            let slices = &mut slices[..batch];
            let count = match self.state.recv((&self.socket).into(), slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // A pending ICMP error for an earlier datagram makes one call fail.
                Err(_) if std::mem::take(&mut may_be_icmp_error) => continue,
                Err(error) => return Err(error),
            };
            let clock = ArrivalClock::read();
            for (meta, buffer) in metas.iter().zip(self.buffers.iter_mut()).take(count) {
                let local = meta.dst_ip.filter(|_| self.is_wildcard);
                let interface = meta.interface_index.unwrap_or_default();
                let local = local.and_then(|ip| LocalIp::new(ip, interface));
                let route = Route { peer: canonical(meta.addr).into(), local };
                let arrived = meta.timestamp.and_then(|at| clock.instant_of(at));
                let from = Inbound { route, arrived };
                for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                    handle(from, datagram);
                }
            }
            if SHORT_READ_EMPTIES && count < batch {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Passes pending ICMP errors to `handle`. A flood of them takes several calls.
    pub(super) fn read_error_queue(&mut self, handle: impl FnMut(IcmpReport)) {
        error_queue::take(&self.socket, handle);
    }

    fn try_send(&mut self, to: Route, contents: &[u8], segment_len: usize) -> io::Result<()> {
        let (peer, local) = (to.peer.socket_addr(), to.local);
        let peer = if self.is_v6 { mapped(peer) } else { peer };
        let Self { kernel_send, socket, state, counters, .. } = self;
        let mut send = |local| {
            counters.calls += 1;
            kernel_send.send(
                socket,
                state,
                Route { peer: peer.into(), local },
                contents,
                segment_len,
            )
        };
        let mut result = send(local);
        if result.as_ref().is_err_and(is_final) {
            // The error may be a pending ICMP error for another datagram, perhaps to another peer;
            // it makes only one call fail.
            debug!("sending to {peer} failed, trying once more: {result:?}");
            result = send(local);
        }
        if local.is_some() && result.as_ref().is_err_and(is_final) {
            // The source address may no longer exist; any other address is better than none.
            result = send(None);
        }
        result?;
        self.counters.datagrams += contents.len().div_ceil(segment_len.max(1)) as u64;
        Ok(())
    }

    fn send_singly(
        &mut self,
        to: Route,
        contents: &[u8],
        segment_len: usize,
    ) -> Result<(), SendError> {
        if let Err(error) = self.kernel_send.segment_at(&self.socket, 0) {
            return Err(SendError { taken: contents.len(), error: self.count(error) });
        }
        singly(contents, segment_len, |datagram| {
            self.try_send(to, datagram, datagram.len()).map_err(|error| match error.kind() {
                io::ErrorKind::WouldBlock => error,
                _ => self.count(error),
            })
        })
    }

    fn count(&mut self, error: io::Error) -> io::Error {
        if quinn_udp::is_msg_size_err(&error) {
            self.counters.too_big += 1;
        } else {
            self.counters.refused += 1;
        }
        error
    }
}

/// Whether the error is other than `WouldBlock`.
fn is_final(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::WouldBlock
}

/// Sends each datagram of `contents`, until one has to wait.
fn singly(
    contents: &[u8],
    segment_len: usize,
    mut send: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), SendError> {
    let mut result = Ok(());
    let mut taken = 0;
    for datagram in contents.chunks(segment_len) {
        match send(datagram) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(SendError { taken, error });
            }
            Err(error) => result = Err(SendError { taken: contents.len(), error }),
        }
        taken += datagram.len();
    }
    result
}

/// Sets the IP header byte that DSCP and ECN share. The network may ignore it, so a failure is only
/// logged.
fn set_traffic_class(socket: &Socket, addr: SocketAddr, class: u32) {
    // For IPv4 destinations the IPv4 option applies, even on an IPv6 socket.
    if let Err(error) = socket.set_tos_v4(class) {
        debug!("cannot set the DSCP for IPv4: {error}");
    }
    #[cfg(unix)]
    if addr.is_ipv6()
        && let Err(error) = socket.set_tclass_v6(class)
    {
        debug!("cannot set the DSCP for IPv6: {error}");
    }
}

/// Disables the coalescing of received datagrams.
#[cfg(target_os = "linux")]
fn receive_uncoalesced(socket: &Socket) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::UdpGroSegment};

    Ok(setsockopt(socket, UdpGroSegment, &false)?)
}

#[cfg(not(target_os = "linux"))]
fn receive_uncoalesced(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Converts an IPv4 address to the IPv4-mapped form of IPv6 sockets.
fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddrV6::new(ip.to_ipv6_mapped(), addr.port(), 0, 0).into(),
        IpAddr::V6(_) => addr,
    }
}

/// The smallest MTU on which the protocol can send to `to`, in bytes. IPv6 itself requires more:
/// 1280 bytes (RFC 8200).
pub fn least_mtu(to: SocketAddr) -> usize {
    let least = MIN_DATAGRAM_LEN + header_len(to);
    if canonical(to).is_ipv4() { least } else { least.max(1280) }
}

/// The requested receive buffer, in bytes: some thirty 720p frames, so that a receiver that is not
/// scheduled for a while loses nothing.
pub const RECEIVE_BUFFER_WANTED: usize = 4 << 20;

/// The requested send buffer, in bytes: a few of the largest usual frames.
pub const SEND_BUFFER_WANTED: usize = 2 << 20;

/// The number of buffers in one read; each may hold a coalesced batch.
const RECEIVE_BATCH: usize = 8;

/// The length of each buffer, in bytes: the largest coalesced batch.
const RECEIVE_LEN: usize = 1 << 16;

/// Whether a read that does not fill all buffers ends the turn's reading. On a non-blocking socket,
/// recvmmsg(2) stops early only if the socket is empty or an error is pending. Later datagrams and
/// errors raise a new edge in epoll(7). Elsewhere a read may return one datagram, however many are
/// waiting.
const SHORT_READ_EMPTIES: bool = cfg!(target_os = "linux");

/// The maximum number of reads in one turn, so that a flood cannot hold up the loop.
const READS_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::{super::Dscp, *};

    fn loopback() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn receive_all(socket: &mut UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut got = Vec::new();
        for _ in 0..2000 {
            socket
                .receive(|from, bytes| got.push((from.route.peer.socket_addr(), bytes.to_vec())))
                .unwrap();
            if got.len() >= count {
                break;
            }
            std::thread::yield_now();
        }
        got
    }

    #[test]
    fn a_link_local_address_keeps_its_scope() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 7, 0, 3).into();
        assert_eq!(canonical(scoped), scoped);
        assert_eq!(
            canonical("[::ffff:10.0.0.1]:7".parse().unwrap()),
            "10.0.0.1:7".parse().unwrap()
        );
    }

    #[test]
    fn a_batch_arrives_as_separate_datagrams() {
        let (mut a, mut b) = (loopback(), loopback());
        let contents: Vec<u8> = (0..2500).map(|i| (i % 251) as u8).collect();
        a.send(b.local_addr().unwrap(), &contents, 1000).unwrap();
        let got = receive_all(&mut b, 3);
        assert_eq!(got.iter().map(|g| g.1.len()).collect::<Vec<_>>(), [1000, 1000, 500]);
        assert_eq!(got.concat_bytes(), contents);
        assert_eq!(got[0].0, a.local_addr().unwrap());
        assert_eq!(a.counters().datagrams, 3);
    }

    #[test]
    fn a_dual_stack_socket_exchanges_datagrams_with_ipv4() {
        let (mut any, mut v4) =
            (UdpSocket::bind_any(SocketOptions::default()).unwrap(), loopback());
        any.send(v4.local_addr().unwrap(), b"hi", 2).unwrap();
        let from = receive_all(&mut v4, 1)[0].0;
        v4.send(from, b"ho", 2).unwrap();
        assert_eq!(receive_all(&mut any, 1), [(v4.local_addr().unwrap(), b"ho".to_vec())]);
    }

    /// All of 127.0.0.0/8 belongs to this machine, and datagrams to it come from 127.0.0.1 unless a
    /// source address is set.
    #[test]
    #[cfg(target_os = "linux")]
    fn answers_are_sent_from_the_address_that_was_called() {
        for wildcard in ["0.0.0.0:0", "[::]:0"] {
            let Ok(mut any) = UdpSocket::bind(wildcard.parse().unwrap()) else { continue };
            let mut caller = loopback();
            let called = SocketAddr::from(([127, 0, 0, 77], any.local_addr().unwrap().port()));
            caller.send(called, b"hi", 2).unwrap();
            let mut heard = None;
            while heard.is_none() {
                any.receive(|from, _| heard = Some(from.route)).unwrap();
            }
            let from = heard.unwrap();
            assert_eq!(from.local, LocalIp::new(called.ip(), 0));
            any.send(from, &[7; 2500], 1000).unwrap();
            let answers = receive_all(&mut caller, 3);
            assert_eq!(answers.iter().map(|a| a.0).collect::<Vec<_>>(), [called; 3], "{wildcard}");
            let gone = LocalIp::new([192, 0, 2, 1].into(), 0);
            any.send(Route { local: gone, ..from }, b"ho", 2).unwrap();
            assert_eq!(receive_all(&mut caller, 1).len(), 1, "from any rather than not at all");
        }
    }

    #[test]
    fn an_oversized_datagram_is_counted_and_the_socket_survives() {
        let (mut a, mut b) = (loopback(), loopback());
        let to = b.local_addr().unwrap();
        assert!(a.send(to, &vec![0; 65_508], 65_508).is_err());
        assert_eq!(a.counters().too_big, 1);
        a.send(to, b"x", 1).unwrap();
        assert_eq!(receive_all(&mut b, 1).len(), 1);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_link_local_address_without_its_interface_is_an_error() {
        let mut any = UdpSocket::bind_any(SocketOptions::default()).unwrap();
        let error = any.send("[fe80::1]:7".parse::<SocketAddr>().unwrap(), b"x", 1).unwrap_err();
        assert_eq!(error.error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(any.counters().refused, 1);
    }

    #[test]
    fn a_refused_batch_is_sent_one_datagram_at_a_time() {
        let (mut a, mut b) = (loopback(), loopback());
        // More segments than any kernel accepts in one batch.
        let contents: Vec<u8> = (0..300 * 100).map(|i| (i / 100) as u8).collect();
        a.send(b.local_addr().unwrap(), &contents, 100).unwrap();
        assert_eq!(receive_all(&mut b, 300).concat_bytes(), contents);
        assert_eq!((a.counters().datagrams, a.counters().refused), (300, 0));
        a.send(b.local_addr().unwrap(), &contents[..1000], 100).unwrap();
        assert_eq!(receive_all(&mut b, 10).len(), 10, "the next batch is tried as one");
    }

    #[test]
    fn a_blocked_send_resumes_after_the_last_datagram_taken() {
        let contents = [1, 1, 2, 2, 3];
        let mut asked = Vec::new();
        let mut send = |datagram: &[u8]| {
            asked.push(datagram[0]);
            match datagram[0] {
                1 => Err(io::ErrorKind::PermissionDenied.into()),
                2 if asked.len() == 2 => Err(io::ErrorKind::WouldBlock.into()),
                _ => Ok(()),
            }
        };
        let blocked = singly(&contents, 2, &mut send).unwrap_err();
        singly(&contents[blocked.taken..], 2, &mut send).unwrap();
        let refused = singly(&contents, 2, &mut send).unwrap_err();
        assert_eq!((blocked.is_blocked(), blocked.taken), (true, 2));
        assert_eq!((refused.is_blocked(), refused.taken), (false, 5));
        assert_eq!(asked, [1, 2, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_datagram_longer_than_the_previous_segments_stays_whole() {
        let (mut a, mut b) = (loopback(), loopback());
        for (len, segment_len) in [(2500, 1000), (40, 40), (1400, 1400), (2500, 600), (900, 900)] {
            a.send(b.local_addr().unwrap(), &vec![7; len], segment_len).unwrap();
        }
        let lens: Vec<_> = receive_all(&mut b, 11).iter().map(|g| g.1.len()).collect();
        assert_eq!(lens, [1000, 1000, 500, 40, 1400, 600, 600, 600, 600, 100, 900]);
    }

    #[test]
    fn forced_offload_levels_send_one_datagram_per_call() {
        for offload in [Offload::Batched, Offload::Single] {
            let options = SocketOptions { offload, ..SocketOptions::default() };
            let bind = || UdpSocket::bind_with("127.0.0.1:0".parse().unwrap(), options).unwrap();
            let (mut a, mut b, mut auto) = (bind(), bind(), loopback());
            a.send(b.local_addr().unwrap(), &[7; 2500], 1000).unwrap();
            assert_eq!((a.counters().calls, a.counters().datagrams), (3, 3));
            auto.send(b.local_addr().unwrap(), &[7; 2500], 1000).unwrap();
            assert_eq!(receive_all(&mut b, 6).len(), 6);
        }
    }

    /// The traffic class of each datagram that a plain socket receives, with the ECN bits.
    #[cfg(target_os = "linux")]
    fn traffic_classes(options: SocketOptions, addr: &str, contents: &[u8]) -> Vec<u8> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd;

        let addr: SocketAddr = addr.parse().unwrap();
        let to = std::net::UdpSocket::bind(addr).unwrap();
        if addr.is_ipv6() {
            SockRef::from(&to).set_recv_tclass_v6(true).unwrap();
        } else {
            SockRef::from(&to).set_recv_tos_v4(true).unwrap();
        }
        let mut from = UdpSocket::bind_any(options).unwrap();
        from.send(to.local_addr().unwrap(), contents, 1000).unwrap();
        let class = |_| {
            let (mut buf, mut space) = ([0; 1000], nix::cmsg_space!(i32));
            let mut slices = [IoSliceMut::new(&mut buf)];
            let (fd, flags) = (to.as_raw_fd(), MsgFlags::empty());
            let got = recvmsg::<()>(fd, &mut slices, Some(&mut space), flags).unwrap();
            got.cmsgs().unwrap().find_map(|message| match message {
                ControlMessageOwned::Ipv4Tos(class) => Some(class),
                ControlMessageOwned::Ipv6TClass(class) => Some(class as u8),
                _ => None,
            })
        };
        (0..contents.len().div_ceil(1000)).map(|i| class(i).unwrap()).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_codepoint_is_on_every_datagram() {
        let mut addrs = vec!["127.0.0.1:0"];
        if std::net::UdpSocket::bind("[::1]:0").is_ok() {
            addrs.push("[::1]:0");
        }
        for addr in addrs {
            for offload in [Offload::Auto, Offload::Batched, Offload::Single] {
                for (dscp, class) in
                    [(Dscp::default(), 0x88), (Dscp::NONE, 0), (Dscp::new(46).unwrap(), 0xb8)]
                {
                    let options = SocketOptions { offload, dscp };
                    assert_eq!(traffic_classes(options, addr, &[7; 2500]), [class; 3], "{addr}");
                }
            }
        }
    }

    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for Vec<(SocketAddr, Vec<u8>)> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|(_, bytes)| bytes.clone()).collect()
        }
    }
}
