//! What every group of works needs: a counting allocator, timing, the median, and the output.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

/// The system allocator, counting live bytes while it is asked to. Off while the clock runs, so that
/// timings do not pay for the counting.
pub struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);

fn count(bytes: usize, sign: i64) {
    if ON.load(Ordering::Relaxed) {
        LIVE.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system allocator unchanged; the counters do not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size, 1);
        count(layout.size(), -1);
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Runs `build` and returns its result with the heap bytes it still holds: allocated during the call and
/// not freed in it.
pub fn held_bytes<T>(build: impl FnOnce() -> T) -> (T, f64) {
    LIVE.store(0, Ordering::Relaxed);
    ON.store(true, Ordering::Relaxed);
    let built = build();
    ON.store(false, Ordering::Relaxed);
    (built, LIVE.load(Ordering::Relaxed) as f64)
}

/// Runs `work` and returns its result with the seconds it took. The result is handed out, so that freeing
/// it is not timed.
pub fn seconds<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed().as_secs_f64();
    (result, took)
}

/// The median; of an even number of values the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        (values[middle - 1] + values[middle]) / 2.0
    }
}

/// One measured number.
#[derive(Debug, Clone)]
pub struct Figure {
    pub group: &'static str,
    pub work: &'static str,
    pub peer: &'static str,
    pub value: f64,
    pub unit: &'static str,
    /// What else tells this figure from others of the same work: names and values as JSON has them.
    pub labels: Vec<(&'static str, String)>,
    /// Whether what the library sends is signed, in a group where some are and some are not.
    pub signed: Option<bool>,
}

impl Figure {
    /// One line of JSON. Names and units are plain words of this package, so nothing needs escaping.
    pub fn json(&self) -> String {
        let labels: String = (self.labels.iter())
            .map(|(name, value)| format!(r#""{name}":{value},"#))
            .collect();
        let signed = (self.signed).map_or(String::new(), |signed| format!(r#""signed":{signed},"#));
        format!(
            r#"{{"group":"{}","work":"{}",{labels}{signed}"peer":"{}","value":{},"unit":"{}"}}"#,
            self.group,
            self.work,
            self.peer,
            number(self.value),
            self.unit
        )
    }
}

impl Figure {
    /// What stands in the first column of a table.
    fn row(&self) -> String {
        self.labels.iter().fold(self.work.to_string(), |row, (_, value)| {
            row + " " + value.trim_matches('"')
        })
    }
}

/// Four significant digits or the whole integer part, whichever is more.
fn number(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 100.0 {
        format!("{value:.1}")
    } else if value.abs() >= 1.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.4}")
    }
}

/// The figures as a table: a row for each work, a column for each peer, both in order of appearance. A note below it
/// names the peers whose messages are not signed, for each group in which that differs.
pub fn table(figures: &[Figure]) -> String {
    let mut peers: Vec<&str> = Vec::new();
    let mut works: Vec<(&str, String, &str)> = Vec::new();
    for figure in figures {
        if !peers.contains(&figure.peer) {
            peers.push(figure.peer);
        }
        let work = (figure.group, figure.row(), figure.unit);
        if !works.contains(&work) {
            works.push(work);
        }
    }

    let mut rows = vec![
        ["work", "unit"]
            .into_iter()
            .chain(peers.iter().copied())
            .map(String::from)
            .collect(),
    ];
    for (group, work, unit) in works {
        let mut row: Vec<String> = vec![work.clone(), unit.into()];
        for peer in &peers {
            let found = figures
                .iter()
                .find(|f| f.group == group && f.row() == work && f.peer == *peer);
            row.push(found.map_or("-".into(), |f| number(f.value)));
        }
        rows.push(row);
    }

    let width = |column: usize| {
        rows.iter()
            .map(|row: &Vec<String>| row[column].len())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..peers.len() + 2).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            // The two columns of words to the left, numbers to the right.
            text += &match column {
                0 => format!("{cell:<w$}", w = widths[column]),
                1 => format!("  {cell:<w$}", w = widths[column]),
                _ => format!("  {cell:>w$}", w = widths[column]),
            };
        }
        text = text.trim_end().to_string() + "\n";
    }
    text + &unsigned(figures)
}

/// One line for each group that says whose messages are not signed.
fn unsigned(figures: &[Figure]) -> String {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for figure in figures.iter().filter(|figure| figure.signed == Some(false)) {
        if !groups.iter().any(|(group, _)| *group == figure.group) {
            groups.push((figure.group, Vec::new()));
        }
        for (group, peers) in &mut groups {
            if *group == figure.group && !peers.contains(&figure.peer) {
                peers.push(figure.peer);
            }
        }
    }
    (groups.iter())
        .map(|(group, peers)| {
            format!(
                "{group}: neither signed nor authenticated: {}\n",
                peers.join(", ")
            )
        })
        .collect()
}
