//! A frozen table of delivery and delay by loss and burst length.

use std::time::Duration;

use crate::{
    sim::{FRAME_INTERVAL, SECOND, Sim, number_of},
    simulation::{ANN, BOB, bobs, links},
};

/// A 720p stream over a lossy link without any repair: no parity, and no control channel, hence no
/// NACKs. `repair.rs` has the same with repair. A change of behaviour changes
/// `simulation-table.txt`, which must be reviewed.
#[test]
fn the_loss_table_is_unchanged() {
    let cells: Vec<_> = [0.0, 0.1, 1.0, 5.0]
        .into_iter()
        .flat_map(|loss| [1, 4, 20].map(|burst| (loss, burst)))
        .collect();
    let rows = std::thread::scope(|scope| {
        let halves = cells.chunks(cells.len() / 2).map(|half| {
            scope.spawn(|| half.iter().map(|&(loss, burst)| cell(loss, burst)).collect::<Vec<_>>())
        });
        let halves: Vec<_> = halves.collect();
        halves.into_iter().flat_map(|h| h.join().expect("a half")).collect::<Vec<_>>()
    });
    for (&(loss, burst), row) in cells.iter().zip(&rows) {
        assert_eq!(row.damaged, 0);
        if burst == 1 {
            let expected = (1.0_f64 - loss / 100.0).powi(TABLE_CHUNKS as i32);
            let deviation = (expected * (1.0 - expected) / TABLE_FRAMES as f64).sqrt();
            let off = (row.delivered - expected).abs();
            assert!(off <= 4.0 * deviation, "{loss} %: {} of {expected}", row.delivered);
        }
    }
    let table = TABLE_HEAD.to_owned() + &rows.iter().map(Row::line).collect::<String>();
    if std::env::var_os("UDPCHAT_BLESS").is_some() {
        std::fs::write(TABLE, &table).expect("the table is writable");
    }
    let frozen = std::fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        frozen == table,
        "the behaviour under loss has changed; now it is\n\n{table}\nIf intended, accept it \
         with UDPCHAT_BLESS=1 cargo test --test it table, and commit {TABLE}"
    );
}

/// A row of the table.
struct Row {
    loss: f64,
    burst: u32,
    delivered: f64,
    damaged: u64,
    delays: Vec<Duration>,
}

impl Row {
    fn line(&self) -> String {
        let Self { loss, burst, delivered, damaged, .. } = self;
        let [p50, p95, p99] = [50, 95, 99].map(|p| self.percentile(p));
        let share = delivered * 100.0;
        format!("{loss:>6.1} {burst:>6} {share:>11.2} {damaged:>8} {p50:>7} {p95:>7} {p99:>7}\n")
    }

    /// The delay percentile of the delivered frames, in ms; a dash if there are none.
    fn percentile(&self, percent: usize) -> String {
        let at = (self.delays.len() * percent).div_ceil(100).saturating_sub(1);
        let ms = |d: &Duration| format!("{:.2}", d.as_secs_f64() * 1e3);
        self.delays.get(at).map_or("-".into(), ms)
    }
}

/// Runs one row: a stream of one minute over a link with this loss.
fn cell(loss: f64, burst: u32) -> Row {
    let mut sim = Sim::with_links(2, links(TABLE_LINK));
    sim.start_receiver(BOB);
    sim.start_sender(ANN, BOB, false);
    sim.run(SECOND);
    // Loss starts only now, so that every row begins with the same session.
    sim.set_link(ANN, BOB, links(&format!("{TABLE_LINK},loss={loss}%,burst={burst},seed=7")));
    let start = sim.now;
    sim.start_video(ANN, TABLE_CHUNKS * 1160 - 4);
    sim.run(FRAME_INTERVAL * (TABLE_FRAMES as u32 - 1));
    sim.stop_video(ANN);
    sim.run(SECOND);
    assert_eq!(sim.counters(ANN)[0].frames_sent, TABLE_FRAMES);
    let frames = sim.take_frames(BOB);
    let captured = |number: u64| start + FRAME_INTERVAL * number as u32;
    let mut delays: Vec<_> =
        frames.iter().map(|(at, d)| *at - captured(number_of(&d.frame.data))).collect();
    delays.sort();
    let delivered = delays.len() as f64 / TABLE_FRAMES as f64;
    Row { loss, burst, delivered, damaged: bobs(&sim).reassembly.damaged, delays }
}

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/simulation-table.txt");

/// 720p at quality 80.
const TABLE_CHUNKS: usize = 98;

/// One minute at 30 frames/s.
const TABLE_FRAMES: u64 = 1800;

const TABLE_LINK: &str = "delay=5ms,jitter=2ms,rate=100mbit";

const TABLE_HEAD: &str = "\
# Frames of 98 chunks, 30 a second for 60 s, over delay=5ms,jitter=2ms,rate=100mbit and this loss;
# no parity, and no control channel over which to ask.
# Delays are from capture to the last chunk, of delivered frames. Written by the test that reads it.
# loss %  burst  delivered %  damaged  p50 ms  p95 ms  p99 ms
";
