//! Passes datagrams to the kernel, a batch in one call.
//!
//! On Linux the segment length is a socket option, set when it changes, and the call is a plain
//! `sendto`, or a `sendmmsg` that sets the source address. `quinn-udp` passes the segment length in
//! a control message, always together with the header byte that ECN and DSCP share, which would
//! clear the DSCP. Other systems use `quinn-udp`.

use std::io;

use mio::net::UdpSocket;
use quinn_udp::UdpSocketState;

use crate::net::route::Route;

/// The kernel's segmentation state of one socket.
#[derive(Debug, Default)]
pub(super) struct KernelSend {
    /// The segment length set in the kernel; 0: no segmentation.
    segment_len: usize,
}

impl KernelSend {
    /// Sends `contents` as datagrams of `segment_len` bytes; the last may be shorter. An error
    /// means that none was sent.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        to: Route,
        contents: &[u8],
        segment_len: usize,
    ) -> io::Result<()> {
        // A datagram no longer than the segment length is not split, so the option may stay set.
        if contents.len() > segment_len {
            self.segment_at(socket, segment_len)?;
        } else if contents.len() > self.segment_len {
            self.segment_at(socket, 0)?;
        }
        loop {
            match send_now(socket, state, to, contents, self.segment_len) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Whether segmentation is enabled.
    pub(super) fn segments(&self) -> bool {
        self.segment_len > 0
    }

    /// Sets the kernel's segment length; 0 disables segmentation.
    pub(super) fn segment_at(&mut self, socket: &UdpSocket, len: usize) -> io::Result<()> {
        if len != self.segment_len {
            set_segment_len(socket, len)?;
            self.segment_len = len;
        }
        Ok(())
    }
}

#[cfg(target_os = "linux")]
fn set_segment_len(socket: &UdpSocket, len: usize) -> io::Result<()> {
    use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};

    // A datagram has fewer than 65,536 bytes.
    Ok(setsockopt(socket, UdpGsoSegment, &(len as i32))?)
}

#[cfg(target_os = "linux")]
fn send_now(
    socket: &UdpSocket,
    _: &UdpSocketState,
    to: Route,
    contents: &[u8],
    _: usize,
) -> io::Result<()> {
    let result = match to.local {
        None => socket.send_to(contents, to.peer.socket_addr()).map(drop),
        Some(local) => linux::send_from(socket, local, to.peer.socket_addr(), contents),
    };
    match result {
        // With the error queue enabled, the kernel reports a full local queue. It counts as network
        // loss, and some datagrams of a batch may have been sent.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        result => result,
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        cell::RefCell,
        io::{self, IoSlice},
        net::{IpAddr, SocketAddr},
        os::fd::AsRawFd,
    };

    use nix::{
        cmsg_space,
        libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo},
        sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrStorage, sendmmsg},
    };

    use crate::net::route::LocalIp;

    /// Sends from the address `local` instead of the kernel's choice.
    pub(super) fn send_from(
        socket: &impl AsRawFd,
        local: LocalIp,
        to: SocketAddr,
        contents: &[u8],
    ) -> io::Result<()> {
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        let (slices, to) = ([[IoSlice::new(contents)]], [Some(SockaddrStorage::from(to))]);
        HEADERS.with_borrow_mut(|headers| {
            match local.ip {
                IpAddr::V4(ip) => {
                    let ipi_spec_dst = in_addr { s_addr: u32::from_ne_bytes(ip.octets()) };
                    let ipi_addr = in_addr { s_addr: 0 };
                    let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst, ipi_addr };
                    let from = [ControlMessage::Ipv4PacketInfo(&info)];
                    sendmmsg(fd, &mut headers.v4, &slices, to, from, flags)?;
                }
                IpAddr::V6(ip) => {
                    let ipi6_addr = in6_addr { s6_addr: ip.octets() };
                    let info = in6_pktinfo { ipi6_addr, ipi6_ifindex: local.interface };
                    let from = [ControlMessage::Ipv6PacketInfo(&info)];
                    sendmmsg(fd, &mut headers.v6, &slices, to, from, flags)?;
                }
            }
            Ok(())
        })
    }

    /// Buffers for one message's control data; `nix`'s `sendmsg` would allocate one each time.
    struct Headers {
        v4: MultiHeaders<SockaddrStorage>,
        v6: MultiHeaders<SockaddrStorage>,
    }

    thread_local! {
        static HEADERS: RefCell<Headers> = RefCell::new(Headers {
            v4: MultiHeaders::preallocate(1, Some(cmsg_space!(in_pktinfo))),
            v6: MultiHeaders::preallocate(1, Some(cmsg_space!(in6_pktinfo))),
        });
    }
}

#[cfg(not(target_os = "linux"))]
fn set_segment_len(_: &UdpSocket, _: usize) -> io::Result<()> {
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn send_now(
    socket: &UdpSocket,
    state: &UdpSocketState,
    to: Route,
    contents: &[u8],
    segment_len: usize,
) -> io::Result<()> {
    let segment_size = (contents.len() > segment_len && segment_len > 0).then_some(segment_len);
    let (destination, src_ip) = (to.peer.socket_addr(), to.local.map(|local| local.ip));
    let transmit = quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip };
    state.try_send(socket.into(), &transmit)
}
