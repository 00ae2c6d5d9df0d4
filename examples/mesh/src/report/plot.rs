//! Plots as SVG, drawn with the colours of the page that they are on.

use std::fmt::Write as _;

/// Units of the drawing, which is scaled to the page.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 24.0;
const BOTTOM: f64 = 54.0;
/// A bar and the space below it.
const BAR: f64 = 28.0;
/// As many as there are colours in the page.
const COLOURS: usize = 8;

pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    /// Held until the next one, instead of a straight line to it.
    pub(crate) steps: bool,
}

/// Something that happened to a series.
pub(crate) struct Dot {
    pub(crate) series: usize,
    pub(crate) x: f64,
    pub(crate) label: String,
}

pub(crate) struct Lines {
    /// The text for a reader who cannot see it.
    pub(crate) summary: String,
    pub(crate) x_name: String,
    pub(crate) y_name: String,
    /// Names of places on the x axis, if they are not to be numbers.
    pub(crate) x_ticks: Vec<(f64, String)>,
    pub(crate) series: Vec<Series>,
    pub(crate) dots: Vec<Dot>,
}

/// Text as it may stand in HTML and SVG, quotes included.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

impl Lines {
    pub(crate) fn to_svg(&self) -> String {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let ends = self.x_ticks.iter().map(|(x, _)| *x).chain(points().map(|(x, _)| *x));
        let x_max = ends.clone().fold(f64::MIN, f64::max);
        let x_min = ends.fold(f64::MAX, f64::min).min(x_max);
        let y_step = step(points().map(|(_, y)| *y).fold(0.0, f64::max), 5.0);
        let y_max = points().map(|(_, y)| *y).fold(y_step, f64::max);
        let x = |value: f64| LEFT + (value - x_min) / (x_max - x_min).max(1e-9) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - value / y_max * (HEIGHT - TOP - BOTTOM);
        let mut out = open(HEIGHT, &self.summary);
        // Writing to a string cannot fail, here and below.
        for tick in ticks(0.0, y_max, y_step) {
            let at = y(tick);
            let _ =
                write!(out, "<line class=grid x1={LEFT} x2={:.0} y1={at:.1} y2={at:.1} />", WIDTH - RIGHT);
            let _ = write!(
                out,
                "<text x={:.0} y={:.1} text-anchor=end>{}</text>",
                LEFT - 6.0,
                at + 4.0,
                short(tick)
            );
        }
        let x_ticks = if self.x_ticks.is_empty() {
            let ticks = ticks(x_min, x_max, step(x_max - x_min, 6.0));
            ticks.into_iter().map(|tick| (tick, short(tick))).collect()
        } else {
            self.x_ticks.clone()
        };
        for (tick, name) in x_ticks {
            let at = x(tick);
            let anchor = if at > WIDTH - 40.0 { "end" } else { "middle" };
            let below = HEIGHT - BOTTOM + 20.0;
            let _ = write!(out, "<text x={at:.1} y={below:.0} text-anchor={anchor}>{}</text>", escape(&name));
        }
        let _ =
            write!(out, "<text class=name x={LEFT} y={:.0}>{}</text>", HEIGHT - 6.0, escape(&self.x_name));
        let _ = write!(out, "<text class=name x={:.0} y=14>{}</text>", LEFT + 6.0, escape(&self.y_name));
        for (number, series) in self.series.iter().enumerate() {
            let mut path = String::new();
            for (px, py) in &series.points {
                let (px, py) = (x(*px), y(*py));
                let _ = match (path.is_empty(), series.steps) {
                    (true, _) => write!(path, "M{px:.1} {py:.1}"),
                    (false, true) => write!(path, "H{px:.1}V{py:.1}"),
                    (false, false) => write!(path, "L{px:.1} {py:.1}"),
                };
            }
            let _ = write!(out, "<path class=\"line c{}\" d=\"{path}\" />", number % COLOURS);
        }
        for dot in &self.dots {
            let Some(series) = self.series.get(dot.series) else { continue };
            let before = series.points.iter().rev().find(|(at, _)| *at <= dot.x).or(series.points.first());
            let (px, py) = (x(dot.x), y(before.map_or(0.0, |(_, y)| *y)));
            let (colour, label) = (dot.series % COLOURS, escape(&dot.label));
            let _ = write!(
                out,
                "<circle class=\"dot c{colour}\" cx={px:.1} cy={py:.1} r=4><title>{label}</title></circle>"
            );
        }
        out + "</svg>"
    }
}

/// A bar for each name, the values as text beside them.
pub(crate) fn bars(summary: &str, bars: &[(String, f64, String)]) -> String {
    let height = f64::from(u32::try_from(bars.len()).unwrap_or(u32::MAX)) * BAR + 4.0;
    let most = bars.iter().map(|(_, value, _)| *value).fold(1e-9, f64::max);
    let mut out = open(height, summary);
    let (start, room) = (110.0, WIDTH - 110.0 - 120.0);
    for ((name, value, text), row) in bars.iter().zip(0_u32..) {
        let top = f64::from(row) * BAR + 4.0;
        let (name, text, base, length) = (escape(name), escape(text), top + 15.0, value / most * room);
        let _ = write!(out, "<text x={:.0} y={base:.0} text-anchor=end>{name}</text>", start - 8.0);
        let _ = write!(out, "<rect class=bar x={start} y={top:.0} width={length:.1} height=20 rx=2 />");
        let _ = write!(out, "<text x={:.1} y={base:.0}>{text}</text>", start + length + 6.0);
    }
    out + "</svg>"
}

fn open(height: f64, summary: &str) -> String {
    let summary = escape(summary);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=img aria-label=\"{summary}\"><title>{summary}</title>"
    )
}

/// A round distance, so that there are about `wanted` of them in `range`.
fn step(range: f64, wanted: f64) -> f64 {
    let rough = (range / wanted).max(1e-3);
    let scale = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * scale >= rough).unwrap_or(10.0);
    factor * scale
}

fn ticks(from: f64, to: f64, step: f64) -> Vec<f64> {
    let first = (from / step).ceil();
    let tick = |number: u32| (first + f64::from(number)) * step;
    (0..100).map(tick).take_while(|tick| *tick <= to * 1.000_1).collect()
}

fn short(number: f64) -> String {
    if number >= 10_000.0 {
        format!("{}k", number / 1_000.0)
    } else {
        format!("{}", (number * 100.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        assert_eq!(ticks(0.0, 20.0, step(20.0, 4.0)), [0.0, 5.0, 10.0, 15.0, 20.0]);
        assert_eq!(ticks(0.0, 7_300.0, step(7_300.0, 5.0)), [0.0, 2_000.0, 4_000.0, 6_000.0]);
        assert_eq!([0.0, 2_000.0, 20_000.0, 0.5].map(short), ["0", "2000", "20k", "0.5"]);
    }

    #[test]
    fn names_take_no_part_in_the_page() {
        let bars = bars("\"bytes\"", &[("<script>".into(), 1.0, "a & b".into())]);
        assert!(bars.contains("&lt;script&gt;") && bars.contains("a &amp; b") && !bars.contains("<script"));
        assert!(bars.contains("aria-label=\"&quot;bytes&quot;\""));
    }

    #[test]
    fn a_plot_of_nothing_is_drawn() {
        let lines = Lines {
            summary: String::new(),
            x_name: String::new(),
            y_name: String::new(),
            x_ticks: Vec::new(),
            series: vec![Series { name: String::new(), points: Vec::new(), steps: true }],
            dots: vec![Dot { series: 0, x: 1.0, label: String::new() }],
        };
        assert!(lines.to_svg().ends_with("</svg>"));
    }
}
