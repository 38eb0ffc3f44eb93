// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reads a log of `strace -f -y -v`: one system call after the other, in the order in which they were begun.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

/// A finished system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    /// `ioctl`, `poll`, …
    pub(super) name: String,
    /// Between the parentheses.
    pub(super) arguments: String,
    /// After the equals sign: `0`, `-1 EAGAIN (…)`, `1 ([{fd=6, revents=POLLIN}])`.
    pub(super) result: String,
}

impl Call {
    /// Returns the error with which it ended, if it did.
    pub(super) fn error(&self) -> Option<&str> {
        self.result.strip_prefix("-1 ")?.split_whitespace().next()
    }
}

/// Reads all calls of a log. Lines that tell of signals and ends of processes are passed over.
pub(super) fn calls(log: &str) -> Result<Vec<Call>> {
    let mut calls: Vec<Option<Call>> = Vec::new();
    // The call that a process has not ended: where it belongs, and its first half.
    let mut unfinished: HashMap<&str, (usize, String)> = HashMap::new();
    for (number, line) in log.lines().enumerate() {
        let (process, text) = split_process(line);
        if text.is_empty() || text.starts_with("---") || text.starts_with("+++") {
            continue;
        }
        let at = || format!("line {} of the log: {}", number + 1, shortened(line));
        if let Some(first) = text.strip_suffix("<unfinished ...>") {
            unfinished.insert(process, (calls.len(), first.trim_end().to_owned()));
            calls.push(None);
        } else if let Some(rest) = text.strip_prefix("<... ") {
            let (_, second) = rest.split_once(" resumed>").with_context(at)?;
            let (place, first) = unfinished.remove(process).with_context(at)?;
            calls[place] = Some(parse(&(first + second)).with_context(at)?);
        } else {
            calls.push(Some(parse(text).with_context(at)?));
        }
    }
    // A call that never ended, because its process was killed, is none.
    Ok(calls.into_iter().flatten().collect())
}

/// `123  rest` or `[pid 123] rest`; the process is empty where the log names none.
fn split_process(line: &str) -> (&str, &str) {
    let line = line.trim_end();
    if let Some(rest) = line.strip_prefix("[pid ") {
        if let Some((process, text)) = rest.split_once(']') {
            return (process.trim(), text.trim_start());
        }
    }
    match line.split_once(char::is_whitespace) {
        Some((process, text)) if process.bytes().all(|b| b.is_ascii_digit()) => (process, text.trim_start()),
        _ => ("", line),
    }
}

fn shortened(line: &str) -> String {
    line.chars().take(100).collect()
}

fn parse(text: &str) -> Result<Call> {
    let (name, rest) = text.split_once('(').context("no system call")?;
    let end = closing(rest).context("its arguments have no end")?;
    let Some(result) = rest[end + 1..].trim_start().strip_prefix('=') else {
        bail!("it has no result");
    };
    Ok(Call {
        name: name.to_owned(),
        arguments: rest[..end].to_owned(),
        result: result.trim().to_owned(),
    })
}

/// Returns the place where the bracket that is open before `text` is closed. Brackets in strings, in
/// characters and in comments do not count.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut chars = text.char_indices().peekable();
    while let Some((position, c)) = chars.next() {
        match c {
            '"' | '\'' => {
                while let Some((_, inner)) = chars.next() {
                    if inner == '\\' {
                        chars.next();
                    } else if inner == c {
                        break;
                    }
                }
            }
            '/' if chars.peek().is_some_and(|(_, next)| *next == '*') => {
                let end = text[position..].find("*/")? + position + 1;
                while chars.next_if(|(place, _)| *place <= end).is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth > 0 => depth -= 1,
            ')' => return Some(position),
            ']' | '}' => return None,
            _ => {}
        }
    }
    None
}

/// Returns the value of the first field `key=` of `text`: up to the comma or bracket that ends it.
pub(super) fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let mut from = 0;
    loop {
        let start = text[from..].find(key)? + from;
        let value = start + key.len();
        let begins = text[..start]
            .chars()
            .next_back()
            .is_none_or(|c| " {[(.".contains(c));
        if begins && text[value..].starts_with('=') {
            let value = &text[value + 1..];
            let mut depth = 0usize;
            let end = value.find(|c| match c {
                '{' | '[' | '(' => {
                    depth += 1;
                    false
                }
                '}' | ']' | ')' if depth > 0 => {
                    depth -= 1;
                    false
                }
                '}' | ']' | ')' => true,
                ',' => depth == 0,
                _ => false,
            });
            return Some(value[..end.unwrap_or(value.len())].trim());
        }
        from = value;
    }
}

/// Reads a number, decimal or hexadecimal, as it is written before its explanation.
pub(super) fn number(value: &str) -> Option<u64> {
    let value = value.split([' ', '|']).next()?;
    match value.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => value.parse().ok(),
    }
}

/// Returns the symbolic name of a value from the explanation of `-X verbose`, or the value itself.
pub(super) fn symbol(value: &str) -> &str {
    match value.split_once("/* ") {
        Some((_, rest)) => rest.split(" */").next().unwrap_or(rest),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_in_the_order_of_their_beginnings() {
        let log = "7 ioctl(3</dev/video0>, VIDIOC_QBUF, {a=1 <unfinished ...>\n\
                   8 poll([{fd=4, events=POLLIN}], 1, 10) = 0 (Timeout)\n\
                   7 <... ioctl resumed>}) = 0\n\
                   8 --- SIGCHLD {si_signo=SIGCHLD} ---\n\
                   8 poll([{fd=4}], 1, 10 <unfinished ...>\n\
                   8 +++ killed by SIGKILL +++\n";
        let calls = calls(log).unwrap();
        assert_eq!(calls.len(), 2);
        assert_eq!(calls[0].arguments, "3</dev/video0>, VIDIOC_QBUF, {a=1}");
        assert_eq!((calls[1].name.as_str(), calls[1].error()), ("poll", None));
    }

    #[test]
    fn errors_have_names() {
        let calls = calls("[pid 12] ioctl(6, X, {}) = -1 EAGAIN (Resource temporarily unavailable)").unwrap();
        assert_eq!(calls[0].error(), Some("EAGAIN"));
    }

    #[test]
    fn brackets_in_strings_and_comments_do_not_count() {
        let call = parse(r#"ioctl(1, {n=")\"", c='(', k=4 /* MAKRO(1 */, x={y=[2]}}) = 0"#).unwrap();
        assert_eq!(field(&call.arguments, "y"), Some("[2]"));
        assert_eq!(call.result, "0");
    }

    #[test]
    fn a_line_that_is_no_call_is_an_error() {
        for bad in [
            "12 ioctl(1, 2",
            "12 ioctl(1)",
            "nonsense",
            "12 <... ioctl resumed>) = 0",
        ] {
            assert!(calls(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_are_whole_words() {
        let text =
            "{plane_index=1, index=0x2 /* TWO */, flags=0x3 /* A|B */|0x4 /* C */, t={tv_sec=1, tv_usec=6}}";
        assert_eq!(field(text, "index"), Some("0x2 /* TWO */"));
        assert_eq!(number(field(text, "index").unwrap()), Some(2));
        assert_eq!(symbol(field(text, "index").unwrap()), "TWO");
        assert_eq!(field(text, "flags"), Some("0x3 /* A|B */|0x4 /* C */"));
        assert_eq!(number(field(text, "tv_usec").unwrap()), Some(6));
        assert_eq!(field(text, "dex"), None);
    }
}
