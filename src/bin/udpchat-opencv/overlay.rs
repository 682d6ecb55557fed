//! Text over pictures, outlined so that it is readable on any background.

use opencv::{
    core::{Mat, MatTraitConst, Point, Scalar, Size},
    imgproc,
};

use udpchat::opencv_process::Overlay;

/// Draws statistics (unless hidden) and the caption.
pub(crate) fn draw(picture: &mut Mat, overlay: &Overlay, statistics: bool) -> opencv::Result<()> {
    let scale = scale_for(picture);
    let line = line_height(scale);
    if statistics {
        for (i, text) in overlay.statistics.iter().enumerate() {
            let origin = Point::new(line / 2, margin(picture) + line * (i as i32 + 1));
            outlined(picture, &plain(text), origin, scale, WHITE)?;
        }
    }
    let Some(caption) = &overlay.caption else { return Ok(()) };
    let scale = scale * 1.3;
    let lines = wrapped(&plain(caption), picture.cols() * 9 / 10, scale)?;
    let line = line_height(scale);
    let top = picture.rows() - margin(picture) - line / 2 - line * (lines.len() as i32 - 1);
    for (i, text) in lines.iter().enumerate() {
        let left = (picture.cols() - width(text, scale)?) / 2;
        outlined(picture, text, Point::new(left, top + line * i as i32), scale, YELLOW)?;
    }
    Ok(())
}

/// Whether [`draw`] would draw nothing.
pub(crate) fn is_empty(overlay: &Overlay, statistics: bool) -> bool {
    overlay.caption.is_none() && (!statistics || overlay.statistics.is_empty())
}

/// A card with these lines, the first one large.
pub(crate) fn card(lines: &[String]) -> opencv::Result<Mat> {
    let mut card = Mat::new_rows_cols_with_default(CARD.height, CARD.width, CV_8UC3, NIGHT)?;
    let total = CARD_LINE * (lines.len() as i32 - 1).max(0);
    let mut baseline = (CARD.height - total) / 2;
    for (i, text) in lines.iter().enumerate() {
        let (mut scale, colour) = if i == 0 { (1.2, WHITE) } else { (0.75, GRAY) };
        let text = plain(text);
        let full_width = f64::from(width(&text, scale)?);
        scale *= (f64::from(CARD.width) * 0.92 / full_width.max(1.0)).min(1.0);
        let left = (CARD.width - width(&text, scale)?) / 2;
        put(&mut card, &text, Point::new(left, baseline), scale, colour, 1 + i32::from(i == 0))?;
        baseline += CARD_LINE;
    }
    Ok(card)
}

/// Transliterates to printable ASCII, since the font has no other characters.
fn plain(text: &str) -> String {
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    deunicode::deunicode_with_tofu(&printable, "?")
}

fn outlined(
    picture: &mut Mat,
    text: &str,
    origin: Point,
    scale: f64,
    colour: Scalar,
) -> opencv::Result<()> {
    let thickness = (scale * 1.6).round().max(1.0) as i32;
    put(picture, text, origin, scale, BLACK, thickness + 2 + thickness)?;
    put(picture, text, origin, scale, colour, thickness)
}

fn put(
    picture: &mut Mat,
    text: &str,
    origin: Point,
    scale: f64,
    colour: Scalar,
    thickness: i32,
) -> opencv::Result<()> {
    imgproc::put_text(
        picture,
        text,
        origin,
        FONT,
        scale,
        colour,
        thickness,
        imgproc::LINE_AA,
        false,
    )
}

/// Wraps a text at white space into at most [`MAX_CAPTION_LINES`] lines; the rest is dropped. A
/// line is at most `room` pixels wide, unless a single word is wider.
fn wrapped(text: &str, room: i32, scale: f64) -> opencv::Result<Vec<String>> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.last_mut().expect("there is always one");
        let longer = if last.is_empty() { word.to_owned() } else { format!("{last} {word}") };
        if last.is_empty() || width(&longer, scale)? <= room {
            *last = longer;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.truncate(MAX_CAPTION_LINES);
    Ok(lines)
}

fn width(text: &str, scale: f64) -> opencv::Result<i32> {
    Ok(imgproc::get_text_size(text, FONT, scale, 1, &mut 0)?.width)
}

/// The font scale, relative to the picture's height, but with a readable minimum.
fn scale_for(picture: &Mat) -> f64 {
    (f64::from(picture.rows()) / 720.0 * 0.75).max(0.4)
}

/// The distance of text from the top and bottom edges, where the pattern has its barcodes.
fn margin(picture: &Mat) -> i32 {
    picture.rows() / 20
}

fn line_height(scale: f64) -> i32 {
    (scale * 34.0) as i32
}

const CV_8UC3: i32 = opencv::core::CV_8UC3;
const FONT: i32 = imgproc::FONT_HERSHEY_SIMPLEX;
const CARD: Size = Size { width: 960, height: 540 };
const CARD_LINE: i32 = 46;
const MAX_CAPTION_LINES: usize = 4;

const BLACK: Scalar = bgr(0.0, 0.0, 0.0);
const WHITE: Scalar = bgr(255.0, 255.0, 255.0);
const GRAY: Scalar = bgr(200.0, 186.0, 178.0);
const YELLOW: Scalar = bgr(120.0, 236.0, 255.0);
const NIGHT: Scalar = bgr(48.0, 26.0, 20.0);

const fn bgr(blue: f64, green: f64, red: f64) -> Scalar {
    opencv::core::VecN([blue, green, red, 0.0])
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use opencv::core::MatTraitConstManual;

    use super::*;

    fn picture() -> Mat {
        Mat::new_rows_cols_with_default(240, 320, CV_8UC3, GRAY).expect("memory")
    }

    #[test]
    fn text_is_reduced_to_printable_ascii() {
        assert_eq!(plain("Grüße\x1b[31m 😀"), "Grusse [31m grinning");
    }

    #[test]
    fn an_empty_overlay_draws_nothing() {
        let hidden = Overlay { statistics: vec!["30 fps".into()], caption: None };
        let mut drawn = picture();
        draw(&mut drawn, &hidden, false).expect("draws");
        assert!(is_empty(&hidden, false) && !is_empty(&hidden, true));
        assert_eq!(drawn.data_bytes().expect("ours"), picture().data_bytes().expect("ours"));
    }

    #[test]
    fn captions_of_any_length_are_drawn() {
        for caption in ["hello", &"long words wrap ".repeat(50), &"W".repeat(500)] {
            let overlay = Overlay { statistics: Vec::new(), caption: Some((*caption).to_owned()) };
            let mut drawn = picture();
            draw(&mut drawn, &overlay, false).expect("draws");
            assert_ne!(drawn.data_bytes().expect("ours"), picture().data_bytes().expect("ours"));
        }
    }

    /// Whether `card` has a colour other than its background in these columns and rows.
    fn is_inked(card: &Mat, columns: Range<i32>, rows: Range<i32>) -> bool {
        let background = NIGHT.0.map(|value| value as u8);
        let row_len = 3 * CARD.width as usize;
        let rows = card
            .data_bytes()
            .expect("ours")
            .chunks_exact(row_len)
            .take(rows.end as usize)
            .skip(rows.start as usize);
        let columns = 3 * columns.start as usize..3 * columns.end as usize;
        rows.flat_map(|row| row[columns.clone()].chunks_exact(3))
            .any(|pixel| *pixel != background[..3])
    }

    /// Each line has its own place, and the longest fits.
    #[test]
    fn cards_with_any_lines_are_drawn() {
        let (width, height) = (CARD.width, CARD.height);
        let waiting = || "waiting".to_owned();
        for lines in [
            vec![],
            vec![waiting()],
            vec!["x".repeat(999)],
            vec![waiting(), "W".repeat(99), waiting(), "x".repeat(999)],
            vec![waiting(); 30],
        ] {
            let drawn = card(&lines).expect("draws");
            assert_eq!((drawn.cols(), drawn.rows()), (width, height));
            let count = lines.len() as i32;
            let first = height / 2 - CARD_LINE * (count - 1).max(0) / 2;
            let baselines = (0..count).map(|line| first + CARD_LINE * line);
            for baseline in baselines.clone().filter(|at| (20..height - 20).contains(at)) {
                assert!(
                    is_inked(&drawn, 0..width, baseline - 15..baseline + 3),
                    "{baseline} of {count}"
                );
            }
            let (top, bottom) = (first - 40, first + CARD_LINE * (count - 1) + 20);
            assert!(!is_inked(&drawn, 0..width, 0..top.max(0)), "above {count} lines");
            assert!(!is_inked(&drawn, 0..width, bottom.min(height)..height), "below {count} lines");
            for side in [0..30, width - 30..width] {
                assert!(!is_inked(&drawn, side, 0..height), "at the sides of {count} lines");
            }
        }
    }
}
