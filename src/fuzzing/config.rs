//! User input and files: keys, known peers, codes, and the values of options.

use std::time::Duration;

use data_encoding::BASE64_NOPAD;

use crate::{
    app::trust::{
        known_peers::{self, Line},
        secret_file,
    },
    cli::values,
    net::{
        crypto::{code::Code, keys::PublicKey},
        io::{bind_addr, host_port},
    },
    video::{
        image::{MAX_SIDE, MIN_SIDE, Size},
        source::SourceSpec,
    },
};

/// The bytes are a file, a line of it, a code, and the value of any option. A parsed value with a
/// text form is formatted as text that parses to the same value; others are within their bounds.
pub fn config(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    files(&text);
    code(&text);
    options(&text);
}

fn files(text: &str) {
    for line in text.lines() {
        if let Line::Entry(entry) = known_peers::parse(line) {
            let written = entry.to_string();
            assert_eq!(written.lines().count(), 1, "{written:?}");
            assert_eq!(known_peers::parse(&written), Line::Entry(entry));
        }
    }
    if let Some(secret) = secret_file::parse(text) {
        let written = format!("# comment\n{}\n", BASE64_NOPAD.encode(&secret[..]));
        assert_eq!(secret_file::parse(&written), Some(secret));
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        assert_eq!(key.to_string(), text, "a key has only one text form");
    }
}

fn code(text: &str) {
    let Ok(code) = Code::typed(text) else { return };
    let shown = code.to_string();
    assert!(Code::typed(&shown).is_ok_and(|again| again == code), "{shown:?}");
    assert!(shown.chars().count() >= 10 && shown == shown.trim(), "{shown:?}");
}

fn options(text: &str) {
    if let Ok(peer) = host_port(text) {
        let written = if peer.host.contains(':') {
            format!("[{}]:{}", peer.host, peer.port)
        } else {
            format!("{}:{}", peer.host, peer.port)
        };
        assert_eq!(host_port(&written), Ok(peer), "{text:?}");
    }
    if let Ok(addr) = bind_addr(text) {
        assert_eq!(bind_addr(&addr.to_string()), Ok(addr), "{text:?}");
    }
    if let Ok(values::MaxDatagramLen(Some(len))) = values::max_datagram_len(text) {
        assert!((200..=65_507).contains(&len));
    }
    if let Ok(bitrate) = values::bitrate(text) {
        assert!((100_000..=1_000_000_000_000).contains(&bitrate.bps()));
        assert_eq!(values::bitrate(&bitrate.bps().to_string()), Ok(bitrate));
    }
    if let Ok(quality) = values::quality(text) {
        assert!((1..=100).contains(&quality.highest()));
    }
    if let Ok(values::Rate::PerSecond(fps)) = values::rate(text) {
        assert!((0.1..=1000.0).contains(&fps));
    }
    if let Ok(time) = values::seconds(text) {
        assert!(time >= Duration::from_millis(100));
    }
    assert!(values::playout_delay(text).unwrap_or_default() <= Duration::from_secs(1));
    // These are checked only for panics.
    let _ = (values::offload(text), values::dscp(text), values::strips(text), values::fec(text));
    if let Ok(size) = text.parse::<Size>() {
        assert!([size.width, size.height].iter().all(|side| (MIN_SIDE..=MAX_SIDE).contains(side)));
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    let Ok(source) = text.parse::<SourceSpec>();
    assert_eq!(source.to_string().parse(), Ok(source), "{text:?}");
}
