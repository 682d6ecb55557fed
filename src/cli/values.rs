//! Option values, parsed once into the program's types.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use thiserror::Error;

use crate::{
    net::{
        io::{AddrError, DEFAULT_PORT, Dscp, MAX_DSCP, Offload, scoped_ip},
        recovery::parity_control::FecMode,
        session::{MIN_MAX_DATAGRAM_LEN, Uncallable, uncallable},
        wire::datagram::MAX_DATAGRAM_LEN,
    },
    stream::{adaptation::Quality, encode::Pipeline},
    video::{
        jpeg::{MAX_STRIPS, Strips},
        sink::OutputSpec,
        source::SourceSpec,
    },
};

/// `HOST[:PORT]`, not resolved yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or an address, without brackets.
    pub host: String,
    /// The port, or [`DEFAULT_PORT`].
    pub port: u16,
}

/// The maximum datagram length, in bytes of UDP payload; `None`: found by path MTU discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxDatagramLen(pub Option<usize>);

/// Why a text is not a [`HostPort`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum HostPortError {
    #[error("'{0}' is not a host: give a name or an address, such as 192.168.1.20")]
    NotAHost(String),
    #[error(
        "'{host}' is not a machine's address: give the other machine's, or {loopback} for this one"
    )]
    Unspecified { host: String, loopback: &'static str },
    #[error("'{host}' is a {kind} address: give the address of one machine")]
    ManyMachines { host: String, kind: &'static str },
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why a text is not an address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum BindAddrError {
    #[error(
        "'{0}' is not an IP address: give one of this machine's, such as 0.0.0.0 or [::], or only :PORT"
    )]
    NotAnAddress(String),
    #[error("'{0}' is link-local: name the interface, such as [{0}%eth0]")]
    LacksZone(String),
    #[error(transparent)]
    Zone(AddrError),
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Why a text cannot be divided into a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum PortError {
    #[error("'{0}' has a [ without its ]")]
    UnclosedBracket(String),
    #[error("'{0}' after ] is not a :PORT")]
    NoColon(String),
    #[error("'{0}' is not a port: give a number from 0 to 65535")]
    NotANumber(String),
}

/// The value of an option is not one of those that it takes: what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum ValueError {
    #[error(
        "give the largest datagram in bytes, {MIN_MAX_DATAGRAM_LEN} to {MAX_DATAGRAM_LEN}, or auto"
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

/// Parses when strips are sent.
pub(crate) fn pipeline() -> impl TypedValueParser<Value = Pipeline> {
    PossibleValuesParser::new(["auto", "on", "off"]).map(|text| match text.as_str() {
        "on" => Pipeline::On,
        "off" => Pipeline::Off,
        _ => Pipeline::Auto,
    })
}

pub(crate) fn host_port(text: &str) -> Result<HostPort, HostPortError> {
    let (host, port) = split_port(text)?;
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || "/[]".contains(c)) {
        return Err(HostPortError::NotAHost(text.to_owned()));
    }
    if let Ok(ip) = scoped_ip(host) {
        check_is_one_machine(host, ip.with_port(0).ip())?;
    }
    Ok(HostPort { host: host.to_owned(), port: port.unwrap_or(DEFAULT_PORT) })
}

/// Fails if the address `ip`, written as `host`, cannot belong to a single machine.
fn check_is_one_machine(host: &str, ip: IpAddr) -> Result<(), HostPortError> {
    let kind = match uncallable(ip) {
        None => return Ok(()),
        Some(Uncallable::Unspecified) => {
            let loopback = if ip.to_canonical().is_ipv4() { "127.0.0.1" } else { "::1" };
            return Err(HostPortError::Unspecified { host: host.to_owned(), loopback });
        }
        Some(Uncallable::Broadcast) => "broadcast",
        Some(Uncallable::Multicast) => "multicast",
    };
    Err(HostPortError::ManyMachines { host: host.to_owned(), kind })
}

/// `ADDR`, `ADDR:PORT`, `[V6]:PORT`, `[V6%INTERFACE]:PORT` or `:PORT`.
pub(crate) fn bind_addr(text: &str) -> Result<SocketAddr, BindAddrError> {
    let (host, port) = split_port(text)?;
    let host = match host {
        "" | "*" => "::",
        host => host,
    };
    let ip = scoped_ip(host).map_err(|error| match error {
        AddrError::NotAnAddress => BindAddrError::NotAnAddress(host.to_owned()),
        AddrError::Zone(_) => BindAddrError::Zone(error),
    })?;
    if ip.lacks_zone() {
        return Err(BindAddrError::LacksZone(host.to_owned()));
    }
    Ok(ip.with_port(port.unwrap_or(DEFAULT_PORT)))
}

pub(crate) fn max_datagram_len(text: &str) -> Result<MaxDatagramLen, ValueError> {
    if text == "auto" {
        return Ok(MaxDatagramLen(None));
    }
    let range = MIN_MAX_DATAGRAM_LEN..=MAX_DATAGRAM_LEN;
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

/// A bitrate in bit/s: `8M`, `500k`, `1.5Mbit` or a plain number.
pub(crate) fn bitrate(text: &str) -> Result<u64, ValueError> {
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
    bits.map(|bits| bits.round() as u64).ok_or(ValueError::Bitrate)
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

fn split_port(text: &str) -> Result<(&str, Option<u16>), PortError> {
    if let Some(rest) = text.strip_prefix('[') {
        let unclosed = || PortError::UnclosedBracket(text.to_owned());
        let (host, rest) = rest.split_once(']').ok_or_else(unclosed)?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((host, Some(port(text)?))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(PortError::NoColon(rest.to_owned())),
        };
    }
    // With more than one colon it is an IPv6 address without a port.
    match text.split_once(':') {
        Some((host, rest)) if !rest.contains(':') => Ok((host, Some(port(rest)?))),
        _ => Ok((text, None)),
    }
}

fn port(text: &str) -> Result<u16, PortError> {
    text.parse().map_err(|_| PortError::NotANumber(text.to_owned()))
}

/// In bit/s. No useful video fits into less.
const MIN_BITRATE: f64 = 1e5;

/// In bit/s. More than any link carries.
const MAX_BITRATE: f64 = 1e12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_parse_with_and_without_ports() {
        let host = |text: &str| host_port(text).map(|h| (h.host, h.port));
        assert_eq!(host("192.168.1.20"), Ok(("192.168.1.20".into(), DEFAULT_PORT)));
        assert_eq!(host("desk:99"), Ok(("desk".into(), 99)));
        assert_eq!(host("fe80::1"), Ok(("fe80::1".into(), DEFAULT_PORT)));
        assert_eq!(host("[fe80::1]:99"), Ok(("fe80::1".into(), 99)));
        for wrong in
            ["", ":99", "desk:x", "desk:70000", "[::1", "[::1]x", "fe80::1]:7722", "http://desk"]
        {
            assert!(host_port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bind_addresses_may_be_only_a_port() {
        assert_eq!(bind_addr(":99"), Ok("[::]:99".parse().unwrap()));
        assert_eq!(
            bind_addr("127.0.0.1"),
            Ok(SocketAddr::new([127, 0, 0, 1].into(), DEFAULT_PORT))
        );
        assert_eq!(bind_addr("[::1]:5"), Ok("[::1]:5".parse().unwrap()));
        assert!(bind_addr("desk").is_err());
        assert_eq!(bind_addr("[fe80::1%3]:5"), Ok("[fe80::1%3]:5".parse().unwrap()));
        assert!(bind_addr("[fe80::1]:5").unwrap_err().to_string().contains("[fe80::1%eth0]"));
        assert!(bind_addr("fe80::1%nowhere").unwrap_err().to_string().contains("'nowhere'"));
    }

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
            assert_eq!(bitrate(text), Ok(bits), "{text}");
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
