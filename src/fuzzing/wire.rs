//! Datagrams: the prelude, and the body of each kind.

use crate::net::wire::{
    checksum::{CrcCombiner, Hashed},
    datagram::{CRC_LEN, Form, Kind, Prelude},
    nack::{MAX_NACK_LEN, MissingChunks, Nack},
    path_probe::{PathProbe, PathProbeAck},
    probe::{PROBE_LEN, Probe, ProbeReply},
    report::Report,
    video::{MAX_BODY_LEN, VideoHeader},
};

/// The bytes are a datagram. What is parsed is emitted as the same bytes or, where some bytes are
/// ignored, as bytes with the same meaning.
pub fn wire(bytes: &[u8]) {
    let mut crc_combiner = CrcCombiner::default();
    datagram(bytes, &mut crc_combiner);
    // Anybody can compute a checksum.
    let mut checksummed = bytes.to_vec();
    if let Some((content, crc)) = checksummed.split_last_chunk_mut::<CRC_LEN>() {
        *crc = crc32fast::hash(content).to_be_bytes();
        datagram(&checksummed, &mut crc_combiner);
    }
}

fn datagram(bytes: &[u8], crc_combiner: &mut CrcCombiner) {
    let Ok(form) = Form::of(bytes) else {
        assert!(Prelude::parse(bytes, crc_combiner).is_err());
        return;
    };
    let Ok(prelude) = Prelude::read(bytes) else { return };
    let mut emitted = bytes.to_vec();
    emitted[..Prelude::LEN].fill(0xa5);
    prelude.write(form, &mut emitted);
    assert_eq!(emitted, bytes);
    if let Ok((parsed, body)) = Prelude::parse(bytes, crc_combiner) {
        assert_eq!((parsed, form), (prelude, Form::Clear));
        prelude.emit(&mut emitted, Hashed::default(), crc_combiner);
        assert_eq!(emitted, bytes);
        self::body(prelude.kind, body.bytes);
        if let Some(payload) = body.bytes.get(VideoHeader::LEN..) {
            assert_eq!(body.payload_crc, crc32fast::hash(payload));
        }
    }
}

fn body(kind: Kind, body: &[u8]) {
    let mut emitted = vec![0xa5; body.len()];
    match kind {
        Kind::Video => {
            let Ok((header, payload)) = VideoHeader::parse(body) else { return };
            assert_eq!(header.payload_len(), payload.len());
            let end = header.offset() + payload.len();
            assert!(header.is_parity() || (1..=MAX_BODY_LEN).contains(&end), "{header:?}");
            header.emit(&mut emitted);
            emitted[VideoHeader::LEN..].copy_from_slice(payload);
            assert_eq!(emitted, body);
        }
        Kind::Probe => {
            let Ok(probe) = Probe::parse(body) else { return };
            probe.emit(&mut emitted);
            assert_eq!((Probe::parse(&emitted), body.len()), (Ok(probe), PROBE_LEN));
        }
        Kind::ProbeReply => {
            let Ok(reply) = ProbeReply::parse(body) else { return };
            assert!(reply.received <= reply.sent);
            reply.emit(&mut emitted);
            assert_eq!(emitted, body);
        }
        Kind::Report => {
            let Ok(report) = Report::parse(body) else { return };
            report.emit(&mut emitted);
            assert_eq!(emitted, body);
        }
        Kind::Nack => {
            let Ok(nack) = Nack::parse(body) else { return };
            assert!(nack.body_len() == body.len() && body.len() <= MAX_NACK_LEN);
            for run in nack.frames().iter().flat_map(MissingChunks::runs) {
                assert_eq!(run.chunks().count(), usize::from(run.count));
            }
            nack.emit(&mut emitted);
            assert_eq!(emitted, body);
        }
        Kind::PathProbe => {
            let Ok(probe) = PathProbe::parse(body) else { return };
            probe.emit(&mut emitted);
            assert_eq!(PathProbe::parse(&emitted), Ok(probe));
        }
        Kind::PathProbeAck => {
            let Ok(ack) = PathProbeAck::parse(body) else { return };
            ack.emit(&mut emitted);
            assert_eq!(PathProbeAck::parse(&emitted), Ok(ack));
        }
    }
}
