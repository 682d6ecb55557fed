//! Cameras: listing them, and capturing pictures from one.

#[cfg(feature = "opencv")]
mod capture;
mod devices;
#[cfg(feature = "opencv")]
mod grab;

pub use devices::{CameraFormat, CameraInfo, list};
#[cfg(feature = "opencv")]
pub(super) use grab::Camera;
