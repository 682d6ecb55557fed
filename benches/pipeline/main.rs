//! From the pattern to decoded pixels through the whole program, beside the codec alone.
//!
//! The program is a black box: the release binary's `demo`, `send` and `recv`, and what they
//! report. The floor is libjpeg-turbo on the same pictures, whole, in this process: with the
//! demo's own pause between the pictures, so that both meet the same caches and clock speeds
//! (`paced`), also with a thread for each side (`apart`), with the same at once on a second core
//! (`beside`), and without a pause (`hot`). They take turns, so that a noisy machine is noisy for both.
//!
//! `cargo bench --bench pipeline`; names choose: `latency`, `speed`, `growth`, `link`. The link
//! needs root, for it is made of network namespaces. Nothing is asserted; the tables say what is met.

mod cases;
mod floor;
mod growth;
mod latency;
mod link;
#[path = "../../tests/it/machines.rs"]
#[expect(dead_code, reason = "no bench needs a router")]
mod machines;
#[path = "../support/measure.rs"]
mod measure;
mod program;
#[path = "../support/publish.rs"]
mod publish;
#[path = "../support/results.rs"]
mod results;
mod speed;
mod targets;

use program::Mode;
use targets::Targets;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let mut targets = Targets::default();
    let (mut tables, mut charts) = (Vec::new(), Vec::new());
    if is_wanted("latency") {
        let (table, chart) = latency::measure(&HERE, &mut targets);
        tables.push(table);
        charts.push(chart);
    }
    if is_wanted("speed") {
        speed::as_fast_as_possible(&HERE, &mut targets);
        speed::first_picture(&mut targets);
    }
    if is_wanted("growth") {
        let (table, chart) = growth::measure(&mut targets);
        tables.push(table);
        charts.push(chart);
    }
    if is_wanted("link") {
        tables.extend(link::measure(&AWAY, &mut targets));
    }
    tables.insert(0, targets.into_table());
    publish::publish("pipeline", tables, charts);
}

/// On one machine, beside what the program decides for itself.
const HERE: [Mode; 2] = [Mode::Auto, Mode::Pipelined];

/// On a link.
const AWAY: [Mode; 2] = [Mode::Auto, Mode::Whole];
