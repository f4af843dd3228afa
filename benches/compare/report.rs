//! Medians of all rounds in one table, beside the floor and beside PostgreSQL itself.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use super::processes;

/// What a figure is a number of.
#[derive(Clone, Copy)]
pub enum Unit {
    Microseconds,
    Milliseconds,
    Rate,
    Count,
    Kibibytes,
    Percent,
}

/// Figures of every way, in the order in which they came.
pub struct Report {
    ways: Vec<&'static str>,
    measures: Vec<Measure>,
}

struct Measure {
    name: String,
    unit: Unit,
    /// Of each way, one a round.
    figures: Vec<Vec<f64>>,
}

impl Report {
    pub fn new(ways: Vec<&'static str>) -> Report {
        Report { ways, measures: Vec::new() }
    }

    /// A figure of the way at this place.
    pub fn add(&mut self, name: &str, unit: Unit, way: usize, figure: f64) {
        let place = self.measures.iter().position(|measure| measure.name == name);
        let place = place.unwrap_or_else(|| {
            let figures = vec![Vec::new(); self.ways.len()];
            self.measures.push(Measure { name: name.to_owned(), unit, figures });
            self.measures.len() - 1
        });
        self.measures[place].figures[way].push(figure);
    }

    /// The document.
    pub fn markdown(&self, rounds: usize, is_quick: bool) -> String {
        let how = if is_quick { "make bench QUICK=1" } else { "make bench" };
        let what = format!(
            "What `{how}` has measured: every way to PostgreSQL in turn, {rounds} rounds, medians. In \
             brackets the median of the rounds' ratios to PostgreSQL itself (direct), or, where that \
             has no process in the middle, to the floor, an epoll loop that copies bytes and does \
             nothing else. A ratio whose middle half spreads over more than {:.0} % of it is followed \
             by `?`: the machine was too busy to tell. PgBouncer has connections to PostgreSQL left \
             from earlier logins, hence the little that a login costs there.",
            SPREAD_MAX * 100.0,
        );
        let mut text = format!("# Benchmarks\n\n{}\n{}\n", wrapped(&what), wrapped(&machine()));
        let _ = writeln!(text, "| | {} |", self.ways.join(" | "));
        let _ = writeln!(text, "|---|{}", "---:|".repeat(self.ways.len()));
        for measure in &self.measures {
            let cells: Vec<_> = (0..self.ways.len()).map(|way| self.cell(measure, way)).collect();
            let _ = writeln!(text, "| {} | {} |", measure.name, cells.join(" | "));
        }
        text
    }

    fn cell(&self, measure: &Measure, way: usize) -> String {
        let figures = &measure.figures[way];
        let Some(median) = middle(figures, 0.5) else { return "–".into() };
        let mut cell = measure.unit.written(median);
        let ratios = self.ratios(measure, way);
        if let Some(ratio) = middle(&ratios, 0.5) {
            let _ = write!(cell, " (×{ratio:.2})");
        }
        // The machine may change its pace between rounds; it matters to what is not compared alone.
        if is_spread(if ratios.is_empty() { figures } else { &ratios }) {
            cell.push('?');
        }
        cell
    }

    /// To PostgreSQL itself or, where that has no figure, to the floor, in each round.
    fn ratios(&self, measure: &Measure, way: usize) -> Vec<f64> {
        let places =
            ["direct", "floor"].map(|base| self.ways.iter().position(|name| *name == base));
        let base = places.into_iter().flatten().find(|base| !measure.figures[*base].is_empty());
        let Some(base) = base.filter(|base| *base != way) else { return Vec::new() };
        let pairs = measure.figures[way].iter().zip(&measure.figures[base]);
        pairs.filter(|(_, base)| **base > 0.0).map(|(figure, base)| figure / base).collect()
    }
}

fn is_spread(figures: &[f64]) -> bool {
    let median = middle(figures, 0.5).unwrap_or_default();
    let quarters = middle(figures, 0.75).zip(middle(figures, 0.25));
    quarters.is_some_and(|(high, low)| high - low > SPREAD_MAX * median)
}

impl Unit {
    fn written(self, figure: f64) -> String {
        match self {
            Unit::Microseconds => format!("{figure:.1} µs"),
            Unit::Milliseconds => format!("{figure:.2} ms"),
            Unit::Rate => format!("{figure:.0}"),
            Unit::Count => format!("{figure:.2}"),
            Unit::Kibibytes => format!("{figure:.2} KiB"),
            Unit::Percent => format!("{figure:.1} %"),
        }
    }
}

/// The value that this share of them is below.
fn middle(figures: &[f64], share: f64) -> Option<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted.get(((sorted.len().max(1) - 1) as f64 * share).round() as usize).copied()
}

fn machine() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name\t: "));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let compiler = Command::new("rustc").arg("--version").output();
    let compiler = compiler.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    format!(
        "The machine: {} processors ({}), Linux {}, {}; the process in the middle has one processor, \
         the clients and PostgreSQL have the others.",
        processes::processors(),
        model.unwrap_or("of an unknown model"),
        kernel.trim(),
        compiler.unwrap_or_default()
    )
}

/// In lines of the width of all pages.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut columns = 0;
    for word in text.split(' ') {
        let width = word.chars().count();
        let is_first = columns == 0;
        if !is_first && columns + 1 + width > COLUMNS_MAX {
            lines.push('\n');
            columns = 0;
        } else if !is_first {
            lines.push(' ');
            columns += 1;
        }
        lines.push_str(word);
        columns += width;
    }
    lines + "\n"
}

const COLUMNS_MAX: usize = 100;

const SPREAD_MAX: f64 = 0.15;
