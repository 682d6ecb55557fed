//! Streams a camera filtered with OpenCV: `cargo run --example opencv_filter -- HOST`.

use opencv::{
    core::{Mat, MatTraitConst, MatTraitConstManual},
    imgproc::{COLOR_BGR2GRAY, COLOR_GRAY2BGR, canny, cvt_color_def},
    videoio::{CAP_ANY, VideoCapture, VideoCaptureTrait, VideoCaptureTraitConst},
};
use udpchat::{Image, PixelFormat, Sender};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = std::env::args().nth(1).unwrap_or("localhost".into());
    let mut sender = Sender::connect(&host)?;
    let mut camera = VideoCapture::new(0, CAP_ANY)?;
    if !camera.is_opened()? {
        return Err("no camera is plugged in".into());
    }
    let (mut picture, mut gray, mut edges, mut bgr) =
        (Mat::default(), Mat::default(), Mat::default(), Mat::default());
    while camera.read(&mut picture)? {
        cvt_color_def(&picture, &mut gray, COLOR_BGR2GRAY)?;
        canny(&gray, &mut edges, 50.0, 150.0, 3, false)?;
        cvt_color_def(&edges, &mut bgr, COLOR_GRAY2BGR)?;
        let (width, height) = (bgr.cols() as usize, bgr.rows() as usize);
        let pixels = bgr.data_bytes()?.to_vec();
        sender.send(&Image::new(width, height, PixelFormat::Bgr, pixels))?;
    }
    Ok(())
}
