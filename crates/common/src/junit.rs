// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reports in JUnit's XML, which CI services show as tests.

/// One test.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it belongs to.
    pub class: String,
    /// Its own name.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended.
    pub result: TestResult,
}

/// The result of a test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestResult {
    /// It did what it had to.
    Passed,
    /// Why.
    Failed(String),
    /// Why not run, or why the result does not count.
    Skipped(String),
}

/// Returns a report with one suite.
pub fn report(suite: &str, cases: &[Case]) -> String {
    let count =
        |predicate: fn(&TestResult) -> bool| cases.iter().filter(|case| predicate(&case.result)).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"{}\" tests=\"{}\" \
         failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{:.3}\">\n",
        escaped(suite),
        cases.len(),
        count(|result| matches!(result, TestResult::Failed(_))),
        count(|result| matches!(result, TestResult::Skipped(_))),
        cases.iter().map(|case| case.seconds).sum::<f64>(),
    );
    for case in cases {
        let result = match &case.result {
            TestResult::Passed => String::new(),
            TestResult::Failed(why) => element("failure", why),
            TestResult::Skipped(why) => element("skipped", why),
        };
        text.push_str(&format!(
            "<testcase classname=\"{}\" name=\"{}\" time=\"{:.3}\">{result}</testcase>\n",
            escaped(&case.class),
            escaped(&case.name),
            case.seconds,
        ));
    }
    text + "</testsuite>\n</testsuites>\n"
}

fn element(name: &str, why: &str) -> String {
    format!(
        "<{name} message=\"{}\">{}</{name}>",
        escaped(why.lines().next().unwrap_or_default()),
        escaped(why)
    )
}

/// Text for an attribute or an element: XML 1.0 has no place for control characters.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(character),
            control if control.is_control() => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_and_escaped() {
        let case = |name: &str, result| Case {
            class: "c".into(),
            name: name.into(),
            seconds: 0.25,
            result,
        };
        let text = report(
            "s",
            &[
                case("a", TestResult::Passed),
                case("<b>", TestResult::Failed("1 & 2\nmore\u{1b}[0m".into())),
                case("d", TestResult::Skipped("no".into())),
            ],
        );
        assert!(
            text.contains("tests=\"3\" failures=\"1\" errors=\"0\" skipped=\"1\" time=\"0.750\""),
            "{text}"
        );
        assert!(
            text.contains(
                "name=\"&lt;b&gt;\" time=\"0.250\"><failure message=\"1 &amp; 2\">\
                 1 &amp; 2\nmore\u{fffd}[0m</failure>"
            ),
            "{text}"
        );
        assert!(text.contains("<skipped message=\"no\">no</skipped>"), "{text}");
        assert!(
            text.contains("<testcase classname=\"c\" name=\"a\" time=\"0.250\"></testcase>"),
            "{text}"
        );
    }
}
