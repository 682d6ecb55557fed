//! Big-endian numbers at fixed offsets.

/// Reads a big-endian `u16` at `at`; the caller has checked the length.
pub(super) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Reads a big-endian `u32` at `at`; the caller has checked the length.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from(read_u16(bytes, at)) << 16 | u32::from(read_u16(bytes, at + 2))
}

/// Reads a big-endian 48-bit number at `at`; the caller has checked the length.
pub(super) fn read_u48(bytes: &[u8], at: usize) -> u64 {
    u64::from(read_u16(bytes, at)) << 32 | u64::from(read_u32(bytes, at + 2))
}

/// Writes the low 48 bits of `value`, big-endian, at `at`.
pub(super) fn write_u48(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 6].copy_from_slice(&value.to_be_bytes()[2..]);
}
