//! Receives a stream and prints the age of each frame, if known: `cargo run --example receive`.

use udpchat::Receiver;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut receiver = Receiver::listen(":7722")?;
    loop {
        let frame = receiver.recv()?;
        let image = frame.image()?;
        let age = frame.captured().map(|captured| format!(", {:.1?} old", captured.elapsed()));
        let age = age.unwrap_or_default();
        println!("frame {}: {}x{}{age}", frame.number(), image.width, image.height);
    }
}
