//! Lists the cameras and their formats.

use crate::video::image::Size;

/// One camera.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraInfo {
    /// The number in `camera:N`.
    pub index: u32,
    /// Its device, for example `/dev/video0`.
    pub path: String,
    /// Its name.
    pub name: String,
    /// Its formats; empty if the system does not report them.
    pub formats: Vec<CameraFormat>,
}

/// One pixel format in one size.
#[derive(Debug, Clone, PartialEq)]
pub struct CameraFormat {
    /// Four-character code, for example `MJPG` or `YUYV`.
    pub fourcc: String,
    /// Its size, which may be beyond the limits of a source.
    pub size: Size,
    /// Frames/s, highest first; empty if the camera does not report them.
    pub fps: Vec<f64>,
}

/// All cameras, by number.
#[cfg(target_os = "linux")]
pub fn list() -> Vec<CameraInfo> {
    linux::list()
}

/// All cameras, by number. Found by opening each, which may switch on its light.
#[cfg(not(target_os = "linux"))]
pub fn list() -> Vec<CameraInfo> {
    let camera = |index: u32| CameraInfo {
        index,
        path: format!("camera {index}"),
        name: format!("camera {index}"),
        formats: Vec::new(),
    };
    match crate::video::source::capture::find_cameras() {
        Ok(found) => found.into_iter().map(camera).collect(),
        Err(error) => {
            log::warn!("{error}");
            Vec::new()
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use super::{CameraFormat, CameraInfo, Size};
    use v4l::{
        Device, FourCC, capability, context,
        frameinterval::FrameIntervalEnum,
        framesize::{FrameSizeEnum, Stepwise},
        video::Capture,
    };

    pub(super) fn list() -> Vec<CameraInfo> {
        listed(&context::enum_devices())
    }

    /// The cameras among `nodes`, sorted by number: a folder's entries are in no particular order.
    fn listed(nodes: &[context::Node]) -> Vec<CameraInfo> {
        let mut cameras: Vec<_> = nodes.iter().filter_map(camera).collect();
        cameras.sort_by_key(|camera| camera.index);
        cameras
    }

    /// The camera of a device node, unless the node is for something else, such as metadata.
    fn camera(node: &context::Node) -> Option<CameraInfo> {
        let path = node.path();
        let index = path.to_str()?.strip_prefix("/dev/video")?.parse().ok()?;
        let name =
            node.name().map_or_else(|| format!("camera {index}"), |name| without_repetition(&name));
        let path = path.display().to_string();
        // Also listed without permission to open it, so that the user finds it.
        let Ok(device) = Device::with_path(&path) else {
            return Some(CameraInfo { index, path, name, formats: Vec::new() });
        };
        let can = device.query_caps().ok()?.capabilities;
        let captures = can.contains(capability::Flags::VIDEO_CAPTURE);
        captures.then(|| CameraInfo { index, path, name, formats: formats(&device) })
    }

    /// Removes the repetition in names such as "Webcam: Webcam".
    fn without_repetition(name: &str) -> String {
        let name = name.trim();
        match name.split_once(": ") {
            Some((first, second)) if first == second => first.to_owned(),
            _ => name.to_owned(),
        }
    }

    fn formats(device: &Device) -> Vec<CameraFormat> {
        let mut formats = Vec::new();
        for description in device.enum_formats().unwrap_or_default() {
            let fourcc = description.fourcc;
            for (width, height) in sizes(device, fourcc) {
                let size = Size { width: width as usize, height: height as usize };
                let fps = rates(device, fourcc, width, height);
                let fourcc = fourcc.to_string().trim().to_owned();
                formats.push(CameraFormat { fourcc, size, fps });
            }
        }
        formats
    }

    fn sizes(device: &Device, fourcc: FourCC) -> Vec<(u32, u32)> {
        let sizes = device.enum_framesizes(fourcc).unwrap_or_default();
        sizes
            .into_iter()
            .flat_map(|size| match size.size {
                FrameSizeEnum::Discrete(size) => vec![(size.width, size.height)],
                FrameSizeEnum::Stepwise(steps) => common_sizes(&steps),
            })
            .collect()
    }

    /// The common sizes within a camera's range, and its largest; all its sizes would be too many
    /// to list.
    fn common_sizes(steps: &Stepwise) -> Vec<(u32, u32)> {
        let fits = |&&(width, height): &&(u32, u32)| {
            (steps.min_width..=steps.max_width).contains(&width)
                && (steps.min_height..=steps.max_height).contains(&height)
        };
        let mut sizes: Vec<_> = COMMON_SIZES.iter().filter(fits).copied().collect();
        let largest = (steps.max_width, steps.max_height);
        if !sizes.contains(&largest) {
            sizes.push(largest);
        }
        sizes
    }

    fn rates(device: &Device, fourcc: FourCC, width: u32, height: u32) -> Vec<f64> {
        let rate = |interval: &v4l::Fraction| {
            f64::from(interval.denominator) / f64::from(interval.numerator.max(1))
        };
        let intervals = device.enum_frameintervals(fourcc, width, height).unwrap_or_default();
        let mut rates: Vec<f64> = intervals
            .iter()
            .map(|interval| match &interval.interval {
                FrameIntervalEnum::Discrete(interval) => rate(interval),
                FrameIntervalEnum::Stepwise(steps) => rate(&steps.min),
            })
            .collect();
        rates.sort_by(|a, b| b.total_cmp(a));
        rates.dedup();
        rates
    }

    /// Listed for a camera that supports a range of sizes.
    const COMMON_SIZES: [(u32, u32); 5] =
        [(320, 240), (640, 480), (1280, 720), (1920, 1080), (3840, 2160)];

    #[cfg(test)]
    mod tests {
        use super::*;

        /// By number, not by name: 942 is before 4203. No machine has these nodes, so they are
        /// listed like cameras that may not be opened.
        #[test]
        fn cameras_are_listed_in_order() {
            let names = ["video4211", "video942", "videos", "video4203", "video4210"];
            let nodes = names.map(|name| context::Node::new(format!("/dev/{name}")));
            let indices: Vec<_> = listed(&nodes).iter().map(|camera| camera.index).collect();
            assert_eq!(indices, [942, 4203, 4210, 4211]);
        }
    }
}
