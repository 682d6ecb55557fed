//! Latency and processor time of a running stream, stage by stage.

use crate::{
    cases::{Case, P720, P1080, QUALITY},
    floor::{Floor, Run},
    measure::Samples,
    program::{self, Mode, Report},
    results::{Bar, Cell, Chart, Drawing, Table},
    targets::{Bound, Targets},
};

/// One size, round by round.
struct Rounds {
    case: Case,
    paced: FloorRounds,
    apart: FloorRounds,
    beside: FloorRounds,
    hot: FloorRounds,
    modes: Vec<(Mode, ModeRounds)>,
}

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
    stages: [Samples; STAGES.len()],
    p50: Samples,
    p95: Samples,
    cpu: Samples,
}

/// The stages' table and chart.
pub(crate) fn measure(modes: &[Mode], targets: &mut Targets) -> (Table, Chart) {
    let all: Vec<Rounds> = [P720, P1080].map(|case| Rounds::measure(case, modes)).into();
    for rounds in &all {
        for (mode, measured) in &rounds.modes {
            rounds.judge(&mode.of(rounds.case.name), measured, targets);
        }
    }
    (stages(&all), chart(&all))
}

impl Rounds {
    fn measure(case: Case, modes: &[Mode]) -> Self {
        let mut floor = Floor::new(case.size, QUALITY);
        let mut other = Floor::new(case.size, QUALITY);
        let [mut paced, mut apart, mut beside, mut hot] =
            std::array::from_fn(|_| FloorRounds::default());
        let mut modes: Vec<_> = modes.iter().map(|&mode| (mode, ModeRounds::default())).collect();
        for round in 1..=ROUNDS {
            println!("latency, {}: round {round} of {ROUNDS}", case.name);
            paced.push(&floor.paced(30.0, FLOOR_FRAMES));
            apart.push(&floor.apart(30.0, FLOOR_FRAMES));
            beside.push(&Floor::beside([&mut floor, &mut other], 30.0, FLOOR_FRAMES));
            for (mode, rounds) in &mut modes {
                rounds.push(&program::demo(case, *mode, "30", SECONDS));
            }
            hot.push(&floor.hot(FLOOR_FRAMES));
        }
        Self { case, paced, apart, beside, hot, modes }
    }

    fn floors(&self) -> [(&FloorRounds, &'static str); 4] {
        [
            (&self.paced, "paced"),
            (&self.apart, "apart"),
            (&self.beside, "beside"),
            (&self.hot, "hot"),
        ]
    }

    fn judge(&self, name: &str, measured: &ModeRounds, targets: &mut Targets) {
        for (floor, how) in [(&self.paced, "paced"), (&self.hot, "hot")] {
            let allowed = floor.both.into_iter().map(|both| 0.85 * both + 0.4).collect();
            let rule = format!("0.85 × (encode + decode, {how}) + 0.4 ms");
            let what = format!("{name}: latency p50, ms");
            targets.judge(&what, &measured.p50, Bound::AtMost, &allowed, &rule);
        }
        let allowed = measured.p50.into_iter().map(|p50| 1.5 * p50).collect();
        let what = format!("{name}: latency p95, ms");
        targets.judge(&what, &measured.p95, Bound::AtMost, &allowed, "1.5 × its p50");
        for (floor, how) in self.floors() {
            let allowed = floor.cpu.into_iter().map(|cpu| 1.15 * cpu + 0.4).collect();
            let rule = format!("1.15 × (the same of encode + decode, {how}) + 0.4 ms");
            let what = format!("{name}: processor a frame, both sides, ms");
            targets.judge(&what, &measured.cpu, Bound::AtMost, &allowed, &rule);
        }
    }
}

impl FloorRounds {
    fn push(&mut self, run: &Run) {
        if run.paint.into_iter().next().is_some() {
            self.paint.push(run.paint.figure().median);
        }
        self.encode.push(run.encode.figure().median);
        self.decode.push(run.decode.figure().median);
        self.both.push(run.both.figure().median);
        self.cpu.push(run.cpu());
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
}

/// Each stage's p50; under them painting (as `capture`) and the codec alone.
fn stages(all: &[Rounds]) -> Table {
    let mut rows = Vec::new();
    for rounds in all {
        for (mode, measured) in &rounds.modes {
            let mut row = vec![Cell::Text(mode.of(rounds.case.name))];
            row.extend(measured.stages.iter().map(Samples::cell));
            row.push(measured.p50.cell());
            rows.push(row);
        }
        for (floor, how) in rounds.floors() {
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
        "Where the time goes: quality {QUALITY}, 30 frames/s, {ROUNDS} rounds of {SECONDS} s in turn"
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
        let parts = STAGES.map(|stage| match stage {
            "encode" => rounds.paced.encode.figure().median,
            "decode" => rounds.paced.decode.figure().median,
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

const ROUNDS: usize = 9;
/// In 3 s, to connect and to take memory was 0.13 ms of each frame's processor time.
const SECONDS: &str = "8";
const FLOOR_FRAMES: usize = 60;
