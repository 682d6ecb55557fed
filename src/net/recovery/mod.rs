//! Recovery of lost chunks, by parity and retransmission.
//!
//! - [`parity_control`]: the amount of parity, from the losses reported.
//! - [`nack_scheduler`]: when the receiver asks for missing chunks.
//! - [`retransmit_buffer`]: the sent frames, kept to answer requests for chunks.
//! - [`loss_bursts`]: runs of lost datagrams, and how late reordered ones are.

pub mod loss_bursts;
pub mod nack_scheduler;
pub mod parity_control;
pub mod retransmit_buffer;
