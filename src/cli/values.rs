//! Option values, parsed once into the program's types.

use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use thiserror::Error;

use crate::{
    net::{
        io::{Dscp, MAX_DSCP, Offload},
        link::MIN_DATAGRAM_LEN,
        recovery::parity_control::FecMode,
        units::Bitrate,
        wire::datagram::MAX_DATAGRAM_LEN,
    },
    stream::{adaptation::Quality, encode::Pipeline},
    video::{
        jpeg::{MAX_STRIPS, Strips},
        sink::OutputSpec,
        source::SourceSpec,
    },
};

/// The maximum datagram length, in bytes of UDP payload; `None`: found by path MTU discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxDatagramLen(pub Option<usize>);

/// An invalid option value. The message names the valid ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ValueError {
    #[error(
        "give the largest datagram in bytes, {MIN_DATAGRAM_LEN} to {MAX_DATAGRAM_LEN}, or auto"
    )]
    MaxDatagramLen,
    #[error("give auto, batched or single")]
    Offload,
    #[error("give a number from 0 to {MAX_DSCP}, such as 46 (EF), or auto or off")]
    Dscp,
    #[error("give a number from 1 to 100, or auto")]
    Quality,
    #[error("give a number from 1 to {MAX_STRIPS}, or auto")]
    Strips,
    #[error("give a percentage from 1 to 100, or auto or off")]
    Fec,
    #[error("give a bitrate in bit/s, such as 500k or 8M, of at least 100k")]
    Bitrate,
    #[error("give milliseconds, from 0 to 1000")]
    PlayoutDelay,
    #[error("give frames per second, from 0.1 to 1000, or max")]
    Rate,
    #[error("give seconds, 0.1 or more")]
    Seconds,
}

/// Parses a source. Its path need not be UTF-8.
pub(crate) fn source() -> impl TypedValueParser<Value = SourceSpec> {
    OsStringValueParser::new().map(SourceSpec::from)
}

/// Parses an output. Its path need not be UTF-8.
pub(crate) fn output() -> impl TypedValueParser<Value = OutputSpec> {
    OsStringValueParser::new().try_map(OutputSpec::try_from)
}

/// Parses `--pipeline`: when strips are sent.
pub(crate) fn pipeline() -> impl TypedValueParser<Value = Pipeline> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|text| match text.as_str() {
        "on" => Pipeline::On,
        "off" => Pipeline::Off,
        _ => Pipeline::Auto,
    })
}

pub(crate) fn max_datagram_len(text: &str) -> Result<MaxDatagramLen, ValueError> {
    if text == "auto" {
        return Ok(MaxDatagramLen(None));
    }
    let range = MIN_DATAGRAM_LEN..=MAX_DATAGRAM_LEN;
    let len = text.parse().ok().filter(|len| range.contains(len));
    len.map(|len| MaxDatagramLen(Some(len))).ok_or(ValueError::MaxDatagramLen)
}

pub(crate) fn offload(text: &str) -> Result<Offload, ValueError> {
    match text {
        "auto" => Ok(Offload::Auto),
        "batched" => Ok(Offload::Batched),
        "single" => Ok(Offload::Single),
        _ => Err(ValueError::Offload),
    }
}

pub(crate) fn dscp(text: &str) -> Result<Dscp, ValueError> {
    match text {
        "auto" => Ok(Dscp::default()),
        "off" => Ok(Dscp::NONE),
        _ => text.parse().ok().and_then(Dscp::new).ok_or(ValueError::Dscp),
    }
}

pub(crate) fn quality(text: &str) -> Result<Quality, ValueError> {
    if text == "auto" {
        return Ok(Quality::Auto);
    }
    let quality = text.parse().ok().filter(|q| (1..=100).contains(q));
    quality.map(Quality::Fixed).ok_or(ValueError::Quality)
}

pub(crate) fn strips(text: &str) -> Result<Strips, ValueError> {
    if text == "auto" {
        return Ok(Strips::Auto);
    }
    let count = text.parse().ok().filter(|n| (1..=MAX_STRIPS).contains(n));
    count.map(Strips::Count).ok_or(ValueError::Strips)
}

pub(crate) fn fec(text: &str) -> Result<FecMode, ValueError> {
    match text {
        "auto" => Ok(FecMode::Auto),
        "off" => Ok(FecMode::Off),
        _ => {
            let percent = text.strip_suffix('%').unwrap_or(text).parse().ok();
            let percent = percent.filter(|p| (1..=100).contains(p));
            percent.map(FecMode::Percent).ok_or(ValueError::Fec)
        }
    }
}

/// A bitrate: `8M`, `500k`, `1.5Mbit` or a plain number of bits a second.
pub(crate) fn bitrate(text: &str) -> Result<Bitrate, ValueError> {
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[number.len()..].to_ascii_lowercase();
    let factor = match unit.strip_suffix("bit").unwrap_or(&unit) {
        "" => Some(1.0),
        "k" => Some(1e3),
        "m" => Some(1e6),
        "g" => Some(1e9),
        _ => None,
    };
    let bits = factor.zip(number.parse::<f64>().ok()).map(|(factor, number)| factor * number);
    let bits = bits.filter(|bits| (MIN_BITRATE..=MAX_BITRATE).contains(bits));
    bits.map(|bits| Bitrate::from_f64(bits.round())).ok_or(ValueError::Bitrate)
}

pub(crate) fn playout_delay(text: &str) -> Result<Duration, ValueError> {
    let ms = text.parse().ok().filter(|ms| (0.0..=1000.0).contains(ms));
    ms.map(|ms: f64| Duration::from_secs_f64(ms / 1e3)).ok_or(ValueError::PlayoutDelay)
}

/// The rate of a source's pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// In frames a second.
    PerSecond(f64),
    /// As fast as the encoder takes them.
    Max,
}

pub(crate) fn rate(text: &str) -> Result<Rate, ValueError> {
    if text == "max" {
        return Ok(Rate::Max);
    }
    let fps = text.parse().ok().filter(|fps| (0.1..=1000.0).contains(fps));
    fps.map(Rate::PerSecond).ok_or(ValueError::Rate)
}

pub(crate) fn seconds(text: &str) -> Result<Duration, ValueError> {
    let seconds = text.parse().ok().filter(|s| (0.1..=31_536_000.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or(ValueError::Seconds)
}

/// In bit/s. No useful video fits into less.
const MIN_BITRATE: f64 = 1e5;

/// In bit/s. More than any link carries.
const MAX_BITRATE: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        assert_eq!(quality("60"), Ok(Quality::Fixed(60)));
        assert_eq!(quality("auto"), Ok(Quality::Auto));
        assert_eq!(Quality::Auto.unreported(), Quality::Fixed(80));
        assert_eq!(Quality::Fixed(60).unreported(), Quality::Fixed(60));
        for wrong in ["0", "101", "-1", "x", ""] {
            assert!(quality(wrong).unwrap_err().to_string().contains("1 to 100"));
        }
        assert_eq!(strips("auto"), Ok(Strips::Auto));
        assert_eq!(strips("16"), Ok(Strips::Count(16)));
        for wrong in ["0", "17", "-1", "x", ""] {
            assert!(strips(wrong).unwrap_err().to_string().contains("1 to 16"));
        }
        assert_eq!((rate("25"), rate("max")), (Ok(Rate::PerSecond(25.0)), Ok(Rate::Max)));
        for wrong in ["0", "-5", "inf", "NaN", "x"] {
            assert!(rate(wrong).is_err(), "{wrong}");
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
        assert_eq!((fec("off"), fec("auto")), (Ok(FecMode::Off), Ok(FecMode::Auto)));
        assert_eq!((fec("1"), fec("100%")), (Ok(FecMode::Percent(1)), Ok(FecMode::Percent(100))));
        for wrong in ["0", "101", "256", "-1", "2.5", "%", "x", ""] {
            assert!(fec(wrong).unwrap_err().to_string().contains("1 to 100"), "{wrong}");
        }
        let bitrates = [("500k", 500_000), ("8M", 8_000_000), ("1.5mbit", 1_500_000)];
        for (text, bits) in
            bitrates.into_iter().chain([("2Gbit", 2_000_000_000), ("123456", 123_456)])
        {
            assert_eq!(bitrate(text), Ok(Bitrate::from_bps(bits)), "{text}");
        }
        for wrong in
            ["0", "99k", "-8M", "8X", "8 M", "M", "bit", "inf", "NaN", "1e30", "8Mb", "ü", ""]
        {
            assert!(bitrate(wrong).unwrap_err().to_string().contains("8M"), "{wrong}");
        }
        assert_eq!(playout_delay("0"), Ok(Duration::ZERO));
        assert_eq!(playout_delay("1000"), Ok(Duration::from_secs(1)));
        for wrong in ["-1", "1001", "5ms", "NaN", "inf", ""] {
            assert!(playout_delay(wrong).unwrap_err().to_string().contains("0 to 1000"), "{wrong}");
        }
        assert_eq!(max_datagram_len("1400"), Ok(MaxDatagramLen(Some(1400))));
        assert!(max_datagram_len("100").is_err());
    }
}
