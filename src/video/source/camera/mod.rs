//! Cameras: listing them, and capturing pictures from one.

mod capture;
mod devices;
mod grab;

pub use devices::{CameraFormat, CameraInfo, list};
pub(super) use grab::Camera;
