//! `udpchat devices`: lists the cameras with their formats, sizes and rates.

use std::fmt::Write;

use anyhow::{Result, bail};

use crate::{
    app::process::stdout::print_all,
    video::source::camera::{self, CameraFormat, CameraInfo},
};

pub(crate) fn run() -> Result<()> {
    let cameras = camera::list();
    if cameras.is_empty() {
        bail!("no camera found: plug one in, or check that you may read /dev/video* (group video)");
    }
    let text: String = cameras.iter().map(describe).collect();
    print_all(text.as_bytes())
}

fn describe(camera: &CameraInfo) -> String {
    let mut text = format!("camera:{}  {}  {}\n", camera.index, camera.path, camera.name);
    for CameraFormat { fourcc, size, fps } in &camera.formats {
        let rates: Vec<String> = fps.iter().map(|fps| format!("{fps:.0}")).collect();
        let size = size.to_string();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {fourcc}  {size:<10} {} frames/s", rates.join(", "));
    }
    text
}
