//! How fast pictures are encoded and decoded, against libjpeg-turbo on the whole picture.
//!
//! `cargo bench --bench codec`; names on the command line choose, such as `720p/q80`. The
//! table at the end has each variant's ratio to `turbojpeg whole` of the same run, which is
//! what may be compared between machines.

use std::{
    collections::BTreeMap,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use criterion::{BenchmarkId, Criterion, Throughput};
use udpchat::{
    clock,
    video::{
        image::{Image, PixelFormat, Size},
        jpeg::{Decoder, Encoder, Strips, Want},
        source::pattern::Pattern,
    },
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

/// Of each variant, by operation and picture.
type Results = BTreeMap<String, Vec<Measured>>;
static RESULTS: LazyLock<Mutex<Results>> = LazyLock::new(Mutex::default);

struct Measured {
    variant: String,
    median_ms: f64,
    ratio: f64,
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(500))
        .nresamples(1000)
        .configure_from_args();
    for (name, size) in SIZES {
        let planes = noisy_pattern(size);
        let bgr = planes.to_bgr();
        for quality in QUALITIES {
            let picture = format!("{name}/q{quality}");
            let group =
                Group { criterion: &mut criterion, name: format!("encode/{picture}"), size };
            encode(group, &planes, &bgr, quality);
            for (want, to) in [(Want::Bgr, "to BGR"), (Want::Planar, "to planes")] {
                let name = format!("decode {to}/{picture}");
                decode(Group { criterion: &mut criterion, name, size }, &planes, quality, want);
            }
        }
    }
    criterion.final_summary();
    print_ratios(&RESULTS.lock().expect("nobody panicked"));
}

/// From planes, as the pattern and YUV4MPEG2 bring them; OpenCV wants BGR.
fn encode(mut group: Group<'_>, planes: &Image, bgr: &Image, quality: u8) {
    let (mut frame, mut floor_frame) = (Vec::new(), Vec::new());
    let mut whole = Encoder::new(quality, Strips::Count(1));
    let mut floor = || whole.encode(planes, &mut floor_frame).expect("encodes");
    for (name, strips) in variants() {
        let mut encoder = Encoder::new(quality, strips);
        let body = || encoder.encode(planes, &mut frame).expect("encodes");
        group.measure(&name, &mut floor, body);
    }
    let mut encoder = Encoder::new(quality, Strips::Count(1));
    let body = || encoder.encode(bgr, &mut frame).expect("encodes");
    group.measure("turbojpeg whole, from BGR", &mut floor, body);
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
        group.measure("OpenCV, from BGR", &mut floor, || {
            imencode(".jpg", &mat, &mut bytes, &parameters).expect("encodes");
        });
    }
}

fn decode(mut group: Group<'_>, planes: &Image, quality: u8, want: Want) {
    let (mut image, mut floor_image) = (Image::empty(), Image::empty());
    let (mut frame, mut whole_frame) = (Vec::new(), Vec::new());
    Encoder::new(quality, Strips::Count(1)).encode(planes, &mut whole_frame).expect("encodes");
    let mut whole = Decoder::new();
    let mut floor = || whole.decode(&whole_frame, want, &mut floor_image).expect("decodes");
    for (name, strips) in variants() {
        Encoder::new(quality, strips).encode(planes, &mut frame).expect("encodes");
        let mut decoder = Decoder::new();
        let body = || decoder.decode(&frame, want, &mut image).expect("decodes");
        group.measure(&name, &mut floor, body);
    }
    #[cfg(feature = "opencv")]
    if want == Want::Bgr {
        use opencv::{
            core::Vector,
            imgcodecs::{IMREAD_COLOR, imdecode},
        };
        let bytes = Vector::<u8>::from_slice(&whole_frame);
        group.measure("OpenCV", &mut floor, || {
            std::hint::black_box(imdecode(&bytes, IMREAD_COLOR).expect("decodes"));
        });
    }
}

fn variants() -> impl Iterator<Item = (String, Strips)> {
    let strips = STRIPS.map(|n| (format!("{n} strips"), Strips::Count(n)));
    std::iter::once((FLOOR.to_owned(), Strips::Count(1))).chain(strips)
}

/// One operation on one picture.
struct Group<'a> {
    criterion: &'a mut Criterion,
    name: String,
    size: Size,
}

impl Group<'_> {
    /// Before each turn of `body`, `floor` has one, so that both meet the same machine: its
    /// speed may be another one a second later.
    fn measure(&mut self, variant: &str, mut floor: impl FnMut(), mut body: impl FnMut()) {
        let mut group = self.criterion.benchmark_group(&self.name);
        group.throughput(Throughput::Elements((self.size.width * self.size.height) as u64));
        let (mut times, mut ratios) = (Vec::new(), Vec::new());
        group.bench_function(BenchmarkId::from_parameter(variant), |bencher| {
            bencher.iter_custom(|iterations| {
                let (mut floor_time, mut time) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..iterations {
                    floor_time += timed(&mut floor);
                    time += timed(&mut body);
                }
                times.push(time.as_secs_f64() * 1e3 / iterations as f64);
                ratios.push(time.as_secs_f64() / floor_time.as_secs_f64());
                time
            });
        });
        group.finish();
        if let (Some(median_ms), Some(ratio)) = (median(times), median(ratios)) {
            let measured = Measured { variant: variant.to_owned(), median_ms, ratio };
            let mut results = RESULTS.lock().expect("nobody panicked");
            results.entry(self.name.clone()).or_default().push(measured);
        }
    }
}

fn timed(mut body: impl FnMut()) -> Duration {
    let began = clock::now();
    body();
    clock::now() - began
}

fn median(mut samples: Vec<f64>) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied()
}

fn print_ratios(results: &Results) {
    for (group, variants) in results {
        println!("\n{group:<40}{:>9}{:>9}", "ms", "ratio");
        for Measured { variant, median_ms, ratio } in variants {
            println!("  {variant:<38}{median_ms:>9.3}{ratio:>9.2}");
        }
    }
}

/// The pattern with noise on its luma, as a camera has, so that it is no easier to compress:
/// at 720p and quality 80 about as many bytes as a webcam's picture.
fn noisy_pattern(size: Size) -> Image {
    let mut image = Pattern::new(size, "codec").render(1, Duration::ZERO);
    assert_eq!(image.format, PixelFormat::Yuv420);
    let [luma, ..] = image.planes_mut();
    let mut noise = 0x2545_F491_u32;
    for sample in luma {
        noise ^= noise << 13;
        noise ^= noise >> 17;
        noise ^= noise << 5;
        // Three dice: -8 to 9, seldom the extremes.
        let dice = (noise & 7) + (noise >> 8 & 7) + (noise >> 16 & 3);
        *sample = sample.saturating_add_signed(dice as i8 - 8);
    }
    image
}
