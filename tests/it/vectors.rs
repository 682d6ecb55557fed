//! The golden vectors, written by hand from `docs/PROTOCOL.md`. Each valid vector parses into the
//! expected value, which is emitted as exactly these bytes. Parsing an invalid one returns the
//! expected error.

use std::{collections::BTreeSet, fs, path::PathBuf, time::Duration};

use udpchat::net::{
    crypto::{
        keys::SharedSecret,
        seal::{MediaSecrets, Sealer},
    },
    frame::{FrameId, SessionId},
    framing::fec::{Blocks, ParityEncoder},
    time::MediaTime,
    units::DataSize,
    wire::{
        checksum::{CrcCombiner, Hashed},
        control::{
            Accept, Cipher, CloseReason, ControlError, Epoch, Hello, MediaOffer, Message, PREFACE,
            Purpose, RejectReason, SecretPart, StreamParams, parse_framed, parse_preface,
        },
        datagram::{DatagramError, Direction, Form, Kind, Prelude},
        nack::{ChunkRun, MissingChunks, Nack, NackError},
        path_probe::{ACK_LEN, PathProbe, PathProbeAck, PathProbeError},
        probe::{Probe, ProbeError, ProbeReply},
        report::{FrameCounts, Report, ReportError, Train},
        text::{Line, Name},
        video::{ChunkError, Extent, VideoHeader},
    },
};

/// The body of a datagram, as a value.
#[derive(Debug, PartialEq)]
enum Body {
    Video(VideoHeader, Vec<u8>),
    Probe(Probe),
    Reply(ProbeReply),
    Report(Report),
    Nack(Box<Nack>),
    /// The second field is the length of the body.
    PathProbe(PathProbe, usize),
    PathProbeAck(PathProbeAck),
}

/// Why a datagram is refused, by the layer that refuses it.
#[derive(Debug, PartialEq)]
enum Refusal {
    Datagram(DatagramError),
    Chunk(ChunkError),
    Probe(ProbeError),
    Report(ReportError),
    Nack(NackError),
    PathProbe(PathProbeError),
}

#[test]
fn datagrams_parse_and_are_emitted_byte_for_byte() {
    for (name, prelude, body) in datagrams() {
        let bytes = vector(name);
        assert_eq!(parse(&bytes), Ok((prelude, body)), "{name}");
        let (prelude, body) = parse(&bytes).expect("just parsed");
        assert_eq!(emit(&prelude, &body), bytes, "{name}");
    }
}

#[test]
fn the_parity_vectors_match_the_encoder() {
    let body = [PICTURE, &crc32fast::hash(PICTURE).to_be_bytes()].concat();
    let source = |chunk: u16, bytes: &mut [u8]| {
        let chunk = body.chunks(8).nth(chunk.into()).expect("one of three");
        bytes[..chunk.len()].copy_from_slice(chunk);
    };
    let mut parity = Vec::new();
    ParityEncoder::new().encode(Blocks::of(3), 8, 0..3, source, &mut parity);
    for (name, index) in [("video-parity", 0), ("video-parity-fresh", 2)] {
        let Ok((_, Body::Video(_, bytes))) = parse(&vector(name)) else { panic!("{name}") };
        assert_eq!(bytes, parity[index * 8..][..8], "{name}");
    }
}

/// These vectors were made with another implementation of HKDF and the ciphers.
#[test]
fn bodies_are_sealed_and_opened_byte_for_byte() {
    let answerer = Direction::FromAnswerer;
    let agreed = || {
        let hash: Vec<u8> = (0xa0..0xc0).collect();
        MediaSecrets::agreed(&hash, &secret_part(0), &secret_part(64))
    };
    let key = SharedSecret::from_bytes([0x33; 32]);
    let shared = || MediaSecrets::shared(&key, prelude(Kind::Video, answerer, 0).session);
    let (aes, chacha) = (Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305);
    let sealed: [(&str, &str, &dyn Fn() -> MediaSecrets, Cipher); 3] = [
        (SEALED[0], "video-first", &agreed, aes),
        (SEALED[1], "probe-reply", &agreed, chacha),
        (SEALED[2], "video-single", &shared, chacha),
    ];
    for (name, clear, secrets, cipher) in sealed {
        let mut bytes = vector(name);
        assert_eq!(Form::of(&bytes), Ok(Form::Sealed), "{name}");
        let prelude = Prelude::read(&bytes).expect("a prelude");
        let (from, sequence) = (prelude.direction, prelude.sequence);
        let clear = vector(clear);
        let body = &clear[Prelude::LEN..clear.len() - Form::Clear.trailer_len()];
        let mut emitted = vec![0xa5; Form::Sealed.overhead() + body.len()];
        emitted[Prelude::LEN..][..body.len()].copy_from_slice(body);
        let (mut sealer, _): (Sealer, _) = secrets().into_keys(from, cipher, sequence, 0);
        sealer.seal(&prelude, &mut emitted);
        assert_eq!(emitted, bytes, "{name}");
        let (_, mut opener) = secrets().into_keys(from.reversed(), cipher, 0, sequence);
        assert_eq!(opener.open(&prelude, &mut bytes), Ok(body), "{name}");
    }
}

#[test]
fn messages_parse_and_are_emitted_byte_for_byte() {
    for (name, message) in messages() {
        let bytes = vector(name);
        assert_eq!(Message::from_bytes(&bytes), Ok(message.clone()), "{name}");
        assert_eq!(message.to_bytes()[..], bytes, "{name}");
    }
}

#[test]
fn the_offer_matches_its_vector() {
    let offer = MediaOffer { max_datagram_len: 1200, secret: secret_part(64), has_aes: true };
    assert_eq!(vector(OFFER), offer.to_bytes()[..]);
    assert_eq!(MediaOffer::from_bytes(&vector(OFFER)), Ok(offer));
}

#[test]
fn the_preface_matches_its_vector() {
    assert_eq!(vector("preface"), PREFACE);
    assert_eq!(parse_preface(&PREFACE), Ok(Some(8)));
}

#[test]
fn invalid_datagrams_are_refused_for_the_expected_reason() {
    for (name, refusal) in invalid_datagrams() {
        assert_eq!(parse(&vector(name)), Err(refusal), "{name}");
    }
}

#[test]
fn invalid_control_bytes_are_refused_for_the_expected_reason() {
    for (name, error) in INVALID_MESSAGES {
        assert_eq!(Message::from_bytes(&vector(name)), Err(error), "{name}");
    }
    let overlong = vector("invalid-message-overlong");
    assert_eq!(parse_framed(&overlong), Err(ControlError::TooLong(4097)));
    for (name, error) in INVALID_PREFACES {
        assert_eq!(parse_preface(&vector(name)), Err(error), "{name}");
    }
}

#[test]
fn every_vector_is_tested() {
    let tested = datagrams().into_iter().map(|d| d.0);
    let tested = tested.chain(messages().into_iter().map(|m| m.0)).chain([
        OFFER,
        "preface",
        "invalid-message-overlong",
    ]);
    let tested = tested.chain(SEALED);
    let tested = tested.chain(invalid_datagrams().into_iter().map(|i| i.0));
    let tested = tested.chain(INVALID_MESSAGES.map(|i| i.0)).chain(INVALID_PREFACES.map(|i| i.0));
    let tested: BTreeSet<String> = tested.map(|name| format!("{name}.hex")).collect();
    let files = fs::read_dir(directory()).expect("the vectors are there");
    let files = files.map(|f| f.expect("readable").file_name().into_string().expect("UTF-8"));
    let files: BTreeSet<String> =
        files.filter(|f| std::path::Path::new(f).extension().is_some_and(|e| e == "hex")).collect();
    assert_eq!(files, tested);
}

fn datagrams() -> Vec<(&'static str, Prelude, Body)> {
    let from_dialler = |kind, sequence| prelude(kind, Direction::FromDialler, sequence);
    let from_answerer = |kind, sequence| prelude(kind, Direction::FromAnswerer, sequence);
    let video = |sequence, header, bytes: &[u8]| {
        (from_dialler(Kind::Video, sequence), Body::Video(header, bytes.to_vec()))
    };
    let captured = MediaTime::from_micros(0x01_0203_0405);
    let first = VideoHeader {
        frame: FrameId(41),
        captured,
        age: Duration::from_millis(2),
        extent: Some(Extent { body_len: 18, source_chunks: 3, parity_chunks: 0 }),
        chunk_len: 8,
        chunk: 0,
    };
    let middle = VideoHeader { chunk: 1, ..first };
    let last = VideoHeader { age: Duration::from_micros(2016), chunk: 2, ..first };
    let single = VideoHeader {
        frame: FrameId(7),
        captured: MediaTime::MAX,
        age: Duration::from_micros(16 * 65_535),
        extent: Some(Extent { body_len: 7, source_chunks: 1, parity_chunks: 0 }),
        chunk_len: 1160,
        ..first
    };
    let next = captured.after(Duration::from_micros(33_333));
    let unknown = VideoHeader {
        frame: FrameId(42),
        captured: next,
        age: Duration::ZERO,
        extent: None,
        chunk: 5,
        ..first
    };
    let before_wrap = VideoHeader { frame: FrameId(u32::MAX), age: Duration::ZERO, ..last };
    let after_wrap = VideoHeader { frame: FrameId(0), captured: next, ..before_wrap };
    let parity = VideoHeader {
        age: Duration::from_micros(2080),
        extent: first.extent.map(|e| Extent { parity_chunks: 2, ..e }),
        chunk: 3,
        ..first
    };
    let last_number = VideoHeader {
        age: Duration::ZERO,
        extent: Some(Extent { body_len: 131_070, source_chunks: u16::MAX, parity_chunks: 1 }),
        chunk_len: 2,
        chunk: u16::MAX,
        ..first
    };
    let whole = [PICTURE, &crc32fast::hash(PICTURE).to_be_bytes()].concat();
    let lone = [LONE_PICTURE, &crc32fast::hash(LONE_PICTURE).to_be_bytes()].concat();
    let rest = &whole[16..];
    let parity_bytes = [0x30, 0x98, 0x37, 0xe1, 0xa5, 0x63, 0x0e, 0x9f];
    let fresh = VideoHeader {
        age: Duration::from_millis(6),
        extent: first.extent.map(|e| Extent { parity_chunks: 3, ..e }),
        chunk: 5,
        ..first
    };
    let fresh_bytes = [0x5a, 0xd1, 0x43, 0x0d, 0x25, 0x7e, 0x36, 0xac];
    let probe = Probe { origin: 1_000_000 };
    let reply = ProbeReply {
        origin: 1_000_000,
        received: MediaTime::from_micros(500),
        sent: MediaTime::from_micros(510),
    };
    let named = |name, (prelude, body)| (name, prelude, body);
    vec![
        named("video-first", video(0, first, &whole[..8])),
        named("video-middle", video(1, middle, &whole[8..16])),
        named("video-last", video(2, last, rest)),
        ("video-single", from_answerer(Kind::Video, 0xa1b2_c3d4_e5f6), Body::Video(single, lone)),
        named("video-unknown-extent", video(3, unknown, &[0, 1, 2, 3, 4, 5, 6, 7])),
        named("video-before-wrap", video(4, before_wrap, rest)),
        named("video-after-wrap", video(5, after_wrap, rest)),
        named("video-parity", video(6, parity, &parity_bytes)),
        named("video-parity-fresh", video(12, fresh, &fresh_bytes)),
        named("video-last-number", video(8, last_number, &[0xbe, 0xef])),
        ("path-probe", from_dialler(Kind::PathProbe, 9), Body::PathProbe(PathProbe { id: 5 }, 12)),
        (
            "path-probe-ack",
            from_answerer(Kind::PathProbeAck, 3),
            Body::PathProbeAck(PathProbeAck { id: 5, datagram_len: 28 }),
        ),
        ("probe", from_dialler(Kind::Probe, 7), Body::Probe(probe)),
        ("probe-reply", from_answerer(Kind::ProbeReply, 0), Body::Reply(reply)),
        ("report", from_answerer(Kind::Report, 9), Body::Report(report())),
        ("nack", from_answerer(Kind::Nack, 10), Body::Nack(Box::new(nack()))),
    ]
}

fn report() -> Report {
    Report {
        highest_sequence: 3000,
        largest_burst: 3,
        received: 2979,
        interval: Duration::from_millis(50),
        lost: 22,
        longest_datagram: 1200,
        received_bytes: 3_547_760,
        newest_frame: FrameId(41),
        frames: FrameCounts {
            completed: 29,
            repaired_by_parity: 5,
            repaired_by_nack: 1,
            incomplete: 1,
            late: 0,
        },
        kernel_drops: 7,
        queueing_delay: Some(Duration::from_micros(1200)),
        delay_gradient: -500,
        jitter: Duration::from_micros(250),
        train: Some(Train {
            frame: FrameId(40),
            growth: Duration::from_micros(600),
            size: DataSize::from_bytes(114_000),
            span: Duration::from_micros(9500),
        }),
    }
}

fn nack() -> Nack {
    let (mut known, mut unknown) = (MissingChunks::of(FrameId(41)), MissingChunks::of(FrameId(42)));
    assert!(known.push_block(4));
    assert!([5, 6, 7, 90].into_iter().all(|chunk| known.push_chunk(chunk)));
    assert!(unknown.push_run(ChunkRun { first: 16, count: 65_520 }));
    let mut nack = Nack::new(2);
    assert!(nack.push(known) && nack.push(unknown));
    nack
}

/// 32 bytes that count up from `first`.
fn secret_part(first: u8) -> SecretPart {
    SecretPart::from_bytes(std::array::from_fn(|i| first + i as u8))
}

fn messages() -> Vec<(&'static str, Message)> {
    let stream = StreamParams { width: 1280, height: 720, millifps: 30_000, quality: Some(80) };
    let small = StreamParams { width: 640, height: 480, millifps: 12_500, quality: None };
    let hello = Hello {
        session: 0xc0fe_fe01,
        name: Name::new("ann@desk"),
        purpose: Purpose::Send,
        stream: Some(stream),
        epoch: Epoch { boot: u64::MAX, monotonic_us: 128 },
        max_datagram_len: 1472,
        secret: secret_part(0),
        cipher: Cipher::Aes256Gcm,
    };
    let hello_chat = Hello {
        session: 7,
        name: Name::new("bob"),
        purpose: Purpose::Chat,
        stream: None,
        epoch: Epoch { boot: 0, monotonic_us: 0 },
        max_datagram_len: 508,
        secret: secret_part(32),
        cipher: Cipher::ChaCha20Poly1305,
    };
    let accept =
        Accept { name: Name::new("bob"), stream: None, epoch: Epoch { boot: 1, monotonic_us: 2 } };
    let busy = RejectReason::Busy { with: Name::new("eve") };
    vec![
        ("hello", Message::Hello(hello)),
        ("hello-chat", Message::Hello(hello_chat)),
        ("accept", Message::Accept(accept)),
        ("reject-busy", Message::Reject(busy)),
        ("reject-unwanted", Message::Reject(RejectReason::Unwanted { wants: Purpose::Send })),
        ("reject-malformed", Message::Reject(RejectReason::Malformed)),
        ("reject-refused", Message::Reject(RejectReason::Refused)),
        ("ringing", Message::Ringing),
        ("stream", Message::Stream(small)),
        ("taken", Message::Taken { frame: 300, waited_us: 1_000_000 }),
        ("text", Message::Text(Line::new("Grüße").expect("a line"))),
        ("keep-alive", Message::KeepAlive),
        ("close-quit", Message::Close(CloseReason::Quit)),
        ("close-source-ended", Message::Close(CloseReason::SourceEnded)),
        ("close-silent", Message::Close(CloseReason::Silent)),
    ]
}

fn invalid_datagrams() -> Vec<(&'static str, Refusal)> {
    use Refusal::{Chunk, Datagram};
    vec![
        ("invalid-magic", Datagram(DatagramError::Foreign)),
        ("invalid-length", Datagram(DatagramError::Foreign)),
        ("invalid-version", Datagram(DatagramError::Version(1))),
        ("invalid-crc", Datagram(DatagramError::Checksum)),
        ("invalid-kind-zero", Datagram(DatagramError::Malformed)),
        ("invalid-session-zero", Datagram(DatagramError::Malformed)),
        ("invalid-chunk-truncated", Chunk(ChunkError::Truncated)),
        ("invalid-chunk-count", Chunk(ChunkError::Inconsistent)),
        ("invalid-chunk-index", Chunk(ChunkError::Inconsistent)),
        ("invalid-chunk-length-odd", Chunk(ChunkError::Inconsistent)),
        ("invalid-chunk-length-zero", Chunk(ChunkError::Inconsistent)),
        ("invalid-extent-partial", Chunk(ChunkError::Inconsistent)),
        ("invalid-body-length", Chunk(ChunkError::Inconsistent)),
        ("invalid-unknown-extent-offset", Chunk(ChunkError::Inconsistent)),
        ("invalid-payload-length", Chunk(ChunkError::PayloadLength)),
        ("invalid-parity-length", Chunk(ChunkError::PayloadLength)),
        ("invalid-path-probe-short", Refusal::PathProbe(PathProbeError)),
        ("invalid-path-probe-ack-length", Refusal::PathProbe(PathProbeError)),
        ("invalid-probe-length", Refusal::Probe(ProbeError)),
        ("invalid-reply-reversed", Refusal::Probe(ProbeError)),
        ("invalid-reply-late", Refusal::Probe(ProbeError)),
        ("invalid-report-length", Refusal::Report(ReportError)),
        ("invalid-nack-blocks", Refusal::Nack(NackError)),
        ("invalid-nack-empty-run", Refusal::Nack(NackError)),
        ("invalid-nack-frames", Refusal::Nack(NackError)),
        ("invalid-nack-nothing", Refusal::Nack(NackError)),
        ("invalid-nack-run", Refusal::Nack(NackError)),
        ("invalid-nack-truncated", Refusal::Nack(NackError)),
    ]
}

const OFFER: &str = "media-offer";

const INVALID_MESSAGES: [(&str, ControlError); 4] = [
    ("invalid-message-number", ControlError::Malformed),
    ("invalid-message-rest", ControlError::Malformed),
    ("invalid-message-short", ControlError::Malformed),
    ("invalid-text-empty", ControlError::Malformed),
];

const INVALID_PREFACES: [(&str, ControlError); 2] = [
    ("invalid-preface", ControlError::NotUdpchat),
    ("invalid-preface-version", ControlError::Version(1)),
];

fn prelude(kind: Kind, direction: Direction, sequence: u64) -> Prelude {
    let session = SessionId::new(0xc0ff_ee01).expect("not zero");
    Prelude { kind, direction, sequence, session }
}

fn parse(datagram: &[u8]) -> Result<(Prelude, Body), Refusal> {
    let (prelude, body) =
        Prelude::parse(datagram, &mut CrcCombiner::default()).map_err(Refusal::Datagram)?;
    let body = body.bytes;
    let body = match prelude.kind {
        Kind::Video => {
            let (header, bytes) = VideoHeader::parse(body).map_err(Refusal::Chunk)?;
            Body::Video(header, bytes.to_vec())
        }
        Kind::Probe => Body::Probe(Probe::parse(body).map_err(Refusal::Probe)?),
        Kind::ProbeReply => Body::Reply(ProbeReply::parse(body).map_err(Refusal::Probe)?),
        Kind::Report => Body::Report(Report::parse(body).map_err(Refusal::Report)?),
        Kind::Nack => Body::Nack(Box::new(Nack::parse(body).map_err(Refusal::Nack)?)),
        Kind::PathProbe => {
            Body::PathProbe(PathProbe::parse(body).map_err(Refusal::PathProbe)?, body.len())
        }
        Kind::PathProbeAck => {
            Body::PathProbeAck(PathProbeAck::parse(body).map_err(Refusal::PathProbe)?)
        }
    };
    Ok((prelude, body))
}

/// Emits into a buffer filled with 0xa5, so that an unwritten byte is detected.
fn emit(prelude: &Prelude, body: &Body) -> Vec<u8> {
    let body_len = match body {
        Body::Video(_, bytes) => VideoHeader::LEN + bytes.len(),
        Body::Probe(_) | Body::Reply(_) => udpchat::net::wire::probe::PROBE_LEN,
        Body::Report(_) => udpchat::net::wire::report::REPORT_LEN,
        Body::Nack(nack) => nack.body_len(),
        Body::PathProbe(_, len) => *len,
        Body::PathProbeAck(_) => ACK_LEN,
    };
    let mut datagram = vec![0xa5; Form::Clear.overhead() + body_len];
    let room = &mut datagram[Prelude::LEN..][..body_len];
    let mut tail = Hashed::default();
    match body {
        Body::Video(header, bytes) => {
            header.emit(room);
            room[VideoHeader::LEN..].copy_from_slice(bytes);
            tail = Hashed::of(bytes);
        }
        Body::Probe(probe) => probe.emit(room),
        Body::Reply(reply) => reply.emit(room),
        Body::Report(report) => report.emit(room),
        Body::Nack(nack) => nack.emit(room),
        Body::PathProbe(probe, _) => probe.emit(room),
        Body::PathProbeAck(ack) => ack.emit(room),
    }
    prelude.emit(&mut datagram, tail, &mut CrcCombiner::default());
    datagram
}

/// The bytes of `tests/vectors/NAME.hex`: hexadecimal, with comments from `#` to the line's end.
pub(crate) fn vector(name: &str) -> Vec<u8> {
    let path = directory().join(format!("{name}.hex"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let fields = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let bytes = fields.flat_map(str::split_whitespace);
    bytes
        .map(|b| u8::from_str_radix(b, 16).unwrap_or_else(|e| panic!("{name}: {b}: {e}")))
        .collect()
}

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

const SEALED: [&str; 3] = ["sealed-aes-256-gcm", "sealed-chacha20-poly1305", "sealed-shared"];

const PICTURE: &[u8] = b"\xff\xd8udpchat v1\xff\xd9";
const LONE_PICTURE: &[u8] = b"\xff\xd8\xff";
