//! How many datagrams the kernel has dropped, since a socket's buffer was full.
//!
//! Linux tells in the last column of `/proc/net/udp` and `/proc/net/udp6`; elsewhere nobody does.

use std::{fs, os::fd::AsFd};

/// Dropped since the socket was made; `None` where the system does not say.
pub(super) fn kernel_drops(socket: impl AsFd) -> Option<u64> {
    let inode = rustix::fs::fstat(socket).ok()?.st_ino;
    ["/proc/self/net/udp6", "/proc/self/net/udp"]
        .iter()
        .find_map(|table| drops_in(&fs::read_to_string(table).ok()?, inode))
}

fn drops_in(table: &str, inode: u64) -> Option<u64> {
    let row = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut rows = row.filter(|fields| fields.len() > INODE);
    let ours = rows.find(|fields| fields[INODE].parse() == Ok(inode))?;
    ours.last()?.parse().ok()
}

/// The column of the inode.
const INODE: usize = 9;

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  371: 0100007F:1E2A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1234 2 0000000000000000 17
  372: 0100007F:1E2B 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 1235 2 0000000000000000 0
short line
";

    #[test]
    fn the_row_of_the_inode_is_read() {
        assert_eq!(drops_in(TABLE, 1234), Some(17));
        assert_eq!(drops_in(TABLE, 1235), Some(0));
        assert_eq!(drops_in(TABLE, 1), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn an_overrun_buffer_drops() {
        let bind = || std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let (from, to) = (bind(), bind());
        let addr = to.local_addr().unwrap();
        assert_eq!(kernel_drops(&to), Some(0));
        for _ in 0..1000 {
            from.send_to(&[0; 1400], addr).unwrap();
        }
        assert!(kernel_drops(&to).unwrap() > 0);
    }
}
