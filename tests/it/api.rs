//! The library as another program uses it.

use std::time::Duration;

use udpchat::{
    Access, Bitrate, EventKind, Frame, Identity, Image, PixelFormat, Receiver, SendError, Sender,
    StartError, clock,
};

const WAIT_LIMIT: Duration = Duration::from_secs(60);

/// A receiver on a free loopback port, and the address to send to.
fn receiver(access: Access) -> (Receiver, String) {
    let builder = Receiver::builder().listen_on("127.0.0.1:0").access(access);
    let receiver = builder.start().expect("a free port");
    let addr = receiver.local_addr().to_string();
    (receiver, addr)
}

/// An image of one shade.
fn image(width: usize, height: usize, luma: u8) -> Image {
    Image::new(width, height, PixelFormat::Bgr, vec![luma; 3 * width * height])
}

/// Sends pictures until one arrives for which `is_wanted` is true.
fn exchange(
    receiver: &mut Receiver,
    mut send: impl FnMut() -> Result<(), SendError>,
    is_wanted: impl Fn(&Frame) -> bool,
) -> Frame {
    let until = clock::now() + WAIT_LIMIT;
    while clock::now() < until {
        send().expect("it can be sent");
        let frame = receiver.recv_timeout(Duration::from_millis(100)).expect("it runs");
        if let Some(frame) = frame.filter(&is_wanted) {
            return frame;
        }
    }
    panic!("no picture has arrived")
}

#[test]
fn a_picture_arrives_with_its_pixels_and_times() {
    let (mut receiver, addr) = receiver(Access::new());
    let access = Access::new().name("lens");
    let mut sender = Sender::builder().to(&addr).access(access).start().expect("it starts");
    assert!(sender.wait_connected(WAIT_LIMIT));
    let picture = image(320, 240, 120);
    let frame = exchange(&mut receiver, || sender.send(&picture), |f| f.captured().is_some());
    let decoded = frame.image().expect("it decodes");
    assert_eq!((decoded.width, decoded.height, decoded.format), (320, 240, PixelFormat::Bgr));
    assert!(decoded.data.iter().all(|byte| byte.abs_diff(120) < 4));
    let peer = frame.sender().expect("it is connected");
    assert_eq!(peer.name.as_deref(), Some("lens"));
    assert!(frame.captured().expect("wanted") <= frame.completed());
    assert!(frame.stages().send.is_some() && frame.stages().network.is_some());
    assert_eq!(sender.receivers().len(), 1);
}

#[test]
fn a_jpeg_arrives_byte_for_byte() {
    let (mut receiver, addr) = receiver(Access::new());
    let mut sender = Sender::connect(&addr).expect("it starts");
    assert!(sender.wait_connected(WAIT_LIMIT));
    let picture = image(64, 48, 200);
    let jpeg = exchange(&mut receiver, || sender.send(&picture), |_| true).jpeg().to_vec();
    let is_it = |frame: &Frame| frame.jpeg() == jpeg && frame.number() > 0;
    exchange(&mut receiver, || sender.send_jpeg(jpeg.clone()), is_it);
    let error = sender.send_jpeg(b"no picture".to_vec()).expect_err("not a JPEG");
    assert!(matches!(error, SendError::Jpeg(_)), "{error}");
    let error = sender.send(&image(0, 0, 0)).expect_err("it is empty");
    assert!(matches!(error, SendError::Size(_)), "{error}");
    let mut short = image(64, 48, 0);
    short.data.truncate(10);
    let error = sender.send(&short).expect_err("it lacks pixels");
    assert!(matches!(error, SendError::DataLen { expected: 9216, actual: 10, .. }), "{error}");
    exchange(&mut receiver, || sender.send(&image(48, 64, 9)), |f| f.image().unwrap().height == 64);
    assert!(sender.statistics().encoded >= 3);
    // The counters of the network are published with a delay of up to a quarter of a second.
    let mut is_counted = || {
        receiver.recv_timeout(Duration::from_millis(100)).expect("it runs");
        receiver.statistics().completed >= 3 && sender.statistics().sent >= 3
    };
    assert!((0..600).any(|_| is_counted()));
}

#[test]
fn only_peers_with_the_code_or_key_are_accepted() {
    let known = Identity::generate();
    let code = "correct horse battery";
    let only_known = Access::new().code(code).peer_key(known.public_key());
    let (mut receiver, addr) = receiver(only_known);
    let with = |access: Access| Sender::builder().to(&addr).access(access).start().unwrap();
    let mut stranger = with(Access::new().code(code));
    let mut wrong_code = with(Access::new().code("another code").identity(known.clone()));
    let mut right = with(Access::new().code(code).identity(known.clone()));
    assert!(right.wait_connected(WAIT_LIMIT));
    let picture = image(64, 48, 1);
    exchange(&mut receiver, || right.send(&picture), |_| true);
    assert_eq!(receiver.sender().and_then(|peer| peer.key), Some(known.public_key()));
    assert!(stranger.receivers().is_empty() && wrong_code.receivers().is_empty());
}

/// A receiver with a key other than the expected one is given up. The other link is not affected.
#[test]
fn only_the_impostor_is_given_up() {
    let known = Identity::generate();
    let (mut right, right_addr) = receiver(Access::new().identity(known.clone()));
    let (_impostor, wrong_addr) = receiver(Access::new());
    let access = Access::new().peer_key(known.public_key());
    let builder = Sender::builder().to(&wrong_addr).to(&right_addr).access(access.clone());
    let mut sender = builder.start().expect("it starts");
    assert!(sender.wait_connected(WAIT_LIMIT));
    let picture = image(64, 48, 5);
    exchange(&mut right, || sender.send(&picture), |_| true);
    let mut only_wrong = Sender::builder().to(&wrong_addr).access(access).start().unwrap();
    assert!(!only_wrong.wait_connected(WAIT_LIMIT), "it is given up");
    let given_up = |event: &udpchat::Event| matches!(event.kind, EventKind::GivenUp { .. });
    assert!(std::iter::from_fn(|| only_wrong.next_event()).any(|event| given_up(&event)));
    only_wrong.send(&picture).expect("the sender still runs");
}

#[test]
fn events_tell_who_comes_and_goes() {
    let (mut receiver, addr) = receiver(Access::new());
    let mut sender = Sender::connect(&addr).expect("it starts");
    assert!(sender.wait_connected(WAIT_LIMIT));
    let picture = image(64, 48, 77);
    exchange(&mut receiver, || sender.send(&picture), |_| true);
    drop(sender);
    let mut kinds = Vec::new();
    for _ in 0..600 {
        receiver.recv_timeout(Duration::from_millis(100)).expect("it runs");
        while let Some(event) = receiver.next_event() {
            assert!(!event.to_string().is_empty());
            kinds.push(event.kind);
        }
        if matches!(kinds.last(), Some(EventKind::Disconnected(_))) {
            break;
        }
    }
    assert!(matches!(kinds.first(), Some(EventKind::Connected(_))), "{kinds:?}");
    assert!(matches!(kinds.last(), Some(EventKind::Disconnected(_))), "{kinds:?}");
    assert_eq!(receiver.sender(), None);
    let waiting = Sender::connect("127.0.0.1:9").expect("it starts");
    drop(waiting);
}

#[test]
fn impossible_configurations_are_refused() {
    let start = |builder: udpchat::SenderBuilder| builder.start().expect_err("impossible");
    let to = || Sender::builder().to("localhost");
    assert!(matches!(start(Sender::builder()), StartError::NoReceiver));
    assert!(matches!(start(Sender::builder().to("http://desk")), StartError::Host(_)));
    assert!(matches!(start(to().fps(f64::NAN)), StartError::FrameRate(_)));
    assert!(matches!(start(to().quality(0)), StartError::Quality(0)));
    let little = Bitrate::from_bps(99_999);
    assert!(matches!(start(to().max_bitrate(little)), StartError::Bitrate(b) if b == little));
    assert!(matches!(start(Sender::builder().to("localhost:0")), StartError::NoPort(_)));
    assert!(matches!(start(to().access(Access::new().code("short"))), StartError::Code(_)));
    let secret = format!("{:?}", Access::new().code("correct horse battery"));
    assert!(!secret.contains("horse"), "{secret}");
    let listen = Receiver::listen("desk").expect_err("a name");
    assert!(matches!(listen, StartError::Address(_)), "{listen}");
    let (_receiver, addr) = receiver(Access::new());
    let taken = Receiver::listen(&addr).expect_err("it is taken");
    assert!(matches!(taken, StartError::Bind(_)), "{taken}");
}
