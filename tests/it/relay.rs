//! A relay between two sides, which can read, change, drop and inject traffic.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

/// The channel of relayed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    Control,
    Media,
}

/// The direction of relayed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToAnswerer,
    ToDialler,
}

/// Inspects relayed data, may change it in place, and returns whether to forward it.
type Tamper = dyn FnMut(Channel, Way, &mut Vec<u8>) -> bool + Send;

/// A relay on loopback. Its threads end on drop.
pub(crate) struct Relay {
    addr: SocketAddr,
    answerer: SocketAddr,
    udp: Arc<UdpSocket>,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    over: AtomicBool,
    tamper: Mutex<Box<Tamper>>,
    dialler: Mutex<Option<SocketAddr>>,
}

impl Relay {
    /// A relay in front of `answerer`; `tamper` inspects all traffic.
    pub(crate) fn before(
        answerer: SocketAddr,
        tamper: impl FnMut(Channel, Way, &mut Vec<u8>) -> bool + Send + 'static,
    ) -> Self {
        let (udp, listener) = bind();
        let addr = udp.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            over: AtomicBool::new(false),
            tamper: Mutex::new(Box::new(tamper)),
            dialler: Mutex::default(),
        });
        let udp = Arc::new(udp);
        let (socket, of_udp) = (Arc::clone(&udp), Arc::clone(&shared));
        let of_tcp = Arc::clone(&shared);
        let threads = vec![
            std::thread::spawn(move || of_udp.carry_datagrams(&socket, answerer)),
            std::thread::spawn(move || of_tcp.accept(&listener, answerer)),
        ];
        Self { addr, answerer, udp, shared, threads }
    }

    /// The address that the dialler calls.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Sends a forged or replayed datagram from the relay's address.
    pub(crate) fn inject(&self, way: Way, datagram: &[u8]) {
        let to = match way {
            Way::ToAnswerer => Some(self.answerer),
            Way::ToDialler => *self.shared.dialler.lock().expect("not poisoned"),
        };
        self.udp.send_to(datagram, to.expect("a caller is known")).expect("sent");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    fn may_pass(&self, channel: Channel, way: Way, bytes: &mut Vec<u8>) -> bool {
        self.tamper.lock().expect("not poisoned")(channel, way, bytes)
    }

    fn carry_datagrams(&self, socket: &UdpSocket, answerer: SocketAddr) {
        let mut buf = vec![0; 65_536];
        while !self.is_over() {
            let Ok((len, from)) = socket.recv_from(&mut buf) else { continue };
            let way = if from == answerer { Way::ToDialler } else { Way::ToAnswerer };
            let mut datagram = buf[..len].to_vec();
            let to = {
                let mut dialler = self.dialler.lock().expect("not poisoned");
                if way == Way::ToAnswerer {
                    *dialler = Some(from);
                    Some(answerer)
                } else {
                    *dialler
                }
            };
            if self.may_pass(Channel::Media, way, &mut datagram) {
                let _ = to.map(|to| socket.send_to(&datagram, to));
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, answerer: SocketAddr) {
        let mut threads = Vec::new();
        while !self.is_over() {
            let Ok((dialler, _)) = listener.accept() else {
                std::thread::park_timeout(Duration::from_millis(2));
                continue;
            };
            let Ok(onward) = TcpStream::connect(answerer) else { continue };
            for (from, to, way) in
                [(&dialler, &onward, Way::ToAnswerer), (&onward, &dialler, Way::ToDialler)]
            {
                let (from, to) = (from.try_clone().expect("ours"), to.try_clone().expect("ours"));
                let shared = Arc::clone(self);
                threads.push(std::thread::spawn(move || shared.carry_bytes(from, to, way)));
            }
        }
        for thread in threads {
            let _ = thread.join();
        }
    }

    fn carry_bytes(&self, mut from: TcpStream, mut to: TcpStream, way: Way) {
        from.set_nonblocking(false).expect("ours");
        from.set_read_timeout(Some(Duration::from_millis(20))).expect("ours");
        let mut buf = vec![0; 65_536];
        while !self.is_over() {
            match from.read(&mut buf) {
                Ok(0) => break,
                Ok(len) => {
                    let mut bytes = buf[..len].to_vec();
                    if self.may_pass(Channel::Control, way, &mut bytes)
                        && to.write_all(&bytes).is_err()
                    {
                        break;
                    }
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => break,
            }
        }
        let _ = to.shutdown(std::net::Shutdown::Both);
    }
}

/// Binds UDP and TCP to the same port.
fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bound");
        if let Ok(listener) = TcpListener::bind(udp.local_addr().expect("bound")) {
            udp.set_read_timeout(Some(Duration::from_millis(20))).expect("ours");
            listener.set_nonblocking(true).expect("ours");
            return (udp, listener);
        }
    }
    panic!("no port is free for both")
}
