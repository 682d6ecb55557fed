//! Where pictures come from.
mod barcode;
mod pace;
mod paint;
pub mod pattern;
