//! The picture sizes that are measured.

use udpchat::video::image::Size;

/// A picture size and its common name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) size: Size,
}

impl Case {
    pub(crate) fn megapixels(self) -> f64 {
        (self.size.width * self.size.height) as f64 / 1e6
    }
}

const fn case(name: &'static str, width: usize, height: usize) -> Case {
    Case { name, size: Size { width, height } }
}

pub(crate) const P480: Case = case("480p", 640, 480);
pub(crate) const P720: Case = case("720p", 1280, 720);
pub(crate) const P1080: Case = case("1080p", 1920, 1080);
pub(crate) const P2160: Case = case("2160p", 3840, 2160);

pub(crate) const QUALITY: u8 = 80;
