//! Latency and processor time of a running stream, stage by stage.

use crate::{
    cases::{Case, P720, P1080, QUALITY},
    floor::{Floor, Run},
    measure::Samples,
    program::{self, Mode, Report},
    results::{Bar, Cell, Chart, Drawing, Table},
    targets::{Bound, Targets},
};

/// The rounds of one picture size.
struct Rounds {
    case: Case,
    modes: Vec<(Mode, ModeRounds)>,
}

/// The codec alone, before and after a stream, because the machine's speed changes every few
/// seconds.
#[derive(Default)]
struct FloorRounds {
    paint: Samples,
    encode: Samples,
    decode: Samples,
    both: Samples,
    cpu: Samples,
}

#[derive(Default)]
struct ModeRounds {
    /// In the order of [`FLOORS`].
    floors: [FloorRounds; FLOORS.len()],
    stages: [Samples; STAGES.len()],
    p50: Samples,
    p95: Samples,
    cpu: Samples,
}

/// Returns the table and the chart of the stages.
pub(crate) fn measure(modes: &[Mode], targets: &mut Targets) -> (Table, Chart) {
    let all: Vec<Rounds> = [P720, P1080].map(|case| Rounds::measure(case, modes)).into();
    for rounds in &all {
        rounds.judge(targets);
    }
    (stages(&all), chart(&all))
}

impl Rounds {
    fn measure(case: Case, modes: &[Mode]) -> Self {
        let mut floor = Floor::new(case.size, QUALITY);
        let mut other = Floor::new(case.size, QUALITY);
        let mut floors = || {
            [
                floor.paced(30.0, FLOOR_FRAMES),
                floor.apart(30.0, FLOOR_FRAMES),
                Floor::beside([&mut floor, &mut other], 30.0, FLOOR_FRAMES),
                floor.hot(HOT_FRAMES),
            ]
        };
        let mut modes: Vec<_> = modes.iter().map(|&mode| (mode, ModeRounds::default())).collect();
        let mut before = floors();
        for round in 1..=ROUNDS {
            println!("latency, {}: round {round} of {ROUNDS}", case.name);
            for (mode, rounds) in &mut modes {
                rounds.push(&program::demo(case, *mode, "30", SECONDS));
                let after = floors();
                for (i, floor) in rounds.floors.iter_mut().enumerate() {
                    floor.push([&before[i], &after[i]]);
                }
                before = after;
            }
        }
        Self { case, modes }
    }

    fn judge(&self, targets: &mut Targets) {
        for (mode, measured) in &self.modes {
            measured.judge(&mode.of(self.case.name), targets);
        }
    }

    /// The codec alone, before and after the streams of the first mode.
    fn floors(&self) -> &[FloorRounds] {
        &self.modes[0].1.floors
    }
}

impl FloorRounds {
    fn push(&mut self, [before, after]: [&Run; 2]) {
        let mean = |of: fn(&Run) -> &Samples| {
            f64::midpoint(of(before).figure().median, of(after).figure().median)
        };
        if before.paint.into_iter().next().is_some() {
            self.paint.push(mean(|run| &run.paint));
        }
        self.encode.push(mean(|run| &run.encode));
        self.decode.push(mean(|run| &run.decode));
        self.both.push(mean(|run| &run.both));
        self.cpu.push(f64::midpoint(before.cpu(), after.cpu()));
    }
}

impl ModeRounds {
    fn push(&mut self, report: &Report) {
        for (samples, stage) in self.stages.iter_mut().zip(STAGES) {
            samples.push(report.percentile(stage, "p50"));
        }
        self.p50.push(report.percentile("end_to_end", "p50"));
        self.p95.push(report.percentile("end_to_end", "p95"));
        self.cpu.push(report.cpu());
    }

    fn judge(&self, name: &str, targets: &mut Targets) {
        for (floor, how) in self.floors.iter().zip(FLOORS).filter(|(_, how)| TIMED.contains(how)) {
            let allowed = floor.both.into_iter().map(|both| 0.85 * both + 0.4).collect();
            let rule = format!("0.85 × (encode + decode, {how}) + 0.4 ms");
            let what = format!("{name}: latency p50, ms");
            targets.judge(&what, &self.p50, Bound::AtMost, &allowed, &rule);
        }
        let allowed = self.p50.into_iter().map(|p50| 1.5 * p50).collect();
        let what = format!("{name}: latency p95, ms");
        targets.judge(&what, &self.p95, Bound::AtMost, &allowed, "1.5 × its p50");
        for (floor, how) in self.floors.iter().zip(FLOORS) {
            let allowed = floor.cpu.into_iter().map(|cpu| 1.15 * cpu + 0.4).collect();
            let rule = format!("1.15 × (processor time of encode + decode, {how}) + 0.4 ms");
            let what = format!("{name}: processor time a frame, both sides, ms");
            targets.judge(&what, &self.cpu, Bound::AtMost, &allowed, &rule);
        }
    }
}

/// Each stage's p50; below them the codec alone, with painting as its `capture`.
fn stages(all: &[Rounds]) -> Table {
    let mut rows = Vec::new();
    for rounds in all {
        for (mode, measured) in &rounds.modes {
            let mut row = vec![Cell::Text(mode.of(rounds.case.name))];
            row.extend(measured.stages.iter().map(Samples::cell));
            row.push(measured.p50.cell());
            rows.push(row);
        }
        for (floor, how) in rounds.floors().iter().zip(FLOORS) {
            let mut row = vec![Cell::Text(format!("{}, codec alone, {how}", rounds.case.name))];
            row.extend(STAGES.map(|stage| match stage {
                "capture" if how == "paced" => floor.paint.cell(),
                "encode" => floor.encode.cell(),
                "decode" => floor.decode.cell(),
                _ => Cell::Text(String::new()),
            }));
            row.push(floor.both.cell());
            rows.push(row);
        }
    }
    let names = STAGES.iter().copied().chain(["end to end"]);
    let columns = std::iter::once("p50, ms").chain(names).map(str::to_owned).collect();
    let title = format!(
        "Where the time goes: quality {QUALITY}, 30 frames/s, {ROUNDS} alternating rounds of {SECONDS} s"
    );
    Table { title, columns, rows }
}

fn chart(all: &[Rounds]) -> Chart {
    let mut bars = Vec::new();
    for rounds in all {
        let case = rounds.case.name;
        for (mode, measured) in &rounds.modes {
            let parts = measured.stages.iter().map(|stage| stage.figure().median).collect();
            bars.push(Bar { name: mode.of(case), parts });
        }
        let paced = &rounds.floors()[0];
        let parts = STAGES.map(|stage| match stage {
            "encode" => paced.encode.figure().median,
            "decode" => paced.decode.figure().median,
            _ => 0.0,
        });
        bars.push(Bar { name: format!("{case}, codec alone, paced"), parts: parts.into() });
    }
    let parts = STAGES.map(str::to_owned).into();
    Chart {
        file: "stages".to_owned(),
        title: "From the pattern to decoded pixels, p50 of each stage".to_owned(),
        drawing: Drawing::Bars { unit: "milliseconds".to_owned(), parts, bars },
    }
}

const STAGES: [&str; 6] = ["capture", "encode", "send", "network", "reassemble", "decode"];

/// The ways in which the codec alone is run.
const FLOORS: [&str; 4] = ["paced", "apart", "beside", "hot"];

/// Those on one thread. Their times bound the latency.
const TIMED: [&str; 2] = ["paced", "hot"];

const ROUNDS: usize = 9;
/// In runs of 3 s, connecting and allocating memory took 0.13 ms of processor time per frame.
const SECONDS: &str = "8";
const FLOOR_FRAMES: usize = 30;
const HOT_FRAMES: usize = 90;
