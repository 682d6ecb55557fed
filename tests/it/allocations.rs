//! In a steady stream the network path allocates nothing, neither per datagram nor per frame.

use std::time::{Duration, Instant};

use udpchat::{
    clock,
    net::{
        frame::OutgoingFrame,
        io::UdpSocket,
        recovery::parity_control::FecMode,
        route::{LocalIp, Route},
        session::{Endpoint, EndpointConfig, Role, Target},
    },
};

use crate::program::WAIT_LIMIT;

fn endpoint(now: Instant, role: Role, fec: FecMode) -> Endpoint {
    let config = EndpointConfig { fec, ..crate::endpoint::config("test", role, now) };
    Endpoint::new(now, config)
}

/// Two sockets and two endpoints. Carries one frame at a time from the sender to the receiver.
struct Path {
    from: UdpSocket,
    to: UdpSocket,
    sender: Endpoint,
    receiver: Endpoint,
    buf: Vec<u8>,
    now: Instant,
    /// Whether the parity chunks suffice to recover a lost batch.
    recovers: bool,
}

impl Path {
    fn new(percent: u8) -> Self {
        let bind = || UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let (from, to) = (bind(), bind());
        let now = clock::now();
        let target = Target { host: "here".into(), port: 0, addrs: vec![to.local_addr().unwrap()] };
        let role = Role::Send { targets: vec![target], control: false };
        let sender = endpoint(now, role, FecMode::Percent(percent));
        let receiver = endpoint(now, Role::Receive, FecMode::Off);
        let recovers = percent >= 20;
        Self { from, to, sender, receiver, buf: vec![0; 65_507], now, recovers }
    }

    /// Carries one frame. If `loses`, drops the second batch of datagrams.
    fn carry(&mut self, frame: &OutgoingFrame, loses: bool) {
        self.now += Duration::from_millis(33);
        self.sender.push_frame(self.now, frame);
        let mut batch = 0;
        while let Some(transmit) = self.sender.poll_transmit(self.now, &mut self.buf, 16) {
            batch += 1;
            if loses && batch == 2 {
                continue;
            }
            let contents = &self.buf[..transmit.len];
            self.from.send(transmit.to, contents, transmit.segment_len).unwrap();
            let (mut left, until) = (contents.len(), clock::now() + WAIT_LIMIT);
            while left > 0 {
                assert!(clock::now() < until, "the kernel has dropped {left} bytes");
                let (receiver, now) = (&mut self.receiver, self.now);
                self.to
                    .receive(|from, datagram| {
                        left -= datagram.len();
                        receiver.handle_datagram(now, from, datagram);
                    })
                    .unwrap();
            }
        }
        for endpoint in [&mut self.sender, &mut self.receiver] {
            endpoint.handle_timeout(self.now);
            while endpoint.poll_event().is_some() {}
        }
        assert_eq!(self.receiver.poll_frame().is_none(), loses && !self.recovers);
    }
}

/// The work on a frame is done once for all receivers, in memory that is reused for each frame.
#[test]
fn a_stream_to_several_receivers_does_not_allocate() {
    let start = clock::now();
    let target = |i: u16| {
        let addrs = vec![([10, 0, 0, 1], 7000 + i).into()];
        Target { host: format!("host{i}"), port: 7000 + i, addrs }
    };
    let role = Role::Send { targets: (0..3).map(target).collect(), control: false };
    let mut sender = endpoint(start, role, FecMode::Percent(20));
    let frame = OutgoingFrame { data: vec![7; 117_000].into(), captured: start };
    let (mut buf, mut now) = (vec![0; 65_507], start);
    let mut send = || {
        let mut datagrams = 0;
        sender.push_frame(now, &frame);
        let end = now + Duration::from_millis(33);
        while now < end {
            while let Some(transmit) = sender.poll_transmit(now, &mut buf, 16) {
                datagrams += transmit.len.div_ceil(transmit.segment_len);
            }
            now += Duration::from_micros(500);
            sender.handle_timeout(now);
            while sender.poll_event().is_some() {}
        }
        assert_eq!(datagrams, 3 * (101 + 20), "all of the frame, to each");
    };
    (0..20).for_each(|_| send());
    let counted = allocation_counter::measure(|| (0..50).for_each(|_| send()));
    assert_eq!(counted.count_total, 0, "{counted:?}");
}

#[test]
fn a_running_stream_does_not_allocate() {
    for percent in [1, 20] {
        let mut path = Path::new(percent);
        let frame = OutgoingFrame { data: vec![7; 117_000].into(), captured: path.now };
        for i in 0..50 {
            path.carry(&frame, i % 5 == 3);
        }
        let counted = allocation_counter::measure(|| {
            for i in 0..100 {
                path.carry(&frame, i % 5 == 3);
            }
        });
        assert_eq!(counted.count_total, 0, "{percent} % parity: {counted:?}");
    }
    let (mut from, local) = (UdpSocket::bind("0.0.0.0:0".parse().unwrap()).unwrap(), "127.0.0.77");
    let peer = from.local_addr().unwrap().into();
    let to = Route { peer, local: LocalIp::new(local.parse().unwrap(), 0) };
    from.send(to, &[7; 2500], 1000).unwrap();
    let counted = allocation_counter::measure(|| from.send(to, &[7; 2500], 1000).unwrap());
    assert_eq!(counted.count_total, 0, "with a source address: {counted:?}");
    let control = allocation_counter::measure(|| drop(std::hint::black_box(vec![0_u8; 10])));
    assert_eq!(control.count_total, 1, "the counter works");
}
