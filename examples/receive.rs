//! Receives a stream and prints the age of each frame: `cargo run --example receive`.

use udpchat::Receiver;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut receiver = Receiver::listen(":7722")?;
    loop {
        let frame = receiver.recv()?;
        let image = frame.image()?;
        let age = frame.captured().map(|captured| captured.elapsed());
        println!("frame {}: {}x{}, {age:.1?} old", frame.number(), image.width, image.height);
    }
}
