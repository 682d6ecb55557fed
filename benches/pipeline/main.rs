//! The whole program from the pattern to decoded pixels, compared with the codec alone.
//!
//! The program is a black box: the release binary's `demo`, `send` and `recv`, and their reports.
//! The floor is libjpeg-turbo in this process, on the same whole pictures, measured in four ways:
//! with the demo's pauses between pictures, so that both see the same caches and clock speeds
//! (`paced`); the same with a thread per side (`apart`); as `paced`, with the same load on a second
//! core (`beside`); and without pauses (`hot`). Program and floor take turns, so that the machine's
//! noise affects both.
//!
//! `cargo bench --bench pipeline`; the arguments `latency`, `speed`, `growth`, `link` and `wire`
//! select parts. Links and wires consist of network namespaces and need root. Nothing is asserted;
//! the tables say which targets are met.

mod cases;
mod floor;
mod growth;
mod latency;
mod link;
#[path = "../../tests/it/machines.rs"]
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
mod wire;

use program::Mode;
use targets::Targets;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|w| !w.starts_with('-')).collect();
    let is_wanted = |name: &str| words.is_empty() || words.iter().any(|word| word == name);
    let mut targets = Targets::default();
    let (mut tables, mut charts) = (Vec::new(), Vec::new());
    if is_wanted("latency") {
        let (table, chart) = latency::measure(&LOCAL_MODES, &mut targets);
        tables.push(table);
        charts.push(chart);
    }
    if is_wanted("speed") {
        speed::as_fast_as_possible(&LOCAL_MODES, &mut targets);
        speed::first_picture(&mut targets);
    }
    if is_wanted("growth") {
        let (table, chart) = growth::measure(&mut targets);
        tables.push(table);
        charts.push(chart);
    }
    if is_wanted("link") {
        tables.extend(link::measure(&LINK_MODES, &mut targets));
    }
    if !tables.is_empty() || !targets.is_empty() {
        tables.insert(0, targets.into_table());
        publish::publish("pipeline", tables, charts);
    }
    if is_wanted("wire")
        && let Some((table, chart)) = wire::measure()
    {
        publish::publish("wire", vec![table], vec![chart]);
    }
}

/// Modes on one machine: the program's default and its alternative.
const LOCAL_MODES: [Mode; 2] = [Mode::Auto, Mode::Pipelined];

/// Modes on a link: the program's default and its alternative.
const LINK_MODES: [Mode; 2] = [Mode::Auto, Mode::Whole];
