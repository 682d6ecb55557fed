//! Sends a moving pattern: `cargo run --example send_pattern -- HOST`.
#![expect(clippy::disallowed_methods, reason = "an example may sleep")]

use std::{thread::sleep, time::Duration};

use udpchat::{Image, PixelFormat, Sender};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let host = std::env::args().nth(1).unwrap_or("localhost".into());
    let mut sender = Sender::connect(&host)?;
    for offset in 0.. {
        let pixels = (0..480 * 640).flat_map(|i| [(i % 640 + offset) as u8, (i / 2560) as u8, 90]);
        sender.send(&Image::new(640, 480, PixelFormat::Bgr, pixels.collect()))?;
        while let Some(event) = sender.next_event() {
            eprintln!("{event}");
        }
        sleep(Duration::from_millis(33));
    }
    Ok(())
}
