//! Prints the results of a bench and saves them for the report.

use std::{fs, process::Command};

use udpchat::clock;

use crate::results::{Chart, Results, Table, path_of};

/// Prints the tables and writes the JSON file.
pub(crate) fn publish(name: &str, tables: Vec<Table>, charts: Vec<Chart>) {
    for table in &tables {
        print(table);
    }
    let machine = machine();
    println!("\n{machine}");
    let results = Results { name: name.to_owned(), machine, tables, charts };
    let path = path_of(name);
    let json = serde_json::to_string_pretty(&results).expect("plain data");
    fs::create_dir_all(path.parent().expect("in a folder"))
        .and_then(|()| fs::write(&path, json))
        .expect("the target folder can be written");
}

fn print(table: &Table) {
    println!("\n{}", table.title);
    let rows: Vec<Vec<String>> = std::iter::once(table.columns.clone())
        .chain(table.rows.iter().map(|row| row.iter().map(ToString::to_string).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..table.columns.len()).filter_map(width).collect();
    for row in &rows {
        let mut cells = row.iter().zip(&widths);
        let first = cells.next().map(|(cell, &width)| format!("{cell:<width$}"));
        let others = cells.map(|(cell, &width)| format!("{cell:>width$}"));
        let line: Vec<String> = first.into_iter().chain(others).collect();
        println!("  {}", line.join("  "));
    }
}

/// The machine, its versions of Linux and rustc, the date, and the load average.
fn machine() -> String {
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let day = jiff::Timestamp::from_second(clock::wall().as_secs() as i64).expect("in range");
    format!(
        "{}, {cores} cores, Linux {}, {}, {}; load average at the end: {}",
        model.unwrap_or("unknown processor").trim(),
        kernel.trim(),
        rustc(),
        day.strftime("%F"),
        load.split(' ').next().unwrap_or("unknown"),
    )
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// The compiler's version, such as `rustc 1.95.0`.
fn rustc() -> String {
    let output = Command::new("rustc").arg("-V").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.unwrap_or_default().split(' ').take(2).collect::<Vec<_>>().join(" ")
}
