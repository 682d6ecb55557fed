//! Speed of encoding and decoding, relative to libjpeg-turbo on the whole picture.
//!
//! `cargo bench --bench codec`; arguments such as `720p/q80` filter the cases. The table at the end
//! gives each variant's ratio to `turbojpeg whole` in the same run. These ratios can be compared
//! between machines.

#[path = "support/measure.rs"]
mod measure;
#[path = "support/publish.rs"]
mod publish;
#[path = "support/results.rs"]
mod results;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use measure::{Samples, timed};
use results::{Cell, Table};
use udpchat::video::{
    image::{Image, PixelFormat, Size},
    jpeg::{Decoder, Encoder, OutputFormat, Strips},
    source::pattern::Pattern,
};

const SIZES: [(&str, Size); 4] = [
    ("480p", Size { width: 640, height: 480 }),
    ("720p", Size { width: 1280, height: 720 }),
    ("1080p", Size { width: 1920, height: 1080 }),
    ("2160p", Size { width: 3840, height: 2160 }),
];
const QUALITIES: [u8; 3] = [50, 80, 95];
const STRIPS: [usize; 3] = [2, 4, 8];
const FLOOR: &str = "turbojpeg whole";
const ENCODE: &str = "encode";
const DECODE_BGR: &str = "decode to BGR";
const DECODE_PLANES: &str = "decode to planes";

/// The result of one variant of one operation on one picture.
struct Measurement {
    operation: String,
    picture: String,
    variant: String,
    ms: Cell,
    ratio: Cell,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .nresamples(1000)
        .configure_from_args();
    let mut measurements = Vec::new();
    for (name, size) in SIZES {
        let planes = noisy_pattern(size);
        let bgr = planes.to_bgr();
        for quality in QUALITIES {
            let mut group = Group {
                criterion: &mut criterion,
                measurements: &mut measurements,
                picture: format!("{name}/q{quality}"),
                size,
            };
            encode(&mut group, &planes, &bgr, quality);
            decode(&mut group, &planes, quality, OutputFormat::Bgr);
            decode(&mut group, &planes, quality, OutputFormat::Planar);
        }
    }
    criterion.final_summary();
    let tables =
        [ENCODE, DECODE_BGR, DECODE_PLANES].map(|operation| ratios(operation, &measurements));
    publish::publish("codec", tables.into(), Vec::new());
}

/// Encodes from planes, which the pattern and YUV4MPEG2 provide, and from BGR, which OpenCV needs.
fn encode(group: &mut Group<'_>, planes: &Image, bgr: &Image, quality: u8) {
    let (mut frame, mut floor_frame) = (Vec::new(), Vec::new());
    let mut whole = Encoder::new(quality, Strips::Count(1));
    let mut floor = || whole.encode(planes, &mut floor_frame).expect("encodes");
    for (name, strips) in variants() {
        let mut encoder = Encoder::new(quality, strips);
        let body = || encoder.encode(planes, &mut frame).expect("encodes");
        group.measure(ENCODE, &name, &mut floor, body);
    }
    let mut encoder = Encoder::new(quality, Strips::Count(1));
    let body = || encoder.encode(bgr, &mut frame).expect("encodes");
    group.measure(ENCODE, "turbojpeg whole, from BGR", &mut floor, body);
    #[cfg(feature = "opencv")]
    {
        use opencv::{
            core::{Mat, Vec3b, Vector},
            imgcodecs::{IMWRITE_JPEG_QUALITY, imencode},
        };
        let (rows, columns) = (bgr.height as i32, bgr.width as i32);
        let mat = Mat::new_rows_cols_with_bytes::<Vec3b>(rows, columns, &bgr.data);
        let mat = mat.expect("the size fits");
        let parameters = Vector::from_slice(&[IMWRITE_JPEG_QUALITY, i32::from(quality)]);
        let mut bytes = Vector::<u8>::new();
        group.measure(ENCODE, "OpenCV, from BGR", &mut floor, || {
            imencode(".jpg", &mat, &mut bytes, &parameters).expect("encodes");
        });
    }
}

fn decode(group: &mut Group<'_>, planes: &Image, quality: u8, want: OutputFormat) {
    let operation = if want == OutputFormat::Bgr { DECODE_BGR } else { DECODE_PLANES };
    let (mut image, mut floor_image) = (Image::empty(), Image::empty());
    let (mut frame, mut whole_frame) = (Vec::new(), Vec::new());
    Encoder::new(quality, Strips::Count(1)).encode(planes, &mut whole_frame).expect("encodes");
    // On the calling thread: [`Decoder::new`] decodes on separate, sandboxed threads.
    let mut whole = Decoder::alone();
    let mut floor = || whole.decode(&whole_frame, want, &mut floor_image).expect("decodes");
    for (name, strips) in variants() {
        Encoder::new(quality, strips).encode(planes, &mut frame).expect("encodes");
        let mut decoder = if name == FLOOR { Decoder::alone() } else { Decoder::new() };
        let body = || decoder.decode(&frame, want, &mut image).expect("decodes");
        group.measure(operation, &name, &mut floor, body);
    }
    #[cfg(feature = "opencv")]
    if want == OutputFormat::Bgr {
        use opencv::{
            core::Vector,
            imgcodecs::{IMREAD_COLOR, imdecode},
        };
        let bytes = Vector::<u8>::from_slice(&whole_frame);
        group.measure(operation, "OpenCV", &mut floor, || {
            std::hint::black_box(imdecode(&bytes, IMREAD_COLOR).expect("decodes"));
        });
    }
}

fn variants() -> impl Iterator<Item = (String, Strips)> {
    let strips = STRIPS.map(|n| (format!("{n} strips"), Strips::Count(n)));
    std::iter::once((FLOOR.to_owned(), Strips::Count(1))).chain(strips)
}

/// The measurements of one picture.
struct Group<'a> {
    criterion: &'a mut Criterion,
    measurements: &'a mut Vec<Measurement>,
    picture: String,
    size: Size,
}

impl Group<'_> {
    /// Runs `floor` before each run of `body`, so that both run at the same machine speed, which
    /// may change within a second.
    fn measure(
        &mut self,
        operation: &str,
        variant: &str,
        mut floor: impl FnMut(),
        mut body: impl FnMut(),
    ) {
        let name = format!("{operation}/{}", self.picture);
        let mut group = self.criterion.benchmark_group(name);
        group.throughput(Throughput::Elements((self.size.width * self.size.height) as u64));
        let (mut times, mut floors) = (Samples::default(), Samples::default());
        let mut has_run = false;
        group.bench_function(BenchmarkId::from_parameter(variant), |bencher| {
            has_run = true;
            bencher.iter_custom(|iterations| {
                let (mut floor_ms, mut ms) = (0.0, 0.0);
                for _ in 0..iterations {
                    floor_ms += timed(&mut floor);
                    ms += timed(&mut body);
                }
                times.push(ms / iterations as f64);
                floors.push(floor_ms / iterations as f64);
                Duration::from_secs_f64(ms / 1e3)
            });
        });
        group.finish();
        if has_run {
            self.measurements.push(Measurement {
                operation: operation.to_owned(),
                picture: self.picture.clone(),
                variant: variant.to_owned(),
                ms: times.cell(),
                ratio: times.ratios_to(&floors).cell(),
            });
        }
    }
}

/// One row per picture, one column per variant: the floor in ms, the others as ratios to it.
fn ratios(operation: &str, measurements: &[Measurement]) -> Table {
    let mut columns = vec!["picture".to_owned(), format!("{FLOOR}, ms")];
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    for one in measurements.iter().filter(|one| one.operation == operation) {
        let is_new = rows.last().is_none_or(|row| row[0].to_string() != one.picture);
        if is_new {
            rows.push(vec![Cell::Text(one.picture.clone())]);
        }
        let row = rows.last_mut().expect("just made");
        row.push(if one.variant == FLOOR { one.ms.clone() } else { one.ratio.clone() });
        if one.variant != FLOOR && !columns.contains(&one.variant) {
            columns.push(one.variant.clone());
        }
    }
    let title = format!("{operation}: the whole picture, and ratios to it, measured alternately");
    Table { title, columns, rows }
}

/// The pattern with camera-like noise in its luma, so that it compresses no better than a camera's
/// picture: at 720p and quality 80 it is about as large as a frame from a webcam.
fn noisy_pattern(size: Size) -> Image {
    let mut image = Pattern::new(size, "codec").render(1, Duration::ZERO);
    assert_eq!(image.format, PixelFormat::Yuv420);
    let [luma, ..] = image.planes_mut();
    let mut noise = 0x2545_F491_u32;
    for sample in luma {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        // The sum of three uniform values, shifted to -8 to 9; the extremes are rare.
        let dice = (noise & 7) + (noise >> 8 & 7) + (noise >> 16 & 3);
        *sample = sample.saturating_add_signed(dice as i8 - 8);
    }
    image
}
