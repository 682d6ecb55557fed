//! Hands datagrams to the kernel, a batch in one call.
//!
//! On Linux the segment length is an option of the socket, set when it changes, and the call is a
//! plain `sendto`. `quinn-udp` passes it in a control message, and with it always the byte of the
//! IP header that ECN and DSCP share, so that no DSCP could leave. Elsewhere it does the sending.

use std::{io, net::SocketAddr};

use mio::net::UdpSocket;
use quinn_udp::UdpSocketState;

/// What the kernel knows of segments.
#[derive(Debug, Default)]
pub(super) struct KernelSend {
    /// Bytes at which the kernel cuts; 0: nowhere.
    segment_len: usize,
}

impl KernelSend {
    /// Sends `contents` as datagrams of `segment_len` bytes, the last may be shorter: all or none.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        state: &UdpSocketState,
        to: SocketAddr,
        contents: &[u8],
        segment_len: usize,
    ) -> io::Result<()> {
        // One that is no longer than a segment is left whole, so the option may stay.
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

    /// Whether the kernel would cut anything.
    pub(super) fn segments(&self) -> bool {
        self.segment_len > 0
    }

    /// Makes the kernel cut at `len` bytes, or nowhere if that is 0.
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

    // A datagram has less than 65,536 bytes.
    Ok(setsockopt(socket, UdpGsoSegment, &(len as i32))?)
}

#[cfg(target_os = "linux")]
fn send_now(
    socket: &UdpSocket,
    _: &UdpSocketState,
    to: SocketAddr,
    contents: &[u8],
    _: usize,
) -> io::Result<()> {
    match socket.send_to(contents, to) {
        // Whoever asks for the error queue is told when a queue of this machine is full. It is a loss like
        // any other, and of a batch some may have left.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        result => result.map(drop),
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
    destination: SocketAddr,
    contents: &[u8],
    segment_len: usize,
) -> io::Result<()> {
    let segment_size = (contents.len() > segment_len && segment_len > 0).then_some(segment_len);
    let transmit =
        quinn_udp::Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
    state.try_send(socket.into(), &transmit)
}
