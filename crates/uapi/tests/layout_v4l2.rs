// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Compares the Rust mirror of the V4L2 stateless controls with the C header of the system.
//!
//! The macro that defines a structure says what its layout is. From it comes the C program that prints the
//! header's, so the two sides cannot be compared on different fields. A field that is missing shows as a hole
//! in the structure.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use daedalus_uapi::v4l2_controls::{Field, LAYOUTS, Layout};

/// Returns the C name of a structure.
fn c_struct(rust: &str) -> String {
    let mut name = String::new();
    for letter in rust.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

/// Returns the C name of a field whose Rust name had to differ from it.
fn c_field(rust: &str) -> &str {
    rust.strip_suffix('_').unwrap_or(rust)
}

/// The lines of the modules' source.
fn source() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/codec/v4l2_controls");
    let files = std::fs::read_dir(folder).expect("the modules' folder");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
    // The numbers on which the others build come first.
    files.sort_by_key(|file| (!file.ends_with("base.rs"), file.clone()));
    let text = files
        .iter()
        .map(|file| std::fs::read_to_string(file).expect("a module"));
    let text: Vec<String> = text.collect();
    text.iter().flat_map(|m| m.lines()).map(str::to_owned).collect()
}

/// Every public constant of the modules: read from their source, so that none is forgotten.
fn constants() -> Vec<(String, u64)> {
    let mut values: Vec<(String, u64)> = Vec::new();
    for line in source() {
        let Some(rest) = line.strip_prefix("pub const ") else {
            continue;
        };
        let (name, rest) = rest.split_once(": ").expect("a constant has a type");
        let (_, expression) = rest.split_once(" = ").expect("a constant has a value");
        let value = evaluate(expression.trim_end_matches(';'), &values);
        values.push((name.to_owned(), value));
    }
    values
}

/// Returns the value of a sum or product of literals and earlier constants: all that the modules use.
fn evaluate(expression: &str, constants: &[(String, u64)]) -> u64 {
    if let Some((a, b)) = expression.split_once(" + ") {
        return evaluate(a, constants) + evaluate(b, constants);
    }
    if let Some((a, b)) = expression.split_once(" * ") {
        return evaluate(a, constants) * evaluate(b, constants);
    }
    let digits = expression.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
    .or_else(|| {
        constants
            .iter()
            .find(|(name, _)| name == expression)
            .map(|&(_, value)| value)
    })
    .unwrap_or_else(|| panic!("constant expression not understood: {expression}"))
}

/// Compiles and runs a C program and returns what it printed.
fn run_c(name: &str, source: &str) -> String {
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (c, exe) = (dir.join(format!("{name}.c")), dir.join(name));
    std::fs::write(&c, source).expect("write the C program");
    let cc = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&cc)
        .args(["-std=gnu11", "-Wall", "-Werror", "-o"])
        .args([&exe, &c])
        .status()
        .unwrap_or_else(|e| panic!("this test needs a C compiler (environment CC, or cc): {cc}: {e}"));
    assert!(status.success(), "{cc} failed on {}", c.display());
    let output = Command::new(&exe).output().expect("run the C program");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("the table is text")
}

#[test]
fn structures_match_the_c_header() {
    let layouts: Vec<&Layout> = LAYOUTS.iter().copied().flatten().collect();
    let mut program = String::from(
        "#include <stddef.h>\n#include <stdio.h>\n#include <linux/v4l2-controls.h>\nint main(void)\n{\n",
    );
    let mut expected = String::new();
    for Layout { name, size, fields } in &layouts {
        let c = c_struct(name);
        writeln!(program, "printf(\"{c} %zu\\n\", sizeof(struct {c}));").unwrap();
        writeln!(expected, "{c} {size}").unwrap();
        let mut end = 0;
        for Field { name, offset, size } in *fields {
            let field = c_field(name);
            assert_eq!(*offset, end, "{c}.{field}: there is a hole before it");
            end = offset + size;
            writeln!(
                program,
                "printf(\"{c}.{field} %zu %zu\\n\", offsetof(struct {c}, {field}), \
                 sizeof(((struct {c} *)0)->{field}));"
            )
            .unwrap();
            writeln!(expected, "{c}.{field} {offset} {size}").unwrap();
        }
        assert_eq!(end, *size, "{c}: there is a hole at its end");
    }
    program.push_str("return 0;\n}\n");
    assert_eq!(run_c("layout_v4l2", &program), expected);
    // Every codec's layouts are in the list.
    let defined = source()
        .iter()
        .filter(|line| line.starts_with("    pub struct V4l2"))
        .count();
    assert_eq!(layouts.len(), defined);
    assert!(defined > 30, "only {defined} structures found");
}

#[test]
fn constants_match_the_c_header() {
    let constants = constants();
    assert!(constants.len() > 200, "only {} constants found", constants.len());
    let mut source =
        String::from("#include <stdio.h>\n#include <linux/v4l2-controls.h>\nint main(void)\n{\n");
    let mut expected = String::new();
    for (name, value) in &constants {
        writeln!(
            source,
            "printf(\"{name} %llu\\n\", (unsigned long long)({name}));"
        )
        .unwrap();
        writeln!(expected, "{name} {value}").unwrap();
    }
    source.push_str("return 0;\n}\n");
    assert_eq!(run_c("constants_v4l2", &source), expected);
}
