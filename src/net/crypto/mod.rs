//! Who somebody is, and what only two sides know.
//!
//! - [`keys`]: identities, their fingerprints, shared secrets.

pub mod keys;
