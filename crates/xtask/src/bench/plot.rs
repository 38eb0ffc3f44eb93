// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plots: horizontal bars with quartiles and the target, as SVG that both light and dark pages can show.

use super::figures::Spread;

/// One bar.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) spread: Spread,
    pub(crate) target: Option<f64>,
}

const WIDTH: f64 = 860.0;
const LABELS: f64 = 390.0;
const RIGHT: f64 = 70.0;
const LINE: f64 = 24.0;
const TOP: f64 = 58.0;

/// The bars of ratios; a line marks 1.
pub(crate) fn bars(title: &str, axis: &str, bars: &[Bar]) -> String {
    let most = bars
        .iter()
        .flat_map(|bar| [bar.spread.high, bar.target.unwrap_or_default(), 1.0])
        .fold(0.0, f64::max)
        * 1.05;
    let scale = (WIDTH - LABELS - RIGHT) / most;
    let height = TOP + LINE * bars.len() as f64 + 34.0;
    let mut svg = String::new();
    let mut put = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"13\">"
    ));
    put("<!-- SPDX-License-Identifier: Apache-2.0 OR MIT -->".to_owned());
    put(format!("<title>{}</title>", escaped(title)));
    put(format!(
        "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>"
    ));
    put(format!(
        "<text x=\"10\" y=\"24\" font-size=\"16\" font-weight=\"bold\">{}</text>",
        escaped(title)
    ));
    put(format!(
        "<text x=\"10\" y=\"44\" fill=\"#555555\">{}</text>",
        escaped(axis)
    ));
    let bottom = TOP + LINE * bars.len() as f64 + 4.0;
    for mark in 0..=(most * 4.0) as usize {
        let value = mark as f64 / 4.0;
        let x = LABELS + value * scale;
        let colour = if mark == 4 { "#555555" } else { "#dddddd" };
        put(format!(
            "<line x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{bottom:.1}\" stroke=\"{colour}\"/>"
        ));
        if mark % 2 == 0 || most < 2.5 {
            put(format!(
                "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#555555\">{value}</text>",
                bottom + 16.0
            ));
        }
    }
    for (at, bar) in bars.iter().enumerate() {
        let y = TOP + LINE * at as f64 + LINE / 2.0;
        let end = LABELS + bar.spread.median * scale;
        put(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LABELS - 8.0,
            y + 4.0,
            escaped(&bar.label)
        ));
        put(format!(
            "<rect x=\"{LABELS}\" y=\"{:.1}\" width=\"{:.1}\" height=\"14\" fill=\"#4c78a8\"/>",
            y - 7.0,
            end - LABELS
        ));
        let (low, high) = (LABELS + bar.spread.low * scale, LABELS + bar.spread.high * scale);
        put(format!(
            "<line x1=\"{low:.1}\" y1=\"{y:.1}\" x2=\"{high:.1}\" y2=\"{y:.1}\" stroke=\"#000000\" \
             stroke-width=\"2\"/>"
        ));
        if let Some(target) = bar.target {
            let x = LABELS + target * scale;
            put(format!(
                "<line x1=\"{x:.1}\" y1=\"{:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#d62728\" \
                 stroke-width=\"3\"/>",
                y - 11.0,
                y + 11.0
            ));
        }
        put(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\">{:.2}</text>",
            high.max(end) + 8.0,
            y + 4.0,
            bar.spread.median
        ));
    }
    svg + "</svg>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_has_its_label_and_target() {
        let spread = Spread {
            low: 0.8,
            median: 0.9,
            high: 1.0,
            runs: 7,
        };
        let bar = Bar {
            label: "a < b".into(),
            spread,
            target: Some(0.9),
        };
        let svg = bars("t", "ratio", &[bar]);
        assert!(svg.contains("a &lt; b") && svg.contains(">0.90<") && svg.contains("#d62728"));
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
    }
}
