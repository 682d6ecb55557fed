//! Counts the datagrams that the kernel dropped before we received them, and why.
//!
//! Linux reports each socket's drops by `SO_MEMINFO`, without the reason: a full buffer, or a wrong
//! UDP checksum. It reports reasons only for all sockets together, in `/proc/net/snmp` and `snmp6`.
//! Of a socket's drops, as many as possible are attributed to wrong checksums, and the rest to
//! overruns, up to the machine's counts. Other systems report nothing.
//!
//! `/proc/net/udp` also has the drops of each socket, but is read in pieces: if other sockets are
//! closed between two of them, rows move and one may be missing.

use std::{fs, os::fd::AsFd};

#[cfg(target_os = "linux")]
use nix::{getsockopt_impl, sockopt_impl};

/// Datagrams to one socket that the kernel has dropped since the socket was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelDrops {
    /// The receive buffer was full.
    pub overruns: u64,
    /// The UDP checksum was wrong: they were damaged in transit.
    pub bad_checksums: u64,
}

/// Separates a new socket's drops from earlier ones of the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct DropWatch {
    before: Option<Reasons>,
}

/// Drops of all the machine's sockets together, both IP versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Reasons {
    overruns: u64,
    bad_checksums: u64,
}

impl DropWatch {
    /// For a socket that is created now.
    pub(super) fn new() -> Self {
        Self { before: Reasons::read() }
    }

    /// The drops so far; `None` where the system does not report them.
    pub(super) fn read(&self, socket: impl AsFd) -> Option<KernelDrops> {
        let all = drops_of(socket)?;
        let reasons = if all > 0 { self.before.zip(Reasons::read()) } else { None };
        Some(KernelDrops::of(all, reasons.map(|(before, now)| now.since(before))))
    }
}

impl KernelDrops {
    /// Splits `all` drops of a socket, given the `reasons` of the machine's drops; without them,
    /// all count as overruns.
    fn of(all: u64, reasons: Option<Reasons>) -> Self {
        let Some(reasons) = reasons else { return Self { overruns: all, bad_checksums: 0 } };
        let bad_checksums = all.min(reasons.bad_checksums);
        Self { overruns: (all - bad_checksums).min(reasons.overruns), bad_checksums }
    }
}

impl Reasons {
    fn read() -> Option<Self> {
        let v4 = v4_reasons(&fs::read_to_string("/proc/self/net/snmp").ok()?)?;
        // A machine without IPv6 has no such file.
        let v6 = fs::read_to_string("/proc/self/net/snmp6")
            .map_or_else(|_| Self::default(), |t| v6_reasons(&t));
        Some(Self {
            overruns: v4.overruns + v6.overruns,
            bad_checksums: v4.bad_checksums + v6.bad_checksums,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            overruns: self.overruns.saturating_sub(before.overruns),
            bad_checksums: self.bad_checksums.saturating_sub(before.bad_checksums),
        }
    }

    /// Sums named counters; those unknown to a kernel are zero.
    fn of(count: impl Fn(&str) -> Option<u64>) -> Self {
        let count = |name| count(name).unwrap_or(0);
        Self {
            overruns: count("RcvbufErrors") + count("MemErrors"),
            bad_checksums: count("InCsumErrors"),
        }
    }
}

/// All drops of a socket since it was created.
#[cfg(target_os = "linux")]
fn drops_of(socket: impl AsFd) -> Option<u64> {
    let memory = nix::sys::socket::getsockopt(&socket, SocketMemory).ok()?;
    Some(memory[libc::SK_MEMINFO_DROPS as usize].into())
}

#[cfg(not(target_os = "linux"))]
fn drops_of(_: impl AsFd) -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
sockopt_impl!(
    /// A socket's memory use, and its drops.
    SocketMemory,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; SOCKET_MEMORY_FIELDS]
);

/// Parses `snmp`, which has two lines for each protocol: names, and counts in the same order.
fn v4_reasons(table: &str) -> Option<Reasons> {
    let mut lines = table.lines().filter(|line| line.starts_with("Udp: "));
    let (names, counts) = (lines.next()?, lines.next()?);
    let of = |wanted: &str| {
        let mut pairs = names.split_whitespace().zip(counts.split_whitespace());
        pairs.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(Reasons::of(of))
}

/// Parses `snmp6`, which has a line for each counter.
fn v6_reasons(table: &str) -> Reasons {
    Reasons::of(|wanted| {
        let mut pairs = table.lines().filter_map(|line| line.split_once(char::is_whitespace));
        let (_, count) = pairs.find(|(name, _)| name.strip_prefix("Udp6") == Some(wanted))?;
        count.trim().parse().ok()
    })
}

/// `SK_MEMINFO_VARS` of Linux: the number of fields of `SO_MEMINFO` since 4.12.
#[cfg(target_os = "linux")]
const SOCKET_MEMORY_FIELDS: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const SNMP: &str = "\
Icmp: InMsgs InErrors InCsumErrors
Icmp: 41 7 3
Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
Udp: 9043 12 25 9056 20 0 5 2 1
UdpLite: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti MemErrors
UdpLite: 0 0 0 0 8 0 8 0 8
";

    const SNMP6: &str = "\
Udp6InDatagrams                 \t20
Udp6RcvbufErrors                \t30
Udp6InCsumErrors                \t4
UdpLite6RcvbufErrors            \t99
";

    #[test]
    fn drop_reasons_are_read_by_name() {
        let v4 = Reasons { overruns: 21, bad_checksums: 5 };
        assert_eq!(v4_reasons(SNMP), Some(v4));
        assert_eq!(v4_reasons("Ip: Forwarding\nIp: 1\n"), None);
        assert_eq!(v6_reasons(SNMP6), Reasons { overruns: 30, bad_checksums: 4 });
        assert_eq!(v6_reasons(""), Reasons::default());
    }

    #[test]
    fn overruns_and_bad_checksums_are_distinguished() {
        let drops = |all, overruns, bad_checksums| {
            let drops = KernelDrops::of(all, Some(Reasons { overruns, bad_checksums }));
            (drops.overruns, drops.bad_checksums)
        };
        assert_eq!(drops(7, 0, 7), (0, 7));
        assert_eq!(drops(7, 7, 0), (7, 0));
        assert_eq!(drops(7, 3, 4), (3, 4));
        assert_eq!(drops(7, 90, 90), (0, 7), "including other sockets");
        assert_eq!(drops(7, 0, 0), (0, 0), "something else, such as a filter");
        assert_eq!(KernelDrops::of(7, None), KernelDrops { overruns: 7, bad_checksums: 0 });
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_overrun_buffer_is_counted() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (from, to) = (bind(), bind());
        let watch = DropWatch::new();
        let addr = to.local_addr().unwrap();
        assert_eq!(watch.read(&to), Some(KernelDrops::default()));
        for _ in 0..1000 {
            from.send_to(&[0; 1400], addr).unwrap();
        }
        let drops = await_drops(&watch, &to, 1, std::time::Duration::from_secs(20));
        assert!(drops.overruns > 0, "{drops:?}");
    }

    /// Needs root, for a socket that writes its own UDP headers.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_bad_checksum_is_not_an_overrun() {
        use socket2::{Domain, Protocol, SockAddr, Socket, Type};
        let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
            eprintln!("skipped: a raw socket needs root");
            return;
        };
        let to = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (watch, addr) = (DropWatch::new(), to.local_addr().unwrap());
        let [high, low] = addr.port().to_be_bytes();
        // The kernel checks a short datagram before it finds the socket, and a long one when it is
        // read.
        let mut datagram = [7; 208];
        // Ports, length, and a wrong checksum.
        datagram[..8].copy_from_slice(&[high, low, high, low, 0, 208, 0xba, 0xad]);
        // The queue of the loopback interface may be full of another test's datagrams; then the
        // kernel drops ours before any socket.
        let mut sent = 0;
        let drops = loop {
            raw.send_to(&datagram, &SockAddr::from(addr)).unwrap();
            sent += 1;
            let drops = await_drops(&watch, &to, 3, std::time::Duration::from_millis(20));
            if drops.bad_checksums >= 3 || sent == 1000 {
                break drops;
            }
        };
        assert!(drops.overruns == 0 && (3..=sent).contains(&drops.bad_checksums), "{drops:?}");
    }

    /// Waits until `socket` has dropped `least` datagrams, but not longer than `limit`. A busy
    /// kernel delivers loopback datagrams some time after `send` returns, and checks a checksum
    /// only when the datagram is read.
    #[cfg(target_os = "linux")]
    fn await_drops(
        watch: &DropWatch,
        socket: &std::net::UdpSocket,
        least: u64,
        limit: std::time::Duration,
    ) -> KernelDrops {
        let until = crate::clock::now() + limit;
        socket.set_nonblocking(true).unwrap();
        loop {
            while socket.recv(&mut [0; 1500]).is_ok() {}
            let drops = watch.read(socket).unwrap();
            if drops.overruns + drops.bad_checksums >= least || crate::clock::now() > until {
                return drops;
            }
            std::thread::yield_now();
        }
    }

    /// In this case `/proc/net/udp` loses rows.
    #[test]
    #[cfg(target_os = "linux")]
    fn drops_are_read_while_other_sockets_open_and_close() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (socket, watch) = (bind(), DropWatch::new());
        std::thread::scope(|scope| {
            let others = scope.spawn(|| {
                for _ in 0..200 {
                    drop((0..60).map(|_| bind()).collect::<Vec<_>>());
                }
            });
            loop {
                assert_eq!(watch.read(&socket), Some(KernelDrops::default()));
                if others.is_finished() {
                    break;
                }
            }
        });
    }
}
