//! The UDP socket: `quinn-udp`'s offloads on a `mio` socket, addresses in their plain form,
//! errors as weather.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
};

use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// A non-blocking UDP socket that sends and receives in batches where the system can.
#[derive(Debug)]
pub struct UdpSocket {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
    is_v6: bool,
    buffers: [Box<[u8]>; RECEIVE_BATCH],
    counters: SendCounters,
}

/// The socket's buffers in the kernel, in bytes as the kernel counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// Of the receiving side.
    pub receive: usize,
    /// Of the sending side.
    pub send: usize,
}

/// What became of datagrams handed to the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendCounters {
    /// System calls.
    pub calls: u64,
    /// Datagrams that the kernel took.
    pub datagrams: u64,
    /// Datagrams larger than the path takes.
    pub too_big: u64,
    /// Datagrams refused for any other reason: no route, no buffer, a firewall.
    pub refused: u64,
}

impl UdpSocket {
    /// Binds to `addr`; an IPv6 wildcard takes IPv4 as well.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        // What the kernel allows is what we get; `buffer_sizes` tells how much that was.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_WANTED);
        let _ = socket.set_send_buffer_size(SEND_BUFFER_WANTED);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self {
            socket: mio::net::UdpSocket::from_std(socket.into()),
            state,
            is_v6: addr.is_ipv6(),
            buffers: std::array::from_fn(|_| vec![0; RECEIVE_LEN].into()),
            counters: SendCounters::default(),
        })
    }

    /// Binds to any address and any port, for IPv6 and IPv4 where both are there.
    pub fn bind_any() -> io::Result<Self> {
        Self::bind((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Self::bind((Ipv4Addr::UNSPECIFIED, 0).into()))
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many datagrams one [`send`](Self::send) may hold.
    pub fn max_batch(&self) -> usize {
        self.state.max_gso_segments()
    }

    /// How many datagrams the kernel may hand over as one.
    pub fn max_coalesced(&self) -> usize {
        self.state.gro_segments()
    }

    /// What the kernel gave us.
    pub fn buffer_sizes(&self) -> io::Result<BufferSizes> {
        let socket = SockRef::from(&self.socket);
        Ok(BufferSizes { receive: socket.recv_buffer_size()?, send: socket.send_buffer_size()? })
    }

    /// What became of what was sent.
    pub fn counters(&self) -> SendCounters {
        self.counters
    }

    /// Datagrams that the kernel dropped since its buffer was full; `None` where it does not say.
    pub fn kernel_drops(&self) -> Option<u64> {
        super::kernel_drops::kernel_drops(&self.socket)
    }

    /// The socket, to be registered with a poll.
    pub fn source(&mut self) -> &mut mio::net::UdpSocket {
        &mut self.socket
    }

    /// Sends `contents` as datagrams of `segment_len` bytes, the last may be shorter.
    ///
    /// `WouldBlock` means: again, when the socket is writable. Any other error has been counted,
    /// and what it hit is gone; it is returned so that it can be told.
    pub fn send(&mut self, to: SocketAddr, contents: &[u8], segment_len: usize) -> io::Result<()> {
        let datagrams = contents.len().div_ceil(segment_len.max(1)) as u64;
        match self.try_send(to, contents, (datagrams > 1).then_some(segment_len)) {
            Ok(()) => {
                self.counters.datagrams += datagrams;
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
            // A device may refuse a batch that it would take piece by piece.
            Err(_) if datagrams > 1 => self.send_singly(to, contents, segment_len),
            Err(error) => Err(self.count(error)),
        }
    }

    /// Takes what has come, until there is no more or enough for one turn; `handle`
    /// gets each datagram. True: there may be more.
    pub fn receive(&mut self, mut handle: impl FnMut(SocketAddr, &[u8])) -> io::Result<bool> {
        for _ in 0..READS_AT_ONCE {
            let mut metas = [RecvMeta::default(); RECEIVE_BATCH];
            let mut slices = self.buffers.each_mut().map(|b| IoSliceMut::new(b));
            let count = match self.state.recv((&self.socket).into(), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for (meta, buffer) in metas.iter().zip(self.buffers.iter()).take(count) {
                let from = plain(meta.addr);
                for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                    handle(from, datagram);
                }
            }
        }
        Ok(true)
    }

    fn try_send(
        &mut self,
        to: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let destination = if self.is_v6 { mapped(to) } else { to };
        let transmit =
            quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        self.counters.calls += 1;
        self.state.try_send((&self.socket).into(), &transmit)
    }

    fn send_singly(
        &mut self,
        to: SocketAddr,
        contents: &[u8],
        segment_len: usize,
    ) -> io::Result<()> {
        let mut result = Ok(());
        for datagram in contents.chunks(segment_len) {
            match self.try_send(to, datagram, None) {
                Ok(()) => self.counters.datagrams += 1,
                Err(error) => result = Err(self.count(error)),
            }
        }
        result
    }

    fn count(&mut self, error: io::Error) -> io::Error {
        if quinn_udp::is_msg_size_err(&error) {
            self.counters.too_big += 1;
        } else {
            self.counters.refused += 1;
        }
        // Half a batch may be gone already, so the caller must not send it again.
        if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::Other.into() } else { error }
    }
}

/// An IPv4 address that an IPv6 socket gave, as IPv4; any other, with its scope, as it is.
pub(super) fn plain(addr: SocketAddr) -> SocketAddr {
    match addr.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// `addr` as an IPv6 socket wants it.
fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddrV6::new(ip.to_ipv6_mapped(), addr.port(), 0, 0).into(),
        IpAddr::V6(_) => addr,
    }
}

/// What we ask of the kernel for receiving: thirty 720p frames, so that a receiver that is not
/// scheduled for a while loses nothing. Linux counts the bookkeeping as well, about as much again.
pub const RECEIVE_BUFFER_WANTED: usize = 4 << 20;

/// What we ask for sending: a few of the largest usual frames.
pub const SEND_BUFFER_WANTED: usize = 2 << 20;

/// Buffers to read into at once; each may hold a coalesced batch.
const RECEIVE_BATCH: usize = 8;

/// Bytes of a buffer to read into: the largest coalesced batch.
const RECEIVE_LEN: usize = 1 << 16;

/// Reads before anything else gets its turn, so that a flood cannot hold the loop.
const READS_AT_ONCE: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback() -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    fn receive_all(socket: &mut UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut got = Vec::new();
        for _ in 0..2000 {
            socket.receive(|from, bytes| got.push((from, bytes.to_vec()))).unwrap();
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
        assert_eq!(plain(scoped), scoped);
        assert_eq!(plain("[::ffff:10.0.0.1]:7".parse().unwrap()), "10.0.0.1:7".parse().unwrap());
    }

    #[test]
    fn a_batch_arrives_as_its_datagrams() {
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
    fn a_dual_stack_socket_speaks_plain_ipv4() {
        let (mut any, mut v4) = (UdpSocket::bind_any().unwrap(), loopback());
        any.send(v4.local_addr().unwrap(), b"hi", 2).unwrap();
        let from = receive_all(&mut v4, 1)[0].0;
        v4.send(from, b"ho", 2).unwrap();
        assert_eq!(receive_all(&mut any, 1), [(v4.local_addr().unwrap(), b"ho".to_vec())]);
    }

    #[test]
    fn an_oversized_datagram_is_counted_and_the_socket_lives() {
        let (mut a, mut b) = (loopback(), loopback());
        let to = b.local_addr().unwrap();
        assert!(a.send(to, &vec![0; 65_508], 65_508).is_err());
        assert_eq!(a.counters().too_big, 1);
        a.send(to, b"x", 1).unwrap();
        assert_eq!(receive_all(&mut b, 1).len(), 1);
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
