//! The integration tests, in one binary: what is only true of the parts together.

mod layering;
mod loopback;

mod sim;
mod simulation;
mod vectors;
