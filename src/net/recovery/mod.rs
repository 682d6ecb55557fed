//! Recovery of lost chunks: how much parity is sent, and what is sent again.
//!
//! - [`parity_control`]: the amount of parity, from the losses reported.
//! - [`nack_scheduler`]: when the receiver asks for missing chunks.
//! - [`retransmit_buffer`]: the sent frames from which the sender answers.
//! - [`loss_bursts`]: runs of lost datagrams, and how late reordered ones are.

pub mod loss_bursts;
pub mod nack_scheduler;
pub mod parity_control;
pub mod retransmit_buffer;
