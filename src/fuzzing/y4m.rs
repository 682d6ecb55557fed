//! YUV4MPEG2 on standard input.

use std::io::{BufRead, BufReader, Cursor};

use crate::video::{
    image::Image,
    source::{
        pushback::Pushback,
        y4m::{Y4mError, Y4mReader},
    },
};

/// The bytes are a stream. Each picture matches the header, there are no more of them than the
/// bytes can hold, and reading in pieces makes no difference.
pub fn y4m(bytes: &[u8]) {
    let pictures = pictures(Box::new(Cursor::new(bytes.to_vec())));
    let len: usize = pictures.iter().map(|picture| picture.data.len()).sum();
    assert!(len <= bytes.len());
    let pieces = BufReader::with_capacity(7, Cursor::new(bytes.to_vec()));
    assert!(self::pictures(Box::new(pieces)) == pictures, "whole or in pieces");
}

fn pictures(reader: Box<dyn BufRead + Send>) -> Vec<Image> {
    let Ok(mut reader) = Y4mReader::open(Pushback::new(reader)) else { return Vec::new() };
    let mut pictures = Vec::new();
    loop {
        let picture = match reader.next_image() {
            Ok(Some(picture)) => picture,
            Err(Y4mError::InterruptedByHeader) => continue,
            Ok(None) | Err(_) => return pictures,
        };
        let header = reader.header;
        assert_eq!((picture.size(), picture.format), (header.size, header.format));
        pictures.push(picture);
    }
}
