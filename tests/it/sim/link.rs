//! The links of the simulated network, for datagrams.

use std::{net::SocketAddr, time::Instant};

use udpchat::net::{
    netem::{Netem, NetemSpec},
    units::Bitrate,
    wire::datagram::MAX_DATAGRAM_LEN,
};

use super::node::NodeId;

/// A link from each node to each node; several pairs may share one.
pub(super) struct Links {
    all: Vec<Link>,
    /// The index of the link from each node to each node, in row-major order.
    routes: Vec<usize>,
    nodes: usize,
}

/// One link, in one direction.
pub(super) struct Link {
    /// Each datagram carries its source address and destination node.
    netem: Netem<(SocketAddr, NodeId)>,
    pub(super) open: bool,
    /// In bytes of UDP payload; longer datagrams are lost.
    pub(super) mtu: usize,
}

impl Links {
    /// Links that follow `spec`, each with its own seed.
    pub(super) fn new(nodes: usize, spec: NetemSpec) -> Self {
        let link = |index: usize| {
            let seed = spec.seed.wrapping_mul(0x9e37_79b9).wrapping_add(index as u64);
            Link::new(NetemSpec { seed, ..spec })
        };
        let links: Vec<_> = (0..nodes * nodes).map(link).collect();
        Self { routes: (0..links.len()).collect(), all: links, nodes }
    }

    /// The link from `from` to `to`.
    pub(super) fn between(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let index = self.routes[from.0 * self.nodes + to.0];
        &mut self.all[index]
    }

    /// Routes several pairs of nodes over one new link.
    pub(super) fn share(&mut self, pairs: &[(NodeId, NodeId)], spec: NetemSpec) {
        self.all.push(Link::new(spec));
        for (from, to) in pairs {
            self.routes[from.0 * self.nodes + to.0] = self.all.len() - 1;
        }
    }

    /// Opens or blocks every link.
    pub(super) fn set_open(&mut self, open: bool) {
        for link in &mut self.all {
            link.open = open;
        }
    }

    /// The next datagram that has arrived by `now`, with its source and the node it is for. Each
    /// link delivers its datagrams in the order of their arrival.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Vec<u8>, SocketAddr, NodeId)> {
        let (datagram, (source, to)) = self.all.iter_mut().find_map(|link| link.netem.poll(now))?;
        Some((datagram, source, to))
    }

    /// When the next datagram arrives.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.all.iter().filter_map(|link| link.netem.poll_timeout()).min()
    }
}

impl Link {
    pub(super) fn new(spec: NetemSpec) -> Self {
        Self { netem: Netem::new(spec), open: true, mtu: MAX_DATAGRAM_LEN }
    }

    /// Sets the rate.
    pub(super) fn set_rate(&mut self, rate: Bitrate) {
        self.netem.set_rate(Some(rate));
    }

    /// Sends a datagram along the link, unless it is blocked or the datagram is too long.
    pub(super) fn push(&mut self, now: Instant, datagram: &[u8], source: SocketAddr, to: NodeId) {
        if self.open && datagram.len() <= self.mtu {
            self.netem.push(now, datagram, (source, to));
        }
    }
}

#[test]
fn a_link_carries_datagrams_while_it_is_open_and_they_fit() {
    let now = udpchat::clock::now();
    let (ann, bob) = (NodeId(0), NodeId(1));
    let source = SocketAddr::from(([10, 0, 0, 1], 7));
    let mut links = Links::new(2, NetemSpec { delay: super::MS, ..NetemSpec::default() });
    let link = links.between(ann, bob);
    link.mtu = 3;
    link.push(now, b"long", source, bob);
    link.open = false;
    link.push(now, b"two", source, bob);
    link.open = true;
    link.push(now, b"one", source, bob);
    assert_eq!(links.poll_timeout(), Some(now + super::MS));
    assert_eq!(links.poll(now), None);
    assert_eq!(links.poll(now + super::MS), Some((b"one".to_vec(), source, bob)));
    assert_eq!(links.poll(now + super::MS), None);
}

#[test]
fn pairs_that_share_a_link_share_its_impairments() {
    let (ann, bob, eve) = (NodeId(0), NodeId(1), NodeId(2));
    let mut links = Links::new(3, NetemSpec::default());
    links.share(&[(ann, bob), (ann, eve)], NetemSpec::default());
    links.between(ann, bob).mtu = 500;
    assert_eq!(links.between(ann, eve).mtu, 500);
    assert_eq!(links.between(bob, ann).mtu, MAX_DATAGRAM_LEN);
    links.set_open(false);
    assert!(!links.between(ann, eve).open && !links.between(bob, eve).open);
}
