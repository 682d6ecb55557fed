//! Real drivers over real sockets on loopback. Every wait is bounded; no test asserts speed.

use std::{
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    time::Duration,
};

use udpchat::net::{
    frame::MAX_FRAME_LEN,
    io::Offload,
    session::{EndReason, Event, Role, StrayCounters, WaitReason},
    wire::{
        control::{CloseReason, ControlError},
        text::Line,
    },
};

use crate::{
    side::{
        FRAME_LEN, LOOPBACK, OFFLOAD, Side, WAIT_LIMIT, deliver, deliver_some, dial_config,
        listen_config, target,
    },
    sim::picture,
};

/// All tests below, at each offload level to which a system may fall back.
#[test]
fn all_loopback_tests_pass_at_each_offload_level() {
    for offload in [Offload::Batched, Offload::Single] {
        OFFLOAD.set(offload);
        a_stream_with_control_is_delivered_over_ipv4();
        a_one_way_stream_over_ipv4_is_never_answered();
        streams_are_delivered_over_ipv6();
        a_dual_stack_receiver_accepts_an_ipv4_sender();
        a_chat_carries_video_and_text_in_both_directions();
        the_largest_frame_is_delivered();
        a_sender_waits_for_its_receiver_and_reconnects();
        stray_datagrams_are_counted_and_harmless();
        strangers_at_the_control_port_do_not_disturb_a_stream();
    }
}

/// Any port of a loopback address that no other process uses, so that none of them takes a port
/// that a test needs to be free. All of 127.0.0.0/8 is local.
fn own_loopback() -> String {
    let [_, x, y, z] = std::process::id().to_be_bytes();
    format!("127.{}.{y}.{z}:0", 1 + x % 254)
}

/// Whether this machine has IPv6; if not, prints that the test is skipped.
fn has_ipv6(test: &str) -> bool {
    let has = UdpSocket::bind("[::1]:0").is_ok();
    if !has {
        println!("{test} is skipped: this machine has no IPv6");
    }
    has
}

#[test]
fn a_stream_with_control_is_delivered_over_ipv4() {
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    assert_eq!(sender.wait_connected(), receiver.addr());
    receiver.wait_connected();
    for number in 0..30 {
        let delivered = deliver(&sender, &receiver, number, FRAME_LEN);
        let captured = delivered.local(delivered.frame.captured).expect("one machine");
        assert_eq!(captured.error, Duration::ZERO, "both read one clock");
        assert!(captured.at <= delivered.frame.completed);
    }
    sender.quit();
    let reason = receiver.wait("the end", |event| match event {
        Event::Ended { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, EndReason::Closed(CloseReason::Quit));
}

#[test]
fn a_one_way_stream_over_ipv4_is_never_answered() {
    let receiver = Side::receiver(&own_loopback(), false);
    let sender = Side::sender(receiver.addr(), false);
    deliver_some(&sender, &receiver);
    let stats =
        receiver.wait_stats("datagrams", |s| s.calls.iter().any(|c| c.1.datagrams_received > 0));
    assert_eq!((stats.send.calls, stats.calls[0].1.datagrams_sent), (0, 0));
    TcpStream::connect(receiver.addr()).expect_err("nobody listens");
}

#[test]
fn streams_are_delivered_over_ipv6() {
    if !has_ipv6("streams_are_delivered_over_ipv6") {
        return;
    }
    for control in [true, false] {
        let receiver = Side::receiver("[::1]:0", control);
        let sender = Side::sender(receiver.addr(), control);
        deliver_some(&sender, &receiver);
    }
}

#[test]
fn a_dual_stack_receiver_accepts_an_ipv4_sender() {
    if !has_ipv6("a_dual_stack_receiver_accepts_an_ipv4_sender") {
        return;
    }
    for control in [true, false] {
        let receiver = Side::receiver("[::]:0", control);
        let sender = Side::sender(([127, 0, 0, 1], receiver.addr().port()).into(), control);
        deliver_some(&sender, &receiver);
        assert!(receiver.wait_connected().is_ipv4(), "not IPv4-mapped");
    }
}

#[test]
fn a_chat_carries_video_and_text_in_both_directions() {
    let addr = LOOPBACK.parse().expect("an address");
    let bob = Side::start(listen_config(Role::ChatListen, addr, true));
    let ann = Side::start(dial_config(Role::ChatDial(target(bob.addr()))));
    ann.wait_connected();
    for number in 0..10 {
        deliver(&ann, &bob, number, FRAME_LEN);
        deliver(&bob, &ann, 100 + number, FRAME_LEN / 3);
    }
    let heard = |side: &Side| {
        side.wait("text", |event| match event {
            Event::Text { from, line } => Some(format!("{from}: {line}")),
            _ => None,
        })
    };
    let line = |text| Line::new(text).expect("a line");
    assert!(ann.handle.say(line("hello, Bob")) && bob.handle.say(line("hello, Ann")));
    assert_eq!((heard(&ann), heard(&bob)), ("bob: hello, Ann".into(), "ann: hello, Bob".into()));
}

#[test]
fn the_largest_frame_is_delivered() {
    let receiver = Side::receiver(LOOPBACK, true);
    let mut config =
        dial_config(Role::Send { targets: vec![target(receiver.addr())], control: true });
    // Paced, because small receive buffers do not hold 7,308 datagrams at once.
    config.egress = Some("rate=1gbit".parse().expect("a specification"));
    let sender = Side::start(config);
    sender.wait_connected();
    let delivered = deliver(&sender, &receiver, 1, MAX_FRAME_LEN);
    assert_eq!(delivered.frame.data.len(), MAX_FRAME_LEN);
}

#[test]
fn a_sender_waits_for_its_receiver_and_reconnects() {
    let addr = {
        let receiver = Side::receiver(&own_loopback(), true);
        receiver.addr()
    };
    let sender = Side::sender(addr, true);
    let reason = sender.wait("the reason", |event| match event {
        Event::Waiting { reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(reason, WaitReason::NobodyListens);
    for _ in 0..2 {
        let receiver = Side::start(listen_config(Role::Receive, addr, true));
        sender.wait_connected();
        deliver_some(&sender, &receiver);
    }
}

#[test]
fn stray_datagrams_are_counted_and_harmless() {
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    deliver_some(&sender, &receiver);
    let stranger = UdpSocket::bind(LOOPBACK).expect("bound");
    let send = |bytes: &[u8]| stranger.send_to(bytes, receiver.addr()).map(drop).expect("sent");
    let mut rounds = 0_u64;
    let send_all = || {
        rounds += 1;
        for len in 0..100 {
            send(&picture(7, 1400)[8..8 + len]);
        }
        send(&datagram(0x01, 7));
        send(&datagram(0x11, 7));
        send(&datagram(0x21, 7));
        let mut damaged = datagram(0x21, 7);
        damaged[5] ^= 1;
        send(&damaged);
        send(&datagram(0x20, 7));
    };
    let counted = |strays: StrayCounters| {
        let StrayCounters { foreign, other_version, checksum, malformed, unknown_session, .. } =
            strays;
        [foreign, other_version, checksum, malformed, unknown_session]
    };
    // The socket layer does not pass up an empty datagram.
    let least = [95, 2, 1, 1, 1];
    let stats = receiver.resend_until("all of them", send_all, |s| {
        counted(s.strays).into_iter().zip(least).all(|(count, least)| count >= least)
    });
    let most = [100, 2, 1, 1, 1].map(|once| once * rounds);
    let is_right = counted(stats.strays).into_iter().zip(most).all(|(count, most)| count <= most);
    assert!(is_right, "{:?} after sending all {rounds} times", stats.strays);
    deliver_some(&sender, &receiver);
    let stats = receiver.wait_stats("datagrams", |s| !s.calls.is_empty());
    assert_eq!(stats.calls.len(), 1, "still the first session");
    assert_eq!(stats.calls[0].1.reassembly.damaged, 0);
}

/// A datagram with a valid checksum, this version-and-kind byte and this session id.
fn datagram(version_and_kind: u8, session: u32) -> Vec<u8> {
    let mut datagram = vec![0xd5, version_and_kind, 0, 0, 0, 0, 0, 0];
    datagram.extend(session.to_be_bytes());
    datagram.extend([0; 30]);
    let crc = crc32fast::hash(&datagram);
    datagram.extend(crc.to_be_bytes());
    datagram
}

#[test]
fn strangers_at_the_control_port_do_not_disturb_a_stream() {
    let receiver = Side::receiver(LOOPBACK, true);
    let sender = Side::sender(receiver.addr(), true);
    deliver_some(&sender, &receiver);
    let connect = || TcpStream::connect(receiver.addr()).expect("it listens");
    let mut http = connect();
    http.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").expect("written");
    let violation = |event| match event {
        Event::ProtocolViolation { error, .. } => Some(error),
        _ => None,
    };
    assert_eq!(receiver.wait("the violation", violation), ControlError::NotUdpchat);
    let mut old = connect();
    old.write_all(b"udpchat\x00").expect("written");
    assert_eq!(receiver.wait("the violation", violation), ControlError::Version(0));
    let mut long = connect();
    long.write_all(b"udpchat\x02\xff\xff").expect("written");
    assert_eq!(receiver.wait("the violation", violation), ControlError::TooLong(0xffff));
    // More connections than there is room for: silent, or with part or all of the preface.
    let half_open = (0..100).map(|i| {
        let mut stream = connect();
        // The receiver may already have closed it for lack of room.
        let _ = stream.write_all(&b"udpchat\x02\x00"[..i % 9]);
        stream
    });
    let half_open: Vec<_> = half_open.collect();
    deliver_some(&sender, &receiver);
    for stream in [&mut http, &mut old, &mut long] {
        assert_eq!(read_to_end(stream), b"udpchat\x02", "our version, then the end");
    }
    drop(half_open);
    deliver_some(&sender, &receiver);
    let ended = |e| matches!(e, Event::Ended { .. });
    assert!(!std::iter::from_fn(|| receiver.handle.try_event()).any(ended));
}

/// Reads until the connection ends; any error, such as a reset or a timeout, counts as an end.
fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(WAIT_LIMIT)).expect("a timeout");
    let (mut read, mut buf) = (Vec::new(), [0; 64]);
    loop {
        match stream.read(&mut buf) {
            Ok(0) | Err(_) => return read,
            Ok(len) => read.extend_from_slice(&buf[..len]),
        }
    }
}
