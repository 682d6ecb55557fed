//! The fuzz bodies, run on seeded mutations of the corpora. The rounds are deterministic.
//!
//! A failure prints the seed of its round; `UDPCHAT_SEED=N` replays that round alone.
//! `UDPCHAT_ROUNDS=N` sets the number of rounds.

use std::{fs, path::PathBuf};

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use udpchat::{
    fuzzing::{self, TARGETS, Target},
    video::{
        image::{Image, PixelFormat},
        jpeg::{Encoder, Strips},
    },
};

macro_rules! rounds {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            run((stringify!($name), fuzzing::$name));
        }
    )*};
}

rounds!(
    wire,
    control,
    text,
    config,
    netem,
    seal,
    reassembler,
    endpoints,
    y4m,
    jpeg_stream,
    jpeg_decode,
    strips,
);

fn run((name, body): Target) {
    let number = |key| std::env::var(key).ok().map(|text| text.parse::<u64>().expect("a number"));
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "the corpus of {name} is there");
    let seeds = match number("UDPCHAT_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("UDPCHAT_ROUNDS").unwrap_or(ROUNDS),
    };
    for bytes in &corpus {
        body(bytes);
    }
    for seed in seeds {
        let round = Round(seed);
        body(&mutated(&mut Pcg64Mcg::seed_from_u64(seed), &corpus));
        drop(round);
    }
}

/// Prints the seed of the round if it panics.
struct Round(u64);

impl Drop for Round {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was round UDPCHAT_SEED={}", self.0);
        }
    }
}

/// A corpus entry or noise, with up to five mutations. Noise suits the bodies that decode their
/// bytes as operations.
fn mutated(rng: &mut Pcg64Mcg, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = if rng.random_ratio(1, 4) {
        let len = rng.random_range(0..400);
        noise(rng, len)
    } else {
        corpus[rng.random_range(0..corpus.len())].clone()
    };
    for _ in 0..rng.random_range(0..6) {
        mutate(rng, &mut bytes, corpus);
    }
    bytes
}

fn mutate(rng: &mut Pcg64Mcg, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.push(rng.random());
    }
    let at = rng.random_range(0..bytes.len());
    let end = bytes.len().min(at + rng.random_range(1..=16));
    match rng.random_range(0..8) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes[at..end].fill(EDGES[rng.random_range(0..EDGES.len())]),
        3 => _ = bytes.drain(at..end),
        4 => {
            let len = rng.random_range(1..=8);
            let more = noise(rng, len);
            bytes.splice(at..at, more);
        }
        5 => bytes.extend_from_within(at..end),
        6 => bytes.truncate(at),
        _ => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
    }
}

fn noise(rng: &mut Pcg64Mcg, len: usize) -> Vec<u8> {
    (0..len).map(|_| rng.random()).collect()
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder(name)).expect("the corpus is there");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    // In a fixed order, so that a seed gives the same round everywhere.
    paths.sort();
    paths.into_iter().map(|path| fs::read(path).expect("readable")).collect()
}

fn folder(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz", "corpus", name].iter().collect()
}

#[test]
fn every_fuzz_body_has_a_target_and_a_test() {
    let here = include_str!("fuzzing.rs");
    let manifest = include_str!("../../fuzz/Cargo.toml");
    let shims = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
    for (name, _) in TARGETS {
        assert!(here.contains(&format!("\n    {name},\n")), "{name} is run here");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is built");
        let shim = fs::read_to_string(format!("{shims}/{name}.rs")).expect("its shim is there");
        assert!(shim.contains(&format!("fuzzing::{name}(")), "{name} has its own shim");
    }
    assert_eq!(fs::read_dir(shims).expect("readable").count(), TARGETS.len());
}

/// The initial corpora match their sources: the golden vectors, the texts below, seeded noise and
/// the output of our own encoders.
#[test]
fn initial_corpora_match_their_sources() {
    let mut seeds = vectors();
    let texts: [(&str, &[&str]); 3] = [("text", &TEXTS), ("netem", &NETEMS), ("config", &CONFIGS)];
    for (target, texts) in texts {
        let numbered = texts.iter().enumerate();
        seeds.extend(
            numbered.map(|(i, text)| (target, format!("text-{i}"), text.as_bytes().into())),
        );
    }
    for target in ["seal", "reassembler", "endpoints", "strips"] {
        for seed in 0..8 {
            let bytes = noise(&mut Pcg64Mcg::seed_from_u64(seed), 160);
            seeds.push((target, format!("noise-{seed}"), bytes));
        }
    }
    for layout in ["420jpeg", "422", "444", "mono"] {
        let head = format!("YUV4MPEG2 W16 H16 F30:1 C{layout}\n");
        let picture = [&b"FRAME\n"[..], &[77; 3 * 256][..if layout == "444" { 768 } else { 384 }]];
        let stream = [head.as_bytes(), &picture.concat(), &picture.concat()].concat();
        seeds.push(("y4m", layout.to_owned(), stream));
    }
    seeds.extend(jpegs());
    let writes = std::env::var_os("UDPCHAT_BLESS").is_some();
    for (target, name, bytes) in seeds {
        let path = folder(target).join(&name);
        if writes {
            fs::create_dir_all(folder(target)).expect("writable");
            fs::write(path, bytes).expect("writable");
        } else {
            assert!(
                fs::read(path).is_ok_and(|stored| stored == bytes),
                "{target}/{name} has changed; if intended, accept it with \
                 UDPCHAT_BLESS=1 cargo test --test it corpora, and commit fuzz/corpus"
            );
        }
    }
}

type Seed = (&'static str, String, Vec<u8>);

fn vectors() -> Vec<Seed> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    let files = fs::read_dir(folder).expect("readable").map(|file| file.expect("readable").path());
    let vectors = files.filter(|path| path.extension().is_some_and(|e| e == "hex")).map(|path| {
        let name = path.file_stem().expect("a name").to_str().expect("plain").to_owned();
        let bytes = crate::vectors::vector(&name);
        let is_datagram = matches!(bytes.first(), Some(0xd5 | 0xd6));
        (if is_datagram { "wire" } else { "control" }, name, bytes)
    });
    vectors.collect()
}

fn jpegs() -> Vec<Seed> {
    use PixelFormat::{Gray, Yuv420, Yuv422, Yuv444};
    let mut seeds = Vec::new();
    for (width, height, format, strips) in [
        (32, 32, Gray, 1),
        (40, 24, Yuv420, 1),
        (48, 33, Yuv420, 3),
        (48, 32, Yuv422, 4),
        (24, 40, Yuv444, 1),
        (400, 256, Gray, 4),
        (400, 256, Yuv420, 8),
        (400, 256, Yuv422, 4),
    ] {
        let mut data = vec![128; format.data_len(width, height)];
        let edges = if width < 100 { 5 } else { 97 };
        data.iter_mut().step_by(edges).for_each(|value| *value = 60);
        let image = Image::new(width, height, format, data);
        let mut frame = Vec::new();
        let encoded = Encoder::new(20, Strips::Count(strips)).encode(&image, &mut frame);
        encoded.expect("any image can be encoded");
        let name = format!("{width}x{height}-{format:?}-{strips}");
        // Decode to planes, to pixels, and to planes while the data arrives in four pieces.
        let mode = [0, 1, 6][seeds.len() % 3];
        let bytes = [&[mode], &frame[..]].concat();
        seeds.push(("jpeg_decode", format!("{name}-{mode}"), bytes));
        if width < 100 {
            let end = frame.len() - 2;
            seeds.push(("jpeg_stream", format!("{name}-twice"), frame.repeat(2)));
            seeds.push(("jpeg_stream", format!("{name}-without-end"), frame[..end].to_vec()));
        }
    }
    seeds
}

const TEXTS: [&str; 5] = [
    "ann@desk",
    "  two\twords\r\n and a line \u{1b}[31m",
    "\u{202e}gpj.txt\u{2066}\u{200b}",
    "👩\u{200d}🚀 e\u{301} ÅÄÖ 世界",
    "\u{85}\u{a0}\u{3000}\u{feff}",
];

const NETEMS: [&str; 4] = [
    "loss=2%,burst=4,delay=5ms,jitter=2ms,reorder=1%,duplicate=1%,corrupt=0.1%,rate=20mbit,seed=7",
    "loss=100%,rate=8kbit",
    "reorder=50%,duplicate=50%,corrupt=100%,delay=60s",
    "rate=500kbit, seed=18446744073709551615",
];

const CONFIGS: [&str; 14] = [
    "# people\nhost desk:7722 AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\ncaller AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA ann@desk\n",
    "# an identity\nAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA\n",
    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA",
    "k3v9-x2mq-7pth-w4zd",
    "K3V9 X2MQ 7PTH W4ZD",
    "correct horse battery staple",
    "desk:7722",
    "[fe80::1%eth0]:7722",
    "192.168.1.20",
    "[::]:0",
    "1280x720",
    "8.5Mbit",
    "camera:2",
    "0.1",
];

/// Rounds per body. All bodies together take half a minute.
const ROUNDS: u64 = 20_000;

/// Byte values at which bounds tend to lie.
const EDGES: [u8; 5] = [0, 1, 0x7f, 0x80, 0xff];
