//! Drivers on their own threads, over real sockets. Every wait is bounded.

use std::{cell::Cell, net::SocketAddr, thread::JoinHandle, time::Duration};

use udpchat::{
    clock,
    latest::{Latest, Taken},
    net::{
        frame::{FrameBytes, OutgoingFrame},
        io::{
            Driver, DriverConfig, FrameInlet, Handle, Listen, NetStats, Offload, SocketOptions,
            shared_epoch,
        },
        session::{Delivered, EndpointConfig, Event, Role, Target},
        wire::control::CloseReason,
    },
};

use crate::sim::{number_of, picture};

pub(crate) const WAIT_LIMIT: Duration = Duration::from_secs(60);
pub(crate) const FRAME_LEN: usize = 40_000;
pub(crate) const LOOPBACK: &str = "127.0.0.1:0";

thread_local! {
    /// The offload level of this test's drivers.
    pub(crate) static OFFLOAD: Cell<Offload> = const { Cell::new(Offload::Auto) };
}

/// A driver on its thread. Closes its calls on drop.
pub(crate) struct Side {
    pub(crate) handle: Handle,
    pub(crate) inlet: FrameInlet,
    pub(crate) received: Latest<Delivered>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    pub(crate) fn start(config: DriverConfig) -> Self {
        let (driver, handle) = Driver::bind(config).expect("bound");
        let thread = std::thread::spawn(|| driver.run());
        let (inlet, received) = (handle.inlet(), handle.received());
        Self { handle, inlet, received, thread: Some(thread) }
    }

    pub(crate) fn receiver(addr: &str, control: bool) -> Self {
        let addr = addr.parse().expect("an address");
        Self::start(listen_config(Role::Receive, addr, control))
    }

    pub(crate) fn sender(to: SocketAddr, control: bool) -> Self {
        Self::start(dial_config(Role::Send { targets: vec![target(to)], control }))
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Waits for an event that `pick` accepts and discards all others.
    pub(crate) fn wait<T>(&self, what: &str, mut pick: impl FnMut(Event) -> Option<T>) -> T {
        wait(what, || std::iter::from_fn(|| self.handle.try_event()).find_map(&mut pick))
    }

    pub(crate) fn wait_connected(&self) -> SocketAddr {
        self.wait("a session", |event| match event {
            Event::Connected { peer, .. } => Some(peer.addr),
            _ => None,
        })
    }

    /// Waits until the statistics satisfy `check`.
    pub(crate) fn wait_stats(&self, what: &str, check: impl Fn(&NetStats) -> bool) -> NetStats {
        wait(what, || Some(self.handle.stats()).filter(|s| check(s)))
    }

    /// Calls `send`, and again every 300 ms until the statistics satisfy `check`, because the
    /// kernel of a busy machine may drop datagrams. Statistics are at most 250 ms old.
    pub(crate) fn resend_until(
        &self,
        what: &str,
        mut send: impl FnMut(),
        check: impl Fn(&NetStats) -> bool,
    ) -> NetStats {
        wait(what, || {
            send();
            let until = clock::now() + Duration::from_millis(300);
            loop {
                let stats = self.handle.stats();
                if check(&stats) {
                    return Some(stats);
                }
                if clock::now() >= until {
                    return None;
                }
                std::thread::park_timeout(Duration::from_millis(2));
            }
        })
    }

    pub(crate) fn quit(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.handle.close(CloseReason::Quit);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the driver did not panic");
        }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(crate) fn config(name: &str, role: Role) -> EndpointConfig {
    let epoch = clock::now();
    EndpointConfig {
        shared_epoch: shared_epoch(epoch),
        seed: clock::monotonic().as_nanos() as u64,
        ..crate::endpoint::config(name, role, epoch)
    }
}

pub(crate) fn listen_config(role: Role, addr: SocketAddr, control: bool) -> DriverConfig {
    let listen = Some(Listen { addr, control });
    driver_config(config("bob", role), listen)
}

pub(crate) fn dial_config(role: Role) -> DriverConfig {
    driver_config(config("ann", role), None)
}

pub(crate) fn driver_config(endpoint: EndpointConfig, listen: Option<Listen>) -> DriverConfig {
    let socket = SocketOptions { offload: OFFLOAD.get(), ..SocketOptions::default() };
    DriverConfig { endpoint, listen, socket, egress: None, ingress: None }
}

pub(crate) fn target(to: SocketAddr) -> Target {
    Target { host: "loopback".into(), port: to.port(), addrs: vec![to] }
}

/// Calls `attempt` until it returns a value, for at most [`WAIT_LIMIT`].
pub(crate) fn wait<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_up_to(WAIT_LIMIT, what, attempt)
}

/// Calls `attempt` until it returns a value, for at most `limit`.
pub(crate) fn wait_up_to<T>(
    limit: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let deadline = clock::now() + limit;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(clock::now() < deadline, "waited {limit:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Sends picture `number` until it arrives. It is resent every 500 ms, because the kernel of a busy
/// machine may drop datagrams.
pub(crate) fn deliver(from: &Side, to: &Side, number: u64, len: usize) -> Delivered {
    let data = FrameBytes::from(picture(number, len));
    wait("a frame", || {
        from.inlet.push(OutgoingFrame { data: data.clone(), captured: clock::now() });
        let deadline = clock::now() + Duration::from_millis(500);
        loop {
            let left = deadline.saturating_duration_since(clock::now());
            match to.received.take(left) {
                Taken::Value(d) if number_of(&d.frame.data) == number => return Some(d),
                Taken::Value(_) | Taken::Nudged => {}
                Taken::TimedOut | Taken::Closed => return None,
            }
        }
    })
}

pub(crate) fn deliver_some(from: &Side, to: &Side) {
    for number in 0..10 {
        deliver(from, to, number, FRAME_LEN);
    }
}
