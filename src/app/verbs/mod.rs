//! One file per verb.

pub(crate) mod chat;
pub(crate) mod demo;
pub(crate) mod devices;
pub(crate) mod doctor;
pub(crate) mod recv;
pub(crate) mod send;
