//! Reports the results of the other benches. `cargo bench --bench report -- --write` puts the
//! tables between the markers of `docs/BENCHMARKS.md` and draws `docs/charts/*.svg`. Without
//! `--write` it prints the tables as Markdown.

mod charts;
#[path = "../support/results.rs"]
mod results;

use std::{error::Error, fmt::Write, fs, path::Path};

use results::{Results, Table, path_of};

fn main() -> Result<(), Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let writes = std::env::args().any(|arg| arg == "--write");
    let page_path = docs.join("BENCHMARKS.md");
    let mut page = fs::read_to_string(&page_path)?;
    for name in BENCHES {
        let Ok(json) = fs::read(path_of(name)) else {
            println!("{name}: nothing measured yet; its tables stay as they are");
            continue;
        };
        let results: Results = serde_json::from_slice(&json)?;
        let text = markdown(&results);
        if writes {
            page = replaced(&page, &results.name, &text)?;
            draw(&results, &docs.join("charts"))?;
        } else {
            println!("{text}");
        }
    }
    if writes {
        fs::write(&page_path, page)?;
        println!("wrote docs/BENCHMARKS.md and docs/charts");
    }
    Ok(())
}

fn draw(results: &Results, folder: &Path) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(folder)?;
    for chart in &results.charts {
        let svg = charts::draw(chart)?;
        fs::write(folder.join(&chart.file).with_extension("svg"), svg)?;
    }
    Ok(())
}

fn markdown(results: &Results) -> String {
    let mut text = String::new();
    for table in &results.tables {
        push_table(&mut text, table);
    }
    for chart in &results.charts {
        let _ = writeln!(text, "![{}](charts/{}.svg)\n", chart.title, chart.file);
    }
    let _ = writeln!(text, "*{}*", results.machine);
    text
}

fn push_table(text: &mut String, table: &Table) {
    let row = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let _ = writeln!(text, "**{}**\n", table.title);
    text.push_str(&row(&table.columns));
    text.push_str(&row(&vec!["---".to_owned(); table.columns.len()]));
    for cells in &table.rows {
        let cells: Vec<String> = cells.iter().map(ToString::to_string).collect();
        text.push_str(&row(&cells));
    }
    text.push('\n');
}

/// Returns the page with `text` between the markers of `name`.
fn replaced(page: &str, name: &str, text: &str) -> Result<String, String> {
    let [begin, end] = ["begin", "end"].map(|which| format!("<!-- {which} {name} -->"));
    let missing = || format!("docs/BENCHMARKS.md has no {begin} … {end}");
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}\n{text}{end}{after}"))
}

const BENCHES: [&str; 5] = ["wire", "transport", "reassembly", "codec", "pipeline"];
